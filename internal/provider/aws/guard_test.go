package aws

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"
)

var windowEnd = time.Date(2026, 3, 1, 11, 0, 0, 0, time.UTC)

func testGuard() guard {
	return guard{End: windowEnd, Own: []string{roleARN(homeAccount, prodRole), roleARN(homeAccount, "pim-revoker"), "arn:aws:iam::" + homeAccount + ":policy/pim/*"}}
}

func mustPolicy(t *testing.T, own string, arns []string, g guard) string {
	t.Helper()
	text, err := sessionPolicy(own, arns, g)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

func TestWhatAGuardedSessionMayDo(t *testing.T) {
	t.Parallel()
	inside := map[string]string{"aws:currenttime": policyTime(windowEnd.Add(-time.Second))}
	after := map[string]string{"aws:currenttime": policyTime(windowEnd)}
	prod, reader := roleARN(homeAccount, prodRole), roleARN(homeAccount, "prod-reader")
	chained, lasting := testGuard(), testGuard()
	chained.Chain, lasting.Persist = []string{reader}, true
	onlyS3 := `{"Version":"2012-10-17","Statement":{"Effect":"Allow","Action":"s3:*","Resource":"*"}}`
	for _, row := range []struct {
		name             string
		own              string
		g                guard
		action, resource string
		keys             map[string]string
		want             bool
	}{
		{"anything without a policy of its own", "", testGuard(), "ec2:RunInstances", "*", inside, true},
		{"what its own policy allows", onlyS3, testGuard(), "s3:GetObject", "arn:aws:s3:::b/k", inside, true},
		{"not what its own policy does not allow", onlyS3, testGuard(), "ec2:RunInstances", "*", inside, false},
		{"nothing from the end of the window on", "", testGuard(), "s3:GetObject", "arn:aws:s3:::b/k", after, false},
		{"not go on to another role", "", testGuard(), "sts:AssumeRole", reader, inside, false},
		{"not get a federation token", "", testGuard(), "sts:GetFederationToken", "*", inside, false},
		{"ask who it is", "", testGuard(), "sts:GetCallerIdentity", "*", inside, true},
		{"not delete the policy that revokes it", "", testGuard(), "iam:DeleteRolePolicy", prod, inside, false},
		{"not put another policy on its own role", "", testGuard(), "iam:PutRolePolicy", prod, inside, false},
		{"not open the trust policy of its own role", "", testGuard(), "iam:UpdateAssumeRolePolicy", prod, inside, false},
		{"not take a boundary off its own role", "", testGuard(), "iam:DeleteRolePermissionsBoundary", prod, inside, false},
		{"not delete its own role", "", testGuard(), "iam:DeleteRole", prod, inside, false},
		{"not pass its own role to a service", "", testGuard(), "iam:PassRole", prod, inside, false},
		{"read its own role", "", testGuard(), "iam:GetRole", prod, inside, true},
		{"not touch the role that writes denies", "", testGuard(), "iam:DetachRolePolicy", roleARN(homeAccount, "pim-revoker"), inside, false},
		{"not change the policies that hold further denies", "", testGuard(), "iam:CreatePolicyVersion", "arn:aws:iam::" + homeAccount + ":policy/pim/pim-revocations-role-x-1", inside, false},
		{"change other roles", "", testGuard(), "iam:PutRolePolicy", reader, inside, true},
		{"not make a user", "", testGuard(), "iam:CreateUser", "*", inside, false},
		{"not make an access key", "", testGuard(), "iam:CreateAccessKey", "*", inside, false},
		{"not make a role", "", testGuard(), "iam:CreateRole", "*", inside, false},
		{"not set a console password", "", testGuard(), "iam:CreateLoginProfile", "*", inside, false},
		{"not open the trust policy of any role", "", testGuard(), "iam:UpdateAssumeRolePolicy", reader, inside, false},
		{"make a user where the role says that it can persist", "", lasting, "iam:CreateUser", "*", inside, true},
		{"not touch its own role even where it can persist", "", lasting, "iam:DeleteRolePolicy", prod, inside, false},
		{"go on to a role that is listed", "", chained, "sts:AssumeRole", reader, inside, true},
		{"not go on to a role that is not listed", "", chained, "sts:AssumeRole", roleARN(homeAccount, "other"), inside, false},
		{"not get a federation token where it may go on", "", chained, "sts:GetFederationToken", "*", inside, false},
		{"not edit a role that it may go on to", "", chained, "iam:DeleteRolePolicy", reader, inside, false},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			text := mustPolicy(t, row.own, nil, row.g)
			if got := judge(row.action, row.resource, row.keys, []string{text}); got != row.want {
				t.Errorf("%s on %s: %v, want %v\n%s", row.action, row.resource, got, row.want, text)
			}
		})
	}
}

func TestManagedSessionPoliciesAreNotJoinedByAnAllow(t *testing.T) {
	t.Parallel()
	text := mustPolicy(t, "", []string{"arn:aws:iam::aws:policy/ReadOnlyAccess"}, testGuard())
	if strings.Contains(text, `"Allow"`) {
		t.Fatal("the session policy allows what the managed policies alone should decide")
	}
}

func TestPolicyDocumentsThatAreRefused(t *testing.T) {
	t.Parallel()
	many := make([]string, maxSessionARNs+1)
	for _, row := range []struct {
		name, own string
		arns      []string
		want      string
	}{
		{"no JSON", "Allow all", nil, "not a policy document"},
		{"text after the end", allowAllPolicy + "{}", nil, "not a policy document"},
		{"an old version", `{"Version":"2008-10-17","Statement":[]}`, nil, "must have Version"},
		{"no statement", `{"Version":"2012-10-17","Statement":[]}`, nil, "has no statement"},
		{"statement missing", `{"Version":"2012-10-17"}`, nil, "no JSON object"},
		{"an unknown element", `{"Version":"2012-10-17","Statements":[]}`, nil, "not a policy document"},
		{"a principal, as only resource policies have", `{"Statement":{"Effect":"Allow","Principal":"*","Action":"*","Resource":"*"}}`, nil, "identity policies do not have"},
		{"an effect that is none", `{"Statement":{"Effect":"Maybe","Action":"*","Resource":"*"}}`, nil, "neither Allow nor Deny"},
		{"too many characters", `{"Statement":{"Effect":"Allow","Action":"` + strings.Repeat("a", 1500) + `","Resource":"*"}}`, nil, "characters with what pim adds"},
		{"too many managed policies", "", many, "a session takes 10"},
		{"a character that STS does not take", `{"Statement":{"Effect":"Allow","Action":"s3:*","Resource":"✓"}}`, nil, "does not take"},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			if _, err := sessionPolicy(row.own, row.arns, testGuard()); err == nil || !strings.Contains(err.Error(), row.want) {
				t.Errorf("got %v, want %q", err, row.want)
			}
		})
	}
}

// Whatever a role's own policy allows, the guard holds, the policy is within
// what STS takes, and every statement of the role is still there.
func TestTheGuardHoldsForEveryPolicy(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		var own policyDoc
		own.Version = policyVersion
		n := rapid.IntRange(1, 6).Draw(t, "statements")
		for range n {
			s := statement{
				Effect:   rapid.SampledFrom([]string{"Allow", "Deny"}).Draw(t, "effect"),
				Action:   rapid.SliceOfN(rapid.SampledFrom([]string{"*", "iam:*", "sts:*", "s3:Get*", "iam:DeleteRolePolicy"}), 1, 3).Draw(t, "actions"),
				Resource: names{rapid.SampledFrom([]string{"*", "arn:aws:iam::*:role/*"}).Draw(t, "resource")},
			}
			if err := own.add(s); err != nil {
				t.Fatal(err)
			}
		}
		g := testGuard()
		g.Persist = rapid.Bool().Draw(t, "persist")
		if rapid.Bool().Draw(t, "chain") {
			g.Chain = []string{roleARN(homeAccount, "prod-reader")}
		}
		text, err := sessionPolicy(own.String(), nil, g)
		if err != nil {
			return // too large is refused before the call
		}
		if len(text) > maxSessionPolicy {
			t.Fatalf("%d characters", len(text))
		}
		var got policyDoc
		if err := json.Unmarshal([]byte(text), &got); err != nil || len(got.Statement) != n+len(g.statements()) {
			t.Fatalf("%d statements: %v", len(got.Statement), err)
		}
		late := map[string]string{"aws:currenttime": policyTime(windowEnd.Add(time.Duration(rapid.IntRange(0, 1<<30).Draw(t, "later")) * time.Second))}
		for _, action := range []string{"s3:GetObject", "iam:GetRole", "sts:AssumeRole"} {
			if judge(action, "*", late, []string{text}) {
				t.Fatalf("%s is allowed after the end", action)
			}
		}
		now := map[string]string{"aws:currenttime": policyTime(windowEnd.Add(-time.Hour))}
		for _, action := range []string{"iam:DeleteRolePolicy", "iam:PutRolePolicy", "iam:DetachRolePolicy", "iam:DeleteRole"} {
			if judge(action, roleARN(homeAccount, prodRole), now, []string{text}) {
				t.Fatalf("%s on its own role is allowed", action)
			}
		}
	})
}

func TestTheFixedPartLeavesRoomForAPolicy(t *testing.T) {
	t.Parallel()
	g := testGuard()
	g.Own = append(g.Own, roleARN(homeAccount, "a-base-role-with-a-rather-long-name"))
	text := mustPolicy(t, "", nil, g)
	const promised = 1000 // docs/providers/aws.md says so
	if left := maxSessionPolicy - len(text); left < promised {
		t.Fatalf("%d characters are left for policy_document, docs promise %d:\n%s", left, promised, text)
	}
}
