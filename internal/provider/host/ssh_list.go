package host

import (
	"context"
	"encoding/json"
	"errors"
	"strings"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/vault-pim/vault-plugin-secrets-pim/internal/domain"
	"github.com/vault-pim/vault-plugin-secrets-pim/internal/krl"
	"github.com/vault-pim/vault-plugin-secrets-pim/internal/provider/contract"
)

// sshData is what a handle holds of certificates. The key id is known before
// anything is signed, so a certificate whose serial was never learnt can be
// revoked by it.
type sshData struct {
	CA      []byte    `json:"ca"` // the approved CA's key, wire form
	KeyID   string    `json:"key_id"`
	Asked   int       `json:"asked,omitempty"`   // signatures that were asked for
	Serials []uint64  `json:"serials,omitempty"` // of those that came back, signed by CA
	Foreign []foreign `json:"foreign,omitempty"` // those signed by another CA
	Until   int64     `json:"until,omitempty"`   // latest end of those that came back, Unix seconds
	Window  int64     `json:"window,omitempty"`  // latest end of any other, Unix seconds
	Listed  bool      `json:"listed,omitempty"`  // ended before its time
}

// farFuture stands for "never", in Unix seconds: the year 3058.
const farFuture = 1 << 35

// foreign is a certificate that another CA than the approved one signed.
type foreign struct {
	CA     []byte `json:"ca"`
	Serial uint64 `json:"serial"`
}

// note takes down a certificate that came back. One without a serial stays
// among those that are known by their key id alone.
func (s *sshData) note(c *ssh.Certificate) {
	s.Until = max(s.Until, int64(min(c.ValidBefore, farFuture)))
	ca := c.SignatureKey.Marshal()
	switch {
	case c.Serial == 0:
	case string(ca) == string(s.CA):
		s.Serials = append(s.Serials, c.Serial)
	default:
		s.Foreign = append(s.Foreign, foreign{CA: ca, Serial: c.Serial})
	}
}

// unknown tells whether there may be a certificate whose serial is not known.
func (s *sshData) unknown() bool { return s.Asked > len(s.Serials)+len(s.Foreign) }

// endSSH waits for a certificate in its last moment, for which an entry on the
// list would be worth nothing.
func endSSH(ctx context.Context, p *Provider, d handleData) error {
	if d.SSH == nil || d.SSH.Asked == 0 || d.SSH.Listed {
		return nil
	}
	_, err := p.awaitEnd(ctx, d.SSH.end())
	return err
}

// end is when the last certificate has expired, in Unix seconds.
func (s *sshData) end() int64 {
	if s.unknown() {
		return max(s.Until, s.Window)
	}
	return s.Until
}

// restSSH keeps a certificate that was ended before its time on the list until
// it has expired by everybody's clock. One that ended by itself needs no entry.
func restSSH(d handleData, now time.Time) (handleData, time.Time) {
	if d.SSH == nil || d.SSH.Asked == 0 {
		return d, time.Time{}
	}
	left := *d.SSH
	if end := time.Unix(left.end(), 0); !left.Listed && !now.Before(end) {
		return d, time.Time{}
	}
	left.Listed = true
	until := left.needed()
	if !now.Before(until) {
		return d, time.Time{}
	}
	return handleData{Kind: d.Kind, SSH: &left}, until
}

// needed is how long the certificate belongs on the list.
func (s *sshData) needed() time.Time {
	end := time.Unix(s.end(), 0).UTC()
	if s.Listed {
		return end.Add(listedAfterEnd)
	}
	return end.Add(-lastMoment)
}

// revocationList publishes the certificates that were ended before their time.
func revocationList() *contract.RevocationList {
	return &contract.RevocationList{PublicField: "public_krl", Until: listedUntil, Render: renderKRL}
}

func listedUntil(h domain.Handle) time.Time {
	s, err := sshOf(h)
	if err != nil || s == nil || s.Asked == 0 {
		return time.Time{} // an unreadable handle fails in Revoke
	}
	return s.needed()
}

func sshOf(h domain.Handle) (*sshData, error) {
	var d handleData
	if h.Provider != Type || h.V != handleVersion || len(h.Data) == 0 {
		return nil, nil //nolint:nilnil // nothing of ours is in it
	}
	if err := json.Unmarshal(h.Data, &d); err != nil {
		return nil, errors.New("the handle is not readable")
	}
	return d.SSH, nil
}

// renderKRL lists serials, each bound to the CA that signed it, and key ids
// where a serial was never learnt.
func renderKRL(hs []domain.Handle, number uint64, at time.Time) ([]byte, error) {
	list := krl.List{Number: number, Generated: at, Comment: "pim"}
	byCA := map[string]*krl.CA{}
	ca := func(key []byte) *krl.CA {
		if byCA[string(key)] == nil {
			byCA[string(key)] = &krl.CA{Key: key}
		}
		return byCA[string(key)]
	}
	for _, h := range hs {
		s, err := sshOf(h)
		if err != nil {
			return nil, err
		}
		if s == nil || s.Asked == 0 {
			continue
		}
		ours := ca(s.CA)
		ours.Serials = append(ours.Serials, s.Serials...)
		if s.unknown() {
			ours.KeyIDs = append(ours.KeyIDs, s.KeyID)
		}
		for _, f := range s.Foreign {
			other := ca(f.CA)
			other.Serials = append(other.Serials, f.Serial)
		}
	}
	for _, key := range contract.SortedKeys(byCA) {
		list.CAs = append(list.CAs, *byCA[key])
	}
	return list.Marshal()
}

func joined(list []string) string { return strings.Join(list, ",") }
