package aws

import (
	"context"
	"encoding/json"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/vault-pim/vault-plugin-secrets-pim/internal/clock"
	"github.com/vault-pim/vault-plugin-secrets-pim/internal/domain"
	"github.com/vault-pim/vault-plugin-secrets-pim/internal/provider/aws"
	"github.com/vault-pim/vault-plugin-secrets-pim/internal/provider/contract"
	"github.com/vault-pim/vault-plugin-secrets-pim/internal/provider/providertest"
)

// open makes an instance of the provider, as a plugin process has it.
func (c *cloud) open(t *testing.T, clk clock.Clock) contract.Provider {
	t.Helper()
	target := c.target()
	target.Place = c.account
	p, err := aws.Descriptor().New(contract.Env{Clock: clk, Log: providertest.Quiet{}, AllowLocal: true}, target)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := p.Close(); err != nil {
			t.Error(err)
		}
	})
	return p
}

// grant is an issued credential.
type grant struct {
	in     contract.Input
	h      domain.Handle
	issued contract.Issued
}

// plan is a fresh input with its handle.
func plan(t *testing.T, p contract.Provider, clk clock.Clock, life time.Duration, fields contract.Values) grant {
	t.Helper()
	now := clk.Now()
	g := grant{in: contract.Input{
		Credential: domain.CredentialID(providertest.NewID(t, now)), Request: domain.RequestID(providertest.NewID(t, now)), Role: "prod", Person: "alice", Ticket: "T-1",
		Fields: aws.Descriptor().Normalize(fields), NotAfter: now.Add(life),
	}}
	var err error
	if g.h, err = p.Plan(t.Context(), g.in); err != nil {
		t.Fatal(err)
	}
	return g
}

// issue issues what was planned.
func (g *grant) issue(ctx context.Context, p contract.Provider) error {
	issued, err := p.Issue(ctx, g.in, g.h, func(h domain.Handle) error {
		g.h = h
		return nil
	})
	if err == nil {
		g.h, g.issued = issued.Handle, issued
	}
	return err
}

func mustIssue(t *testing.T, p contract.Provider, clk clock.Clock, life time.Duration, fields contract.Values) grant {
	t.Helper()
	g := plan(t, p, clk, life, fields)
	if err := g.issue(t.Context(), p); err != nil {
		t.Fatal(err)
	}
	return g
}

// session is what STS was asked for a credential.
func (c *cloud) session(t *testing.T, g grant) sessionAsked {
	t.Helper()
	for _, s := range c.gate.sessions(t) {
		if s.SourceIdentity == "pim-"+string(g.in.Credential) {
			return s
		}
	}
	t.Fatal("no such session was asked for")
	return sessionAsked{}
}

// The policies as they are stored at the end, judged for live, revoked, chained
// and expired sessions by somebody who has not read our code.
func TestTheEffectOfWhatIsStored(t *testing.T) {
	t.Parallel()
	clk := &hurryClock{}
	c := newCloud(t, clk.Now)
	p := c.open(t, clk)
	plain := contract.Values{"role_arns": []string{c.role(prodRole)}}
	chaining := contract.Values{"role_arns": []string{c.role(prodRole)}, "allow_chaining": []string{c.role(readerRole)}}
	live := mustIssue(t, p, clk, 4*time.Hour, plain)
	short := mustIssue(t, p, clk, 30*time.Minute, plain)
	revoked := mustIssue(t, p, clk, 4*time.Hour, plain)
	chained := mustIssue(t, p, clk, 4*time.Hour, chaining)
	for _, g := range []grant{revoked, chained} {
		if ended, err := p.Revoke(t.Context(), g.h); err != nil || !ended.AccessGone {
			t.Fatal(err)
		}
	}
	now := clk.Now()
	// Holders who went on to another role before they were ended: the source
	// identity stays, no session policy of ours comes along.
	onward := func(g grant) sessionAsked {
		s := c.session(t, g)
		s.Role, s.Name, s.Policy = c.role(readerRole), "onward", ""
		return s
	}
	stranger := sessionAsked{Role: c.role(prodRole), Name: "carol", SourceIdentity: "carol", Issued: now, Expires: now.Add(time.Hour)}
	prod := c.role(prodRole)
	for _, row := range []struct {
		name             string
		s                sessionAsked
		action, resource string
		at               time.Time
		want             bool
	}{
		{"a live session may do what its role may", c.session(t, live), tryAction, tryResource, now, true},
		{"a revoked session may do nothing", c.session(t, revoked), tryAction, tryResource, now, false},
		{"a revoked session may not undo it", c.session(t, revoked), "iam:DeleteRolePolicy", prod, now, false},
		{"a session of somebody else is untouched", stranger, tryAction, tryResource, now, true},
		{"a session whose window is over may do nothing, though STS lets it live", c.session(t, short), tryAction, tryResource, short.in.NotAfter, false},
		{"a second before that it may", c.session(t, short), tryAction, tryResource, short.in.NotAfter.Add(-time.Second), true},
		{"a live session may not take a deny out", c.session(t, live), "iam:DeleteRolePolicy", prod, now, false},
		{"a live session may not write over it", c.session(t, live), "iam:PutRolePolicy", prod, now, false},
		{"a live session may not attach a policy to its role", c.session(t, live), "iam:AttachRolePolicy", prod, now, false},
		{"a live session may read its role", c.session(t, live), "iam:GetRole", prod, now, true},
		{"a live session may not go on", c.session(t, live), "sts:AssumeRole", c.role(readerRole), now, false},
		{"a session that may go on may do so", c.session(t, chained), "sts:AssumeRole", c.role(readerRole), now, false}, // it is revoked
		{"a live session may not make a user", c.session(t, live), "iam:CreateUser", "arn:aws:iam::" + c.account + ":user/x", now, false},
		{"what a revoked session went on to may do nothing", onward(chained), tryAction, tryResource, now, false},
		{"what a live session would have gone on to is not denied", onward(live), tryAction, tryResource, now, true},
	} {
		if got := c.can(t, row.s, row.action, row.resource, row.at); got != row.want {
			t.Errorf("%s: %v", row.name, got)
		}
	}
}

func TestTheEffectOfAUsersPolicies(t *testing.T) {
	t.Parallel()
	clk := &hurryClock{}
	c := newCloud(t, clk.Now)
	p := c.open(t, clk)
	g := mustIssue(t, p, clk, time.Hour, contract.Values{"user_path": "/pim/", "policy_document": allowAll})
	name := "pim-" + string(g.in.Credential)
	self := "arn:aws:iam::" + c.account + ":user/pim/" + name
	for _, row := range []struct {
		name             string
		action, resource string
		at               time.Time
		want             bool
	}{
		{"it may do what its policy allows", tryAction, tryResource, clk.Now(), true},
		{"it may do nothing from the end of the window on", tryAction, tryResource, g.in.NotAfter, false},
		{"it may not make itself another key", "iam:CreateAccessKey", self, clk.Now(), false},
		{"it may not take its guard off", "iam:DeleteUserPolicy", self, clk.Now(), false},
		{"it may not go on to a role", "sts:AssumeRole", c.role(prodRole), clk.Now(), false},
	} {
		if got := c.userCan(t, name, row.action, row.resource, row.at); got != row.want {
			t.Errorf("%s: %v", row.name, got)
		}
	}
}

// Open sessions under a permission set, judged with the service control policy
// as it is stored.
func TestTheEffectOfAServiceControlPolicy(t *testing.T) {
	t.Parallel()
	clk := &hurryClock{}
	c := newCloud(t, clk.Now).withCenter(t)
	p := c.open(t, clk)
	g := plan0(t, p, clk, c)
	if err := g.issue(t.Context(), p); err != nil {
		t.Fatal(err)
	}
	opened := clk.Now()
	clk.advance(10 * time.Minute)
	if _, err := p.Revoke(t.Context(), g.h); err != nil {
		t.Fatal(err)
	}
	if list := c.assigned(t); len(list) != 0 {
		t.Errorf("still assigned: %v", list)
	}
	var stored struct{ Policy struct{ Content string } }
	call(t, c.account, "organizations", "describe_policy", args{"PolicyId": c.rail}, &stored)
	session := func(user, set string, issued time.Time) bool {
		role := "AWSReservedSSO_" + set + "_0123456789abcdef"
		return allowed(t, args{
			"request": args{
				"principal": "arn:aws:sts::" + c.account + ":assumed-role/" + role + "/alice", "action": tryAction,
				"resource": args{"resource": "*", "accountId": c.account},
				"contextVariables": args{
					"identitystore:UserId": user, "aws:TokenIssueTime": issued.Format(time.RFC3339),
					"aws:PrincipalArn": "arn:aws:iam::" + c.account + ":role/aws-reserved/sso.amazonaws.com/" + role,
				},
			},
			"identityPolicies": []args{{"name": "set", "policy": raw(allowAll)}},
			"serviceControlPolicies": []args{
				{"orgIdentifier": "root", "policies": []args{{"name": "full", "policy": raw(allowAll)}, {"name": "pim", "policy": raw(stored.Policy.Content)}}},
			},
		})
	}
	for name, row := range map[string]struct{ got, want bool }{
		"the open session":                       {session(c.alice, "Admin", opened), false},
		"the session of somebody else":           {session(c.bob, "Admin", opened), true},
		"a session under another permission set": {session(c.alice, "ReadOnly", opened), true},
		"a session under a later grant":          {session(c.alice, "Admin", clk.Now().Add(time.Minute)), true},
	} {
		if row.got != row.want {
			t.Errorf("%s is allowed: %v", name, row.got)
		}
	}
}

func plan0(t *testing.T, p contract.Provider, clk clock.Clock, c *cloud) grant {
	t.Helper()
	now := clk.Now()
	g := grant{in: contract.Input{
		Credential: domain.CredentialID(providertest.NewID(t, now)), Role: "prod", Principal: c.alice, NotAfter: now.Add(time.Hour),
		Fields: aws.Descriptor().Normalize(contract.Values{
			"permission_set_arn": c.set, "account_id": c.account, "principal_source": "metadata:aws_user", "scp_deny": c.rail,
		}),
	}}
	var err error
	if g.h, err = p.Plan(t.Context(), g.in); err != nil {
		t.Fatal(err)
	}
	return g
}

// Two instances that know nothing of each other revoke 50 sessions of one role
// at the same time, in real time: nothing runs beside it that would starve moto.
func TestFiftyRevocationsByTwoInstances(t *testing.T) {
	clk := clock.System{}
	c := newCloud(t, clk.Now)
	hosts := []contract.Provider{c.open(t, clk), c.open(t, clk)}
	var all []grant
	for i := range 55 {
		all = append(all, mustIssue(t, hosts[i%2], clk, 4*time.Hour, contract.Values{"role_arns": []string{c.role(prodRole)}}))
	}
	began := clk.Now()
	var wg sync.WaitGroup
	for i, g := range all[:50] {
		wg.Go(func() {
			if ended, err := hosts[i%2].Revoke(t.Context(), g.h); err != nil || !ended.AccessGone {
				t.Errorf("revoke: %+v, %v", ended, err)
			}
		})
	}
	wg.Wait()
	t.Logf("MEASURED 50 revocations by two instances: %.1f s, %d writes", clk.Now().Sub(began).Seconds(), c.gate.calls("PutRolePolicy"))
	var text strings.Builder
	for _, p := range c.holderPolicies(t, "role", prodRole) {
		text.WriteString(textOf(p))
	}
	for i, g := range all {
		named := strings.Contains(text.String(), `"pim-`+string(g.in.Credential)+`"`)
		if named != (i < 50) {
			t.Errorf("session %d: denied %v", i, named)
		}
	}
	for _, i := range []int{0, 49, 50, 54} {
		if works := c.can(t, c.session(t, all[i]), tryAction, tryResource, clk.Now()); works != (i >= 50) {
			t.Errorf("session %d works: %v", i, works)
		}
	}
}

// rawJSON is a policy as the second client read it.
type rawJSON = json.RawMessage

func raw(text string) rawJSON { return rawJSON(text) }
