package azure

import (
	"crypto/rand"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/vault-pim/vault-plugin-secrets-pim/internal/provider/azure/fakeazure"
	"github.com/vault-pim/vault-plugin-secrets-pim/tests/harness"
	"github.com/vault-pim/vault-plugin-secrets-pim/tests/harness/poll"
)

// TestAccessEndsThroughTheHost is the whole story: alice asks, bob approves,
// alice reads, and in each of three ways the access ends at the cloud.
func TestAccessEndsThroughTheHost(t *testing.T) {
	t.Parallel()
	ends := map[string]func(t *testing.T, o *office, role, id string, creds harness.Answer){
		"its lease is revoked": func(t *testing.T, _ *office, _, _ string, creds harness.Answer) {
			t.Helper()
			host.Root().Write(t, "sys/leases/revoke", args{"lease_id": creds.LeaseID, "sync": true}).OK(t)
		},
		"an approver ends it": func(t *testing.T, o *office, _, id string, _ harness.Answer) {
			t.Helper()
			o.Bob.Write(t, o.Path("grants/"+id+"/revoke"), args{"reason": "order 4711 is through"}).OK(t)
		},
		"the kill switch is pulled": func(t *testing.T, o *office, role, _ string, _ harness.Answer) {
			t.Helper()
			o.Write(t, "revoke", args{"role": role, "reason": "a laptop was stolen", "hold": 0})
		},
	}
	for way, end := range ends {
		for _, role := range kindNames() {
			t.Run(role+", when "+way, func(t *testing.T) {
				t.Parallel()
				o := newOffice(t, harness.Plugin{})
				o.Write(t, "roles/"+role, o.Role(o.kinds()[role]))
				id := o.Granted(t, role, nil)
				creds := o.creds(t, role)
				if creds.Data["pim_revocation"] != class(role) || o.access(creds) == "" {
					t.Fatalf("%v, and the access does not work", creds.Data["pim_revocation"])
				}
				end(t, o, role, id, creds)
				o.nothingLeft(t)
				if why := o.access(creds); why != "" {
					t.Error(why)
				}
			})
		}
	}
}

// TestAccessEndsWithItsWindowThroughTheHost asks nobody to end anything.
func TestAccessEndsWithItsWindowThroughTheHost(t *testing.T) {
	t.Parallel()
	o := newOffice(t, harness.Plugin{})
	for _, role := range []string{"own-role", "own-group", "password"} {
		fields := o.Auto(o.kinds()[role])
		fields["ttl"], fields["min_ttl"] = "12s", 1
		o.Write(t, "roles/"+role, fields)
		creds := o.creds(t, role)
		if o.access(creds) == "" {
			t.Fatalf("%s: the access does not work", role)
		}
		o.nothingLeft(t)
	}
}

func TestASlowCloudIsWaitedFor(t *testing.T) {
	t.Parallel()
	o := newOffice(t, harness.Plugin{})
	o.Lock()
	o.Lag = 12 * time.Second
	o.Unlock()
	o.Write(t, "roles/principal", o.Auto(o.kinds()["principal"]))
	first := o.Alice.Read(t, o.Path("creds/principal"))
	first.Refused(t, http.StatusBadRequest, "credential preparing")
	var creds harness.Answer
	poll.Until(t, 2*endBound, func() error {
		if creds = o.Alice.Read(t, o.Path("creds/principal")); creds.Status == http.StatusOK {
			return nil
		}
		return fmt.Errorf("%d %s", creds.Status, creds.Body)
	})
	if o.access(creds) == "" {
		t.Error("a secret that does not work was handed out")
	}
	if n := o.applications(); n != 1 {
		t.Errorf("%d applications were made, not 1", n)
	}
	tries := 0
	for _, s := range o.Calls(fakeazure.Login) {
		if strings.Contains(string(s.Body), creds.String(t, "client_id")) {
			tries++
		}
	}
	if tries < 5 {
		t.Errorf("the secret was tried %d times", tries)
	}
}

func TestTheRootSecretIsRotatedThroughTheHost(t *testing.T) {
	t.Parallel()
	o := newOffice(t, harness.Plugin{})
	o.Write(t, "targets/prod/rotate-root", nil)
	o.Lock()
	list := o.home.AppOf(engineClient).Passwords
	if len(list) != 1 || list[0].Text == o.secret {
		t.Errorf("%d secrets are left, and the old one may be among them", len(list))
	}
	o.Unlock()
	o.Write(t, "roles/own-role", o.Auto(o.kinds()["own-role"]))
	o.creds(t, "own-role")
}

func TestCheckThroughTheHost(t *testing.T) {
	t.Parallel()
	o := newOffice(t, harness.Plugin{})
	o.Write(t, "roles/principal", o.Auto(o.kinds()["principal"]))
	creds := o.creds(t, "principal")
	host.Root().Write(t, "sys/leases/revoke", args{"lease_id": creds.LeaseID, "sync": true}).OK(t)
	o.nothingLeft(t)
	o.creds(t, "principal")
	check := host.Root().Read(t, o.Path("targets/prod/check")).OK(t)
	for _, words := range []string{
		engineClient, o.engine.ID, "Microsoft.Authorization/roleAssignments/write on " + scopeGroup,
		`"deleted_applications":1`, `"owned_directory_objects":1`, `"role_assignments":1`, "Application.ReadWrite.OwnedBy",
	} {
		if !strings.Contains(string(check.Body), words) {
			t.Errorf("check does not say %s: %s", words, check.Body)
		}
	}
}

// TestManyAtOnceThroughTheHost reads one role at once as often as a grant
// allows, and ends all of it.
func TestManyAtOnceThroughTheHost(t *testing.T) {
	t.Parallel()
	const many = 20
	o := newOffice(t, harness.Plugin{})
	for _, role := range []string{"own-role", "own-group"} {
		fields := o.Role(o.kinds()[role])
		fields["max_credentials"] = 32
		o.Write(t, "roles/"+role, fields)
		o.Granted(t, role, nil)
		var wg sync.WaitGroup
		answers := make([]harness.Answer, many)
		for i := range many {
			wg.Go(func() { answers[i] = o.Alice.Read(t, o.Path("creds/"+role)) })
		}
		wg.Wait()
		var leases []string
		for _, a := range answers {
			if a.Status == http.StatusOK {
				leases = append(leases, a.LeaseID)
			} else if !strings.Contains(string(a.Body), "busy") {
				t.Errorf("%d %s", a.Status, a.Body)
			}
		}
		if len(leases) == 0 || len(o.usable()) != 1 {
			t.Fatalf("%s: %d issued, %v at the cloud", role, len(leases), o.usable())
		}
		for i, lease := range leases {
			if left := o.usable(); len(left) != 1 {
				t.Fatalf("%s: with %d of %d leases left, %v is at the cloud", role, len(leases)-i, len(leases), left)
			}
			host.Root().Write(t, "sys/leases/revoke", args{"lease_id": lease, "sync": true}).OK(t)
		}
		o.nothingLeft(t)
	}
}

func TestAccessFromOutsideIsLeftAlone(t *testing.T) {
	t.Parallel()
	o := newOffice(t, harness.Plugin{})
	o.Lock()
	o.home.Groups[admins][aliceID] = time.Now().Add(-time.Hour)
	o.Unlock()
	o.Write(t, "roles/own-group", o.Auto(o.kinds()["own-group"]))
	o.Alice.Read(t, o.Path("creds/own-group")).Refused(t, http.StatusBadRequest, "")
	if err := poll.Within(5*time.Second, func() error {
		if len(o.usable()) != 1 {
			return nil
		}
		return errors.New("it is there")
	}); err == nil {
		t.Error("a membership that was there before was ended")
	}
}

func TestBadInputIsRefusedByTheHost(t *testing.T) {
	t.Parallel()
	o := newOffice(t, harness.Plugin{})
	engineApp := o.home.AppOf(engineClient).ID
	o.home.Groups["77777777-7777-4777-8777-777777777777"] = map[string]time.Time{o.engine.ID: time.Now().Add(-time.Hour)}
	for name, row := range map[string]struct {
		path string
		data args
	}{
		"a tenant that is none":                   {"targets/x", o.target(args{"tenant_id": otherTenant})},
		"a wrong secret":                          {"targets/x", o.target(args{"client_secret": "wrong"})},
		"no secret":                               {"targets/x", o.target(args{"client_secret": nil})},
		"a subscription of somebody else":         {"targets/x", o.target(args{"subscription_id": otherTenant})},
		"an endpoint without TLS":                 {"targets/x", o.target(args{"endpoints": map[string]string{"graph": "http://127.0.0.1:1"}})},
		"a role of nothing":                       {"roles/x", o.Role(nil)},
		"a role of the engine's own application":  {"roles/x", o.Role(args{"application_object_id": engineApp})},
		"a role of a group that the engine is in": {"roles/x", o.Role(args{"principal_source": "metadata:oid", "azure_groups": "77777777-7777-4777-8777-777777777777"})},
		"a role somewhere else":                   {"roles/x", o.Role(args{"azure_roles": "Reader@/subscriptions/" + otherTenant})},
		"a principal in a group of the engine's":  {"roles/x", o.Role(args{"azure_groups": "77777777-7777-4777-8777-777777777777"})},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			answer := host.Root().Write(t, o.Path(row.path+"-"+strings.ToLower(rand.Text())), row.data)
			if answer.Status != http.StatusBadRequest || strings.Contains(string(answer.Body), fakeazure.UpstreamWords) {
				t.Errorf("%d %s", answer.Status, answer.Body)
			}
		})
	}
}

// TestTheEngineItselfIsNotElevated is about an account that becomes the
// engine's own after the role was written.
func TestTheEngineItselfIsNotElevated(t *testing.T) {
	t.Parallel()
	o := newOffice(t, harness.Plugin{})
	o.Write(t, "roles/own-role", o.Auto(o.kinds()["own-role"]))
	host.Root().Write(t, "identity/entity/id/"+o.Alice.EntityID, args{"metadata": map[string]string{"oid": o.engine.ID}}).OK(t)
	answer := o.Alice.Read(t, o.Path("creds/own-role"))
	if answer.Status != http.StatusBadRequest || !strings.Contains(string(answer.Body), "own_identity") {
		t.Errorf("%d %s", answer.Status, answer.Body)
	}
	if left := o.usable(); len(left) > 0 {
		t.Errorf("made: %v", left)
	}
}
