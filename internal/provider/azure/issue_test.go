package azure

import (
	"errors"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/vault-pim/vault-plugin-secrets-pim/internal/domain"
	"github.com/vault-pim/vault-plugin-secrets-pim/internal/provider/azure/fakeazure"
	"github.com/vault-pim/vault-plugin-secrets-pim/internal/provider/contract"
)

func TestASecretIsHandedOutOnlyAfterItWasAcceptedOftenEnough(t *testing.T) {
	t.Parallel()
	k := newKit(t)
	p := k.open(t, k.target(nil))
	in := k.input(t, readerRole())
	h, err := p.Plan(t.Context(), in)
	if err != nil {
		t.Fatal(err)
	}
	save := func(n domain.Handle) error { h = n; return nil }
	polls := 0
	for ; polls < 40; polls++ {
		issued, err := p.Issue(t.Context(), in, h, save)
		if err != nil {
			t.Fatal(err)
		}
		if issued.PollAfter == 0 {
			break
		}
		if issued.Data.Reveal() != nil {
			t.Fatal("an answer that is not ready has data")
		}
		k.clk.Advance(issued.PollAfter)
	}
	if polls < 3 {
		t.Errorf("Entra takes %s to know what is new, and it took %d polls", usualLag, polls)
	}
	good := 0
	for _, s := range k.cloud.Calls(fakeazure.Login) {
		if strings.Contains(string(s.Body), "password-") {
			good++
		}
	}
	if good < goodTries {
		t.Errorf("the secret was tried %d times", good)
	}
	applications := 0
	for _, a := range k.home.Apps {
		if a.Unique != "" {
			applications++
		}
	}
	if applications != 1 {
		t.Errorf("%d applications were made", applications)
	}
}

func TestEveryRefusalHasOneMessageWithTheCloudsCode(t *testing.T) {
	t.Parallel()
	for _, row := range []struct {
		name, match, code, text string
		status                  int
		throttled               bool
	}{
		{"the quota of directory objects", "PATCH graph/v1.0/applications", "Directory_QuotaExceeded", "directory objects", 403, false},
		{"a lacking permission at Graph", "PATCH graph/v1.0/applications", "Authorization_RequestDenied", "lacks a permission", 403, false},
		{"a lacking permission at Azure", "PUT arm", "AuthorizationFailed", "lacks a permission", 403, false},
		{"the limit of role assignments", "PUT arm", "RoleAssignmentLimitExceeded", "4000", 400, false},
		{"a role that is none", "PUT arm", "RoleDefinitionDoesNotExist", "no such role definition", 400, false},
		{"passwords that do not fit", "addPassword", "DirectoryObjectSizeLimitExceeded", "as many passwords", 400, false},
		{"a call too many", "PUT arm", "TooManyRequests", "less often", 429, true},
		{"an outage", "addPassword", "InternalServerError", "could not do it now", 500, false},
		{"a wrong secret of ours", "login", "AADSTS7000215", "wrong or has expired", 401, false},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			k := newKit(t)
			k.cloud.Plan(fakeazure.Rule{Match: row.match, N: 99, Status: row.status, Code: row.code})
			target := k.target(nil)
			if strings.HasPrefix(row.code, "AADSTS") {
				k.cloud.Forget()
				k.home.AppOf(engineClient).Passwords = nil
			}
			_, h, err := k.issue(t, k.open(t, target), k.input(t, contract.Values{"azure_roles": []string{"Reader@" + scopeAll}}))
			failed, ok := errors.AsType[*contract.Error](err)
			if !ok || failed.Code != row.code || !strings.Contains(failed.Public, row.text) || failed.Throttled != row.throttled {
				t.Errorf("got %v", err)
			}
			if strings.Contains(err.Error(), fakeazure.UpstreamWords) || h.Provider != Type {
				t.Errorf("the cloud's own words came through: %v", err)
			}
		})
	}
}

func TestAThrottledCallIsMadeAgainAndAnOutageIsSatOut(t *testing.T) {
	t.Parallel()
	k := newKit(t)
	p := k.open(t, k.target(nil))
	wait := http.Header{"Retry-After": {"2"}}
	for _, r := range []fakeazure.Rule{
		{Match: "PATCH graph", N: 2, Status: 429, Code: "TooManyRequests", Header: wait},
		{Match: "PUT arm", N: 2, Status: 503, Code: "ServerBusy", Header: wait},
		{Match: "addPassword", N: 1, Status: 429, Code: "TooManyRequests"},
	} {
		k.cloud.Plan(r)
	}
	issued, h := k.mustIssue(t, p, readerRole())
	if !k.works(t, issued) {
		t.Error("the credential does not work")
	}
	k.cloud.Plan(fakeazure.Rule{Match: "DELETE", N: 3, Status: 503, Code: "ServerBusy"})
	k.mustEnd(t, p, h)
	if left := k.exists(t, h); len(left) != 0 {
		t.Errorf("something is left: %v", left)
	}
}

func TestNoRoleReachesTheEnginesOwnIdentity(t *testing.T) {
	t.Parallel()
	k := newKit(t)
	p := k.open(t, k.target(nil))
	engine := k.home.AppOf(engineClient)
	inGroup := guid("a group of the engine's")
	k.home.Groups[inGroup] = map[string]time.Time{k.engine.ID: start.Add(-time.Hour)}
	for name, fields := range map[string]contract.Values{
		"a password of the engine's application": {"application_object_id": engine.ID},
		"a group that the engine is in":          {"principal_source": "metadata:oid", "azure_groups": []string{inGroup}},
		"a principal in such a group":            {"azure_groups": []string{inGroup}},
	} {
		report := p.Validate(t.Context(), contract.Spec{Fields: fields}, true)
		if report.OK() {
			t.Errorf("%s was written", name)
		}
		if _, _, err := k.issue(t, p, k.input(t, fields)); !isOwn(err) {
			t.Errorf("%s was issued: %v", name, err)
		}
	}
	in := k.input(t, ownRole())
	in.Principal = k.engine.ID
	if _, _, err := k.issue(t, p, in); !isOwn(err) {
		t.Errorf("the engine's own account was elevated: %v", err)
	}
	_, err := p.ResolvePrincipal(t.Context(), domain.Entity{Metadata: map[string]string{"oid": k.engine.ID}}, normalize(ownRole()))
	if !isOwn(err) {
		t.Errorf("the engine's own account was resolved: %v", err)
	}
}

func isOwn(err error) bool {
	failed, ok := errors.AsType[*contract.Error](err)
	return ok && failed.Code == "own_identity" && failed.Refused
}

func TestThePrincipalIsExactlyOneObjectID(t *testing.T) {
	t.Parallel()
	k := newKit(t)
	p := k.open(t, k.target(nil))
	byAlias := ownRole()
	byAlias["principal_source"] = "alias:oidc_1"
	alias := func(accessor, name string) domain.Alias { return domain.Alias{MountAccessor: accessor, Name: name} }
	for _, row := range []struct {
		name   string
		who    domain.Entity
		fields contract.Values
		want   string
	}{
		{"metadata with an object id", domain.Entity{Metadata: map[string]string{"oid": alice}}, ownRole(), alice},
		{"capitals are the same id", domain.Entity{Metadata: map[string]string{"oid": strings.ToUpper(alice)}}, ownRole(), alice},
		{"one alias of that mount", domain.Entity{Aliases: []domain.Alias{alias("oidc_1", alice), alias("x", bob)}}, byAlias, alice},
		{"two aliases of that mount", domain.Entity{Aliases: []domain.Alias{alias("oidc_1", alice), alias("oidc_1", bob)}}, byAlias, ""},
		{"no alias of that mount", domain.Entity{Aliases: []domain.Alias{alias("x", alice)}}, byAlias, ""},
		{"a name that is no id", domain.Entity{Metadata: map[string]string{"oid": "alice@example.com"}}, ownRole(), ""},
		{"no metadata", domain.Entity{}, ownRole(), ""},
		{"a role without own account", domain.Entity{}, readerRole(), ""},
	} {
		got, err := p.ResolvePrincipal(t.Context(), row.who, normalize(row.fields))
		if got != row.want || (row.want == "" && err == nil && row.name != "a role without own account") {
			t.Errorf("%s: %q, %v", row.name, got, err)
		}
	}
}

func TestAHundredIssuesAndRevokesAtOnceLeaveOnlyWhatIsSomebodyElses(t *testing.T) {
	t.Parallel()
	k := newKit(t)
	k.cloud.Lag = 0
	p := k.open(t, k.target(nil))
	_, keep := k.mustIssue(t, p, readerRole())
	had := len(k.robot.Passwords)
	var wg sync.WaitGroup
	for i := range 100 {
		fields := readerRole()
		if i%2 == 0 {
			fields = contract.Values{"application_object_id": k.robot.ID}
		}
		in := k.input(t, fields)
		wg.Go(func() {
			h, err := p.Plan(t.Context(), in)
			if err != nil {
				t.Error(err)
				return
			}
			_, err = p.Issue(t.Context(), in, h, func(n domain.Handle) error { h = n; return nil })
			if err != nil && !strings.Contains(err.Error(), "as many passwords") {
				t.Error(err)
			}
			if ended, err := p.Revoke(t.Context(), h); err != nil || !ended.AccessGone {
				t.Errorf("revoke: %+v, %v", ended, err)
			}
		})
	}
	wg.Wait()
	if len(k.robot.Passwords) != had || len(k.manager.Assignments) != 1 || len(k.home.Groups[admins]) != 1 {
		t.Errorf("left: %d passwords, %d assignments, %d members", len(k.robot.Passwords), len(k.manager.Assignments), len(k.home.Groups[admins]))
	}
	if len(k.exists(t, keep)) == 0 {
		t.Error("the credential that nobody ended is gone")
	}
}
