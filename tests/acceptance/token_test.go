package acceptance

import (
	"crypto/rand"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/vault-pim/vault-plugin-secrets-pim/tests/harness"
	"github.com/vault-pim/vault-plugin-secrets-pim/tests/harness/poll"
)

// vaultScene is a scene with a secret of production that only tokens of pim can read.
type vaultScene struct {
	*scene
	secret, password string // its path below secret/data/, and what it holds
	policy           string // the policy that opens it
}

func newVaultScene(t *testing.T) *vaultScene {
	t.Helper()
	v := &vaultScene{password: host.Canary(t), secret: "prod/" + strings.ToLower(rand.Text())}
	v.policy = host.Policy(t, "prod-read", fmt.Sprintf("path %q { capabilities = [\"read\"] }", "secret/data/"+v.secret))
	host.Secret(t, v.secret, map[string]string{"password": v.password})
	v.scene = newScene(t, nil, v.policy)
	return v
}

// tokens is what a role says that hands out tokens for the secret.
func (v *vaultScene) tokens(fields map[string]any) map[string]any {
	role := map[string]any{"token_policies": v.policy, "ttl": "10m", "min_ttl": 1}
	maps.Copy(role, fields)
	return role
}

// reads tells whether a token can read the secret at this moment.
func (v *vaultScene) reads(t *testing.T, token string) bool {
	t.Helper()
	answer := host.Anonymous().With("credential", token).Read(t, "secret/data/"+v.secret)
	if answer.Status == http.StatusForbidden {
		return false
	}
	data, ok := answer.OK(t).Data["data"].(map[string]any)
	if !ok || data["password"] != v.password {
		t.Fatalf("%s: another secret than expected: %s", answer.Request, answer.Body)
	}
	return true
}

// dies waits until a token is refused.
func (v *vaultScene) dies(t *testing.T, token string) {
	t.Helper()
	poll.Until(t, promised, func() error {
		if v.reads(t, token) {
			return errors.New("the token still reads the secret")
		}
		return nil
	})
}

// What the mount may lease at most is the host's to say, also in the seconds in
// which pim has not heard of a change: no lease is longer.
func TestTheHostCutsLeases(t *testing.T) {
	t.Parallel()
	o := newOffice(t)
	o.role(t, "admin", map[string]any{"ttl": "1h"})
	o.granted(t, "admin", nil)
	read := func() harness.Answer { return o.alice.Read(t, o.path("creds/admin")).OK(t) }
	if got := read().LeaseDuration; got < 3500 {
		t.Fatalf("a lease of %d s, want an hour's", got)
	}
	host.Root().Write(t, "sys/mounts/"+o.pim.Path+"/tune", map[string]any{"max_lease_ttl": "120s"}).OK(t)
	cut := read()
	left, err := strconv.Atoi(fmt.Sprint(host.Root().Write(t, "sys/leases/lookup", map[string]any{"lease_id": cut.LeaseID}).OK(t).Data["ttl"]))
	if err != nil || cut.LeaseDuration > 120 || left > 120 {
		t.Errorf("a lease of %d s, of which %d are left (%v), where the mount has 120", cut.LeaseDuration, left, err)
	}
}

func TestToken(t *testing.T) {
	t.Parallel()
	v := newVaultScene(t)
	for i, way := range endings() {
		t.Run("reads what the person cannot, and is refused when "+way.name, func(t *testing.T) {
			t.Parallel()
			c, role := v.cast(t), fmt.Sprintf("prod-%d", i)
			written := c.role(t, role, v.tokens(map[string]any{"ttl": way.ttl})).OK(t)
			hasClass(t, written, "immediate", "created_objects")
			if v.reads(t, c.alice.Token) || v.reads(t, c.bob.Token) {
				t.Fatal("a person reads the secret without pim")
			}
			a := c.access(t, role)
			token := a.creds.String(t, "token")
			if !v.reads(t, token) || v.reads(t, c.alice.Token) {
				t.Fatal("the token should read the secret, and the person's own should not")
			}
			way.end(t, a)
			v.dies(t, token)
			a.confirmed(t, way.state)
			host.NoTrace(t, token)
		})
	}
	t.Run("is as it was approved", v.asApproved)
	t.Run("dies with its mount", diesWithItsMount)
	t.Run("with policies that the token role does not allow is not made", v.notAllowed)
}

func (v *vaultScene) asApproved(t *testing.T) {
	t.Parallel()
	c := v.cast(t)
	c.role(t, "approved", v.tokens(map[string]any{"lease_ttl": "5m"})).OK(t)
	a := c.access(t, "approved")
	token := a.creds.String(t, "token")
	seen := host.Root().Write(t, "auth/token/lookup", map[string]any{"token": token}).OK(t)
	for field, want := range map[string]any{
		"type": "service", "orphan": true, "renewable": false, "entity_id": "", "num_uses": 0.0, "policies": []any{v.policy},
	} {
		if got := seen.Data[field]; !reflect.DeepEqual(got, want) {
			t.Errorf("%s is %v, want %v", field, got, want)
		}
	}
	if most, ok := seen.Data["explicit_max_ttl"].(float64); !ok || most < 290 || most > 300 {
		t.Errorf("explicit_max_ttl is %v, want that of the lease, 300", seen.Data["explicit_max_ttl"])
	}
	meta, ok := seen.Data["meta"].(map[string]any)
	if !ok || meta["pim_request"] != a.id || meta["pim_credential"] != a.creds.String(t, "pim_credential_id") {
		t.Errorf("the token should carry request and credential, has %v", seen.Data["meta"])
	}
	holder := host.Anonymous().With("credential", token)
	for _, path := range []string{a.path("creds/approved"), "sys/mounts", "secret/data/prod/other", "auth/token/lookup-self"} {
		holder.Read(t, path).Refused(t, http.StatusForbidden, "")
	}
	holder.Write(t, "secret/data/"+v.secret, map[string]any{"data": map[string]any{"password": "mine"}}).
		Refused(t, http.StatusForbidden, "")
	holder.Write(t, "auth/token/renew-self", nil).Refused(t, http.StatusForbidden, "")
}

func diesWithItsMount(t *testing.T) {
	t.Parallel()
	v := newVaultScene(t)
	c := v.cast(t)
	c.role(t, "unmounted", v.tokens(nil)).OK(t)
	token := c.access(t, "unmounted").creds.String(t, "token")
	host.Root().Delete(t, "sys/mounts/"+v.pim.Path).OK(t)
	v.dies(t, token)
}

func (v *vaultScene) notAllowed(t *testing.T) {
	t.Parallel()
	c := v.cast(t)
	for _, policies := range []any{"root", "default", "Upper", []string{v.policy, "root"}} {
		c.role(t, "greedy", v.tokens(map[string]any{"token_policies": policies})).
			Refused(t, http.StatusBadRequest, "invalid input: token_policies: ")
	}
	other := host.Policy(t, "other", `path "secret/data/*" { capabilities = ["read"] }`)
	c.role(t, "greedy", v.tokens(map[string]any{"token_policies": []string{v.policy, other}})).OK(t)
	id := c.grant(t, "greedy")
	c.alice.Read(t, c.path("creds/greedy")).Refused(t, http.StatusBadRequest, "the target refused: ")
	c.undone(t, id)
}

// edited is a role with a live credential, and a pending request of carol.
type edited struct {
	*access
	token   string
	carol   *harness.Person
	pending string
}

func (v *vaultScene) edited(t *testing.T, role string) *edited {
	t.Helper()
	c := v.cast(t)
	e := &edited{carol: host.Person(t, "carol", v.scene.policy)}
	host.SetMembers(t, c.eligible, c.alice, e.carol)
	c.role(t, role, v.tokens(nil)).OK(t)
	e.access = c.access(t, role)
	e.token = e.creds.String(t, "token")
	e.pending = e.carol.Write(t, c.path("request/"+role), map[string]any{"justification": "me too"}).OK(t).String(t, "request_id")
	return e
}

func (e *edited) write(t *testing.T, fields map[string]any) harness.Answer {
	t.Helper()
	return host.Root().Write(t, e.path("roles/"+e.role), fields)
}

// state of a request as an auditor sees it.
func (e *edited) state(t *testing.T, id string) string {
	t.Helper()
	return host.Root().Read(t, e.path("audit/requests/"+id)).OK(t).String(t, "state")
}

// unchanged runs an edit that must be refused or must not matter.
func (e *edited) unchanged(t *testing.T, edit func() harness.Answer) harness.Answer {
	t.Helper()
	before := host.Root().Read(t, e.path("roles/"+e.role)).OK(t)
	answer := edit()
	if after := host.Root().Read(t, e.path("roles/"+e.role)).OK(t); !reflect.DeepEqual(before.Data, after.Data) {
		t.Errorf("%s changed the role: %s", answer.Request, after.Body)
	}
	if e.state(t, e.pending) != "pending" || e.state(t, e.id) != "active" {
		t.Errorf("%s changed a request", answer.Request)
	}
	return answer
}

func (e *edited) wantEffect(t *testing.T, answer harness.Answer, changed []string, voided, live int, revoked bool) {
	t.Helper()
	got := answer.OK(t).Data
	var fields []string
	if list, ok := got["security_changed"].([]any); ok {
		for _, f := range list {
			fields = append(fields, fmt.Sprint(f))
		}
	}
	if !slices.Equal(fields, changed) || got["requests_voided"] != float64(voided) ||
		got["live_credentials"] != float64(live) || got["live_revoked"] != revoked {
		t.Errorf("%s: want security_changed %v, %d voided, %d live, revoked %v; got %s",
			answer.Request, changed, voided, live, revoked, answer.Body)
	}
}

func TestRoleEditWithLiveCredentials(t *testing.T) {
	t.Parallel()
	v := newVaultScene(t)
	security := map[string]any{"max_ttl": "7h"}
	with := func(live string) map[string]any { return map[string]any{"max_ttl": "7h", "live": live} }

	t.Run("must say what happens to them", func(t *testing.T) {
		t.Parallel()
		e := v.edited(t, "unsaid")
		for name, edit := range map[string]func() harness.Answer{
			"edit":   func() harness.Answer { return e.write(t, security) },
			"delete": func() harness.Answer { return host.Root().Delete(t, e.path("roles/"+e.role)) },
		} {
			refused := e.unchanged(t, edit).Refused(t, http.StatusBadRequest, "1 live credential(s) are concerned: say live=keep or live=revoke")
			if refused.Data["code"] != "live_credentials" || refused.Data["live_credentials"] != 1.0 {
				t.Errorf("%s: %s", name, refused.Body)
			}
		}
		e.unchanged(t, func() harness.Answer { return e.write(t, with("maybe")) }).
			Refused(t, http.StatusBadRequest, "invalid input: live: must be one of keep, revoke")
		dry := e.unchanged(t, func() harness.Answer { return e.write(t, map[string]any{"max_ttl": "7h", "dry_run": true}) })
		e.wantEffect(t, dry, []string{"max_ttl"}, 1, 1, false)
		if !v.reads(t, e.token) {
			t.Error("a refused edit ended the credential")
		}
	})
	t.Run("need say nothing where nothing of security changes", func(t *testing.T) {
		t.Parallel()
		e := v.edited(t, "harmless")
		e.unchanged(t, func() harness.Answer { return e.write(t, v.tokens(nil)) }).OK(t)
		e.wantEffect(t, e.write(t, map[string]any{"description": "for orders", "owner": "bob"}), nil, 0, 0, false)
		if e.state(t, e.pending) != "pending" || !v.reads(t, e.token) {
			t.Error("a new description ended something")
		}
		e.alice.Read(t, e.path("creds/harmless")).OK(t)
	})
	t.Run("keeps them with live=keep, until their own end", func(t *testing.T) {
		t.Parallel()
		e := v.edited(t, "keep")
		e.wantEffect(t, e.write(t, with("keep")), []string{"max_ttl"}, 1, 1, false)
		poll.Until(t, settles, func() error { return e.is(t, e.pending, "void") })
		e.alice.Read(t, e.path("creds/keep")).Refused(t, http.StatusBadRequest, "no active grant: the role or its target changed")
		e.carol.Read(t, e.path("creds/keep")).Refused(t, http.StatusBadRequest, "no active grant: ")
		if !v.reads(t, e.token) {
			t.Fatal("the credential should live on")
		}
		e.endsWithItsLease(t, v)
	})
	t.Run("ends them with live=revoke", func(t *testing.T) {
		t.Parallel()
		e := v.edited(t, "revoke")
		e.wantEffect(t, e.write(t, with("revoke")), []string{"max_ttl"}, 1, 1, true)
		v.dies(t, e.token)
		e.confirmed(t, "revoked")
		poll.Until(t, settles, func() error { return e.is(t, e.pending, "void") })
	})
	t.Run("keeps them after the role is deleted with live=keep", func(t *testing.T) {
		t.Parallel()
		e := v.edited(t, "deleted-keep")
		e.wantEffect(t, host.Root().Delete(t, e.path("roles/deleted-keep?live=keep")), []string{"role"}, 1, 1, false)
		poll.Until(t, settles, func() error { return e.is(t, e.pending, "void") })
		e.alice.Read(t, e.path("creds/deleted-keep")).Refused(t, http.StatusForbidden, "access denied: no such role")
		if !v.reads(t, e.token) {
			t.Fatal("the credential should live on")
		}
		// The same role again is another one: what was approved does not count for it.
		e.cast.role(t, "deleted-keep", v.tokens(nil)).OK(t)
		e.alice.Read(t, e.path("creds/deleted-keep")).Refused(t, http.StatusBadRequest, "no active grant: the role or its target changed")
		e.endsWithItsLease(t, v)
	})
	t.Run("ends them when the role is deleted with live=revoke", func(t *testing.T) {
		t.Parallel()
		e := v.edited(t, "deleted-revoke")
		e.wantEffect(t, host.Root().Delete(t, e.path("roles/deleted-revoke?live=revoke")), []string{"role"}, 1, 1, true)
		v.dies(t, e.token)
		e.confirmed(t, "revoked")
	})
}

func (e *edited) is(t *testing.T, id, want string) error {
	t.Helper()
	if got := e.state(t, id); got != want {
		return fmt.Errorf("request %s is %s, want %s", id, got, want)
	}
	return nil
}

func (e *edited) endsWithItsLease(t *testing.T, v *vaultScene) {
	t.Helper()
	host.Root().Write(t, "sys/leases/revoke", map[string]any{"lease_id": e.creds.LeaseID, "sync": true}).OK(t)
	if v.reads(t, e.token) {
		t.Error("the credential outlives its lease")
	}
	e.confirmed(t, "active")
}

func TestDeletedRoleFreesItsTarget(t *testing.T) {
	t.Parallel()
	v := newVaultScene(t)
	e := v.edited(t, "last")
	target := e.path("targets/" + e.target.Name)
	refused := host.Root().Delete(t, target).Refused(t, http.StatusBadRequest, "1 credential(s) of this target are not gone yet")
	if refused.Data["code"] != "live_credentials" || refused.Data["live_credentials"] != 1.0 {
		t.Errorf("%s: %s", refused.Request, refused.Body)
	}
	e.endsWithItsLease(t, v)
	inUse := host.Root().Delete(t, target).Refused(t, http.StatusBadRequest, "1 role(s) name this target")
	if inUse.Data["code"] != "target_in_use" || !strings.Contains(inUse.Errors[0], "last") {
		t.Errorf("%s: %s", inUse.Request, inUse.Body)
	}
	host.Root().Delete(t, e.path("roles/last")).OK(t)
	host.Root().Delete(t, target+"?dry_run=true").OK(t)
	host.Root().Read(t, target).OK(t)
	host.Root().Delete(t, target).OK(t)
	if gone := host.Root().Read(t, target); gone.Status != http.StatusNotFound {
		t.Errorf("the target is still there: %d %s", gone.Status, gone.Body)
	}
}
