package aws

import (
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/vault-pim/vault-plugin-secrets-pim/internal/domain"
	"github.com/vault-pim/vault-plugin-secrets-pim/internal/provider/contract"
)

func federationFields(more ...any) contract.Values {
	v := contract.Values{"credential_type": kindFederation, "policy_document": allowAllPolicy}
	for i := 0; i+1 < len(more); i += 2 {
		name, _ := more[i].(string)
		v[name] = more[i+1]
	}
	return v
}

func TestAFederationTokenCarriesItsId(t *testing.T) {
	t.Parallel()
	w := newFakeAWS()
	g := mustIssue(t, w.open(t, nil), w.ask(t, 30*time.Hour, federationFields()))
	s := w.session(t, g)
	if s.userID != homeAccount+":pim-"+string(g.in.Credential) || s.Expires.Sub(s.issued) != 30*time.Hour {
		t.Errorf("%s for %s", s.userID, s.Expires.Sub(s.issued))
	}
}

func TestAFederationTokenIsDeniedAtItsUser(t *testing.T) {
	t.Parallel()
	w := newFakeAWS()
	p := w.open(t, nil)
	fields := federationFields("revocation", string(domain.Propagating))
	g, other := mustIssue(t, p, w.ask(t, time.Hour, fields)), mustIssue(t, p, w.ask(t, time.Hour, fields))
	ended := mustRevoke(t, w.open(t, nil), g.h)
	if w.ok(g) || !w.ok(other) {
		t.Errorf("revoked works: %v, live works: %v", w.ok(g), w.ok(other))
	}
	if !strings.Contains(w.inline(userHolder, "root", revocationPolicy), keyUserID) {
		t.Error("the user has no deny")
	}
	for !ended.Done() {
		w.clk.advance(ended.Again.Sub(w.clk.Now()))
		ended = mustRevoke(t, p, ended.Rest)
	}
	if w.inline(userHolder, "root", revocationPolicy) != "" {
		t.Error("the deny stays for ever")
	}
}

func TestTheFederatingUserIsOnRecordBeforeTheToken(t *testing.T) {
	t.Parallel()
	w := newFakeAWS()
	p := w.open(t, nil)
	in := w.ask(t, time.Hour, federationFields("revocation", string(domain.Propagating)))
	h, err := p.Plan(noCancel, in)
	if err != nil {
		t.Fatal(err)
	}
	saved := 0
	_, err = p.Issue(noCancel, in, h, func(h domain.Handle) error {
		saved++
		if d, err := p.read(h); err != nil || d.ARN != userARNOf(homeAccount, "root") {
			t.Errorf("the record says %q: %v", d.ARN, err)
		}
		if w.count("GetFederationToken") > 0 {
			t.Error("the token came first")
		}
		return nil
	})
	if err != nil || saved != 1 {
		t.Errorf("%d checkpoints, %v", saved, err)
	}
}

func TestFederationNeedsAUser(t *testing.T) {
	t.Parallel()
	w := newFakeAWS()
	p := w.open(t, func(target *contract.Target) { target.Fields["base_role_arn"] = roleARN(homeAccount, "pim-base") })
	_, err := issue(t, p, w.ask(t, time.Hour, federationFields()))
	wantCode(t, err, "not_a_user")
}

func TestConsoleLinks(t *testing.T) {
	t.Parallel()
	for _, row := range []struct {
		name   string
		fields contract.Values
		window time.Duration
		base   bool
		want   string // how long the console session is asked to last
	}{
		{"a role session lasts as long as the window", role("console", true), 2 * time.Hour, false, "2h0m0s"},
		{"below a quarter of an hour no length is asked for, since AWS makes none", role("console", true), 5 * time.Minute, false, "0s"},
		{"a chained session takes no length", role("console", true), 2 * time.Hour, true, "0s"},
		{"a federation token takes no length", federationFields("console", true), 2 * time.Hour, false, "0s"},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			w := newFakeAWS()
			p := w.open(t, func(target *contract.Target) {
				if row.base {
					target.Fields["base_role_arn"] = roleARN(homeAccount, "pim-base")
				}
			})
			g := mustIssue(t, p, w.ask(t, row.window, row.fields))
			address, _ := g.issued.Data.Reveal()["console_url"].(string)
			link, err := url.Parse(address)
			if err != nil {
				t.Fatal(err)
			}
			q := link.Query()
			if link.Host != "signin.aws.amazon.com" || q.Get("Action") != "login" || !strings.HasSuffix(q.Get("SigninToken"), "-"+row.want) {
				t.Errorf("%s", link)
			}
		})
	}
}

func TestTheOtherPartitionsHaveTheirOwnConsole(t *testing.T) {
	t.Parallel()
	for region, want := range map[string][2]string{
		"us-east-1":     {"https://signin.aws.amazon.com", "https://console.aws.amazon.com/"},
		"us-gov-west-1": {"https://signin.amazonaws-us-gov.com", "https://console.amazonaws-us-gov.com/"},
		"cn-north-1":    {"https://signin.amazonaws.cn", "https://console.amazonaws.cn/"},
	} {
		s := settings{Region: region}
		if s.signinURL() != want[0] || s.consoleHome() != want[1] {
			t.Errorf("%s: %s, %s", region, s.signinURL(), s.consoleHome())
		}
	}
}

func TestAnIssueWhoseConsoleLinkFailsIsEnded(t *testing.T) {
	t.Parallel()
	w := newFakeAWS()
	p := w.open(t, nil)
	w.fail("getSigninToken", "InternalFailure", 1)
	g, err := issue(t, p, w.ask(t, time.Hour, role("console", true)))
	if err == nil {
		t.Fatal("a credential without its link was issued")
	}
	mustRevoke(t, p, g.h)
	w.mu.Lock()
	defer w.mu.Unlock()
	a := w.accounts[homeAccount]
	if w.can(a, a.sessions[0], tryAction, tryResource) {
		t.Error("the session works")
	}
}
