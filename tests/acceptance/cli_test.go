package acceptance

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/vault-pim/vault-plugin-secrets-pim/tests/harness"
	"github.com/vault-pim/vault-plugin-secrets-pim/tests/harness/poll"
)

// line is one state with what it prints: vault read pim/creds/<role> as alice when a row has no command of its own.
type line struct {
	name    string
	role    map[string]any                             // on top of the office's defaults
	arrange func(t *testing.T, o *office, role string) // brings the state about
	as      func(o *office) *harness.Person            // nil = alice
	args    func(o *office, role string) []string      // nil = read creds
	want    string
}

// asked arranges a request, and then what is to become of it.
func asked(then func(t *testing.T, o *office, role, id string)) func(*testing.T, *office, string) {
	return func(t *testing.T, o *office, role string) {
		t.Helper()
		id := o.ask(t, role, nil)
		if then != nil {
			then(t, o, role, id)
		}
	}
}

func approved(then func(t *testing.T, o *office, role, id string)) func(*testing.T, *office, string) {
	return asked(func(t *testing.T, o *office, role, id string) {
		t.Helper()
		o.decide(t, o.bob, id, "approve").OK(t)
		then(t, o, role, id)
	})
}

func newLines() []line {
	const run = ` run: vault write pim/request/ROLE justification="why"`
	return []line{
		{
			name: "nobody asked", want: "400 * no active grant:" + run,
		},
		{
			name: "waiting", arrange: asked(nil),
			want: "400 * approval pending: request ID has 0 of 1 approvals, waiting for group leads until TIME; see: vault read pim/requests/ID",
		},
		{
			name: "half-approved", role: map[string]any{"approvals": 2},
			arrange: approved(func(*testing.T, *office, string, string) {}),
			want:    "400 * approval pending: request ID has 1 of 2 approvals, waiting for group leads until TIME; see: vault read pim/requests/ID",
		},
		{
			name: "scheduled", arrange: func(t *testing.T, o *office, role string) {
				t.Helper()
				id := o.ask(t, role, map[string]any{"start_time": soon()})
				o.decide(t, o.bob, id, "approve").OK(t)
			},
			want: "400 * no active grant: request ID is approved and starts at TIME",
		},
		{
			name: "denied", arrange: asked(func(t *testing.T, o *office, _, id string) {
				t.Helper()
				o.decide(t, o.bob, id, "deny").OK(t)
			}),
			want: `403 * access denied: request ID was denied; ask again: vault write pim/request/ROLE justification="why"`,
		},
		{
			name: "cancelled", arrange: asked(func(t *testing.T, o *office, _, id string) {
				t.Helper()
				o.alice.Delete(t, o.path("requests/"+id)).OK(t)
			}),
			want: "400 * no active grant: request ID was cancelled;" + run,
		},
		{
			name: "expired", role: map[string]any{"request_ttl": 1},
			arrange: asked(func(t *testing.T, o *office, _, id string) { t.Helper(); o.becomes(t, id, "expired") }),
			want:    "400 * no active grant: request ID expired undecided or unused;" + run,
		},
		{
			name: "void", arrange: asked(func(t *testing.T, o *office, role, id string) {
				t.Helper()
				o.role(t, role, map[string]any{"max_ttl": "2h"})
				o.becomes(t, id, "void")
			}),
			want: "400 * no active grant: request ID is void, since role, target or person changed;" + run,
		},
		{
			name: "revoked", arrange: approved(func(t *testing.T, o *office, _, id string) {
				t.Helper()
				o.bob.Write(t, o.path("grants/"+id+"/revoke"), map[string]any{"reason": "done"}).OK(t)
			}),
			want: `403 * access denied: request ID was revoked; ask again: vault write pim/request/ROLE justification="why"`,
		},
		{
			name: "given back", arrange: approved(func(t *testing.T, o *office, _, id string) {
				t.Helper()
				o.alice.Delete(t, o.path("requests/"+id)).OK(t)
			}),
			want: "400 * no active grant: the access of request ID has ended;" + run,
		},
		{
			name: "window ending", role: map[string]any{"ttl": "60s", "min_ttl": "60s"},
			arrange: approved(func(*testing.T, *office, string, string) {}),
			want:    "400 * no active grant: the access window of request ID is ending;" + run,
		},
		{
			name: "two grants that differ", role: map[string]any{
				"max_active": 2, "params": map[string]any{"env": map[string]any{"allowed": []string{"stage", "prod"}}},
			},
			arrange: func(t *testing.T, o *office, role string) {
				t.Helper()
				for _, env := range []string{"stage", "prod"} {
					o.granted(t, role, map[string]any{"params": map[string]any{"env": env}})
				}
			},
			want: "400 * you have several active grants for this role with different parameters: pass request_id; list them: vault list pim/grants/mine",
		},
		{
			name: "held", arrange: approved(func(t *testing.T, o *office, role, _ string) {
				t.Helper()
				host.Root().Write(t, o.path("holds"), map[string]any{"role": role, "reason": "incident"}).OK(t)
			}),
			want: "403 * access denied: a hold is in force for this role; a security officer can lift it",
		},
		{
			name: "role edited under a grant", arrange: approved(func(t *testing.T, o *office, role, _ string) {
				t.Helper()
				o.role(t, role, map[string]any{"max_ttl": "2h", "live": "keep"})
			}),
			want: "400 * no active grant: the role or its target changed since request ID was filed;" + run,
		},
		{
			name: "not eligible", as: dave,
			want: "403 * access denied: no such role, or you are not eligible; see what you can request: vault list pim/eligible",
		},
		{
			name: "no such role", args: func(o *office, _ string) []string { return []string{"read", o.path("creds/nosuch")} },
			want: "403 * access denied: no such role, or you are not eligible; see what you can request: vault list pim/eligible",
		},
		{
			name: "a name that cannot be", args: func(o *office, _ string) []string { return []string{"read", o.path("creds/No.Such")} },
			want: "400 * invalid input: role: must be 1 to 63 lower-case letters, digits and inner hyphens",
		},
		{
			name: "no justification", args: writes("request/ROLE", "ticket=7"),
			want: "400 * invalid input: justification: is required by the role",
		},
		{
			name: "everything wrong at once", args: writes("request/ROLE", "ttl=0", "start_time=yesterday", "colour=red"),
			want: "400 * invalid input: colour: unknown field; ttl: must be between 1 and 31622400; start_time: must be a time like TIME",
		},
		{
			name: "a second request", arrange: asked(nil), args: writes("request/ROLE", "justification=more", "ttl=2h"),
			want: "400 * limit reached: the role allows 1 open request(s) for each person; yours is ID: cancel it first: vault delete pim/requests/ID",
		},
	}
}

func dave(o *office) *harness.Person { return o.dave }

// writes is vault write; ROLE stands for the row's role.
func writes(path string, fields ...string) func(*office, string) []string {
	return func(o *office, role string) []string {
		return append([]string{"write", o.path(strings.ReplaceAll(path, "ROLE", role))}, fields...)
	}
}

// becomes waits until the requester sees a state.
func (o *office) becomes(t *testing.T, id, state string) {
	t.Helper()
	poll.Until(t, 10*time.Second, func() error {
		if now := o.state(t, id); now != state {
			return fmt.Errorf("the request is %s, not %s", now, state)
		}
		return nil
	})
}

// What a person sees when there is no credential yet: one line that is enough.
func TestLineOfEveryState(t *testing.T) {
	t.Parallel()
	o := newOffice(t)
	for i, row := range newLines() {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			role := fmt.Sprintf("role-%d", i)
			o.role(t, role, row.role)
			if row.arrange != nil {
				row.arrange(t, o, role)
			}
			who, args := o.alice, []string{"read", o.path("creds/" + role)}
			if row.as != nil {
				who = row.as(o)
			}
			if row.args != nil {
				args = row.args(o, role)
			}
			got := strings.ReplaceAll(refusal(t, o, who.CLI(t, args...)), role, "ROLE")
			if got != row.want {
				t.Errorf("vault %s\nprints %s\nwant   %s", strings.Join(args, " "), got, row.want)
			}
		})
	}
}

// The operator without an identity configures; that is all.
func TestRootIsNobody(t *testing.T) {
	t.Parallel()
	o := newOffice(t)
	o.role(t, "any", nil)
	for _, args := range [][]string{
		{"read", o.path("creds/any")},
		{"write", o.path("request/any"), "justification=because"},
		{"list", o.path("approvals/")},
	} {
		got := refusal(t, o, host.Root().CLI(t, args...))
		if want := "403 * access denied: log in again: this token belongs to no entity"; got != want {
			t.Errorf("vault %s\nprints %s\nwant   %s", strings.Join(args, " "), got, want)
		}
	}
}

// The command in the refusal, pasted as it stands, is one that works.
func TestCommandOfRefusalWorks(t *testing.T) {
	t.Parallel()
	o := newOffice(t)
	free := func(more map[string]any) map[string]any {
		if more == nil {
			more = map[string]any{}
		}
		more["require_justification"] = false
		return more
	}
	for i, row := range []struct {
		name string
		role map[string]any
		want string
	}{
		{"a justification", nil, `vault write pim/request/ROLE justification="why"`},
		{"a ticket too", map[string]any{"require_ticket": true}, `vault write pim/request/ROLE justification="why" ticket="number"`},
		{"a ticket alone", free(map[string]any{"require_ticket": true}), `vault write pim/request/ROLE ticket="number"`},
		{"nothing", free(nil), `vault write -f pim/request/ROLE`},
		{
			"parameters, one of them free, one of a list, one with a default, one optional",
			free(map[string]any{"params": map[string]any{
				"change":  map[string]any{"pattern": ".+", "required": true},
				"env":     map[string]any{"allowed": []string{"stage", "prod"}, "required": true},
				"region":  map[string]any{"pattern": ".+", "required": true, "default": "eu"},
				"comment": map[string]any{"pattern": ".+"},
			}}),
			`vault write pim/request/ROLE params=change="value" params=env="stage"`,
		},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			role := fmt.Sprintf("role-%d", i)
			o.role(t, role, row.role)
			refused := o.alice.Read(t, o.path("creds/"+role)).Refused(t, badRequest, "no active grant: run: ")
			_, command, _ := strings.Cut(refused.Errors[0], "run: ")
			if got := strings.ReplaceAll(o.same(command), role, "ROLE"); got != row.want {
				t.Errorf("the refusal says %s\nwant             %s", got, row.want)
			}
			if shown := o.alice.Read(t, o.path("eligible/"+role)).OK(t).String(t, "command"); shown != command {
				t.Errorf("eligible/%s says %s", role, shown)
			}
			printed := paste(t, o.alice, command)
			if state := field(t, printed, "state"); state != "pending" {
				t.Errorf("the command makes a request that is %s", state)
			}
		})
	}
}

// A line that people paste runs nothing that somebody wrote into a role.
func TestCommandOfRefusalIsSafeToPaste(t *testing.T) {
	t.Parallel()
	o := newOffice(t)
	for i, evil := range []string{"$(touch x)", "`touch x`", `a" ; touch x ; "`, "two words", "-force", "!!"} {
		role := fmt.Sprintf("role-%d", i)
		o.role(t, role, map[string]any{"params": map[string]any{"site": map[string]any{"allowed": []string{evil}, "required": true}}})
		refused := o.alice.Read(t, o.path("creds/"+role)).Refused(t, badRequest, "no active grant: run: ")
		if !strings.HasSuffix(refused.Errors[0], ` params=site="value"`) {
			t.Errorf("%s: the refusal says %s", evil, refused.Errors[0])
		}
	}
}

// Nobody has to know a path: each answer has the command that comes next.
func TestStoryByPastingAlone(t *testing.T) {
	t.Parallel()
	o := newOffice(t)
	o.role(t, "prod-db", nil)
	read := o.alice.CLI(t, "read", o.path("creds/prod-db"))
	_, command, _ := strings.Cut(strings.TrimSpace(read.Stderr), "run: ")
	asked := paste(t, o.alice, command)
	id := field(t, asked, "request_id")
	if listed := o.bob.CLI(t, "list", o.path("approvals")); !strings.Contains(listed.Stdout, id) {
		t.Fatalf("bob's inbox: %s%s", listed.Stdout, listed.Stderr)
	}
	waiting := make(chan harness.Printed, 1)
	go func() { waiting <- paste(t, o.alice, field(t, asked, "next")) }()
	inbox := o.bob.CLI(t, "read", o.path("approvals/"+id))
	if state := field(t, paste(t, o.bob, field(t, inbox, "next")), "state"); state != "active" {
		t.Fatalf("after bob's approval the request is %s", state)
	}
	granted := <-waiting
	if state := field(t, granted, "state"); state != "active" {
		t.Fatalf("alice waited for %s", state)
	}
	creds := paste(t, o.alice, field(t, granted, "next"))
	if token := field(t, creds, "token"); o.alice.With("credential", token).Read(t, "auth/token/lookup-self").Status != forbidden {
		t.Error("the token has policies besides those of the role")
	}
}

func TestCommandLine(t *testing.T) {
	t.Parallel()
	o := newOffice(t)
	o.role(t, "prod-db", nil)
	id := o.granted(t, "prod-db", nil)

	t.Run("an empty list is no error of ours", func(t *testing.T) {
		t.Parallel()
		p := o.dave.CLI(t, "list", o.path("approvals"))
		if p.Code != 2 || o.same(strings.TrimSpace(p.Stderr)) != "No value found at pim/approvals" {
			t.Errorf("%d %s%s", p.Code, p.Stdout, p.Stderr)
		}
	})
	t.Run("a list as a table, and as JSON", func(t *testing.T) {
		p := o.alice.CLI(t, "list", o.path("requests/mine"))
		if want := "Keys\n----\n" + id + "\n"; p.Code != 0 || p.Stdout != want {
			t.Errorf("%d %s%s", p.Code, p.Stdout, p.Stderr)
		}
		p = o.alice.CLI(t, "list", "-format=json", o.path("requests/mine"))
		var keys []string
		if err := json.Unmarshal([]byte(p.Stdout), &keys); err != nil || len(keys) != 1 || keys[0] != id {
			t.Errorf("%d %s%s %v", p.Code, p.Stdout, p.Stderr, err)
		}
	})
	t.Run("a list with details", func(t *testing.T) {
		t.Parallel()
		p := o.alice.CLI(t, "list", "-detailed", o.path("grants/mine"))
		if p.Code != 0 || !strings.Contains(p.Stdout, "prod-db") || !strings.Contains(p.Stdout, "active") {
			t.Errorf("%d %s%s", p.Code, p.Stdout, p.Stderr)
		}
	})
	t.Run("a refusal as JSON says the same", func(t *testing.T) {
		t.Parallel()
		p := o.dave.CLI(t, "read", "-format=json", o.path("creds/prod-db"))
		if p.Code != 2 || p.Stdout != "" || !strings.Contains(p.Stderr, "* access denied: ") {
			t.Errorf("%d %s%s", p.Code, p.Stdout, p.Stderr)
		}
	})
	t.Run("a credential as JSON has flat scalars and a lease", func(t *testing.T) {
		t.Parallel()
		p := o.alice.CLI(t, "read", "-format=json", o.path("creds/prod-db"))
		var secret struct {
			LeaseID   string         `json:"lease_id"`
			Duration  int            `json:"lease_duration"`
			Renewable bool           `json:"renewable"`
			Data      map[string]any `json:"data"`
		}
		if err := json.Unmarshal([]byte(p.Stdout), &secret); err != nil || p.Code != 0 {
			t.Fatalf("%d %s %v", p.Code, p.Stderr, err)
		}
		if secret.LeaseID == "" || secret.Duration < 1 || secret.Renewable || secret.Data["pim_request_id"] != id {
			t.Errorf("got %+v", secret)
		}
		for name, value := range secret.Data {
			switch value.(type) {
			case string, bool, float64:
			default:
				t.Errorf("%s is no scalar but %T", name, value)
			}
		}
	})
	t.Run("one field alone, with write as with read", func(t *testing.T) {
		t.Parallel()
		for _, args := range [][]string{{"read", "-field=token", o.path("creds/prod-db")}, {"write", "-f", "-field=token", o.path("creds/prod-db")}} {
			p := o.alice.CLI(t, args...)
			if p.Code != 0 || len(strings.Fields(p.Stdout)) != 1 {
				t.Errorf("%d %q %s", p.Code, p.Stdout, p.Stderr)
			}
		}
	})
	t.Run("wrapping wraps what is had, never a refusal", func(t *testing.T) { t.Parallel(); wraps(t, o) })
	t.Run("delete withdraws, and says so", func(t *testing.T) {
		t.Parallel()
		o.role(t, "other", nil)
		asked := o.ask(t, "other", nil)
		if p := o.alice.CLI(t, "delete", o.path("requests/"+asked)); p.Code != 0 || o.state(t, asked) != "cancelled" {
			t.Errorf("%d %s%s", p.Code, p.Stdout, p.Stderr)
		}
		p := o.dave.CLI(t, "delete", o.path("requests/"+asked))
		if p.Code != 2 || !strings.Contains(p.Stderr, "Code: 404") {
			t.Errorf("somebody else's request: %d %s%s", p.Code, p.Stdout, p.Stderr)
		}
	})
}

func wraps(t *testing.T, o *office) {
	t.Helper()
	p := o.alice.CLI(t, "read", "-wrap-ttl=60s", "-field=wrapping_token", o.path("creds/prod-db"))
	if p.Code != 0 {
		t.Fatalf("%d %s", p.Code, p.Stderr)
	}
	if token := field(t, o.alice.CLI(t, "unwrap", strings.TrimSpace(p.Stdout)), "token"); token == "" {
		t.Error("nothing in the wrapping")
	}
	o.role(t, "wrapped", map[string]any{"wrap_ttl": "60s"})
	o.granted(t, "wrapped", nil)
	if p := o.alice.CLI(t, "read", o.path("creds/wrapped")); field(t, p, "wrapping_token") == "" {
		t.Error("the role forces no wrapping")
	}
	o.role(t, "never", nil)
	if got := refusal(t, o, o.alice.CLI(t, "read", "-wrap-ttl=60s", o.path("creds/never"))); !strings.HasPrefix(got, "400 * no active grant: ") {
		t.Errorf("got %s", got)
	}
}

// Help opens with the story, for the mount at hand, and every path has its own.
func TestPathHelp(t *testing.T) {
	t.Parallel()
	o := newOffice(t)
	p := host.Root().CLI(t, "path-help", o.pim.Path)
	for _, want := range []string{
		"vault list  pim/eligible", "vault write pim/request/<role> justification=", "vault write pim/approvals/<id> decision=approve digest=",
		"vault read  pim/creds/<role>", "^creds/(?P<role>[^/]+)$",
	} {
		if p.Code != 0 || !strings.Contains(strings.ReplaceAll(o.same(p.Stdout), "bao ", "vault "), want) {
			t.Errorf("exit code %d, no %q in\n%s%s", p.Code, want, o.same(p.Stdout), p.Stderr)
		}
	}
	p = host.Root().CLI(t, "path-help", o.path("creds/any"))
	for _, want := range []string{"A credential under your grant.", "request_id (string)", "The grant to use, where there are several."} {
		if p.Code != 0 || !strings.Contains(p.Stdout, want) {
			t.Errorf("exit code %d, no %q in\n%s%s", p.Code, want, p.Stdout, p.Stderr)
		}
	}
	p = host.Root().CLI(t, "path-help", "-format=json", o.path("creds/any"))
	var doc struct {
		Paths map[string]any `json:"paths"`
	}
	if err := json.Unmarshal([]byte(p.Stdout), &doc); err != nil || doc.Paths["/creds/{role}"] == nil {
		t.Errorf("no OpenAPI: %v\n%s", err, p.Stdout)
	}
}

// soon is a start time in two hours, as people write one.
func soon() string { return time.Now().Add(2 * time.Hour).UTC().Format(time.RFC3339) }
