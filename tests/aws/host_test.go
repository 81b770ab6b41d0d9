package aws

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/vault-pim/vault-plugin-secrets-pim/internal/clock"
	"github.com/vault-pim/vault-plugin-secrets-pim/tests/harness"
	"github.com/vault-pim/vault-plugin-secrets-pim/tests/harness/poll"
)

// onHost starts the host when the first test needs it.
var onHost = sync.OnceValue(func() error {
	var err error
	bench.host, err = harness.Start(harness.Options{})
	return err
})

// office is a harness.Office with an AWS account of its own as its target.
type office struct {
	*cloud
	*harness.Office
	denied map[string]bool // sessions that were seen to be ended
	mark   string          // in the environment of its plugin process alone, for lanes
}

// reaperTick is how often the reaper looks in these tests.
const reaperTick = time.Second

// endBound is how long an end may take: two ticks, and a batch of revocations
// with its second look.
const endBound = 60 * time.Second

func newOffice(t *testing.T, variant harness.Variant) *office {
	t.Helper()
	return newOfficeOn(t, harness.Plugin{Variant: variant})
}

func newOfficeOn(t *testing.T, plugin harness.Plugin) *office {
	t.Helper()
	if err := onHost(); err != nil {
		t.Fatal(err)
	}
	o := &office{
		cloud: newCloud(t, clock.System{}.Now).withCenter(t), Office: bench.host.Mount(t, plugin).Office(t), denied: map[string]bool{},
	}
	o.configure(t)
	return o
}

// configure writes the target.
func (o *office) configure(t *testing.T) {
	t.Helper()
	fields := args{"type": "aws", "access_key": o.key, "secret_key": o.sec}
	maps.Copy(fields, o.fields())
	o.Write(t, "targets/prod", fields)
}

// beside is another mount with a target of the same name at the same account.
func (o *office) beside(t *testing.T, plugin harness.Plugin) *office {
	t.Helper()
	other := *o
	other.Office, other.mark = bench.host.Mount(t, plugin).Office(t), ""
	other.configure(t)
	return &other
}

// entitle writes a role that alice may ask for and bob approves.
func (o *office) entitle(t *testing.T, name string, fields args) {
	t.Helper()
	o.Write(t, "roles/"+name, o.Role(fields))
}

// auto writes a role that approves by itself.
func (o *office) auto(t *testing.T, name string, fields args) {
	t.Helper()
	all := args{"ttl": "8h", "lease_ttl": "30m"}
	maps.Copy(all, fields)
	o.Write(t, "roles/"+name, o.Auto(all))
}

// ready reads a credential, again while it is being prepared.
func (o *office) ready(t *testing.T, role string) harness.Answer {
	t.Helper()
	var creds harness.Answer
	poll.Until(t, startBound, func() error {
		creds = o.Alice.Read(t, o.Path("creds/"+role+"?compose=true"))
		if creds.Status == http.StatusBadRequest && strings.Contains(string(creds.Body), "credential preparing") {
			return fmt.Errorf("%s", creds.Body)
		}
		return nil
	})
	return creds.OK(t)
}

// usable tells whether an answered credential works, as the judge and the
// second client see it.
func (o *office) usable(t *testing.T, creds harness.Answer) bool {
	t.Helper()
	now := clock.System{}.Now()
	if name, ok := creds.Data["username"].(string); ok {
		return o.userCan(t, name, tryAction, tryResource, now)
	}
	if user, ok := creds.Data["principal"].(string); ok {
		return slices.Contains(o.assigned(t), user)
	}
	for _, s := range o.gate.sessions(t) {
		if s.AccessKey == creds.Data["access_key"] && s.Federated == "" {
			return o.can(t, s, tryAction, tryResource, now)
		}
	}
	t.Fatal("the credential is of no session that was asked for")
	return false
}

func (o *office) ends(t *testing.T, creds harness.Answer) {
	t.Helper()
	began := clock.System{}.Now()
	poll.Until(t, endBound, func() error {
		if o.usable(t, creds) {
			return fmt.Errorf("it still works")
		}
		return nil
	})
	t.Logf("MEASURED denied at moto %.1f s after it was ended", clock.System{}.Now().Sub(began).Seconds())
}

func TestRoleSessionsThroughTheHost(t *testing.T) {
	o := newOffice(t, harness.Race)
	root := bench.host.Root()
	for name, end := range map[string]func(t *testing.T, id string, creds harness.Answer){
		"its lease is revoked": func(t *testing.T, _ string, creds harness.Answer) {
			t.Helper()
			root.Write(t, "sys/leases/revoke", args{"lease_id": creds.LeaseID, "sync": true}).OK(t)
		},
		"bob ends it": func(t *testing.T, id string, _ harness.Answer) {
			t.Helper()
			o.Bob.Write(t, o.Path("grants/"+id+"/revoke"), args{"reason": "order 4711 is through"}).OK(t)
		},
		"the kill switch is pulled": func(t *testing.T, _ string, _ harness.Answer) {
			t.Helper()
			o.Write(t, "revoke", args{"target": "prod", "reason": "a laptop was stolen", "hold": 0})
		},
	} {
		t.Run(name, func(t *testing.T) {
			o.entitle(t, "prod-admin", args{"role_arns": o.role(prodRole), "max_active": 10})
			id := o.Granted(t, "prod-admin", nil)
			creds := o.Alice.Read(t, o.Path("creds/prod-admin?compose=true&request_id="+id)).OK(t)
			if creds.Data["pim_revocation"] != "propagating" || !o.usable(t, creds) {
				t.Fatalf("class %v, usable %v", creds.Data["pim_revocation"], o.usable(t, creds))
			}
			var process struct{ SecretAccessKey, SessionToken string }
			if err := json.Unmarshal([]byte(creds.String(t, "aws_credential_process")), &process); err != nil || process.SecretAccessKey != creds.Data["secret_key"] {
				t.Errorf("credential_process: %v", err)
			}
			s := o.gate.sessions(t)[len(o.gate.sessions(t))-1]
			if !strings.HasSuffix(s.Name, "-"+id) {
				t.Errorf("the session %q does not name the request %s", s.Name, id)
			}
			end(t, id, creds)
			o.ends(t, creds)
			o.Alice.Delete(t, o.Path("requests/"+id))
		})
	}
}

func TestUsersThroughTheHost(t *testing.T) {
	o := newOffice(t, harness.Race)
	o.entitle(t, "prod-user", args{"credential_type": "iam_user", "policy_document": allowAll, "iam_groups": "admins"})
	id := o.Granted(t, "prod-user", nil)
	creds := o.ready(t, "prod-user")
	if !o.usable(t, creds) {
		t.Fatal("it does not work")
	}
	o.Bob.Write(t, o.Path("grants/"+id+"/revoke"), args{"reason": "done"}).OK(t)
	o.ends(t, creds)
	poll.Until(t, endBound, func() error {
		if left := o.ourUsers(t); len(left) > 0 {
			return fmt.Errorf("left: %v", left)
		}
		return nil
	})
}

// inDirectory makes alice a user of Identity Center, by the name of her login,
// and returns its id.
func (o *office) inDirectory(t *testing.T) string {
	t.Helper()
	var made struct{ UserID string }
	var instances struct {
		Instances []struct{ IdentityStoreID string }
	}
	call(t, o.account, "sso-admin", "list_instances", args{}, &instances)
	call(t, o.account, "identitystore", "create_user", args{
		"IdentityStoreId": instances.Instances[0].IdentityStoreID, "UserName": o.Alice.Login, "DisplayName": "alice",
		"Name": args{"GivenName": "a", "FamilyName": "b"},
	}, &made)
	return made.UserID
}

// elevation is a role that elevates the user who has the requester's login as
// its name.
func (o *office) elevation(t *testing.T) args {
	t.Helper()
	mount, ok := bench.host.Root().Read(t, "sys/auth").OK(t).Data["userpass/"].(map[string]any)
	if !ok {
		t.Fatal("there is no userpass")
	}
	return args{
		"permission_set_arn": o.set, "account_id": o.account, "principal_source": "alias:" + fmt.Sprint(mount["accessor"]),
	}
}

// Overlapping windows of one person on one permission set: only the last one
// to go takes the assignment away.
func TestAssignmentsThroughTheHost(t *testing.T) {
	o := newOffice(t, harness.Race)
	user := o.inDirectory(t)
	for _, name := range []string{"first", "second"} {
		o.entitle(t, name, o.elevation(t))
	}
	ids := map[string]string{}
	for _, name := range []string{"first", "second"} {
		ids[name] = o.Granted(t, name, nil)
		creds := o.ready(t, name)
		if creds.Data["pim_revocation"] != "expiry_only" || creds.Data["principal"] != user {
			t.Errorf("%s: class %v, principal %v", name, creds.Data["pim_revocation"], creds.Data["principal"])
		}
	}
	if list := o.assigned(t); !slices.Equal(list, []string{user}) {
		t.Fatalf("assigned: %v", list)
	}
	o.Bob.Write(t, o.Path("grants/"+ids["first"]+"/revoke"), args{"reason": "done"}).OK(t)
	poll.Throughout(t, 3*reaperTick, func() error {
		if list := o.assigned(t); len(list) != 1 {
			return fmt.Errorf("assigned: %v", list)
		}
		return nil
	})
	o.Bob.Write(t, o.Path("grants/"+ids["second"]+"/revoke"), args{"reason": "done"}).OK(t)
	poll.Until(t, endBound, func() error {
		if list := o.assigned(t); len(list) != 0 {
			return fmt.Errorf("assigned: %v", list)
		}
		return nil
	})
}

func TestRotationAndCheckThroughTheHost(t *testing.T) {
	o := newOffice(t, harness.Race)
	o.entitle(t, "prod-admin", args{"role_arns": o.role(prodRole)})
	check := bench.host.Root().Read(t, o.Path("targets/prod/check")).OK(t)
	if !strings.Contains(string(check.Body), "sts:SetSourceIdentity") || !strings.Contains(string(check.Body), ":user/pim") {
		t.Errorf("check: %s", check.Body)
	}
	o.Write(t, "targets/prod/rotate-root", nil)
	var keys struct {
		AccessKeyMetadata []struct{ AccessKeyID string }
	}
	call(t, o.account, "iam", "list_access_keys", args{"UserName": "pim"}, &keys)
	if len(keys.AccessKeyMetadata) != 1 || keys.AccessKeyMetadata[0].AccessKeyID == o.key {
		t.Errorf("keys %v, the old one was %s", keys.AccessKeyMetadata, o.key)
	}
	id := o.Granted(t, "prod-admin", nil)
	creds := o.Alice.Read(t, o.Path("creds/prod-admin")).OK(t)
	o.Bob.Write(t, o.Path("grants/"+id+"/revoke"), args{"reason": "done"}).OK(t)
	o.ends(t, creds)
}

func TestBadInputIsRefusedByTheHost(t *testing.T) {
	o := newOffice(t, harness.Race)
	target := func(more args) args {
		all := args{"type": "aws", "access_key": o.key, "secret_key": "canary-of-a-secret-key"}
		maps.Copy(all, o.fields())
		maps.Copy(all, more)
		return all
	}
	role := func(more args) args {
		all := args{"target": "prod", "eligible_groups": o.Eng, "approver_groups": o.Leads}
		maps.Copy(all, more)
		return all
	}
	for _, row := range []struct {
		name, path string
		data       args
		status     int
	}{
		{"a target with a key that is none", "targets/x", target(args{"access_key": "x"}), 400},
		{"a target of the process's own identity", "targets/x", args{"type": "aws", "root_credential": "instance"}, 400},
		{"a target with a file and no root for files", "targets/x", args{"type": "aws", "root_credential": "web_identity", "web_identity_token_file": "x"}, 400},
		{"a target over plain HTTP", "targets/x", target(args{"sts_endpoint": "http://192.0.2.1"}), 400},
		{"a target that nobody answers for", "targets/x", target(args{"sts_endpoint": "https://127.0.0.1:1"}), 502},
		{"a role of nothing", "roles/x", role(nil), 400},
		{"a role of another account", "roles/x", role(args{"role_arns": "arn:aws:iam::999999999999:role/x"}), 400},
		{"a role with a policy that is none", "roles/x", role(args{"role_arns": o.role(prodRole), "policy_document": "{"}), 400},
		{"a role of two kinds", "roles/x", role(args{"role_arns": o.role(prodRole), "iam_groups": "admins"}), 400},
	} {
		t.Run(row.name, func(t *testing.T) {
			answer := bench.host.Root().Write(t, o.Path(row.path), row.data)
			if answer.Status != row.status {
				t.Errorf("got %d %s", answer.Status, answer.Body)
			}
			if strings.Contains(string(answer.Body), "canary-of-a-secret-key") || strings.Contains(string(answer.Body), upstreamWords) {
				t.Errorf("it says too much: %s", answer.Body)
			}
		})
	}
}

// A throttled issue is 502 with AWS's code and leaves nothing.
func TestAThrottledIssueThroughTheHost(t *testing.T) {
	o := newOffice(t, harness.Race)
	o.auto(t, "prod-admin", args{"role_arns": o.role(prodRole)})
	o.gate.fail("AssumeRole", fault{status: http.StatusBadRequest, code: "Throttling"})
	answer := o.Alice.Read(t, o.Path("creds/prod-admin"))
	if answer.Status != http.StatusBadGateway || !strings.Contains(string(answer.Body), "Throttling") || strings.Contains(string(answer.Body), upstreamWords) {
		t.Fatalf("%d %s", answer.Status, answer.Body)
	}
	if n := o.gate.calls("PutRolePolicy"); n != 0 {
		t.Errorf("%d denies for a session that never was", n)
	}
}
