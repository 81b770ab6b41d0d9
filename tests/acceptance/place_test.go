package acceptance

import (
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"reflect"
	"strings"
	"sync"
	"testing"

	"github.com/vault-pim/vault-plugin-secrets-pim/tests/harness"
	"github.com/vault-pim/vault-plugin-secrets-pim/tests/harness/poll"
)

// junction is an address behind which the operator of the network can put another
// host at any time.
type junction struct {
	URL string

	mu    sync.Mutex
	to    *url.URL
	paths []string // what was asked since the last switch
}

func newJunction(t *testing.T, to string) *junction {
	t.Helper()
	j := &junction{}
	j.lead(t, to)
	proxy := &httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) {
		j.mu.Lock()
		defer j.mu.Unlock()
		j.paths = append(j.paths, r.In.URL.Path)
		r.SetURL(j.to)
	}}
	server := httptest.NewServer(proxy)
	t.Cleanup(server.Close)
	j.URL = server.URL
	return j
}

func (j *junction) lead(t *testing.T, to string) {
	t.Helper()
	target, err := url.Parse(to)
	if err != nil {
		t.Fatal(err)
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	j.to, j.paths = target, nil
}

// askedForNothingElse fails the test if the place behind the address since the
// last switch was asked for more than which place it is.
func (j *junction) askedForNothingElse(t *testing.T) {
	t.Helper()
	j.mu.Lock()
	defer j.mu.Unlock()
	for _, path := range j.paths {
		if path != "/v1/sys/health" {
			t.Errorf("the other place was asked for %s", path)
		}
	}
}

func TestTargetThatTurnsOutToBeAnotherPlace(t *testing.T) {
	t.Parallel()
	elsewhere, err := harness.Start(harness.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := elsewhere.Stop(); err != nil {
			t.Error(err)
		}
	})
	way := newJunction(t, host.Addr)
	v := newVaultScene(t)
	v.target = v.pim.HostTarget(t, way.URL, nil, v.policy)

	// Nothing lives there yet, but the stored secret is for the first place alone.
	way.lead(t, elsewhere.Addr)
	host.Root().Write(t, v.path("targets/local"), map[string]any{"role_name": "pim"}).
		Refused(t, http.StatusBadRequest, "the target would be another place: a write that means it must carry the secret again")
	way.askedForNothingElse(t)
	way.lead(t, host.Addr)

	c := v.cast(t)
	c.role(t, "moved", v.tokens(nil)).OK(t)
	a := c.access(t, "moved")
	token := a.creds.String(t, "token")

	way.lead(t, elsewhere.Addr)
	refused := c.alice.Read(t, c.path("creds/moved")).Refused(t, http.StatusBadRequest, "the target is another place")
	if got := refused.String(t, "code"); got != "place_changed" {
		t.Errorf("code %q, want place_changed", got)
	}
	if answer := host.Root().Write(t, "sys/leases/revoke", map[string]any{"lease_id": a.creds.LeaseID, "sync": true}); answer.Status/100 == 2 {
		t.Errorf("the host was told that the lease has ended: %d %s", answer.Status, answer.Body)
	}
	c.bob.Write(t, c.path("grants/"+a.id+"/revoke"), nil).OK(t)
	stillThere := a.request(t)
	if stillThere.String(t, "state") != "revoked" || stillThere.Data["live_credentials"] == 0.0 ||
		!strings.Contains(fmt.Sprint(stillThere.Data["credentials"]), " revoking, ") {
		t.Errorf("a credential that nobody ended should be on record as revoking: %s", stillThere.Body)
	}
	if !v.reads(t, token) {
		t.Error("the token should still read: nothing has reached its host")
	}
	check := host.Root().Read(t, c.path("targets/local/check")).OK(t)
	if !strings.Contains(strings.Join(check.Warnings, "; "), "another place") {
		t.Errorf("the check does not warn: %s", check.Body)
	}
	host.Root().Write(t, c.path("targets/local"), map[string]any{"secret_id": v.target.Login.SecretID}).
		Refused(t, http.StatusBadRequest, "the target would be another place, and credentials are still alive at the old one")
	way.askedForNothingElse(t)

	way.lead(t, host.Addr)
	poll.Until(t, settles, func() error {
		if v.reads(t, token) {
			return errors.New("the token still reads the secret")
		}
		return nil
	})
	a.confirmed(t, "revoked")
}

func TestTargetEditThatLeadsElsewhere(t *testing.T) {
	t.Parallel()
	thief := harness.NewRecorder(t, host.Addr) // it has to outlive the mount, which ends its credentials there
	v := newVaultScene(t)
	c := v.cast(t)
	c.role(t, "edit", v.tokens(nil)).OK(t)
	path := v.path("targets/" + v.target.Name)
	before := host.Root().Read(t, path).OK(t)
	for name, edit := range map[string]map[string]any{
		"address":         {"address": thief.URL},
		"address, at all": {"address": thief.URL, "description": "the same host", "max_live": 5},
		"address, dry":    {"address": thief.URL, "dry_run": true},
		"auth_mount":      {"auth_mount": "approle-2"},
		"namespace":       {"namespace": "team-a"},
	} {
		refused := host.Root().Write(t, path, edit).Refused(t, http.StatusBadRequest, "invalid input: ")
		if !strings.Contains(refused.Errors[0], "secret_id: must be given again: this write changes where or to whom we speak") {
			t.Errorf("%s: %s", name, refused.Body)
		}
		refused.NoTrace(t, v.target.Login.SecretID)
	}
	if calls := thief.Calls(); len(calls) > 0 {
		t.Errorf("the new address was called before the secret was given: %v", calls)
	}
	if after := host.Root().Read(t, path).OK(t); !reflect.DeepEqual(before.Data, after.Data) {
		t.Errorf("a refused edit changed the target: %s", after.Body)
	}
	host.Root().Write(t, path, map[string]any{"address": thief.URL, "secret_id": v.target.Login.SecretID}).OK(t)
	c.access(t, "edit")
	if len(thief.Calls()) == 0 {
		t.Error("an edit with the secret should have moved the target")
	}
	for _, field := range []string{"secret_id", "token"} {
		if _, shown := before.Data[field]; shown {
			t.Errorf("the target shows %s", field)
		}
	}
}
