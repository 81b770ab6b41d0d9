package aws

import (
	"strings"
	"testing"
	"time"

	"github.com/vault-pim/vault-plugin-secrets-pim/internal/domain"
	"github.com/vault-pim/vault-plugin-secrets-pim/internal/provider/contract"
	"github.com/vault-pim/vault-plugin-secrets-pim/internal/provider/providertest"
	"github.com/vault-pim/vault-plugin-secrets-pim/internal/secret"
)

const (
	tryAction   = "s3:ListAllMyBuckets"
	tryResource = "*"
	noSessions  = "STS keeps no list of sessions"
)

func TestConformance(t *testing.T) {
	t.Parallel()
	providertest.Run(t, providertest.Suite{Open: openFakeWorld, Cases: conformanceCases()})
}

func conformanceCases() []providertest.Case {
	prod := []string{roleARN(homeAccount, prodRole)}
	return []providertest.Case{
		{Name: "a role session", Unlisted: noSessions, Fields: contract.Values{"role_arns": prod}},
		{
			Name: "a role session with everything", Unlisted: noSessions,
			Fields: contract.Values{
				"role_arns":       []string{roleARN(homeAccount, "prod-reader"), prod[0]},
				"policy_document": allowAllPolicy, "policy_arns": []string{"arn:aws:iam::aws:policy/AdministratorAccess"},
				"session_tags":   map[string]string{"person": "{{person}}", "ticket": "{{ticket}}", "team": "{{params.team}}"},
				"allow_chaining": []string{roleARN(homeAccount, "prod-reader")}, "can_persist": true, "console": true,
			},
			Params: map[string]string{"role_arn": prod[0], "team": "pay*ments"},
		},
		{
			Name: "a role session that ends by itself alone", Unlisted: noSessions,
			Fields: contract.Values{"role_arns": prod, "revocation": string(domain.ExpiryOnly)},
		},
		{
			Name:   "a user",
			Fields: contract.Values{"user_path": "/pim/prod/", "policy_document": allowAllPolicy, "iam_groups": []string{"admins"}},
		},
		{
			Name: "a federation token", Unlisted: noSessions,
			Fields: contract.Values{"credential_type": kindFederation, "policy_document": allowAllPolicy, "console": true},
		},
		{
			Name: "a federation token that can be denied", Unlisted: noSessions,
			Fields: contract.Values{
				"credential_type": kindFederation, "policy_document": allowAllPolicy, "revocation": string(domain.Propagating),
			},
		},
		{
			Name: "an assignment", Unlisted: "Identity Center has no tags on assignments",
			Principal: aliceID, OtherPrincipal: bobID,
			Fields: contract.Values{"permission_set_arn": fakeSet, "account_id": memberOfOrg, "principal_source": "metadata:aws_user"},
		},
		{
			Name: "an assignment whose open sessions are denied", Unlisted: "Identity Center has no tags on assignments",
			Principal: aliceID, OtherPrincipal: bobID,
			Fields: contract.Values{
				"permission_set_arn": fakeSet, "account_id": memberOfOrg, "principal_source": "alias:auth_oidc_1", "scp_deny": fakeRail,
			},
		},
	}
}

func openFakeWorld(t *testing.T) *providertest.World {
	t.Helper()
	w := newFakeAWS()
	return &providertest.World{
		Descriptor: descriptor(w.dial, usualPace()), Env: contract.Env{Clock: w.clk, AllowAmbient: []string{Type}},
		Target: fakeTarget(rootKey), Elsewhere: fakeTarget(otherKey),
		Exists: w.exists, Works: w.works, Advance: w.clk.advance,
		Watch: func(see func(after bool)) func() {
			w.mu.Lock()
			defer w.mu.Unlock()
			w.watch = see
			return func() {
				w.mu.Lock()
				defer w.mu.Unlock()
				w.watch = nil
			}
		},
		Break: func() func() {
			w.mu.Lock()
			defer w.mu.Unlock()
			w.broken = true
			return func() {
				w.mu.Lock()
				defer w.mu.Unlock()
				w.broken = false
			}
		},
		Markers: []string{rootSecret, upstreamWords},
		Public: []string{
			"access_key", "arn", "expiration", "username", "principal", "account_id", "permission_set", "permission_set_arn",
		},
	}
}

func fakeTarget(key string) contract.Target {
	return contract.Target{
		Name: "prod", Fields: contract.Values{"identity_center_arn": fakeInstance},
		Secrets: map[string]secret.String{"access_key": secret.New(key), "secret_key": secret.New(rootSecret)},
	}
}

// exists lists everything in the home account that is of a credential, the
// denies that name it included.
func (w *fakeAWS) exists(_ testing.TB, h domain.Handle) []providertest.Object {
	w.mu.Lock()
	defer w.mu.Unlock()
	a := w.accounts[h.Place]
	if a == nil {
		return nil
	}
	name := sessionName(h.Credential)
	var out []providertest.Object
	usable := map[string]bool{}
	for _, s := range a.sessions {
		if (s.sourceIdentity == name || s.userID == a.id+":"+name) && w.alive(s) {
			usable["session "+name] = usable["session "+name] || w.can(a, s, tryAction, tryResource)
		}
	}
	if u := a.users[name]; u != nil {
		works := false
		for _, k := range u.keys {
			works = works || (k.probes == 0 && w.canKey(a, u, tryAction, tryResource))
		}
		usable["user "+name] = works
	}
	for what, now := range usable {
		out = append(out, providertest.Object{What: what, Usable: now})
	}
	return append(append(out, w.denies(a, name)...), w.assignments(h)...)
}

// alive tells whether a session has not ended by itself: by what STS gave it, or
// by its own policy.
func (w *fakeAWS) alive(s *fakeSession) bool {
	now := w.clk.Now()
	keys := map[string]string{"aws:currenttime": policyTime(now)}
	return now.Before(s.Expires) && judge(tryAction, tryResource, keys, []string{s.policy, allowAllPolicy})
}

// denies finds the revocation policies that name a session.
func (w *fakeAWS) denies(a *fakeAccount, name string) []providertest.Object {
	var out []providertest.Object
	for _, list := range []map[string]*fakePrincipal{a.roles, a.users} {
		for who, p := range list {
			for _, text := range policiesOf(a, p) {
				if strings.Contains(text, name+`"`) && strings.Contains(text, `"Until`) {
					out = append(out, providertest.Object{What: "deny at " + who})
				}
			}
		}
	}
	return out
}

func (w *fakeAWS) assignments(h domain.Handle) []providertest.Object {
	var out []providertest.Object
	for a := range w.center.assigned {
		if h.Shared != "" && strings.HasSuffix(h.Shared, "/"+a.Account+"/"+a.User) {
			out = append(out, providertest.Object{What: "assignment for " + a.User, Usable: true})
		}
	}
	return out
}

// works tries an issued credential.
func (w *fakeAWS) works(_ testing.TB, issued contract.Issued) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	data := issued.Data.Reveal()
	if user, ok := data["principal"].(string); ok {
		for a := range w.center.assigned {
			if a.User == user {
				return true
			}
		}
		return false
	}
	for _, a := range w.accounts {
		for _, s := range a.sessions {
			if s.AccessKey == data["access_key"] {
				return w.can(a, s, tryAction, tryResource)
			}
		}
		for _, u := range a.users {
			for _, k := range u.keys {
				if k.pair.ID == data["access_key"] {
					return k.probes == 0 && w.canKey(a, u, tryAction, tryResource)
				}
			}
		}
	}
	return false
}

func TestTheFakeClockNeverGoesBack(t *testing.T) {
	t.Parallel()
	c := &hurryClock{now: time.Unix(0, 0)}
	c.advance(-time.Hour)
	<-c.After(time.Second)
	if c.Now() != time.Unix(1, 0) {
		t.Fatalf("the clock shows %s", c.Now())
	}
}
