package gcp

import (
	"crypto/rand"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/vault-pim/vault-plugin-secrets-pim/internal/clock"
	"github.com/vault-pim/vault-plugin-secrets-pim/internal/domain"
	"github.com/vault-pim/vault-plugin-secrets-pim/internal/provider/gcp/fakegcp"
	"github.com/vault-pim/vault-plugin-secrets-pim/tests/harness/poll"
)

// sweep runs a sweep to its end.
func (o *office) sweep(t *testing.T, ask args) {
	t.Helper()
	o.write(t, "orphans/sweep", ask)
	poll.Until(t, endBound, func() error {
		status := host.Root().Read(t, o.path("orphans/sweep")).OK(t)
		if status.Data["running"] != false {
			return fmt.Errorf("%s", status.Body)
		}
		if status.Data["failed"] != false {
			t.Fatalf("%s", status.Body)
		}
		return nil
	})
}

// orphans insists on the ids that orphans/ lists.
func (o *office) orphans(t *testing.T, want ...string) {
	t.Helper()
	got := host.Root().List(t, o.path("orphans/")).Keys(t)
	if want = slices.Sorted(slices.Values(want)); !slices.Equal(got, want) {
		t.Fatalf("orphans/ lists %v, want %v", got, want)
	}
}

// newID is the id of a credential that would have been planned some time ago.
func newID(t *testing.T, age time.Duration) string {
	t.Helper()
	id, err := domain.NewID(clock.System{}.Now().Add(-age), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return id
}

// strayAccount makes an account by hand that carries all our tags, and a
// binding of it.
func (o *office) strayAccount(t *testing.T, tag string, age time.Duration) (id string) {
	t.Helper()
	id = newID(t, age)
	email := "pim-" + id + "@prod-access.iam.gserviceaccount.com"
	o.AddAccount("prod-access", email)
	o.Describe(email, describe(tag, id))
	o.SetPolicy(policy, nil, boundTo("serviceAccount:"+email, tag, id))
	return id
}

// strayBinding makes a binding of somebody by hand that carries all our tags.
func (o *office) strayBinding(t *testing.T, tag string, age time.Duration) (id string) {
	t.Helper()
	id = newID(t, age)
	o.SetPolicy(policy, nil, boundTo("user:dave@example.com", tag, id))
	return id
}

func describe(tag, id string) string {
	return "pim target " + tag + " credential " + id + " request " + id
}

func boundTo(member, tag, id string) string {
	return fmt.Sprintf(`{"role":"roles/compute.viewer","members":[%q],"condition":{"title":"pim-%s","description":%q,`+
		`"expression":"request.time < timestamp(\"2040-01-01T00:00:00Z\")"}}`, member, id, describe(tag, id))
}

// there tells what the cloud has of a stray.
func (o *office) there(id string) bool {
	if a, ok := o.Find("pim-" + id + "@prod-access.iam.gserviceaccount.com"); ok && !a.Disabled {
		return true
	}
	return slices.ContainsFunc(o.Bindings(policy), func(b fakegcp.Binding) bool {
		return b.Condition != nil && strings.Contains(b.Condition.Description, id)
	})
}

// TestOrphansAreListed has orphans/ list strays that were made by hand, and
// nothing that is live, young, of another mount, or somebody else's; a second
// sweep ends them and nothing else.
func TestOrphansAreListed(t *testing.T) {
	o := newOffice(t)
	for _, role := range []string{"own-token", "own-key", "own-user"} {
		o.write(t, "roles/"+role, o.auto(kinds()[role]))
	}
	live := o.alice.Read(t, o.path("creds/own-token")).OK(t)
	key := o.alice.Read(t, o.path("creds/own-key")).OK(t)
	own := o.alice.Read(t, o.path("creds/own-user")).OK(t)
	account, _ := o.Find(live.String(t, "service_account_email"))
	tag := strings.Fields(account.Description)[2]
	o.SetPolicy(policy, nil, `{"role":"roles/browser","members":["user:bob@example.com"]}`)
	stray, binding := o.strayAccount(t, tag, time.Hour), o.strayBinding(t, tag, time.Hour)
	young, foreign := o.strayAccount(t, tag, time.Minute), o.strayAccount(t, "prod-00000000", time.Hour)

	o.sweep(t, nil)
	o.orphans(t, stray, binding)
	one := host.Root().Read(t, o.path("orphans/"+stray)).OK(t)
	if what := one.String(t, "what"); !strings.Contains(what, "service account pim-"+stray) || !strings.Contains(what, "binding of roles/compute.viewer") {
		t.Errorf("%s", one.Body)
	}
	o.sweep(t, args{"end": true})
	for id, want := range map[string]bool{stray: false, binding: false, young: true, foreign: true} {
		if got := o.there(id); got != want {
			t.Errorf("the stray %s is there: %v, not %v", id, got, want)
		}
	}
	if o.access(t, live) == "" || o.access(t, key) == "" || o.access(t, own) == "" {
		t.Error("something live was ended by a sweep")
	}
	if !o.Gives(policy, "user:bob@example.com") {
		t.Error("somebody else's binding is gone")
	}
}
