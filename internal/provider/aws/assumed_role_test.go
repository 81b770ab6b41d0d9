package aws

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/vault-pim/vault-plugin-secrets-pim/internal/domain"
	"github.com/vault-pim/vault-plugin-secrets-pim/internal/provider/contract"
)

func TestARoleSessionCarriesItsIds(t *testing.T) {
	t.Parallel()
	w := newFakeAWS()
	p := w.open(t, nil)
	in := w.ask(t, time.Hour, role("session_tags", map[string]string{"who": "{{person}}", "team": "{{metadata.team}}"}))
	in.Metadata = map[string]string{"team": "payments"}
	g := mustIssue(t, p, in)
	s := w.session(t, g)
	if want := "pim-" + string(in.Credential); s.sourceIdentity != want {
		t.Errorf("source identity %q, want %q", s.sourceIdentity, want)
	}
	if want := "pim-" + string(in.Credential) + "-" + string(in.Request); !strings.HasSuffix(s.ARN, "/"+want) || len(want) > 64 {
		t.Errorf("session %q, want it named %q", s.ARN, want)
	}
	if s.tags["who"] != "alice" || s.tags["team"] != "payments" {
		t.Errorf("tags %v", s.tags)
	}
}

func TestTheAnswerOfARoleSession(t *testing.T) {
	t.Parallel()
	w := newFakeAWS()
	g := mustIssue(t, w.open(t, nil), w.ask(t, 5*time.Minute, role("console", true)))
	data := g.issued.Data.Reveal()
	for _, name := range []string{"access_key", "secret_key", "session_token", "arn", "expiration", "console_url"} {
		if s, _ := data[name].(string); s == "" {
			t.Errorf("no %s", name)
		}
	}
	if data["expiration"] != g.in.NotAfter.Format(time.RFC3339) || !g.issued.NotAfter.Equal(g.in.NotAfter) {
		t.Errorf("ends %v and %s, the window at %s", data["expiration"], g.issued.NotAfter, g.in.NotAfter)
	}
	var process map[string]any
	if err := json.Unmarshal([]byte(g.issued.Composite[compositeProcess].Reveal()), &process); err != nil {
		t.Fatal(err)
	}
	want := map[string]any{
		"Version": 1.0, "AccessKeyId": data["access_key"], "SecretAccessKey": data["secret_key"],
		"SessionToken": data["session_token"], "Expiration": data["expiration"],
	}
	for k, v := range want {
		if process[k] != v {
			t.Errorf("credential_process has %s=%v", k, process[k])
		}
	}
	if strings.Contains(g.issued.Composite[compositeProcess].Reveal(), "\n") {
		t.Error("the composite has more than one line")
	}
}

func TestHowLongASessionIsAskedToLive(t *testing.T) {
	t.Parallel()
	for _, row := range []struct {
		name       string
		window     time.Duration
		roleAllows time.Duration
		base       bool
		want       time.Duration
	}{
		{"a short window gets the shortest session there is", time.Minute, 12 * time.Hour, false, 15 * time.Minute},
		{"a window gets a session of its length", 40 * time.Minute, 12 * time.Hour, false, 40 * time.Minute},
		{"a long window stops at what the role allows", 8 * time.Hour, 2 * time.Hour, false, 2 * time.Hour},
		{"a session through a base role lasts an hour at most", 8 * time.Hour, 12 * time.Hour, true, time.Hour},
		{"no session is longer than twelve hours", 20 * time.Hour, 12 * time.Hour, false, 12 * time.Hour},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			w := newFakeAWS()
			w.accounts[homeAccount].maxSession = row.roleAllows
			p := w.open(t, func(target *contract.Target) {
				if row.base {
					target.Fields["base_role_arn"] = roleARN(homeAccount, "pim-base")
				}
			})
			g := mustIssue(t, p, w.ask(t, row.window, role()))
			s := w.session(t, g)
			if got := s.Expires.Sub(s.issued); got != row.want {
				t.Errorf("%s, want %s", got, row.want)
			}
			if end := g.issued.NotAfter; end.After(g.in.NotAfter) || end.After(s.Expires) {
				t.Errorf("answered to end at %s: window %s, session %s", end, g.in.NotAfter, s.Expires)
			}
		})
	}
}

func TestAShortWindowEndsByItselfBeforeTheSession(t *testing.T) {
	t.Parallel()
	w := newFakeAWS()
	p := w.open(t, nil)
	g := mustIssue(t, p, w.ask(t, 2*time.Minute, role()))
	w.clk.advance(2*time.Minute - time.Second)
	if !w.ok(g) {
		t.Fatal("it does not work inside its window")
	}
	w.clk.advance(time.Second)
	if w.ok(g) {
		t.Fatal("it works after its window")
	}
	calls := len(w.calls)
	if ended := mustRevoke(t, p, g.h); !ended.Done() || len(w.calls) != calls {
		t.Errorf("after its own end nothing has to be done: %+v, %d calls", ended, len(w.calls)-calls)
	}
}

func TestRolesThatAreRefusedWhenTheyAreIssued(t *testing.T) {
	t.Parallel()
	for _, row := range []struct {
		name   string
		target func(*contract.Target)
		fields contract.Values
		params map[string]string
		spoil  func(*fakeAWS)
		code   string
	}{
		{
			name: "the base role", code: "own_identity",
			target: func(t *contract.Target) { t.Fields["base_role_arn"] = roleARN(homeAccount, "pim-base") },
			fields: contract.Values{"role_arns": []string{roleARN(homeAccount, "pim-base")}},
		},
		{
			name: "the revoker role", code: "own_identity",
			target: func(t *contract.Target) { t.Fields["revoker_role_arn"] = roleARN(homeAccount, "pim-revoker") },
			fields: contract.Values{"role_arns": []string{roleARN(homeAccount, "pim-revoker")}},
		},
		{
			name: "a role that is not in the list", code: "role_not_allowed",
			fields: role("role_arns", []string{roleARN(homeAccount, prodRole), roleARN(homeAccount, "prod-reader")}),
			params: map[string]string{"role_arn": roleARN(homeAccount, "pim-base")},
		},
		{
			name: "none of several", code: "role_not_allowed",
			fields: role("role_arns", []string{roleARN(homeAccount, prodRole), roleARN(homeAccount, "prod-reader")}),
		},
		{name: "a role that does not exist", code: "no_such_role", fields: contract.Values{"role_arns": []string{roleARN(homeAccount, "gone")}}},
		{
			name: "a role whose policies may not be read", code: "AccessDenied", fields: role(),
			spoil: func(w *fakeAWS) { w.fail("ListAttached", "AccessDenied", 1) },
		},
		{
			name: "a role that AWS keeps to itself", code: "UnmodifiableEntity", fields: role(),
			spoil: func(w *fakeAWS) { w.fail("GetInline", "UnmodifiableEntity", 1) },
		},
		{
			name: "a role whose other policies leave no room for denies", code: "revocations_full", fields: role(),
			spoil: func(w *fakeAWS) {
				w.setInline(prodRole, "other", policyOfSize(fatal{}, 9600))
				for range attachedQuota {
					r := w.accounts[homeAccount].roles[prodRole]
					r.attached = append(r.attached, "arn:aws:iam::aws:policy/ReadOnlyAccess")
				}
			},
		},
		{
			name: "a tag that becomes too long", code: "tag_size",
			fields: role("session_tags", map[string]string{"why": "{{params.why}}"}), params: map[string]string{"why": strings.Repeat("y", 300)},
		},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			w := newFakeAWS()
			if row.spoil != nil {
				row.spoil(w)
			}
			in := w.ask(t, time.Hour, row.fields)
			in.Params = row.params
			_, err := issue(t, w.open(t, row.target), in)
			wantCode(t, err, row.code)
			if n := w.count("AssumeRole"); n != 0 {
				t.Errorf("AWS was asked for a session %d times", n)
			}
		})
	}
}

// fatal panics where a test has no *testing.T at hand.
type fatal struct{}

func (fatal) Helper()                           {}
func (fatal) Fatalf(format string, args ...any) { panic(format) }

func TestAnIssueThatAWSRefusedLeavesNoDeny(t *testing.T) {
	t.Parallel()
	for _, code := range []string{"AccessDenied", "Throttling", "MalformedPolicyDocument", "PackedPolicyTooLarge", "RegionDisabledException"} {
		t.Run(code, func(t *testing.T) {
			t.Parallel()
			w := newFakeAWS()
			p := w.open(t, nil)
			w.fail("AssumeRole", code, 1)
			g, err := issue(t, p, w.ask(t, time.Hour, role()))
			wantCode(t, err, code)
			if ended := mustRevoke(t, p, g.h); !ended.Done() {
				t.Errorf("something is left: %+v", ended)
			}
			if w.count("PutInline") != 0 {
				t.Error("a deny was written for a session that never was")
			}
		})
	}
}

func TestAnIssueWhoseAnswerWasLostIsDenied(t *testing.T) {
	t.Parallel()
	w := newFakeAWS()
	p := w.open(t, nil)
	w.faults = append(w.faults, &fakeFault{op: "AssumeRole", err: awsError("ServiceUnavailable"), after: true, times: 1})
	g, err := issue(t, p, w.ask(t, time.Hour, role()))
	wantCode(t, err, "ServiceUnavailable")
	mustRevoke(t, w.open(t, nil), g.h)
	w.mu.Lock()
	defer w.mu.Unlock()
	a := w.accounts[homeAccount]
	if len(a.sessions) != 1 || w.can(a, a.sessions[0], tryAction, tryResource) {
		t.Errorf("%d sessions, and the lost one works", len(a.sessions))
	}
}

func TestChaining(t *testing.T) {
	t.Parallel()
	reader := roleARN(homeAccount, "prod-reader")
	w := newFakeAWS()
	p := w.open(t, nil)
	g := mustIssue(t, p, w.ask(t, 30*time.Minute, role("allow_chaining", []string{reader})))
	// The holder goes on to the listed role; the source identity stays.
	w.mu.Lock()
	a := w.accounts[homeAccount]
	chained, err := w.newSession(a, "", nil, nil, time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	chained.name, chained.kind, chained.sourceIdentity, chained.policy = "prod-reader", roleHolder, "pim-"+string(g.in.Credential), allowAllPolicy
	w.mu.Unlock()
	works := func() bool {
		w.mu.Lock()
		defer w.mu.Unlock()
		return w.can(a, chained, tryAction, tryResource)
	}
	// The window ends: the chained session is not bound by it, so the end has
	// to be written at the role that it went on to.
	w.clk.advance(30 * time.Minute)
	if !works() {
		t.Fatal("the chained session ended by itself")
	}
	ended := mustRevoke(t, p, g.h)
	if works() {
		t.Error("the chained session works after the revocation")
	}
	if ended.Done() {
		t.Error("the deny at the chained role is never taken out")
	}
	w.clk.advance(2 * time.Hour)
	if !mustRevoke(t, p, g.h).Done() {
		t.Error("when the longest chained session has ended nothing has to be denied")
	}
}

func TestARoleThatWasDeletedHasNoSessions(t *testing.T) {
	t.Parallel()
	w := newFakeAWS()
	p := w.open(t, nil)
	g := mustIssue(t, p, w.ask(t, time.Hour, role()))
	w.mu.Lock()
	delete(w.accounts[homeAccount].roles, prodRole)
	w.mu.Unlock()
	ended := mustRevoke(t, p, g.h)
	if !ended.AccessGone || ended.Done() {
		t.Fatalf("it may be lag, so it is looked at again: %+v", ended)
	}
	for range 4 {
		if ended.Done() {
			return
		}
		w.clk.advance(ended.Again.Sub(w.clk.Now()))
		ended = mustRevoke(t, p, ended.Rest)
	}
	t.Error("it never ends")
}

func TestADenyIsKeptUntilTheSessionHasEnded(t *testing.T) {
	t.Parallel()
	w := newFakeAWS()
	p := w.open(t, nil)
	g := mustIssue(t, p, w.ask(t, 5*time.Hour, role()))
	ended := mustRevoke(t, p, g.h)
	for !ended.Done() {
		w.clk.advance(ended.Again.Sub(w.clk.Now()))
		if w.ok(g) {
			t.Fatal("it works again")
		}
		ended = mustRevoke(t, p, ended.Rest)
	}
	if w.ok(g) || w.inline(roleHolder, prodRole, revocationPolicy) != "" {
		t.Error("the deny is still there, or the session works")
	}
	if kept := w.clk.Now().Sub(g.in.NotAfter); kept < time.Hour || kept > 4*time.Hour {
		t.Errorf("the deny was kept %s beyond the session", kept)
	}
}

func TestHandlesOfOneInputAndOfOthers(t *testing.T) {
	t.Parallel()
	w := newFakeAWS()
	p := w.open(t, nil)
	in := w.ask(t, time.Hour, role())
	h, err := p.Plan(noCancel, in)
	if err != nil {
		t.Fatal(err)
	}
	longer := in
	longer.NotAfter = in.NotAfter.Add(time.Hour)
	other := in
	other.Fields = role("role_arns", []string{roleARN(homeAccount, "prod-reader")})
	for name, changed := range map[string]contract.Input{"a later end": longer, "another role": other} {
		_, err := p.Issue(noCancel, changed, h, func(domain.Handle) error { return nil })
		if codeOf(err) != "bad_handle" {
			t.Errorf("%s than planned was issued: %v", name, err)
		}
	}
	w.clk.advance(time.Hour)
	_, err = p.Issue(noCancel, in, h, func(domain.Handle) error { return nil })
	wantCode(t, err, "window_over")
}

func TestParametersAreRefusedWhenTheyAreAsked(t *testing.T) {
	t.Parallel()
	p := newFakeAWS().open(t, nil)
	two := role("role_arns", []string{roleARN(homeAccount, prodRole), roleARN(homeAccount, "prod-reader")})
	tagged := userFields("iam_tags", map[string]string{"why": "{{params.why}}"})
	for _, row := range []struct {
		name   string
		fields contract.Values
		params map[string]string
		code   string
	}{
		{"one of the roles", two, map[string]string{"role_arn": roleARN(homeAccount, "prod-reader")}, ""},
		{"another role", two, map[string]string{"role_arn": roleARN(homeAccount, "pim-base")}, "role_not_allowed"},
		{"no role where there are several", two, nil, "role_not_allowed"},
		{"nothing where there is one role", role(), nil, ""},
		{"a value that makes a tag", tagged, map[string]string{"why": "audit"}, ""},
		{"a value that makes a tag too long", tagged, map[string]string{"why": strings.Repeat("*", 100)}, "tag_size"},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			if err := p.CheckParams(noCancel, row.fields, row.params); codeOf(err) != row.code || (err == nil) != (row.code == "") {
				t.Errorf("%v", err)
			}
		})
	}
}
