package gcp

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/vault-pim/vault-plugin-secrets-pim/internal/clock"
	"github.com/vault-pim/vault-plugin-secrets-pim/internal/provider/gcp/fakegcp"
	"github.com/vault-pim/vault-plugin-secrets-pim/internal/provider/providertest"
)

// strayAccount makes an account by hand that carries all our tags, and a
// binding of it.
func (o *office) strayAccount(t *testing.T, tag string, age time.Duration) (id string) {
	t.Helper()
	id = providertest.NewID(t, clock.System{}.Now().Add(-age))
	email := "pim-" + id + "@prod-access.iam.gserviceaccount.com"
	o.AddAccount("prod-access", email)
	o.Describe(email, describe(tag, id))
	o.SetPolicy(policy, nil, boundTo("serviceAccount:"+email, tag, id))
	return id
}

// strayBinding makes a binding of somebody by hand that carries all our tags.
func (o *office) strayBinding(t *testing.T, tag string, age time.Duration) (id string) {
	t.Helper()
	id = providertest.NewID(t, clock.System{}.Now().Add(-age))
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
		o.Write(t, "roles/"+role, o.Auto(kinds()[role]))
	}
	live := o.Alice.Read(t, o.Path("creds/own-token")).OK(t)
	key := o.Alice.Read(t, o.Path("creds/own-key")).OK(t)
	own := o.Alice.Read(t, o.Path("creds/own-user")).OK(t)
	account, _ := o.Find(live.String(t, "service_account_email"))
	tag := strings.Fields(account.Description)[2]
	o.SetPolicy(policy, nil, `{"role":"roles/browser","members":["user:bob@example.com"]}`)
	stray, binding := o.strayAccount(t, tag, time.Hour), o.strayBinding(t, tag, time.Hour)
	young, foreign := o.strayAccount(t, tag, time.Minute), o.strayAccount(t, "prod-00000000", time.Hour)

	o.Sweep(t, nil)
	o.Orphans(t, stray, binding)
	one := host.Root().Read(t, o.Path("orphans/"+stray)).OK(t)
	if what := one.String(t, "what"); !strings.Contains(what, "service account pim-"+stray) || !strings.Contains(what, "binding of roles/compute.viewer") {
		t.Errorf("%s", one.Body)
	}
	o.Sweep(t, args{"end": true})
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
