package aws

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/vault-pim/vault-plugin-secrets-pim/internal/domain"
	"github.com/vault-pim/vault-plugin-secrets-pim/internal/provider/contract"
)

func userFields(more ...any) contract.Values {
	v := contract.Values{"credential_type": kindUser, "policy_document": allowAllPolicy}
	for i := 0; i+1 < len(more); i += 2 {
		name, _ := more[i].(string)
		v[name] = more[i+1]
	}
	return v
}

// userOf returns a credential's user, or nil.
func (w *fakeAWS) userOf(g grant) *fakePrincipal {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.accounts[homeAccount].users[sessionName(g.in.Credential)]
}

func TestAUserIsMadeAsItWasAsked(t *testing.T) {
	t.Parallel()
	w := newFakeAWS()
	p := w.open(t, nil)
	g := mustIssue(t, p, w.ask(t, time.Hour, userFields(
		"user_path", "/pim/prod/", "permissions_boundary_arn", "arn:aws:iam::"+homeAccount+":policy/boundary",
		"iam_groups", []string{"admins", "auditors"}, "policy_arns", []string{"arn:aws:iam::aws:policy/AdministratorAccess"},
		"iam_tags", map[string]string{"ticket": "{{ticket}}"},
	)))
	u := w.userOf(g)
	if u == nil || u.info.Path != "/pim/prod/" || len(u.groups) != 2 || len(u.attached) != 1 || len(u.keys) != 1 {
		t.Fatalf("%+v", u)
	}
	for k, v := range map[string]string{
		"ticket": "T-1", tagCredential: string(g.in.Credential), tagRequest: string(g.in.Request), tagRole: "prod", tagTarget: "prod",
	} {
		if u.info.Tags[k] != v {
			t.Errorf("tag %s is %q, want %q", k, u.info.Tags[k], v)
		}
	}
	data := g.issued.Data.Reveal()
	if data["username"] != u.info.Name || data["arn"] != u.arn || data["access_key"] != u.keys[0].pair.ID {
		t.Errorf("the answer names another user or key")
	}
	if !w.ok(g) {
		t.Error("the key does not work")
	}
	w.clk.advance(time.Hour)
	if w.ok(g) {
		t.Error("the key works after the window")
	}
}

func TestAUserMayNotHelpItselfToStay(t *testing.T) {
	t.Parallel()
	w := newFakeAWS()
	g := mustIssue(t, w.open(t, nil), w.ask(t, time.Hour, userFields()))
	u := w.userOf(g)
	w.mu.Lock()
	defer w.mu.Unlock()
	a := w.accounts[homeAccount]
	for _, action := range []string{"iam:DeleteUserPolicy", "iam:CreateAccessKey", "iam:PutUserPolicy", "iam:AttachUserPolicy", "iam:CreateLoginProfile", "iam:DeleteUser"} {
		if w.canKey(a, u, action, u.arn) {
			t.Errorf("it may %s itself", action)
		}
	}
	for action, resource := range map[string]string{"sts:AssumeRole": "*", "iam:CreateUser": "*"} {
		if w.canKey(a, u, action, resource) {
			t.Errorf("it may %s", action)
		}
	}
}

func TestTheGuardComesBeforeAnythingThatAllows(t *testing.T) {
	t.Parallel()
	w := newFakeAWS()
	mustIssue(t, w.open(t, nil), w.ask(t, time.Hour, userFields("policy_arns", []string{"arn:aws:iam::aws:policy/AdministratorAccess"})))
	order := strings.Join(w.calls, " ")
	if i, j := strings.Index(order, "PutInline"), strings.Index(order, "Attach"); i < 0 || j < i {
		t.Errorf("calls: %s", order)
	}
}

func TestAKeyIsHandedOutWhenItWorks(t *testing.T) {
	t.Parallel()
	w := newFakeAWS()
	w.keyProbes, w.lag = 9, 3*time.Second
	began := w.clk.Now()
	g := mustIssue(t, w.open(t, nil), w.ask(t, time.Hour, userFields()))
	if !w.ok(g) || w.clk.Now().Sub(began) < 9*time.Second {
		t.Errorf("works: %v, after %s", w.ok(g), w.clk.Now().Sub(began))
	}
}

func TestARoleSaysHowOftenAKeyIsTried(t *testing.T) {
	t.Parallel()
	tried := map[int]int{}
	for _, row := range []struct {
		probes int
		waits  time.Duration
		slow   bool
	}{{0, 0, false}, {1, 0, true}, {2, time.Second, true}, {keyProbes, 2 * time.Second, true}} {
		w := newFakeAWS()
		w.keyProbes = 0
		began, fields := w.clk.Now(), userFields("key_probes", row.probes)
		g := mustIssue(t, w.open(t, nil), w.ask(t, time.Hour, fields))
		if got := w.clk.Now().Sub(began); !w.ok(g) || got != row.waits || limits(fields).Slow != row.slow {
			t.Errorf("%d tries: works: %v, after %s", row.probes, w.ok(g), got)
		}
		tried[row.probes] = strings.Count(strings.Join(w.calls, " "), "GetCallerIdentity")
		if got := tried[row.probes] - tried[0]; got != row.probes {
			t.Errorf("tried %d times, want %d: %v", got, row.probes, w.calls)
		}
	}
}

func TestAKeyThatNeverWorksIsGivenUp(t *testing.T) {
	t.Parallel()
	w := newFakeAWS()
	w.keyProbes = 1000
	p := w.open(t, nil)
	g, err := issue(t, p, w.ask(t, time.Hour, userFields()))
	wantCode(t, err, "InvalidClientTokenId")
	if !mustRevoke(t, p, g.h).Done() || w.userOf(g) != nil {
		t.Error("the user is still there")
	}
}

func TestASecondAttemptMakesNoSecondKey(t *testing.T) {
	t.Parallel()
	w := newFakeAWS()
	p := w.open(t, nil)
	in := w.ask(t, time.Hour, userFields())
	h, err := p.Plan(noCancel, in)
	if err != nil {
		t.Fatal(err)
	}
	stored := errors.New("not stored")
	if _, err := p.Issue(noCancel, in, h, func(domain.Handle) error { return stored }); !errors.Is(err, stored) {
		t.Fatal(err)
	}
	g := grant{in: in, h: h}
	g.issued, err = w.open(t, nil).Issue(noCancel, in, h, func(h domain.Handle) error { g.h = h; return nil })
	if err != nil {
		t.Fatal(err)
	}
	if n := len(w.userOf(g).keys); n != 1 || !w.ok(g) {
		t.Errorf("%d keys, works: %v", n, w.ok(g))
	}
	var d handleData
	if d, err = p.read(g.h); err != nil || d.Key != g.issued.Data.Reveal()["access_key"] {
		t.Errorf("the record knows the key %q: %v", d.Key, err)
	}
}

func TestAUserThatIsNotOursIsLeftAlone(t *testing.T) {
	t.Parallel()
	w := newFakeAWS()
	p := w.open(t, nil)
	in := w.ask(t, time.Hour, userFields())
	name := sessionName(in.Credential)
	stranger := &fakePrincipal{
		info: userInfo{Name: name, Path: "/pim/", Tags: map[string]string{}}, arn: userARNOf(homeAccount, name), inline: map[string]string{},
	}
	w.accounts[homeAccount].users[name] = stranger
	g, err := issue(t, p, in)
	wantCode(t, err, "outside_pim")
	if _, err := p.Revoke(noCancel, g.h); codeOf(err) != "outside_pim" {
		t.Errorf("revoke: %v", err)
	}
	if w.userOf(g) != stranger || len(stranger.inline)+len(stranger.keys) > 0 {
		t.Error("it was touched")
	}
}

func TestAUserThatNobodyKnowsYetIsNotGone(t *testing.T) {
	t.Parallel()
	w := newFakeAWS()
	p := w.open(t, nil)
	w.lag = 90 * time.Second
	in := w.ask(t, time.Hour, userFields())
	g, err := issue(t, p, in) // gives up before the user is visible
	if err == nil {
		t.Fatal("the test needs a user that stays unknown")
	}
	ended := mustRevoke(t, p, g.h)
	for range 5 {
		if ended.Done() {
			break
		}
		w.clk.advance(ended.Again.Sub(w.clk.Now()))
		ended = mustRevoke(t, w.open(t, nil), ended.Rest)
	}
	if !ended.Done() || w.userOf(g) != nil {
		t.Errorf("done: %v, and the user is still there: %v", ended.Done(), w.userOf(g) != nil)
	}
}

func TestTearingDownFinishesWhatWasLeftHalfDone(t *testing.T) {
	t.Parallel()
	for _, row := range []struct{ name, op, code string }{
		{"cut at the keys", "DeleteKey", "ServiceUnavailable"},
		{"cut at the policies", "Detach", "Throttling"},
		{"cut at the groups", "RemoveFromGroup", "ServiceFailure"},
		{"cut at the inline policies", "DeleteInline", "RequestLimitExceeded"},
		{"cut at the user", "DeleteUser", "InternalFailure"},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			w := newFakeAWS()
			p := w.open(t, nil)
			g := mustIssue(t, p, w.ask(t, time.Hour, userFields(
				"iam_groups", []string{"admins"}, "policy_arns", []string{"arn:aws:iam::aws:policy/ReadOnlyAccess"})))
			w.fail(row.op, row.code, 1)
			_, err := p.Revoke(noCancel, g.h)
			wantCode(t, err, row.code)
			if !mustRevoke(t, w.open(t, nil), g.h).Done() || w.userOf(g) != nil {
				t.Error("the second attempt did not finish")
			}
		})
	}
}

func TestWhatAHolderHungOnTheUserGoesWithIt(t *testing.T) {
	t.Parallel()
	w := newFakeAWS()
	p := w.open(t, nil)
	g := mustIssue(t, p, w.ask(t, time.Hour, userFields()))
	w.userOf(g).extras = []extra{{extraLogin, ""}, {extraMFA, "arn:aws:iam::1:mfa/x"}, {extraSSH, "k"}, {extraCertificate, "c"}, {extraService, "s"}}
	if !mustRevoke(t, p, g.h).Done() || w.userOf(g) != nil {
		t.Error("the user is still there")
	}
}

func TestTheListHasOurUsersAlone(t *testing.T) {
	t.Parallel()
	w := newFakeAWS()
	p := w.open(t, nil)
	ours := mustIssue(t, p, w.ask(t, time.Hour, userFields()))
	elsewhere := mustIssue(t, w.open(t, func(target *contract.Target) { target.Name = "staging" }), w.ask(t, time.Hour, userFields()))
	a := w.accounts[homeAccount]
	for name, tags := range map[string]map[string]string{
		"alice":             {},
		"pim-made-by-hand":  {tagCredential: "not an id", tagTarget: "prod"},
		"pim-with-anothers": {tagCredential: string(ours.in.Credential), tagTarget: "prod"},
	} {
		a.users[name] = &fakePrincipal{info: userInfo{Name: name, Path: "/pim/", Tags: tags}, arn: userARNOf(homeAccount, name), inline: map[string]string{}}
	}
	stray := w.ask(t, time.Hour, nil).Credential
	a.users[sessionName(stray)] = &fakePrincipal{
		info: userInfo{Name: sessionName(stray), Path: "/pim/deep/", Tags: map[string]string{tagCredential: string(stray), tagTarget: "prod"}},
		arn:  userARNOf(homeAccount, sessionName(stray)), inline: map[string]string{},
	}
	found := map[domain.CredentialID]contract.Found{}
	if err := p.List(noCancel, func(f contract.Found) error { found[f.Credential] = f; return nil }); err != nil {
		t.Fatal(err)
	}
	if len(found) != 2 || found[ours.in.Credential].Request != ours.in.Request || found[stray].What == "" {
		t.Errorf("found %v", found)
	}
	if _, ok := found[elsewhere.in.Credential]; ok {
		t.Error("the users of another target are not this one's")
	}
	if !mustRevoke(t, p, found[stray].Handle).Done() || a.users[sessionName(stray)] != nil {
		t.Error("the stray's handle does not end it")
	}
}
