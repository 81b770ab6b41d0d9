package access_test

import (
	"crypto/rand"
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/vault-pim/vault-plugin-secrets-pim/internal/domain"
	"github.com/vault-pim/vault-plugin-secrets-pim/internal/fault"
	"github.com/vault-pim/vault-plugin-secrets-pim/internal/provider/contract"
)

// rewrite changes a request on the disk, as if it had come about so.
func (m *mount) rewrite(id domain.RequestID, f func(*domain.Request)) {
	m.Helper()
	key := "req/" + string(id)
	r := record[domain.Request](m, key)
	f(&r)
	raw, err := json.Marshal(map[string]any{"v": 1, "body": r})
	m.must(err)
	m.disk.mu.Lock()
	m.disk.data[key] = raw
	m.disk.mu.Unlock()
}

// A grant whose credentials leave remainders takes new ones only as long as its
// record has room for the end of all of them.
func TestFullRecordTakesNoMoreButEndsAll(t *testing.T) {
	m := newMount(t)
	m.role("admin", nil, contract.Values{"remainder": 3600})
	id := m.granted("alice", "admin")
	m.must(m.a.LeaseEnded(t.Context(), m.issued("alice", "admin").Lease))
	m.rewrite(id, func(r *domain.Request) {
		big := r.Credentials[0]
		var data map[string]any
		m.must(json.Unmarshal(big.Handle.Data, &data))
		data["pad"] = strings.Repeat("x", 3000)
		for len(r.Credentials) < 55 {
			next, err := domain.NewID(m.clk.Now(), rand.Reader)
			m.must(err)
			big.ID = domain.CredentialID(next)
			big.Handle.Credential = big.ID
			big.Handle.Data, err = json.Marshal(data)
			m.must(err)
			r.Credentials = append(r.Credentials, big)
		}
	})
	m.crash()

	live := 0
	for ; live < 10; live++ {
		if _, err := m.creds("alice", "admin"); err != nil {
			m.refused(err, fault.CodeLimit)
			break
		}
	}
	if live == 10 {
		t.Fatalf("a record of %d bytes takes anything", len(m.disk.value("req/"+string(id))))
	}
	m.must(onlyErr(m.a.RevokeGrant(t.Context(), who("bob"), id, "too many")))
	m.tick()
	if n := len(m.world.Usable()); n > 0 {
		t.Fatalf("%d of %d credentials cannot be ended", n, live)
	}
	m.clk.Advance(time.Hour)
	m.clean()
}
