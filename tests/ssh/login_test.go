package ssh

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/vault-pim/vault-plugin-secrets-pim/tests/harness"
	"github.com/vault-pim/vault-plugin-secrets-pim/tests/harness/poll"
)

func TestLoginFromApprovalToRevocation(t *testing.T) {
	s := newSite(t, harness.Plugin{})
	d := startSSHD(t, s)
	k := newKey(t)
	params := map[string]any{"params": map[string]string{"public_key": k.public}, "justification": "order 4711"}
	asked := s.alice.Write(t, s.path("request/"+s.asked), params).OK(t)
	id := asked.String(t, "request_id")
	if shown := s.bob.Read(t, s.path("approvals/"+id)).OK(t); !strings.Contains(string(shown.Body), strings.Fields(k.public)[1]) {
		t.Errorf("bob is not shown whose key is to be signed: %s", shown.Body)
	}
	s.alice.Read(t, s.path("creds/"+s.asked)).Refused(t, http.StatusBadRequest, "approval pending: ")
	s.bob.Write(t, s.path("approvals/"+id), map[string]any{"decision": "approve", "digest": asked.String(t, "digest")}).OK(t)
	first := s.alice.Read(t, s.path("creds/"+s.asked)).OK(t)
	k.take(t, first)
	if class := first.String(t, "pim_revocation"); class != "propagating" {
		t.Errorf("the class is %s", class)
	}
	d.letsIn(t, k)
	if log := read(t, d.at("sshd.log")); !strings.Contains(log, id) || !strings.Contains(log, first.String(t, "pim_credential_id")) {
		t.Error("sshd's own log does not name request and credential")
	}
	// The same key signed once more, under the same grant, is another certificate.
	again := &key{file: k.file + "-again"}
	write(t, again.file, read(t, k.file)+"\n")
	again.take(t, s.alice.Read(t, s.path("creds/"+s.asked)).OK(t))
	s.revokeLease(t, k)
	d.letsIn(t, k) // the server has not heard of it yet: propagating
	d.fetch(t)
	d.refuses(t, k)
	d.letsIn(t, again)

	s.bob.Write(t, s.path("grants/"+id+"/revoke"), map[string]any{"reason": "done"}).OK(t)
	d.fetch(t)
	d.refuses(t, k)
	d.refuses(t, again)
}

func TestOneCertificateEndsAndTheOtherStays(t *testing.T) {
	s := newSite(t, harness.Plugin{})
	d := startSSHD(t, s)
	one, other := s.sign(t, nil), s.sign(t, nil)
	d.letsIn(t, one)
	d.letsIn(t, other)
	before := s.info(t)
	s.revokeLease(t, one)
	after := s.info(t)
	if after.number <= before.number || after.entries != before.entries+1 || after.next == "" {
		t.Errorf("the list was %+v and is %+v", before, after)
	}
	d.fetch(t)
	d.refuses(t, one)
	d.letsIn(t, other)
	raw, err := os.ReadFile(d.krl)
	if err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256(raw)
	if hex.EncodeToString(sum[:]) != after.sha256 || len(raw) != after.size {
		t.Error("what was fetched is not what krl/info tells of")
	}
	s.revokeLease(t, one) // the host may do so again
	if again := s.info(t); again != after {
		t.Errorf("revoking twice changed the list: %+v", again)
	}
}

func TestTheWindowEndsWithoutUs(t *testing.T) {
	s := newSite(t, harness.Plugin{})
	d := startSSHD(t, s)
	before := s.info(t)
	k := s.sign(t, map[string]any{"ttl": "6s"})
	d.letsIn(t, k)
	poll.Until(t, 30*time.Second, func() error {
		if err := d.logIn(t, k); err != nil && strings.Contains(err.Error(), "Permission denied") {
			return nil
		}
		return os.ErrDeadlineExceeded
	})
	if !strings.Contains(read(t, d.at("sshd.log")), "expired") {
		t.Error("sshd refused it for another reason than its end")
	}
	poll.Until(t, 30*time.Second, func() error {
		if state := host.Root().Read(t, s.path("audit/requests/"+k.grant)).OK(t); !strings.Contains(string(state.Body), "gone") {
			return os.ErrDeadlineExceeded
		}
		return nil
	})
	if after := s.info(t); after != before {
		t.Errorf("a certificate that ended by itself was put on the list: %+v, %+v", before, after)
	}
}

// info is what krl/info tells.
type info struct {
	sha256, next          string
	number, entries, size int
}

func (s *site) info(t *testing.T) info {
	t.Helper()
	a := host.Root().Read(t, s.path("ssh/local/krl/info")).OK(t)
	number := func(field string) int {
		n, ok := a.Data[field].(float64)
		if !ok {
			t.Fatalf("%s: no number in %s", a.Request, field)
		}
		return int(n)
	}
	next, _ := a.Data["next_change"].(string)
	return info{sha256: a.String(t, "sha256"), next: next, number: number("number"), entries: number("entries"), size: number("size")}
}

func TestWhoMayHaveTheList(t *testing.T) {
	s := newSite(t, harness.Plugin{})
	nobody, root := host.Anonymous(), host.Root()
	private, public := s.path("ssh/local/krl"), s.path("public/ssh/local/krl")

	open := nobody.Read(t, public).OK(t)
	if got := open.Header.Get("Content-Type"); got != "application/octet-stream" || !bytes.HasPrefix(open.Body, []byte("SSHKRL\n\x00")) {
		t.Errorf("%s %q", got, open.Body)
	}
	if same := root.Read(t, private).OK(t); !bytes.Equal(same.Body, open.Body) {
		t.Error("the two paths serve two lists")
	}
	for name, row := range map[string]struct {
		who    harness.Actor
		path   string
		status int
	}{
		"without a token, the path that needs one":    {nobody, private, http.StatusForbidden},
		"without a token, what the list is":           {nobody, private + "/info", http.StatusForbidden},
		"a person without a policy for it":            {s.alice.Actor, private, http.StatusForbidden},
		"without a token, a target that is not there": {nobody, s.path("public/ssh/nosuch/krl"), http.StatusNotFound},
		"a target that is not there":                  {root, s.path("ssh/nosuch/krl"), http.StatusNotFound},
		"a name that is none":                         {root, s.path("ssh/No_Such/krl"), http.StatusBadRequest},
		"a field that nobody knows":                   {root, private + "?format=pem", http.StatusBadRequest},
	} {
		if got := row.who.Read(t, row.path); got.Status != row.status {
			t.Errorf("%s: %d %s", name, got.Status, got.Body)
		}
	}
	root.Write(t, s.targetPath, map[string]any{"public_krl": false}).OK(t)
	if got := nobody.Read(t, public); got.Status != http.StatusNotFound || len(got.Body) > 0 && bytes.Contains(got.Body, []byte("SSHKRL")) {
		t.Errorf("a list that is not public: %d", got.Status)
	}
	root.Read(t, private).OK(t)
}
