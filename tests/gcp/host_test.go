package gcp

import (
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/vault-pim/vault-plugin-secrets-pim/internal/provider/contract"
	"github.com/vault-pim/vault-plugin-secrets-pim/internal/provider/gcp/fakegcp"
	"github.com/vault-pim/vault-plugin-secrets-pim/tests/harness"
	"github.com/vault-pim/vault-plugin-secrets-pim/tests/harness/poll"
)

func TestAccessEndsThroughTheHost(t *testing.T) {
	o := newOffice(t)
	root := host.Root()
	for way, end := range map[string]func(t *testing.T, role, id string, creds harness.Answer){
		"its lease is revoked": func(t *testing.T, _, id string, creds harness.Answer) {
			t.Helper()
			root.Write(t, "sys/leases/revoke", args{"lease_id": creds.LeaseID, "sync": true}).OK(t)
			o.Alice.Delete(t, o.Path("requests/"+id)).OK(t)
		},
		"an approver ends it": func(t *testing.T, _, id string, _ harness.Answer) {
			t.Helper()
			o.Bob.Write(t, o.Path("grants/"+id+"/revoke"), args{"reason": "order 4711 is through"}).OK(t)
		},
		"the kill switch is pulled": func(t *testing.T, role, _ string, _ harness.Answer) {
			t.Helper()
			o.Write(t, "revoke", args{"role": role, "reason": "a laptop was stolen", "hold": 0})
		},
	} {
		for _, role := range contract.SortedKeys(kinds()) {
			t.Run(role+", when "+way, func(t *testing.T) {
				o.Write(t, "roles/"+role, o.Role(kinds()[role]))
				id := o.Granted(t, role, nil)
				creds := o.Alice.Read(t, o.Path("creds/"+role)).OK(t)
				if creds.Data["pim_revocation"] != "propagating" || o.access(t, creds) == "" {
					t.Fatalf("%v, and the access does not work", creds.Data["pim_revocation"])
				}
				end(t, role, id, creds)
				poll.Until(t, endBound, func() error {
					if why := o.access(t, creds); why != "" {
						return errors.New(why)
					}
					if left := o.usable(); len(left) > 0 {
						return fmt.Errorf("left: %v", left)
					}
					return nil
				})
			})
		}
	}
}

func TestTokensOfExistingAccountsSayWhatTheyAre(t *testing.T) {
	o := newOffice(t)
	role := o.Auto(args{"service_account_email": robot, "ttl": "10m"})
	o.Write(t, "roles/robot", role)
	creds := o.Alice.Read(t, o.Path("creds/robot")).OK(t)
	if creds.Data["pim_revocation"] != "expiry_only" || o.access(t, creds) == "" {
		t.Errorf("%s", creds.Body)
	}
	role["min_revocation"] = "propagating"
	host.Root().Write(t, o.Path("roles/robot-strict"), role).Refused(t, http.StatusBadRequest, "")
}

// TestASlowCloudIsWaitedFor has new accounts take longer than a call may.
func TestASlowCloudIsWaitedFor(t *testing.T) {
	o := newOffice(t)
	o.SetLag(fakegcp.Lag{Members: 3 * time.Second, Tokens: 27 * time.Second})
	o.Write(t, "roles/own-token", o.Auto(kinds()["own-token"]))
	first := o.Alice.Read(t, o.Path("creds/own-token"))
	first.Refused(t, http.StatusBadRequest, "credential preparing")
	poll.Until(t, endBound, func() error {
		creds := o.Alice.Read(t, o.Path("creds/own-token"))
		if creds.Status != http.StatusOK {
			return fmt.Errorf("%d %s", creds.Status, creds.Body)
		}
		if o.access(t, creds) == "" {
			t.Error("a credential that does not work was handed out")
		}
		return nil
	})
	if made := o.Accounts("pim-0"); len(made) != 1 {
		t.Errorf("accounts: %v", made)
	}
}

// TestManyAtOnceThroughTheHost has one person read a credential many times at
// once while somebody else writes to the policy. Google allows 20 conditional
// bindings of one principal and role; who comes after that is told so.
func TestManyAtOnceThroughTheHost(t *testing.T) {
	const many, allowed = 30, 20
	o := newOffice(t)
	o.SetPolicy(policy, nil, `{"role":"roles/browser","members":["user:bob@example.com"]}`)
	o.Invade(policy, 3)
	role := o.Role(kinds()["own-user"])
	role["max_credentials"] = 32
	o.Write(t, "roles/own-user", role)
	o.Granted(t, "own-user", nil)
	var wg sync.WaitGroup
	answers := make([]harness.Answer, many)
	for i := range many {
		wg.Go(func() { answers[i] = o.Alice.Read(t, o.Path("creds/own-user")) })
	}
	wg.Wait()
	issued := 0
	for _, a := range answers {
		switch {
		case a.Status == http.StatusOK:
			issued++
		case !strings.Contains(string(a.Body), "limit_conditions"):
			t.Errorf("%d %s", a.Status, a.Body)
		}
	}
	if n := len(o.usable()); issued != allowed || n != allowed {
		t.Errorf("%d issued, %d bindings, not %d", issued, n, allowed)
	}
	o.Write(t, "revoke", args{"role": "own-user", "reason": "enough", "hold": 0})
	poll.Until(t, endBound, func() error {
		if left := o.usable(); len(left) > 0 {
			return fmt.Errorf("%d are left", len(left))
		}
		return nil
	})
	if n := len(o.Bindings(policy)); n != 1+3 {
		t.Errorf("others have %d bindings, not 4", n)
	}
}

// TestAHundredAtOnceInTwoProcesses has two mounts, each with a process of its
// own, issue and end a hundred credentials on one project policy, while somebody
// else writes to it too.
func TestAHundredAtOnceInTwoProcesses(t *testing.T) {
	const each, conflicts = 25, 15
	c := newCloud(t)
	c.AddProject("prod-access", place, "folders/77").MaxAccounts = 300
	theirs := `{"role":"roles/browser","members":["user:bob@example.com"],"condition":{ "title":"x","expression":"a < \"<&>\"" }}`
	c.SetPolicy(policy, map[string]string{"auditConfigs": `[ {"service":"allServices"} ]`}, theirs)
	offices := []*office{}
	for i := range 2 {
		o := newOfficeAs(t, c, harness.Plugin{Variant: harness.Plain, Env: []string{fmt.Sprintf("%shundred-%d", harness.ProcessMark, i)}})
		o.Write(t, "roles/own-token", o.Auto(args{
			"iam_roles": []string{"roles/compute.viewer"}, "lease_ttl": "5m", "eligible_groups": []string{o.Eng, o.Leads},
		}))
		offices = append(offices, o)
	}
	c.Invade(policy, conflicts)
	var wg sync.WaitGroup
	answers := make(chan harness.Answer, 4*each)
	for _, o := range offices {
		for _, who := range []*harness.Person{o.Alice, o.Bob} {
			who.Write(t, o.Path("request/own-token"), nil).OK(t)
			for range each {
				wg.Go(func() { answers <- o.until(t, who, "own-token") })
			}
		}
	}
	wg.Wait()
	close(answers)
	issued := 0
	for a := range answers {
		if a.Status == http.StatusOK && !c.Gives(policy, "serviceAccount:"+a.String(t, "service_account_email")) {
			t.Error("a binding was lost")
		}
		issued++
		wg.Go(func() { host.Root().Write(t, "sys/leases/revoke", args{"lease_id": a.LeaseID, "sync": true}) })
		if issued == 2*each { // others write while half of it ends
			c.Invade(policy, conflicts)
		}
	}
	wg.Wait()
	for _, o := range offices { // what a client on a busy machine did not wait for
		o.Write(t, "revoke", args{"all": true, "confirm": "all", "reason": "end of the test", "hold": 0})
	}
	poll.Until(t, 2*endBound, func() error {
		left, kept := c.Bindings(policy), false
		for _, b := range left {
			kept = kept || b.Raw == theirs
		}
		if len(left) != 1+2*conflicts || !kept {
			return fmt.Errorf("%d bindings, not the %d of others; byte for byte as they were: %v", len(left), 1+2*conflicts, kept)
		}
		return nil
	})
	t.Logf("MEASURED %d issued and ended in two processes by %d writes of the policy", issued, c.Writes(policy))
}

// until reads a credential until it is there.
func (o *office) until(t *testing.T, who *harness.Person, role string) harness.Answer {
	t.Helper()
	var creds harness.Answer
	err := poll.Within(endBound, func() error {
		if creds = who.Read(t, o.Path("creds/"+role)); creds.Status == http.StatusOK {
			return nil
		}
		return fmt.Errorf("%d %s", creds.Status, creds.Body)
	})
	if err != nil {
		t.Error(err)
	}
	return creds
}

func TestTheRootKeyIsRotatedThroughTheHost(t *testing.T) {
	o := newOffice(t)
	before, _ := o.Find(engine)
	o.Write(t, "targets/prod/rotate-root", nil)
	after, _ := o.Find(engine)
	if len(after.Keys) != 1 || slices.Equal(contract.SortedKeys(before.Keys), contract.SortedKeys(after.Keys)) {
		t.Errorf("keys before: %v, after: %v", contract.SortedKeys(before.Keys), contract.SortedKeys(after.Keys))
	}
	o.Write(t, "roles/own-user", o.Auto(kinds()["own-user"]))
	o.Alice.Read(t, o.Path("creds/own-user")).OK(t)
}

func TestCheckThroughTheHost(t *testing.T) {
	o := newOffice(t)
	o.Write(t, "roles/own-token", o.Role(kinds()["own-token"]))
	o.Deny("iam.serviceAccounts.disable")
	check := host.Root().Read(t, o.Path("targets/prod/check")).OK(t)
	for _, words := range []string{engine, "iam.serviceAccounts.disable on projects/prod-access", "hasOnly(['roles/compute.viewer'])"} {
		if !strings.Contains(string(check.Body), words) {
			t.Errorf("check does not say %s: %s", words, check.Body)
		}
	}
}

func TestBadInputIsRefusedByTheHost(t *testing.T) {
	o := newOffice(t)
	o.Write(t, "targets/wide", o.target(args{"managed_resources": []string{"projects/engine-home", "folders/77"}}))
	for name, row := range map[string]struct {
		path string
		data args
	}{
		"a target that is another project":   {"targets/x", o.target(args{"project": "stage-access"})},
		"a target without a credential":      {"targets/x", o.target(args{"credentials": nil})},
		"a target with a key that is none":   {"targets/x", o.target(args{"credentials": "{}"})},
		"a target with a file and no root":   {"targets/x", o.target(args{"credentials": nil, "credentials_file": "x.json"})},
		"a role of nothing":                  {"roles/x", o.Role(nil)},
		"a role of the engine's own account": {"roles/x", o.Role(args{"service_account_email": engine})},
		"a role of owner":                    {"roles/x", o.Role(args{"iam_roles": "roles/owner"})},
		"a role that escapes its condition":  {"roles/x", o.Role(args{"iam_roles": "roles/compute.viewer", "condition": "true) || (true"})},
		"a role that may act as the engine": {"roles/x", o.Role(args{
			"target": "wide", "iam_roles": "roles/custom.impersonator", "resources": "projects/engine-home",
		})},
		"a role on the folder above the engine": {"roles/x", o.Role(args{
			"target": "wide", "iam_roles": "roles/iam.serviceAccountTokenCreator", "resources": "folders/77",
		})},
		"a role somewhere else": {"roles/x", o.Role(args{"iam_roles": "roles/compute.viewer", "resources": "projects/other-1"})},
	} {
		t.Run(name, func(t *testing.T) {
			answer := host.Root().Write(t, o.Path(row.path), row.data)
			if answer.Status != http.StatusBadRequest || strings.Contains(string(answer.Body), fakegcp.UpstreamWords) {
				t.Errorf("%d %s", answer.Status, answer.Body)
			}
		})
	}
}
