package aws

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/vault-pim/vault-plugin-secrets-pim/internal/clock"
	"github.com/vault-pim/vault-plugin-secrets-pim/internal/domain"
	"github.com/vault-pim/vault-plugin-secrets-pim/internal/provider/contract"
	"github.com/vault-pim/vault-plugin-secrets-pim/internal/provider/providertest"
	"github.com/vault-pim/vault-plugin-secrets-pim/internal/secret"
)

// hurryClock is the machine's clock on which waiting costs no time.
type hurryClock struct{ ahead atomic.Int64 }

func (c *hurryClock) Now() time.Time {
	return clock.System{}.Now().Add(time.Duration(c.ahead.Load()))
}

func (c *hurryClock) advance(d time.Duration) { c.ahead.Add(int64(max(d, 0))) }

func (c *hurryClock) After(d time.Duration) <-chan time.Time {
	c.advance(d)
	ch := make(chan time.Time, 1)
	ch <- c.Now()
	return ch
}

const (
	prodRole   = "prod-admin"
	readerRole = "prod-reader"
	allowAll   = `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"*","Resource":"*"}]}`
	emptyRail  = `{"Version":"2012-10-17","Statement":[{"Sid":"PimOpenSessions","Effect":"Deny","Action":"*","Resource":"*",` +
		`"Condition":{"StringEquals":{"identitystore:UserId":"nobody"}}}]}`
)

// cloud is one AWS account of a test's own, at moto, behind a gate.
type cloud struct {
	account  string
	gate     *gate
	key, sec string // of the user that pim acts as

	// With Identity Center:
	instance, set, rail, alice, bob string
}

var lastAccount atomic.Int64

// newCloud makes an account with the user and the roles that the tests use.
func newCloud(t testing.TB, now func() time.Time) *cloud {
	t.Helper()
	c := &cloud{account: fmt.Sprint(100000000000 + lastAccount.Add(1))}
	var made struct {
		AccessKey struct{ AccessKeyID, SecretAccessKey string }
	}
	call(t, c.account, "iam", "create_user", args{"UserName": "pim"}, nil)
	call(t, c.account, "iam", "put_user_policy", args{"UserName": "pim", "PolicyName": "own", "PolicyDocument": allowAll}, nil)
	call(t, c.account, "iam", "create_access_key", args{"UserName": "pim"}, &made)
	c.key, c.sec = made.AccessKey.AccessKeyID, made.AccessKey.SecretAccessKey
	call(t, c.account, "iam", "create_group", args{"GroupName": "admins"}, nil)
	for _, role := range []string{prodRole, readerRole} {
		call(t, c.account, "iam", "create_role", args{
			"RoleName": role, "MaxSessionDuration": 43200, "AssumeRolePolicyDocument": `{"Version":"2012-10-17","Statement":[{"Effect":"Allow",` +
				`"Principal":{"AWS":"*"},"Action":["sts:AssumeRole","sts:SetSourceIdentity","sts:TagSession"]}]}`,
		}, nil)
		call(t, c.account, "iam", "put_role_policy", args{"RoleName": role, "PolicyName": "own", "PolicyDocument": allowAll}, nil)
	}
	c.gate = newGate(t, now)
	return c
}

func (c *cloud) role(name string) string { return "arn:aws:iam::" + c.account + ":role/" + name }

// withCenter makes Identity Center with alice and bob in it.
func (c *cloud) withCenter(t testing.TB) *cloud {
	t.Helper()
	var instances struct {
		Instances []struct{ InstanceArn, IdentityStoreID string }
	}
	call(t, c.account, "sso-admin", "list_instances", nil, &instances)
	c.instance = instances.Instances[0].InstanceArn
	store := instances.Instances[0].IdentityStoreID
	var set struct {
		PermissionSet struct{ PermissionSetArn string }
	}
	call(t, c.account, "sso-admin", "create_permission_set", args{"InstanceArn": c.instance, "Name": "Admin", "SessionDuration": "PT2H"}, &set)
	c.set = strings.Replace(set.PermissionSet.PermissionSetArn, motoSets, realSets, 1)
	for name, id := range map[string]*string{"alice": &c.alice, "bob": &c.bob} {
		var user struct{ UserID string }
		call(t, c.account, "identitystore", "create_user", args{
			"IdentityStoreId": store, "UserName": name, "DisplayName": "the same for both",
			"Name": args{"GivenName": name, "FamilyName": name}, "Emails": []args{{"Value": name + "@example.com", "Primary": true}},
		}, &user)
		*id = user.UserID
	}
	var policy struct {
		Policy struct{ PolicySummary struct{ ID string } }
	}
	call(t, c.account, "organizations", "create_organization", args{"FeatureSet": "ALL"}, nil)
	call(t, c.account, "organizations", "create_policy", args{
		"Content": emptyRail, "Name": "pim", "Description": "kept for pim", "Type": "SERVICE_CONTROL_POLICY",
	}, &policy)
	c.rail = policy.Policy.PolicySummary.ID
	return c
}

// fields are the target's fields.
func (c *cloud) fields() contract.Values {
	v := contract.Values{"region": "us-east-1", "max_retries": 0}
	for _, name := range []string{
		"sts_endpoint", "iam_endpoint", "identity_center_endpoint", "identity_store_endpoint", "organizations_endpoint",
	} {
		v[name] = c.gate.URL
	}
	if c.instance != "" {
		v["identity_center_arn"] = c.instance
	}
	return v
}

// target is the account as a target of pim.
func (c *cloud) target() contract.Target {
	return contract.Target{
		Name: "prod", Fields: c.fields(),
		Secrets: map[string]secret.String{"access_key": secret.New(c.key), "secret_key": secret.New(c.sec)},
	}
}

// holderPolicies reads everything that a role or user is allowed and denied.
func (c *cloud) holderPolicies(t testing.TB, kind, name string) []args {
	t.Helper()
	who := args{strings.ToUpper(kind[:1]) + kind[1:] + "Name": name}
	var inline struct{ PolicyNames []string }
	if tryCall(t, c.account, "iam", "list_"+kind+"_policies", who, &inline) == "NoSuchEntity" {
		return nil
	}
	var out []args
	for _, p := range inline.PolicyNames {
		a := maps.Clone(who)
		a["PolicyName"] = p
		var got struct{ PolicyDocument json.RawMessage }
		if tryCall(t, c.account, "iam", "get_"+kind+"_policy", a, &got) == "" {
			out = append(out, args{"name": p, "policy": got.PolicyDocument})
		}
	}
	var attached struct {
		AttachedPolicies []struct{ PolicyArn string }
	}
	call(t, c.account, "iam", "list_attached_"+kind+"_policies", who, &attached)
	for _, p := range attached.AttachedPolicies {
		var head struct {
			Policy struct{ DefaultVersionID string }
		}
		call(t, c.account, "iam", "get_policy", args{"PolicyArn": p.PolicyArn}, &head)
		var version struct {
			PolicyVersion struct{ Document json.RawMessage }
		}
		call(t, c.account, "iam", "get_policy_version", args{"PolicyArn": p.PolicyArn, "VersionId": head.Policy.DefaultVersionID}, &version)
		out = append(out, args{"name": p.PolicyArn, "policy": version.PolicyVersion.Document})
	}
	return out
}

// textOf is the policy of one of holderPolicies.
func textOf(policy args) string {
	text, _ := policy["policy"].(json.RawMessage)
	return string(text)
}

// allowed asks the judge. A request that it cannot judge fails the test.
func allowed(t testing.TB, question args) bool {
	t.Helper()
	for _, k := range []string{"serviceControlPolicies", "resourceControlPolicies"} {
		if question[k] == nil {
			question[k] = []args{}
		}
	}
	var verdict string
	problem, err := bench.judge.ask(question, &verdict)
	if err != nil || problem != "" {
		t.Fatalf("the judge cannot judge: %s %v", problem, err)
	}
	return verdict == "Allowed"
}

const (
	tryAction   = "s3:ListAllMyBuckets"
	tryResource = "*"
)

// can tells whether a session may do something at a time, by the policies that
// are stored for its role or user.
func (c *cloud) can(t testing.TB, s sessionAsked, action, resource string, now time.Time) bool {
	t.Helper()
	if s.Federated != "" {
		return c.judge(t, s, c.holderPolicies(t, "user", "pim"), action, resource, now)
	}
	return c.judge(t, s, c.holderPolicies(t, "role", s.Role[strings.LastIndex(s.Role, "/")+1:]), action, resource, now)
}

// judge asks whether a session may do something under policies of its role.
func (c *cloud) judge(t testing.TB, s sessionAsked, policies []args, action, resource string, now time.Time) bool {
	t.Helper()
	if !now.Before(s.Expires) {
		return false
	}
	keys := args{"aws:CurrentTime": now.Format(time.RFC3339), "aws:TokenIssueTime": s.Issued.Format(time.RFC3339)}
	principal := "arn:aws:sts::" + c.account + ":assumed-role/" + s.Role[strings.LastIndex(s.Role, "/")+1:] + "/" + s.Name
	if s.Federated != "" {
		principal = "arn:aws:sts::" + c.account + ":federated-user/" + s.Federated
		keys["aws:userid"] = c.account + ":" + s.Federated
	} else {
		keys["aws:SourceIdentity"] = s.SourceIdentity
	}
	question := args{
		"request": args{
			"principal": principal, "action": action, "resource": args{"resource": resource, "accountId": c.account}, "contextVariables": keys,
		},
		"identityPolicies": policies,
	}
	if s.Policy != "" {
		question["sessionPolicy"] = json.RawMessage(s.Policy)
	}
	return allowed(t, question)
}

// userCan tells whether an IAM user may do something at a time.
func (c *cloud) userCan(t testing.TB, name, action, resource string, now time.Time) bool {
	t.Helper()
	list := c.holderPolicies(t, "user", name)
	if list == nil {
		return false
	}
	return allowed(t, args{
		"request": args{
			"principal": "arn:aws:iam::" + c.account + ":user/pim/" + name, "action": action,
			"resource":         args{"resource": resource, "accountId": c.account},
			"contextVariables": args{"aws:CurrentTime": now.Format(time.RFC3339)},
		},
		"identityPolicies": list,
	})
}

// assigned lists the ids of the users that have the permission set.
func (c *cloud) assigned(t testing.TB) []string {
	t.Helper()
	var list struct {
		AccountAssignments []struct{ PrincipalID string }
	}
	call(t, c.account, "sso-admin", "list_account_assignments", args{
		"InstanceArn": c.instance, "AccountId": c.account, "PermissionSetArn": strings.Replace(c.set, realSets, motoSets, 1),
	}, &list)
	var out []string
	for _, a := range list.AccountAssignments {
		out = append(out, a.PrincipalID)
	}
	return out
}

// ourUsers lists the users that carry our tags, by credential.
func (c *cloud) ourUsers(t testing.TB) map[string]string {
	t.Helper()
	var list struct{ Users []struct{ UserName string } }
	call(t, c.account, "iam", "list_users", args{"PathPrefix": "/pim/"}, &list)
	out := map[string]string{}
	for _, u := range list.Users {
		var tags struct{ Tags []struct{ Key, Value string } }
		if tryCall(t, c.account, "iam", "list_user_tags", args{"UserName": u.UserName}, &tags) != "" {
			continue
		}
		for _, tag := range tags.Tags {
			if tag.Key == "pim:credential" {
				out[tag.Value] = u.UserName
			}
		}
	}
	return out
}

// exists lists everything that is there for a handle, as the second client
// sees it.
func (c *cloud) exists(t testing.TB, h domain.Handle, now time.Time) []providertest.Object {
	t.Helper()
	c.gate.quiet(t)
	name := "pim-" + string(h.Credential)
	var out []providertest.Object
	usable, there := false, false
	for _, s := range c.gate.sessions(t) {
		if s.SourceIdentity != name && s.Federated != name {
			continue
		}
		if !c.judge(t, s, []args{{"name": "all", "policy": json.RawMessage(allowAll)}}, tryAction, tryResource, now) {
			continue // ended by itself: by STS, or by its own policy
		}
		there = true
		usable = usable || c.can(t, s, tryAction, tryResource, now)
	}
	if there {
		out = append(out, providertest.Object{What: "session " + name, Usable: usable})
	}
	if problem := tryCall(t, c.account, "iam", "get_user", args{"UserName": name}, nil); problem == "" {
		var keys struct {
			AccessKeyMetadata []struct{ AccessKeyID string }
		}
		call(t, c.account, "iam", "list_access_keys", args{"UserName": name}, &keys)
		out = append(out, providertest.Object{
			What: "user " + name, Usable: len(keys.AccessKeyMetadata) > 0 && c.userCan(t, name, tryAction, tryResource, now),
		})
	}
	for _, role := range []string{prodRole, readerRole} {
		for _, p := range c.holderPolicies(t, "role", role) {
			if strings.Contains(textOf(p), name+`"`) {
				out = append(out, providertest.Object{What: "deny at " + role})
			}
		}
	}
	if h.Shared != "" {
		for _, user := range c.assigned(t) {
			if strings.HasSuffix(h.Shared, "/"+user) {
				out = append(out, providertest.Object{What: "assignment of " + user, Usable: true})
			}
		}
	}
	return out
}

// works tries an issued credential.
func (c *cloud) works(t testing.TB, issued contract.Issued, now time.Time) bool {
	t.Helper()
	c.gate.quiet(t)
	data := issued.Data.Reveal()
	if user, ok := data["principal"].(string); ok {
		return slices.Contains(c.assigned(t), user)
	}
	if name, ok := data["username"].(string); ok {
		var keys struct {
			AccessKeyMetadata []struct{ AccessKeyID string }
		}
		if tryCall(t, c.account, "iam", "list_access_keys", args{"UserName": name}, &keys) != "" {
			return false
		}
		for _, k := range keys.AccessKeyMetadata {
			if k.AccessKeyID == data["access_key"] {
				return c.userCan(t, name, tryAction, tryResource, now)
			}
		}
		return false
	}
	arn, ok := data["arn"].(string)
	if !ok {
		t.Fatal("the answer has no ARN")
	}
	for _, s := range c.gate.sessions(t) {
		if strings.HasSuffix(arn, "/"+s.Name+s.Federated) && (s.Federated != "" || s.AccessKey == data["access_key"]) {
			return c.can(t, s, tryAction, tryResource, now)
		}
	}
	return false
}
