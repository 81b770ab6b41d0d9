package aws

import (
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/vault-pim/vault-plugin-secrets-pim/internal/domain"
	"github.com/vault-pim/vault-plugin-secrets-pim/internal/provider/contract"
	"github.com/vault-pim/vault-plugin-secrets-pim/internal/provider/providertest"
)

func centerFields(more ...any) contract.Values {
	v := contract.Values{"permission_set_arn": fakeSet, "account_id": memberOfOrg, "principal_source": "metadata:aws_user"}
	for i := 0; i+1 < len(more); i += 2 {
		name, _ := more[i].(string)
		v[name] = more[i+1]
	}
	return v
}

func (w *fakeAWS) askFor(t providertest.Fataler, user string, fields contract.Values) contract.Input {
	t.Helper()
	in := w.ask(t, time.Hour, fields)
	in.Principal = user
	return in
}

func assignmentOf(user string) assignment {
	return assignment{Instance: fakeInstance, Account: memberOfOrg, PermissionSet: fakeSet, User: user}
}

func (w *fakeAWS) isAssigned(user string) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.center.assigned[assignmentOf(user)]
}

func TestAnAssignmentComesAndGoes(t *testing.T) {
	t.Parallel()
	w := newFakeAWS()
	p := w.open(t, nil)
	g := mustIssue(t, p, w.askFor(t, aliceID, centerFields()))
	if !w.isAssigned(aliceID) || w.isAssigned(bobID) {
		t.Fatal("not assigned as asked")
	}
	if !mustRevoke(t, w.open(t, nil), g.h).Done() || w.isAssigned(aliceID) {
		t.Error("still assigned")
	}
}

func TestAnAssignmentThatWasThereIsNeitherAdoptedNorDeleted(t *testing.T) {
	t.Parallel()
	w := newFakeAWS()
	p := w.open(t, nil)
	w.center.assigned[assignmentOf(aliceID)] = true
	g, err := issue(t, p, w.askFor(t, aliceID, centerFields()))
	wantCode(t, err, "outside_pim")
	if !mustRevoke(t, p, g.h).Done() || !w.isAssigned(aliceID) {
		t.Error("the standing assignment was deleted")
	}
}

func TestASecondWindowOfOnePersonJoinsTheFirst(t *testing.T) {
	t.Parallel()
	w := newFakeAWS()
	p := w.open(t, nil)
	first := mustIssue(t, p, w.askFor(t, aliceID, centerFields()))
	in := w.askFor(t, aliceID, centerFields())
	in.Joined = true
	second := mustIssue(t, p, in)
	if first.h.Shared == "" || first.h.Shared != second.h.Shared {
		t.Fatalf("keys %q and %q", first.h.Shared, second.h.Shared)
	}
	if !mustRevoke(t, p, second.h).Done() || w.isAssigned(aliceID) {
		t.Error("the last one to go does not end it")
	}
}

func TestTwoWindowsThatStartTogetherMakeOneAssignment(t *testing.T) {
	t.Parallel()
	w := newFakeAWS()
	p := w.open(t, nil)
	ins := []contract.Input{w.askFor(t, aliceID, centerFields()), w.askFor(t, aliceID, centerFields())}
	ins[1].Joined = true
	var wg sync.WaitGroup
	for _, in := range ins {
		wg.Go(func() {
			if _, err := issue(t, p, in); err != nil && codeOf(err) != "outside_pim" {
				t.Errorf("issue: %v", err)
			}
		})
	}
	wg.Wait()
	if !w.isAssigned(aliceID) {
		t.Error("not assigned")
	}
}

func TestAnAssignmentIsOnRecordBeforeItIsMade(t *testing.T) {
	t.Parallel()
	w := newFakeAWS()
	p := w.open(t, nil)
	in := w.askFor(t, aliceID, centerFields())
	h, err := p.Plan(noCancel, in)
	if err != nil {
		t.Fatal(err)
	}
	_, err = p.Issue(noCancel, in, h, func(domain.Handle) error {
		if w.count("CreateAccountAssignment") > 0 {
			t.Error("it was made first")
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

func TestOpenSessionsUnderAnAssignment(t *testing.T) {
	t.Parallel()
	w := newFakeAWS()
	p := w.open(t, nil)
	fields := centerFields("scp_deny", fakeRail)
	alice, bob := mustIssue(t, p, w.askFor(t, aliceID, fields)), mustIssue(t, p, w.askFor(t, bobID, fields))
	issued := w.clk.Now()
	session := func(user, set string, at time.Time) map[string]string {
		return map[string]string{
			"identitystore:userid": user, "aws:tokenissuetime": policyTime(at),
			"aws:principalarn": "arn:aws:iam::" + memberOfOrg + ":role/aws-reserved/sso.amazonaws.com/eu-west-1/AWSReservedSSO_" + set + "_0123456789abcdef",
		}
	}
	w.clk.advance(10 * time.Minute)
	ended := mustRevoke(t, p, alice.h)
	denied := func(keys map[string]string) bool {
		w.mu.Lock()
		defer w.mu.Unlock()
		return !judge(tryAction, tryResource, keys, []string{allowAllPolicy, w.center.rails[fakeRail]})
	}
	for _, row := range []struct {
		name string
		keys map[string]string
		want bool
	}{
		{"the open session of the person is denied", session(aliceID, "Admin", issued), true},
		{"the session of somebody else is not", session(bobID, "Admin", issued), false},
		{"a session of the person under another permission set is not", session(aliceID, "ReadOnly", issued), false},
		{"a session that the person opens under a later grant is not", session(aliceID, "Admin", w.clk.Now().Add(time.Minute)), false},
	} {
		if got := denied(row.keys); got != row.want {
			t.Errorf("%s: denied %v", row.name, got)
		}
	}
	if ended.Done() || ended.Again.Sub(w.clk.Now()) < maxRoleSession {
		t.Fatalf("the deny is not kept as long as a session can last: %+v", ended)
	}
	w.clk.advance(ended.Again.Sub(w.clk.Now()))
	if !mustRevoke(t, p, ended.Rest).Done() || denied(session(aliceID, "Admin", issued)) {
		t.Error("the deny is not taken out")
	}
	mustRevoke(t, p, bob.h)
}

func TestAServiceControlPolicyThatWasNotPreparedIsRefused(t *testing.T) {
	t.Parallel()
	w := newFakeAWS()
	w.center.rails[fakeRail] = allowAllPolicy
	_, err := issue(t, w.open(t, nil), w.askFor(t, aliceID, centerFields("scp_deny", fakeRail)))
	wantCode(t, err, "bad_guardrail")
	if w.isAssigned(aliceID) || w.center.rails[fakeRail] != allowAllPolicy {
		t.Error("something was changed")
	}
}

func TestAFullServiceControlPolicyMergesAndThenRefuses(t *testing.T) {
	t.Parallel()
	r, err := parseRail(emptyRail)
	if err != nil {
		t.Fatal(err)
	}
	at := ledgerStart
	n := 0
	for ; n < 500; n++ {
		at = at.Add(time.Second)
		d := railDeny{account: memberOfOrg, set: "Admin", before: at, until: hourAfter(at.Add(13 * time.Hour)), users: names{sessionNumber(n) + "-1234567890123"}}
		ok, err := r.add(d)
		if err != nil {
			t.Fatal(err)
		}
		text, err := r.render()
		if err != nil || (ok && policySize(text) > maxGuardrail) {
			t.Fatalf("%d characters: %v", policySize(text), err)
		}
		if !ok {
			break
		}
		back, err := parseRail(text)
		if err != nil || !back.has(d) || len(back.foreign) != 1 {
			t.Fatalf("entry %d: %v, %d foreign", n, err, len(back.foreign))
		}
	}
	if n < 60 || n == 500 {
		t.Errorf("it took %d people", n)
	}
}

func TestWhoARequesterIsInTheDirectory(t *testing.T) {
	t.Parallel()
	w := newFakeAWS()
	p := w.open(t, nil)
	alice := domain.Entity{
		ID: "e-1", Name: "bob", Metadata: map[string]string{"aws_user": "alice", "mail": "alice@example.com", "empty": ""},
		Aliases: []domain.Alias{{MountAccessor: "auth_oidc_1", Name: "alice"}, {MountAccessor: "auth_ldap_1", Name: "a"}, {MountAccessor: "auth_ldap_1", Name: "b"}},
	}
	for _, row := range []struct {
		name, source, attribute, want string
	}{
		{"by metadata", "metadata:aws_user", "", aliceID},
		{"by the alias of one mount", "alias:auth_oidc_1", "", aliceID},
		{"by e-mail address", "metadata:mail", attributeEmail, aliceID},
		{"not by an attribute that does not match", "metadata:mail", "", ""},
		{"not by two aliases of one mount", "alias:auth_ldap_1", "", ""},
		{"not by an alias that is not there", "alias:auth_oidc_2", "", ""},
		{"not by metadata that is empty", "metadata:empty", "", ""},
		{"not by metadata that is not there", "metadata:none", "", ""},
		{"never by the display name", "", "", ""},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			got, err := p.ResolvePrincipal(noCancel, alice, centerFields("principal_source", row.source, "principal_attribute", row.attribute))
			if got != row.want || (row.want == "") != (codeOf(err) == "no_principal") {
				t.Errorf("%q, %v", got, err)
			}
		})
	}
	if got, err := p.ResolvePrincipal(noCancel, alice, role()); got != "" || err != nil {
		t.Errorf("a role session elevates nobody's own user: %q, %v", got, err)
	}
}

func TestAssignmentsWithoutWhatTheyNeed(t *testing.T) {
	t.Parallel()
	w := newFakeAWS()
	_, err := w.open(t, nil).Plan(noCancel, w.ask(t, time.Hour, centerFields()))
	wantCode(t, err, "no_principal")
	_, err = w.open(t, func(target *contract.Target) { target.Fields = contract.Values{} }).Plan(noCancel, w.askFor(t, aliceID, centerFields()))
	wantCode(t, err, "no_instance")
	if !strings.Contains(err.Error(), "identity_center_arn") {
		t.Errorf("%v", err)
	}
}
