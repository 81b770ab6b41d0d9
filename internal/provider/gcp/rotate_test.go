package gcp

import (
	"net/http"
	"slices"
	"testing"
	"time"

	"github.com/vault-pim/vault-plugin-secrets-pim/internal/provider/contract"
	"github.com/vault-pim/vault-plugin-secrets-pim/internal/provider/gcp/fakegcp"
	"github.com/vault-pim/vault-plugin-secrets-pim/internal/secret"
)

const rotation = "01jqzv5t8n0000000000000000"

func (k *kit) rootKeys() []string {
	a, _ := k.cloud.Find(engineAccount)
	return contract.SortedKeys(a.Keys)
}

// with opens the target with other secrets.
func (k *kit) with(t *testing.T, secrets map[string]secret.String) *Provider {
	t.Helper()
	target := k.target(nil)
	target.Secrets = secrets
	return k.open(t, target)
}

func TestRotatingTheRootKey(t *testing.T) {
	t.Parallel()
	k := newKit(t)
	old := map[string]secret.String{"credentials": k.root}
	before := k.rootKeys()
	k.cloud.Empower(robot)
	p := k.open(t, k.target(contract.Values{"impersonate": []string{robot}})) // the key's own account rotates itself
	staged, err := p.StageRoot(t.Context(), rotation)
	if err != nil {
		t.Fatal(err)
	}
	if n := len(k.rootKeys()); n != 2 {
		t.Fatalf("%d keys after staging", n)
	}
	fresh := k.with(t, staged)
	for range 2 { // twice, as after a crash
		if err := fresh.CommitRoot(t.Context(), rotation, old); err != nil {
			t.Fatal(err)
		}
	}
	if left := k.rootKeys(); len(left) != 1 || slices.Contains(left, before[0]) {
		t.Errorf("keys %v, before %v", left, before)
	}
	_, h := k.mustIssue(t, fresh, ownUser())
	k.mustEnd(t, fresh, h)
	if _, err := k.with(t, old).Place(t.Context()); err == nil {
		t.Error("the old key still works")
	}
}

func TestAbandoningARotationRemovesWhatItMadeEvenIfNobodyKnowsIt(t *testing.T) {
	t.Parallel()
	k := newKit(t)
	p := k.open(t, k.target(nil))
	k.cloud.Plan(fakegcp.Fault{Contains: "/keys:upload", After: true, Status: http.StatusServiceUnavailable, Code: "UNAVAILABLE"})
	_, err := p.StageRoot(t.Context(), rotation)
	wantError(t, err, "UNAVAILABLE", "could not do it now")
	if n := len(k.rootKeys()); n != 2 {
		t.Fatalf("%d keys", n)
	}
	for range 2 {
		if err := p.AbandonRoot(t.Context(), rotation, nil); err != nil {
			t.Fatal(err)
		}
	}
	if n := len(k.rootKeys()); n != 1 {
		t.Errorf("%d keys are left", n)
	}
	if _, err := p.Place(t.Context()); err != nil {
		t.Errorf("the key in use: %v", err)
	}
}

func TestRotationsThatAreRefused(t *testing.T) {
	t.Parallel()
	k := newKit(t)
	p := k.open(t, k.target(nil))
	env := k.env()
	env.AllowAmbient = []string{Type}
	target := k.target(nil)
	target.Secrets = nil
	ambient, err := open(k.surroundings(), env, target)
	if err != nil {
		t.Fatal(err)
	}
	_, err = ambient.StageRoot(t.Context(), rotation)
	wantError(t, err, "not_a_key", "only a key in the field credentials")
	_, err = p.StageRoot(t.Context(), "../x")
	wantError(t, err, "bad_id", "no proper id")
	err = p.CommitRoot(t.Context(), rotation, map[string]secret.String{"credentials": k.root})
	wantError(t, err, "differs", "the same one")
	other := k.keyOf(t, engineAccount, "not staged")
	err = p.CommitRoot(t.Context(), rotation, map[string]secret.String{"credentials": other})
	wantError(t, err, "differs", "not the one that was staged")
	k.keyOf(t, engineAccount, rootPrefix+rotation)
	used := k.with(t, map[string]secret.String{"credentials": k.keyOf(t, engineAccount, rootPrefix+rotation)})
	wantError(t, used.AbandonRoot(t.Context(), rotation, nil), "in_use", "in use")
	for len(k.rootKeys()) < maxKeys {
		k.keyOf(t, engineAccount, "more")
	}
	_, err = p.StageRoot(t.Context(), rotation)
	wantError(t, err, "limit_keys", "there are 10")
}

func TestANewRootKeyIsWaitedFor(t *testing.T) {
	t.Parallel()
	k := newKit(t)
	k.cloud.SetLag(fakegcp.Lag{Keys: time.Hour}) // and no clock moves
	p := k.open(t, k.target(nil))
	_, err := p.StageRoot(t.Context(), rotation)
	wantError(t, err, "invalid_grant", "does not accept")
	if waited := time.Duration(k.waited.Load()); waited < 10*time.Second {
		t.Errorf("gave up after %s", waited)
	}
}
