package condition

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/vault-pim/vault-plugin-secrets-pim/internal/domain"
)

func TestEveryFactCanBeAskedAbout(t *testing.T) {
	t.Parallel()
	e := engine(t)
	for _, expr := range []string{
		`request.id == "01jz0000000000000000000000"`,
		`request.kind == "normal"`,
		`request.role == "prod-admin" && request.target == "prod"`,
		`request.justification.contains("backup")`,
		`request.ticket.matches("^OPS-[0-9]+$")`,
		`request.ttl == duration("1h")`,
		`!has(request.start)`,
		`request.requested_at < now`,
		`request.age == duration("10m")`,
		`requester.id == "` + aliceID + `"`,
		`requester.person == "entity:` + aliceID + `"`,
		`!requester.machine`,
		`"oncall" in requester.groups && "` + groupID + `" in requester.groups`,
		`requester.metadata.team == "storage"`,
		`requester.metadata["team"] == "storage"`,
		`"alice" in requester.aliases["auth_userpass_1"]`,
		`requester.aliases.exists(mount, mount.startsWith("auth_userpass_"))`,
		`token.meta.ref == "main"`,
		`token.age < duration("15m")`,
		`token.path.startsWith("auth/userpass/login/") && token.mount == "auth_userpass_1" && token.type == "service"`,
		`role.name == "prod-admin" && role.owner == "bob" && role.target == "prod" && role.labels.tier == "1"`,
		`now.getHours("Europe/Berlin") == 14 && now.getHours() == 12 && now.getHours("UTC") == 12`,
		`now.getDayOfWeek("Europe/Berlin") == 3 && now.getDate("UTC") == 15 && now.getDayOfMonth("UTC") == 14`,
		`now.getFullYear("UTC") == 2026 && now.getMonth("UTC") == 6 && now.getDayOfYear("UTC") == 195`,
		`now.getMinutes("Asia/Kathmandu") == 15 && now.getSeconds("UTC") == 0 && now.getMilliseconds("UTC") == 0`,
		`params.env == "prod" && !has(params.database)`,
		`now - history.last_used > duration("24h") && history.count == 3 && history.denials == 0`,
		`history.hours == [8, 12] && now.getHours() in history.hours`,
		`size(history.hours) >= 2`,
	} {
		if met, err := judge(t, e, alice(), expr); err != nil || !met {
			t.Errorf("%s: %v, %v", expr, met, err)
		}
	}
}

func TestWhatCannotBeJudgedIsAnError(t *testing.T) {
	t.Parallel()
	e := engine(t)
	none := func(*Input) {}
	for _, row := range []struct {
		sentence, expr string
		but            func(*Input)
		says           string
	}{
		{"metadata that is not there", `requester.metadata.city == "Berlin"`, none, "a key is not there"},
		{"metadata that is not there, denied", `requester.metadata.city != "Berlin"`, none, "a key is not there"},
		{"a parameter that was not given", `params.database != "billing"`, none, "a key is not there"},
		{"a login at another mount", `"alice" in requester.aliases["auth_oidc_1"]`, none, "a key is not there"},
		{"a start that nobody asked for", `request.start > now`, none, "ask has() first"},
		{"a role never used", `now - history.last_used > duration("1h")`, func(in *Input) { in.History.LastUsed = time.Time{} }, "ask has() first"},
		{"a token that was not looked up", `token.age < duration("15m")`, func(in *Input) { in.Token = nil }, "not looked up"},
		{"has() of a token that was not looked up", `has(token.meta.ref)`, func(in *Input) { in.Token = nil }, "not looked up"},
		{"token metadata that is not there", `token.meta.environment == "production"`, none, "a key is not there"},
		{"history that was not read", `history.count < 10`, func(in *Input) { in.History = nil }, "not looked up"},
		{"a text that is no number", `int(params.env) > 1`, none, "not what it must be"},
		{"a division by zero", `10 / history.denials > 1`, none, "not what it must be"},
		{"a group list longer than its cost", `requester.groups.all(g, g != "a")`, func(in *Input) {
			in.Requester.Groups = slices.Repeat([]string{strings.Repeat("g", 512)}, 20000)
		}, "costs too much"},
	} {
		t.Run(row.sentence, func(t *testing.T) {
			t.Parallel()
			in := alice()
			row.but(&in)
			met, err := e.Compile([]string{row.expr}, site()).Judge(in)(row.expr)
			if met || !errors.Is(err, ErrFailed) || !strings.Contains(err.Error(), row.says) {
				t.Errorf("%v, %v; want an error that says %q", met, err, row.says)
			}
		})
	}
}

func TestHasAndInTurnAMissingKeyIntoAnAnswer(t *testing.T) {
	t.Parallel()
	e := engine(t)
	for expr, want := range map[string]bool{
		`has(requester.metadata.city) && requester.metadata.city == "Berlin"`:     false,
		`"city" in requester.metadata`:                                            false,
		`has(requester.metadata.team)`:                                            true,
		`"team" in requester.metadata && requester.metadata["team"] == "storage"`: true,
		`has(request.start) && request.start > now`:                               false,
		`"auth_oidc_1" in requester.aliases`:                                      false,
		`has(token.meta.ref)`:                                                     true,
		`has(history.last_used)`:                                                  true,
		`has(request.ticket)`:                                                     true,
	} {
		if met, err := judge(t, e, alice(), expr); err != nil || met != want {
			t.Errorf("%s: %v, %v; want %v", expr, met, err, want)
		}
	}
}

// A wrong half must not be hidden by the other one in a way that depends on
// order: CEL's && and || are commutative.
func TestAnErrorIsHiddenOnlyByWhatDecidesAlone(t *testing.T) {
	t.Parallel()
	e := engine(t)
	for _, row := range []struct {
		expr      string
		met, fail bool
	}{
		{`requester.metadata.city == "x" && false`, false, false},
		{`false && requester.metadata.city == "x"`, false, false},
		{`requester.metadata.city == "x" || true`, true, false},
		{`requester.metadata.city == "x" && true`, false, true},
		{`false || requester.metadata.city == "x"`, false, true},
		{`!(requester.metadata.city == "x")`, false, true},
	} {
		met, err := judge(t, e, alice(), row.expr)
		if met != row.met || (err != nil) != row.fail {
			t.Errorf("%s: %v, %v", row.expr, met, err)
		}
	}
}

func TestAnExpressionOfAnotherRoleIsNotJudged(t *testing.T) {
	t.Parallel()
	set := engine(t).Compile([]string{"true", "no such thing"}, site())
	for _, expr := range []string{"1 == 1", "", "no such thing"} {
		if met, err := set.Judge(alice())(expr); met || !errors.Is(err, ErrFailed) {
			t.Errorf("%q: %v, %v", expr, met, err)
		}
	}
	if met, err := set.Judge(alice())("true"); !met || err != nil {
		t.Errorf("true: %v, %v", met, err)
	}
}

func TestFactsAreReadOnlyWhenAskedAbout(t *testing.T) {
	t.Parallel()
	e := engine(t)
	for _, row := range []struct {
		exprs          []string
		token, history bool
	}{
		{[]string{`"oncall" in requester.groups`}, false, false},
		{[]string{"true", `token.meta.ref == "main"`}, true, false},
		{[]string{`has(history.last_used)`}, false, true},
		{[]string{`request.justification == "token history"`}, false, false},
	} {
		set := e.Compile(row.exprs, site())
		if set.UsesToken() != row.token || set.UsesHistory() != row.history {
			t.Errorf("%v: token %v, history %v", row.exprs, set.UsesToken(), set.UsesHistory())
		}
		if of := set.OfToken(row.exprs[len(row.exprs)-1]); of != row.token || set.OfToken("true") {
			t.Errorf("%v: of the token: %v", row.exprs, of)
		}
	}
}

func TestFactsOfRecords(t *testing.T) {
	t.Parallel()
	who := domain.Entity{
		ID: aliceID, Metadata: map[string]string{"team": "storage"},
		Groups: []domain.Group{
			{ID: groupID, Name: "oncall"},
			{ID: "0b5e5d5c-0000-4000-8000-0000000000f2", Name: "0b5e5d5c-0000-4000-8000-0000000000ff"},
		},
		Aliases: []domain.Alias{
			{MountAccessor: "auth_userpass_1", Name: "alice"}, {MountAccessor: "auth_jwt_1", Name: "a"}, {MountAccessor: "auth_jwt_1", Name: "b"},
		},
	}
	got := RequesterOf(who, "person:alice", true)
	if !slices.Equal(got.Groups, []string{groupID, "oncall", "0b5e5d5c-0000-4000-8000-0000000000f2"}) {
		t.Errorf("a group's name stands for another group's id: %v", got.Groups)
	}
	if len(got.Aliases) != 2 || !slices.Equal(got.Aliases["auth_jwt_1"], []string{"a", "b"}) || !got.Machine || got.Person != "person:alice" {
		t.Errorf("requester: %+v", got)
	}
	asked := RequestOf(domain.Request{
		ID: "x", Role: "prod-admin", Target: "prod", Justification: "j", Ticket: "t", TTL: 60, StartTime: noon(),
		Times: domain.Times{Requested: noon()},
	})
	if asked.Kind != domain.KindNormal || asked.TTL != time.Minute || asked.Start != noon() || asked.RequestedAt != noon() || asked.Ticket != "t" {
		t.Errorf("request: %+v", asked)
	}
	used := HistoryOf(domain.Usage{Last: noon(), Count: 3, Denials: 1, Hours: 1<<0 | 1<<12 | 1<<23})
	if used.LastUsed != noon() || used.Count != 3 || used.Denials != 1 || !slices.Equal(used.Hours, []int{0, 12, 23}) {
		t.Errorf("history: %+v", used)
	}
	role := RoleOf(domain.Role{Name: "r", Owner: "bob", Target: "prod", Labels: map[string]string{"a": "b"}})
	if role.Name != "r" || role.Owner != "bob" || role.Target != "prod" || role.Labels["a"] != "b" {
		t.Errorf("role: %+v", role)
	}
}

func TestARequestThatIsBeingFiledHasNoAge(t *testing.T) {
	t.Parallel()
	in := alice()
	in.Request.RequestedAt = time.Time{}
	if met, err := judge(t, engine(t), in, `request.age == duration("0s") && request.requested_at == now`); !met || err != nil {
		t.Error(met, err)
	}
}
