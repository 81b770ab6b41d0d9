package access_test

import (
	"testing"
	"time"

	"github.com/vault-pim/vault-plugin-secrets-pim/internal/domain"
	"github.com/vault-pim/vault-plugin-secrets-pim/internal/fault"
)

// The main job, once through.
func TestRequestApproveReadEnd(t *testing.T) {
	m := newMount(t)
	m.role("admin", nil, nil)

	_, err := m.creds("alice", "admin")
	m.refused(err, fault.CodeNoGrant)

	id := m.pending("alice", "admin")
	_, err = m.creds("alice", "admin")
	m.refused(err, fault.CodePending)

	m.must(m.decide("bob", id, domain.Approve))
	ans := m.issued("alice", "admin")
	if ans.TTL != time.Hour || ans.Lease.Request != id {
		t.Fatalf("lease of %s under %s", ans.TTL, ans.Lease.Request)
	}

	m.must(m.a.LeaseEnded(t.Context(), ans.Lease))
	m.works(ans, false)
	if c := m.cred(ans); c.State != domain.CredGone {
		t.Fatalf("credential is %s", c.State)
	}

	second := m.issued("alice", "admin")
	m.pass(time.Hour)
	m.works(second, false)
	m.state(id, domain.Ended)
	_, err = m.creds("alice", "admin")
	m.refused(err, fault.CodeEnded)
	m.clean()
}

// A process that has just started knows everything again.
func TestRestartForgetsNothing(t *testing.T) {
	m := newMount(t)
	m.role("admin", nil, nil)
	id := m.granted("alice", "admin")
	ans := m.issued("alice", "admin")
	waiting := m.pending("dave", "admin")

	m.crash()

	page, err := m.a.Inbox(t.Context(), who("bob"), "", 0)
	m.must(err)
	if len(page.Keys) != 1 || page.Keys[0] != string(waiting) {
		t.Fatalf("inbox after a restart: %v", page.Keys)
	}
	m.works(ans, true)
	again := m.issued("alice", "admin")
	if again.Lease.Request != id {
		t.Fatal("the grant was not found again")
	}
	m.must(m.a.LeaseEnded(t.Context(), ans.Lease))
	m.works(ans, false)
	m.works(again, true)
	_, err = m.a.Cancel(t.Context(), who("alice"), id)
	m.must(err)
	m.tick()
	m.works(again, false)
	m.pass(25 * time.Hour)
	m.clean()
}
