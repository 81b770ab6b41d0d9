package host_test

import (
	"crypto/rand"
	"crypto/rsa"
	"errors"
	"maps"
	"math"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/vault-pim/vault-plugin-secrets-pim/internal/domain"
	"github.com/vault-pim/vault-plugin-secrets-pim/internal/krl/krltest"
	"github.com/vault-pim/vault-plugin-secrets-pim/internal/provider/contract"
	"github.com/vault-pim/vault-plugin-secrets-pim/internal/provider/host"
)

// askWith issues under a role with parameters, and returns the last handle on
// record.
func (b *bench) askWith(role contract.Values, params map[string]string) (contract.Issued, domain.Handle, error) {
	b.Helper()
	in := b.input(role)
	in.Params, in.Request = params, "01jnb000000000000000000001"
	h, err := b.p.Plan(b.Context(), in)
	if err != nil {
		return contract.Issued{}, h, err
	}
	out, err := b.p.Issue(b.Context(), in, h, func(next domain.Handle) error {
		h = next
		return nil
	})
	return out, h, err
}

func (b *bench) sign() (contract.Issued, domain.Handle, error) {
	b.Helper()
	return b.askWith(sshRole(), map[string]string{"public_key": userLine()})
}

// list is the list as it would be published now, of these handles.
func list(t testing.TB, hs ...domain.Handle) krltest.List {
	t.Helper()
	raw, err := host.Descriptor().List.Render(hs, 7, start)
	if err != nil {
		t.Fatal(err)
	}
	l, err := krltest.Parse(raw)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func (b *bench) until(h domain.Handle) time.Time { return host.Descriptor().List.Until(h) }

func rsaLine(t *testing.T, bits int) string {
	t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, bits)
	if err != nil {
		t.Fatal(err)
	}
	public, err := ssh.NewPublicKey(&key.PublicKey)
	if err != nil {
		t.Fatal(err)
	}
	return publicLine(public)
}

func TestPublicKeysAreCheckedWhenTheyAreAskedFor(t *testing.T) {
	b := newBench(t, appRoleTarget)
	signed, _, err := b.sign()
	if err != nil {
		t.Fatal(err)
	}
	cert, _ := signed.Data.Reveal()["signed_key"].(string)
	for name, row := range map[string]struct {
		key  string
		fine bool
	}{
		"ed25519":                 {userLine(), true},
		"RSA of 3072 bits":        {rsaLine(t, 3072), true},
		"RSA of 2048 bits":        {rsaLine(t, 2048), false},
		"none":                    {"", false},
		"a certificate":           {cert, false},
		"a key with options":      {`restrict ` + userLine(), false},
		"two keys":                {userLine() + "\n" + userLine(), false},
		"text that is no key":     {"ssh-ed25519 AAAA", false},
		"a type that nobody uses": {"ssh-dss AAAAB3NzaC1kc3M", false},
	} {
		role, params := sshRole(), map[string]string{"public_key": row.key}
		report := host.Descriptor().CheckParams(role, params)
		if report.OK() != row.fine {
			t.Errorf("%s: when it is asked for: %v", name, report.Problems)
		}
		before := b.f.count("")
		_, _, err := b.askWith(role, params)
		if (err == nil) != row.fine {
			t.Errorf("%s: when it is issued: %v", name, err)
		}
		if !row.fine && b.f.count("") != before {
			t.Errorf("%s: the host was called for it", name)
		}
	}
	if r := host.Descriptor().CheckParams(leaseRole(), nil); !r.OK() {
		t.Errorf("a lease needs no key: %v", r.Problems)
	}
}

func TestACertificateThatIsNotWhatWasApproved(t *testing.T) {
	hour := uint64(time.Hour / time.Second)
	for name, twist := range map[string]func(*ssh.Certificate){
		"is one of a host":            func(c *ssh.Certificate) { c.CertType = ssh.HostCert },
		"has no serial":               func(c *ssh.Certificate) { c.Serial = 0 },
		"is for another key":          func(c *ssh.Certificate) { c.Key = sshSigner("mallory").PublicKey() },
		"has another principal":       func(c *ssh.Certificate) { c.ValidPrincipals = []string{"root"} },
		"has one principal more":      func(c *ssh.Certificate) { c.ValidPrincipals = append(c.ValidPrincipals, "root") },
		"has no principals at all":    func(c *ssh.Certificate) { c.ValidPrincipals = nil },
		"has one extension more":      func(c *ssh.Certificate) { c.Extensions["permit-port-forwarding"] = "" },
		"has an extension with value": func(c *ssh.Certificate) { c.Extensions["permit-pty"] = "x" },
		"lacks the critical option":   func(c *ssh.Certificate) { c.CriticalOptions = nil },
		"has another critical option": func(c *ssh.Certificate) { c.CriticalOptions["source-address"] = "0.0.0.0/0" },
		"lives an hour longer":        func(c *ssh.Certificate) { c.ValidBefore += hour },
		"lives for ever":              func(c *ssh.Certificate) { c.ValidBefore = ssh.CertTimeInfinity },
		"lives almost for ever":       func(c *ssh.Certificate) { c.ValidBefore = math.MaxInt64 },
		"is not valid yet":            func(c *ssh.Certificate) { c.ValidAfter += hour },
		"has the key id of another":   func(c *ssh.Certificate) { c.KeyId = "vault-root-key" },
		"has an empty key id":         func(c *ssh.Certificate) { c.KeyId = "" },
	} {
		t.Run(name, func(t *testing.T) {
			b := newBench(t, appRoleTarget)
			b.f.ssh.twist = twist
			_, h, err := b.sign()
			if codeOf(err) != "certificate_differs" || len(b.f.ssh.certs) != 1 {
				t.Fatalf("%d signed: %v", len(b.f.ssh.certs), err)
			}
			ended, err := b.p.Revoke(t.Context(), h)
			if err != nil || !ended.AccessGone || ended.Done() {
				t.Fatalf("%+v, %v", ended, err)
			}
			if cert := b.f.ssh.certs[0]; !list(t, ended.Rest).Revokes(cert) && cert.Serial != 0 {
				t.Error("it is not on the list")
			}
			if end := time.Unix(int64(min(b.f.ssh.certs[0].ValidBefore, 1<<35)), 0); ended.Again.Before(end) {
				t.Errorf("it is dropped at %s and lives until %s", ended.Again, end)
			}
			if b.left() != 0 {
				t.Error("a token is left")
			}
		})
	}
}

func TestACertificateOfAnotherCAIsListedUnderThatCA(t *testing.T) {
	b := newBench(t, appRoleTarget)
	b.f.ssh.signer = sshSigner("another ca")
	_, h, err := b.sign()
	if codeOf(err) != "certificate_differs" {
		t.Fatal(err)
	}
	if cert := b.f.ssh.certs[0]; !list(t, h).Revokes(cert) {
		t.Error("it is not on the list")
	}
}

func TestOnlyWhatEndsEarlyIsOnTheList(t *testing.T) {
	b := newBench(t, appRoleTarget)
	issued, h, err := b.sign()
	if err != nil {
		t.Fatal(err)
	}
	if end := issued.NotAfter; end.After(start.Add(10*time.Minute)) || end.Before(start.Add(10*time.Minute-2*time.Second)) {
		t.Errorf("it ends at %s", end)
	}
	b.f.clk.Advance(5 * time.Minute)
	early, err := b.p.Revoke(t.Context(), h)
	if err != nil || !early.Again.Equal(issued.NotAfter.Add(5*time.Minute)) || !b.until(early.Rest).Equal(early.Again) {
		t.Fatalf("%+v, %v", early, err)
	}
	b.f.clk.Advance(early.Again.Sub(b.f.clk.Now()) - time.Second)
	if again, err := b.p.Revoke(t.Context(), early.Rest); err != nil || again.Done() {
		t.Errorf("its entry is dropped before its time: %+v, %v", again, err)
	}
	b.f.clk.Advance(time.Second)
	if over, err := b.p.Revoke(t.Context(), early.Rest); err != nil || !over.Done() {
		t.Errorf("its entry stays: %+v, %v", over, err)
	}

	issued, h, err = b.sign()
	if err != nil {
		t.Fatal(err)
	}
	b.f.clk.Advance(issued.NotAfter.Sub(b.f.clk.Now()))
	if now := b.f.clk.Now(); b.until(h).After(now) {
		t.Errorf("at its end it would still be listed for %s", b.until(h).Sub(now))
	}
	if over, err := b.p.Revoke(t.Context(), h); err != nil || !over.Done() {
		t.Errorf("one that ended by itself leaves something: %+v, %v", over, err)
	}
}

func TestTheLastMomentIsWaitedFor(t *testing.T) {
	b := newBench(t, appRoleTarget)
	issued, h, err := b.sign()
	if err != nil {
		t.Fatal(err)
	}
	b.f.clk.Advance(issued.NotAfter.Sub(b.f.clk.Now()) - 2*time.Second)
	if b.until(h).After(b.f.clk.Now()) {
		t.Error("it is listed for its last two seconds")
	}
	done := make(chan contract.Ended, 1)
	go func() {
		ended, err := b.p.Revoke(t.Context(), h)
		if err != nil {
			t.Error(err)
		}
		done <- ended
	}()
	for i := 0; ; i++ {
		select {
		case ended := <-done:
			if !ended.Done() || b.f.clk.Now().Before(issued.NotAfter) {
				t.Errorf("%+v at %s", ended, b.f.clk.Now())
			}
			return
		case <-time.After(10 * time.Millisecond):
			b.f.clk.Advance(100 * time.Millisecond)
		}
		if i > 1000 {
			t.Fatal("the revocation never returned")
		}
	}
}

func TestAnIssueThatIsRepeatedNamesAllItSigned(t *testing.T) {
	b := newBench(t, appRoleTarget)
	in := b.input(sshRole())
	in.Params = map[string]string{"public_key": userLine()}
	h, err := b.p.Plan(t.Context(), in)
	if err != nil {
		t.Fatal(err)
	}
	keep := func(next domain.Handle) error { h = next; return nil }
	if _, err := b.p.Issue(t.Context(), in, h, keep); err != nil {
		t.Fatal(err)
	}
	lost := errors.New("the record could not be written")
	saved := 0
	_, err = b.p.Issue(t.Context(), in, h, func(next domain.Handle) error {
		if saved++; saved == 2 {
			return lost
		}
		return keep(next)
	})
	if !errors.Is(err, lost) {
		t.Fatal(err)
	}
	if _, err := b.p.Issue(t.Context(), in, h, keep); err != nil {
		t.Fatal(err)
	}
	l := list(t, h)
	for i, cert := range b.f.ssh.certs {
		if !l.Revokes(cert) {
			t.Errorf("certificate %d of %d would stay", i+1, len(b.f.ssh.certs))
		}
	}
	if len(b.f.ssh.certs) != 3 {
		t.Errorf("%d certificates", len(b.f.ssh.certs))
	}
	if raw, err := h.Encode(); err != nil || len(raw) > domain.MaxHandleBytes/2 {
		t.Errorf("a handle of %d bytes (%v)", len(raw), err)
	}
}

func TestWhatTheEngineRefusedIsNotListed(t *testing.T) {
	for _, status := range []int{http.StatusBadRequest, http.StatusForbidden, http.StatusNotFound} {
		b := newBench(t, appRoleTarget)
		b.f.on("PUT ssh/sign/prod", func(w http.ResponseWriter, _ *http.Request) { fail(w, status) })
		_, h, err := b.sign()
		if err == nil || !b.until(h).IsZero() {
			t.Errorf("%d: listed until %s (%v)", status, b.until(h), err)
		}
	}
	b := newBench(t, appRoleTarget)
	b.f.on("PUT ssh/sign/prod", func(w http.ResponseWriter, _ *http.Request) { fail(w, http.StatusBadGateway) })
	_, h, err := b.sign()
	if err == nil || !b.until(h).After(start) || !slices.ContainsFunc(list(t, h).Entries, func(e krltest.Entry) bool {
		return strings.Contains(e.KeyID, string(h.Credential)) && strings.Contains(e.KeyID, "01jnb000000000000000000001")
	}) {
		t.Errorf("an answer that tells nothing: %+v (%v)", list(t, h).Entries, err)
	}
}

func TestTheListIgnoresWhatItDoesNotKnow(t *testing.T) {
	b := newBench(t, appRoleTarget)
	_, lease, err := b.issue(t.Context(), leaseRole())
	if err != nil {
		t.Fatal(err)
	}
	_, signed, err := b.sign()
	if err != nil {
		t.Fatal(err)
	}
	other := signed
	other.Provider = "aws"
	newer := signed
	newer.V = 99
	for name, h := range map[string]domain.Handle{"a lease": lease, "another provider": other, "a newer version": newer, "nothing": {}} {
		if !b.until(h).IsZero() || len(list(t, h).Entries) != 0 {
			t.Errorf("%s is on the list", name)
		}
	}
	if n := len(list(t, lease, signed, other).Entries); n != 1 {
		t.Errorf("%d entries", n)
	}
	damaged := signed
	damaged.Data = []byte(`"?"`)
	if _, err := host.Descriptor().List.Render([]domain.Handle{damaged}, 1, start); err == nil {
		t.Error("a list with a handle that nobody can read passes for whole")
	}
}

func TestSSHRolesThatCannotWork(t *testing.T) {
	for name, row := range map[string]struct {
		change contract.Values
		field  string
	}{
		"no CA key":                       {contract.Values{"ca_public_key": ""}, "ca_public_key"},
		"a private key for the CA's":      {contract.Values{"ca_public_key": "-----BEGIN OPENSSH PRIVATE KEY-----"}, "ca_public_key"},
		"no principals":                   {contract.Values{"valid_principals": []string{}}, "valid_principals"},
		"a principal that is two":         {contract.Values{"valid_principals": []string{"a,b"}}, "valid_principals"},
		"any principal":                   {contract.Values{"valid_principals": []string{"*"}}, "valid_principals"},
		"an extension that is none":       {contract.Values{"extensions": []string{"permit pty"}}, "extensions"},
		"an extension twice":              {contract.Values{"extensions": []string{"permit-pty", "permit-pty=x"}}, "extensions"},
		"a critical option nobody knows":  {contract.Values{"critical_options": map[string]string{"no-such": ""}}, "critical_options"},
		"a critical option with a break":  {contract.Values{"critical_options": map[string]string{"force-command": "a\nb"}}, "critical_options"},
		"a path to another verb":          {contract.Values{"path": "ssh/issue/prod"}, "path"},
		"a path into the host":            {contract.Values{"path": "auth/sign/prod"}, "path"},
		"a parameter that is undeclared":  {contract.Values{"public_key_param": "key"}, "public_key_param"},
		"a field of a lease":              {contract.Values{"engine": "ssh"}, "engine"},
		"a field of an X.509 certificate": {contract.Values{"alt_names": []string{"x"}}, "alt_names"},
	} {
		b := newBench(t, appRoleTarget)
		role := sshRole()
		maps.Copy(role, row.change)
		report := b.p.Validate(t.Context(), contract.Spec{Fields: role, Params: []string{"public_key"}}, false)
		if len(report.Problems) == 0 || report.Problems[0].Field != row.field {
			t.Errorf("%s: %v", name, report.Problems)
		}
	}
}

func TestSSHRolesAreComparedWithTheirEngine(t *testing.T) {
	for name, row := range map[string]struct {
		change func(*fakeHost)
		field  string
	}{
		"all is well":                  {func(*fakeHost) {}, ""},
		"another CA":                   {func(f *fakeHost) { f.ssh.ca = sshSigner("new ca") }, "ca_public_key"},
		"no key ids":                   {func(f *fakeHost) { f.ssh.role["allow_user_key_ids"] = false }, "path"},
		"no user certificates":         {func(f *fakeHost) { f.ssh.role["allow_user_certificates"] = false }, "path"},
		"one-time passwords":           {func(f *fakeHost) { f.ssh.role["key_type"] = "otp" }, "path"},
		"one principal is not allowed": {func(f *fakeHost) { f.ssh.role["allowed_users"] = "ops" }, "valid_principals"},
		"the mount is of another type": {func(f *fakeHost) { f.mounts["ssh/"] = "kv" }, "path"},
		"the login may not look":       {func(f *fakeHost) { f.denied = []string{"ssh/"} }, ""},
		"any principal is allowed":     {func(f *fakeHost) { f.ssh.role["allowed_users"] = "*" }, ""},
	} {
		b := newBench(t, appRoleTarget)
		b.f.with(row.change)
		report := b.p.Validate(t.Context(), contract.Spec{Fields: sshRole(), Params: []string{"public_key"}}, true)
		switch {
		case row.field == "" && !report.OK():
			t.Errorf("%s: %v", name, report.Problems)
		case row.field != "" && (report.OK() || report.Problems[0].Field != row.field):
			t.Errorf("%s: %v", name, report.Problems)
		}
	}
}

func TestSSHPromises(t *testing.T) {
	d := host.Descriptor()
	role := sshRole()
	if r := d.Revocation(role); r.Class != domain.Propagating || r.Seconds != 60 || !slices.Contains(r.Survives, domain.OpenSessions) {
		t.Errorf("%+v", r)
	}
	delete(role, "krl_fetch_interval")
	if r := d.Revocation(role); r.Seconds != 0 {
		t.Errorf("a bound out of nowhere: %+v", r)
	}
}
