package attacks

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"regexp"
	"strings"
	"testing"
	"time"
	"unicode"

	"github.com/vault-pim/vault-plugin-secrets-pim/tests/harness"
)

// I: text that does something where it is shown.

// evil are texts that would change what a terminal, a log or a reader sees.
func evil() map[string]string {
	return map[string]string{
		"a terminal that is cleared":      "ok\x1b[2J\x1b[Hbob approved",
		"a terminal's title":              "ok\x1b]0;root\x07",
		"a C1 control":                    "ok\u009b2J",
		"a line of its own":               "ok\n2026-11-22T00:00:00Z [INFO] bob approved",
		"a line that begins anew":         "bob denied\rbob approved",
		"a bell":                          "ok\x07",
		"a zero byte":                     "ok\x00hidden",
		"a backspace":                     "deny\b\b\b\bapprove",
		"a tab":                           "ok\tapproved",
		"a line separator":                "ok\u2028bob approved",
		"text that runs backwards":        "ok \u202eevorppa",
		"an isolate":                      "ok \u2067evorppa\u2069",
		"a mark without width":            "al\u200bice",
		"a byte order mark":               "\ufeffok",
		"a soft hyphen":                   "al\u00adice",
		"letters of tags":                 "ok\U000e0061\U000e0064",
		"a delete":                        "ok\x7f",
		"an escape that JSON brings back": "ok\u001b[31m",
	}
}

// harmless are texts that look like attacks elsewhere, and are text here.
func harmless() []string {
	return []string{
		"=HYPERLINK(\"http://example.org/\"&A1)", "+1-1", "-2+3", "@SUM(A1)", "|cmd' /C calc'!A0", "a,b;\"c\"", "<script>alert(1)</script>", "${jndi:ldap://127.0.0.1/a}", "$(touch /tmp/x)", "`id`",
		"{{identity.entity.id}}", "%s%n%x", "../../etc/passwd", "'; DROP TABLE requests; --", "node is not the leader; cannot write to readonly storage", "invalid token", "Straße — 🔑 – 価格",
	}
}

// hidden finds what must not be in any text of an answer.
func hidden(v any) string {
	switch v := v.(type) {
	case string:
		if i := strings.IndexFunc(v, func(r rune) bool {
			return unicode.IsControl(r) || unicode.Is(unicode.Cf, r) || r == '\u2028' || r == '\u2029'
		}); i >= 0 {
			return fmt.Sprintf("%q", v)
		}
	case []any:
		for _, x := range v {
			if found := hidden(x); found != "" {
				return found
			}
		}
	case map[string]any:
		for k, x := range v {
			if found := hidden(k) + hidden(x); found != "" {
				return found
			}
		}
	}
	return ""
}

func clean(t *testing.T, answer harness.Answer) string {
	t.Helper()
	var all any
	if err := json.Unmarshal(answer.Body, &all); err != nil {
		t.Fatalf("%s: %v in %s", answer.Request, err, answer.Body)
	}
	return hidden(all)
}

func TestTextOfPeople(t *testing.T) {
	t.Parallel()
	a := begin(t, "I1", "control characters and bidirectional text in every field that takes text")
	w := plain(t)
	anyText := map[string]any{"env": map[string]any{"pattern": "(?s).*", "required": true}}
	w.role(t, "free", map[string]any{"params": anyText}).OK(t)
	id := w.grant(t, "prod", nil)
	root := host.Root()
	with := func(more map[string]any) map[string]any {
		out := map[string]any{"justification": "why"}
		maps.Copy(out, more)
		return out
	}
	fields := map[string]func(text string) harness.Answer{
		"justification": func(s string) harness.Answer {
			return w.alice.Write(t, w.path("request/prod"), map[string]any{"justification": s})
		},
		"justification of a read": func(s string) harness.Answer {
			return w.alice.Write(t, w.path("creds/prod"), map[string]any{"justification": s})
		},
		"ticket": func(s string) harness.Answer {
			return w.alice.Write(t, w.path("request/prod"), with(map[string]any{"ticket": s}))
		},
		"a parameter": func(s string) harness.Answer {
			return w.alice.Write(t, w.path("request/free"), with(map[string]any{"params": map[string]string{"env": s}}))
		},
		"the name of a parameter": func(s string) harness.Answer {
			return w.alice.Write(t, w.path("request/free"), with(map[string]any{"params": map[string]string{s: "x"}}))
		},
		"comment": func(s string) harness.Answer {
			return w.decide(t, w.bob.Actor, id, map[string]any{"decision": "deny", "comment": s})
		},
		"reason of a revocation": func(s string) harness.Answer {
			return w.bob.Write(t, w.path("grants/"+id+"/revoke"), map[string]any{"reason": s})
		},
		"reason of the kill switch": func(s string) harness.Answer {
			return root.Write(t, w.path("revoke"), map[string]any{"ticket": "none", "reason": s})
		},
		"reason of a hold": func(s string) harness.Answer {
			return root.Write(t, w.path("holds"), map[string]any{"role": "none", "reason": s})
		},
		"description of a role": func(s string) harness.Answer { return w.role(t, "prod", map[string]any{"description": s}) },
		"owner of a role":       func(s string) harness.Answer { return w.role(t, "prod", map[string]any{"owner": s}) },
		"a label": func(s string) harness.Answer {
			return w.role(t, "prod", map[string]any{"labels": map[string]string{"a": s}})
		},
		"a group's name": func(s string) harness.Answer {
			return w.role(t, "prod", map[string]any{"approver_groups": []string{s}})
		},
		"a pattern": func(s string) harness.Answer { return w.role(t, "prod", map[string]any{"ticket_pattern": s}) },
		"an alias": func(s string) harness.Answer {
			return w.role(t, "prod", map[string]any{"approver_entities": []string{"alias:auth_x/" + s}})
		},
		"description of a target": func(s string) harness.Answer {
			return root.Write(t, w.path("targets/local"), map[string]any{"description": s})
		},
	}
	maps.Copy(fields, w.newerFields(t))
	for field, send := range fields {
		for name, text := range evil() {
			answer := send(text)
			a.tried(t, answer.Status == badRequest && clean(t, answer) == "" && !strings.Contains(string(answer.Body), "approved"),
				"%s in the %s: %d %s", name, field, answer.Status, answer.Body)
		}
	}
	if state := w.state(t, id); state != "active" {
		t.Errorf("the grant is %s", state)
	}
	for i, text := range harmless() {
		asked := a.control(t, w.alice.Write(t, w.path("request/free"), map[string]any{
			"justification": text, "ticket": text, "params": map[string]string{"env": text}, "ttl": 600 + i,
		}))
		id := asked.String(t, "request_id")
		if seen := w.bob.Read(t, w.path("requests/"+id)).OK(t); seen.String(t, "why") != text {
			t.Errorf("%q is shown as %q", text, seen.String(t, "why"))
		}
		a.refused(t, w.alice.Write(t, w.path("creds/free"), map[string]any{"params": map[string]string{"env": text}}), badRequest, "approval pending: request "+id)
		w.decide(t, w.bob.Actor, id, map[string]any{"decision": "deny", "comment": text}).OK(t)
	}
}

// newerFields are the texts of emergencies, reviews, more time, many decisions and policy.
func (w *world) newerFields(t *testing.T) map[string]func(text string) harness.Answer {
	t.Helper()
	w.role(t, "emergency", map[string]any{"break_glass_groups": w.eligible.Name, "max_extension": "1h", "break_glass_max": 10}).OK(t)
	asked := w.alice.Write(t, w.path("break-glass/emergency"), map[string]any{"justification": "down", "ticket": "INC-1"}).OK(t)
	owed, id := asked.String(t, "request_id"), w.grant(t, "emergency", nil)
	due := time.Now().Add(time.Hour).UTC().Format(time.RFC3339)
	campaign := host.Root().Write(t, w.path("campaigns"), map[string]any{
		"role": "emergency", "reviewer_groups": w.approver.Name, "due": due, "undecided": "keep",
	}).OK(t).String(t, "campaign_id")
	glass := func(more map[string]any) harness.Answer {
		body := map[string]any{"justification": "down", "ticket": "INC-1"}
		maps.Copy(body, more)
		return w.alice.Write(t, w.path("break-glass/emergency"), body)
	}
	policy := func(fields map[string]any) harness.Answer { return w.role(t, "emergency", fields) }
	return map[string]func(text string) harness.Answer{
		"justification of an emergency": func(s string) harness.Answer { return glass(map[string]any{"justification": s}) },
		"ticket of an emergency":        func(s string) harness.Answer { return glass(map[string]any{"ticket": s}) },
		"comment of a sign-off": func(s string) harness.Answer {
			return w.bob.Write(t, w.path("reviews/"+owed), map[string]any{"verdict": "justified", "comment": s})
		},
		"comment of an access review": func(s string) harness.Answer {
			return w.bob.Write(t, w.path("reviews/"+campaign), map[string]any{"verdict": "keep", "principal": "group:" + w.eligible.Name, "comment": s})
		},
		"principal of an access review": func(s string) harness.Answer {
			return w.bob.Write(t, w.path("reviews/"+campaign), map[string]any{"verdict": "keep", "principal": s, "comment": "x"})
		},
		"reviewers of an access review": func(s string) harness.Answer {
			return host.Root().Write(t, w.path("campaigns"), map[string]any{"role": "prod", "reviewer_groups": []string{s}, "due": due, "undecided": "keep"})
		},
		"justification of more time": func(s string) harness.Answer {
			return w.alice.Write(t, w.path("requests/"+id+"/extend"), map[string]any{"ttl": 60, "justification": s})
		},
		"reason of a freeze": func(s string) harness.Answer {
			return policy(map[string]any{"freeze_windows": []map[string]string{{"from": "2099-01-01T00:00:00Z", "until": "2099-01-02T00:00:00Z", "reason": s}}})
		},
		"message of a rule": func(s string) harness.Answer {
			return policy(map[string]any{"require": []map[string]string{{"name": "calm", "when": "true", "message": s}}})
		},
		"name of a rule": func(s string) harness.Answer {
			return policy(map[string]any{"require": []map[string]string{{"name": s, "when": "true"}}})
		},
		"name of a stage": func(s string) harness.Answer {
			return policy(map[string]any{"approver_groups": "", "stages": []map[string]any{{"name": s, "all_of": []map[string]any{{"groups": []string{w.approver.Name}}}}}})
		},
		"reason of a role's end": func(s string) harness.Answer {
			return host.Root().Write(t, w.path("roles/none/revoke"), map[string]any{"reason": s})
		},
	}
}

func TestNamesOfPeople(t *testing.T) {
	t.Parallel()
	a := begin(t, "I2", "somebody is called something that forges what approvers and auditors see")
	w := plain(t)
	shown := regexp.MustCompile(`\\u00(1b|0a)|\\u202e`)
	for i, name := range []string{"mallory\x1b[2J\x1b[31m", "mallory\nbob approved", "mallory\u202eecila"} {
		mallory := host.Person(t, "mallory", w.person)
		renamed := do(t, host.Root(), http.MethodPut, "identity/entity/id/"+mallory.EntityID, map[string]any{"name": fmt.Sprint(name, i, w.pim.Path)})
		if renamed.Status/100 != 2 { // the host does not take that name itself
			a.tried(t, renamed.Status == badRequest, "the host: %d %s", renamed.Status, renamed.Body)
			continue
		}
		host.SetMembers(t, w.eligible, w.alice, mallory)
		id := mallory.Write(t, w.path("request/prod"), map[string]any{"justification": "why"}).OK(t).String(t, "request_id")
		seen := a.control(t, w.bob.Read(t, w.path("approvals/"+id)))
		if who := seen.String(t, "who"); !strings.Contains(who, "mallory") || !shown.MatchString(who) {
			t.Errorf("the name is shown as %q", who)
		}
		host.SetMembers(t, w.approver, w.bob, mallory)
		other, digest := w.ask(t, "prod", map[string]any{"ttl": 600 + i})
		w.decide(t, mallory.Actor, other, yes(digest)).OK(t)
		for _, answer := range []harness.Answer{
			seen, w.bob.List(t, w.path("approvals/")), w.bob.Read(t, w.path("requests/"+id)), host.Root().Read(t, w.path("audit/requests/"+id)),
			w.alice.Read(t, w.path("requests/"+other)), w.alice.List(t, w.path("requests/mine/")), mallory.Read(t, w.path("requests/"+id)),
			host.Root().Read(t, w.path("audit/requests/"+other)), w.creds(t, mallory.Actor, "prod"), w.creds(t, w.alice.Actor, "prod"),
		} {
			found := clean(t, answer)
			a.tried(t, found == "", "%s shows %s", answer.Request, found)
		}
		for _, args := range [][]string{{"read", w.path("approvals/" + id)}, {"list", "-detailed", w.path("approvals/")}, {"read", "-format=json", w.path("approvals/" + id)}} {
			printed := w.bob.CLI(t, args...)
			a.tried(t, !strings.ContainsAny(printed.Stdout+printed.Stderr, "\x1b\u202e"), "%v prints an escape sequence: %q", args, printed.Stdout)
		}
		host.SetMembers(t, w.approver, w.bob)
		w.namesInReviews(t, a, mallory)
	}
}

// namesInReviews has somebody break the glass, and say something in an access review.
func (w *world) namesInReviews(t *testing.T, a *attack, mallory *harness.Person) {
	t.Helper()
	root := host.Root()
	role := "glass-" + strings.ToLower(mallory.Login)
	onCall := host.Group(t, "on-call", mallory)
	w.role(t, role, map[string]any{"break_glass_groups": onCall.Name, "reviewer_groups": w.approver.Name}).OK(t)
	id := mallory.Write(t, w.path("break-glass/"+role), map[string]any{"justification": "down", "ticket": "INC-1"}).OK(t).String(t, "request_id")
	due := time.Now().Add(time.Hour).UTC().Format(time.RFC3339)
	campaign := root.Write(t, w.path("campaigns"), map[string]any{
		"role": role, "reviewer_groups": w.approver.Name, "reviewer_entities": mallory.EntityID, "due": due, "undecided": "keep",
	}).OK(t).String(t, "campaign_id")
	host.SetMembers(t, w.eligible, w.alice)
	mallory.Write(t, w.path("reviews/"+campaign), map[string]any{"principal": "group:" + w.eligible.Name, "verdict": "keep", "comment": "x"}).OK(t)
	for _, answer := range []harness.Answer{
		a.control(t, w.bob.List(t, w.path("reviews/"))), w.bob.Read(t, w.path("reviews/"+id)), w.bob.Read(t, w.path("reviews/"+campaign)),
		root.Read(t, w.path("campaigns/"+campaign)), root.List(t, w.path("campaigns/")), root.Read(t, w.path("audit/requests/"+id)),
		root.List(t, w.path("events/")), root.Read(t, w.path("reports/eligibility/"+role)),
	} {
		if len(answer.Body) > 0 {
			found := clean(t, answer)
			a.tried(t, found == "", "%s shows %s", answer.Request, found)
		}
	}
	host.SetMembers(t, w.eligible, w.alice, mallory)
}

func TestTextIsInNoLog(t *testing.T) {
	t.Parallel()
	a := begin(t, "I3", "text of people is written into the host's log, or into the audit file in clear")
	w := plain(t)
	mark := strings.ToLower(fmt.Sprintf("mark%s", strings.TrimPrefix(w.pim.Path, "pim-")))
	sent := func(where string) string { return "forged " + mark + " " + where }
	id := w.grant(t, "prod", map[string]any{"justification": sent("justification"), "ticket": sent("ticket")})
	a.control(t, w.creds(t, w.alice.Actor, "prod"))
	w.bob.Write(t, w.path("grants/"+id+"/revoke"), map[string]any{"reason": sent("reason")}).OK(t)
	second, digest := w.ask(t, "prod", map[string]any{"justification": sent("justification")})
	w.decide(t, w.bob.Actor, second, map[string]any{"decision": "deny", "comment": sent("comment"), "digest": digest}).OK(t)
	host.Root().Write(t, w.path("holds"), map[string]any{"role": "prod", "reason": sent("hold")}).OK(t)
	host.Root().Write(t, w.path("revoke"), map[string]any{"role": "prod", "reason": sent("kill")}).OK(t)
	for _, field := range []string{"justification", "ticket", "comment", "digest", mark} { // and where they are refused
		w.alice.Write(t, w.path("request/prod"), map[string]any{"justification": sent("again") + "\x07", field: []any{sent("list")}})
		w.decide(t, w.bob.Actor, id, map[string]any{"decision": sent("decision"), field: map[string]any{"x": sent("object")}})
	}
	w.newerTexts(t, sent)
	for name, read := range map[string]func() (string, error){"log": host.Log, "audit file": host.Audit} {
		text, err := read()
		if err != nil {
			t.Fatal(err)
		}
		a.seen(t, strings.Contains(text, w.pim.Path), "the %s knows nothing of this mount", name)
		for line := range strings.Lines(text) {
			if strings.Contains(line, "forged "+mark) {
				a.tried(t, false, "the %s: %s", name, line)
				return
			}
		}
		a.tried(t, true, "")
	}
}

// newerTexts says something in an emergency, its sign-off, an access review and an ask
// for more time. An emergency is loud, and none of its text is in the log.
func (w *world) newerTexts(t *testing.T, sent func(where string) string) {
	t.Helper()
	w.role(t, "emergency", map[string]any{"break_glass_groups": w.eligible.Name, "max_extension": "1h"}).OK(t)
	glass := map[string]any{"justification": sent("emergency"), "ticket": sent("incident")}
	id := w.alice.Write(t, w.path("break-glass/emergency"), glass).OK(t).String(t, "request_id")
	campaign := host.Root().Write(t, w.path("campaigns"), map[string]any{
		"role": "emergency", "reviewer_groups": w.approver.Name, "due": time.Now().Add(time.Hour).UTC().Format(time.RFC3339), "undecided": "keep",
	}).OK(t).String(t, "campaign_id")
	w.bob.Write(t, w.path("reviews/"+id), map[string]any{"verdict": "unjustified", "comment": sent("sign-off")}).OK(t)
	w.bob.Write(t, w.path("reviews/"+campaign), map[string]any{"principal": "group:" + w.eligible.Name, "verdict": "keep", "comment": sent("review")}).OK(t)
	host.Root().Write(t, w.path("campaigns/"+campaign+"/close"), nil).OK(t)
	more := w.grant(t, "emergency", nil)
	w.alice.Write(t, w.path("requests/"+more+"/extend"), map[string]any{"ttl": 60, "justification": sent("more time")}).OK(t)
	w.bob.Write(t, w.path("approvals/bulk"), map[string]any{
		"decision": "deny", "comment": sent("many"), "requests": map[string]string{more: w.bob.Read(t, w.path("approvals/"+more)).OK(t).String(t, "digest")},
	}).OK(t)
}

// Spreadsheets run what begins with = in a file of comma-separated values. There is
// no such file: every answer is JSON, but for the key revocation list.
func TestNoAnswerIsATable(t *testing.T) {
	t.Parallel()
	a := begin(t, "I4", "a cell of a table that is exported begins with = + - or @")
	w := plain(t)
	for path, item := range w.pim.Contract().Paths {
		for verb, operation := range item.Verbs(path) {
			for status, response := range operation.Responses {
				for media := range response.Content {
					ok := media == "application/json" || strings.HasPrefix(path, "/public/ssh/") || strings.HasPrefix(path, "/ssh/")
					a.tried(t, ok, "%s %s answers %s with %s: its cells need a test of their own here", verb, path, status, media)
				}
			}
		}
	}
	for i, text := range []string{"=1+1", "+1", "-1", "@SUM(1)"} {
		id, _ := w.ask(t, "prod", map[string]any{"justification": text, "ttl": 600 + i})
		seen := a.control(t, w.bob.Read(t, w.path("approvals/"+id)))
		a.tried(t, seen.Header.Get("Content-Type") == "application/json" && seen.String(t, "why") == text, "%s: %s", seen.Header.Get("Content-Type"), seen.Body)
	}
}

// What pim tells people to paste holds nothing that somebody else wrote.
func TestCommandsToPaste(t *testing.T) {
	t.Parallel()
	a := begin(t, "I5", "a ready command carries what somebody wrote into a role or a request")
	w := plain(t)
	for i, text := range []string{`$(touch x)`, "`id`", `"; id; "`, "a b", "-policy=root", "x' y", "%0aid", "${HOME}", "@/etc/passwd"} {
		role := fmt.Sprintf("role-%d", i)
		params := map[string]any{"env": map[string]any{"allowed": []string{text, "dev"}, "required": true}}
		w.role(t, role, map[string]any{"params": params, "description": text, "owner": text, "require_ticket": true, "ticket_pattern": ".*"}).OK(t)
		eligible := a.control(t, w.alice.Read(t, w.path("eligible/"+role)))
		refused := w.creds(t, w.alice.Actor, role).Refused(t, badRequest, "no active grant")
		asked := w.alice.Write(t, w.path("request/"+role), map[string]any{"justification": text, "ticket": text, "params": map[string]string{"env": text}}).OK(t)
		seen := w.bob.Read(t, w.path("approvals/"+asked.String(t, "request_id"))).OK(t)
		for _, answer := range []harness.Answer{eligible, refused, asked, seen} {
			for _, field := range []string{"next", "command", "run"} {
				line, _ := answer.Data[field].(string)
				a.tried(t, !strings.Contains(line, text), "%s: %s is %s", answer.Request, field, line)
			}
			for _, line := range answer.Errors {
				a.tried(t, !strings.Contains(line, text), "%s: %s", answer.Request, line)
			}
		}
	}
}
