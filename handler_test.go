package pim

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/vault/sdk/framework"
	"github.com/hashicorp/vault/sdk/helper/consts"
	"github.com/hashicorp/vault/sdk/logical"

	"github.com/vault-pim/vault-plugin-secrets-pim/internal/fault"
	"github.com/vault-pim/vault-plugin-secrets-pim/internal/provider/contract"
)

func decoded(text string) any {
	dec := json.NewDecoder(bytes.NewReader([]byte(text)))
	dec.UseNumber()
	var v any
	if err := dec.Decode(&v); err != nil {
		return nil
	}
	return v
}

// door is a path whose every operation does one thing.
func door(do func(context.Context, *call) (*answer, error)) path {
	p := path{
		pattern: "door/?", name: "door", help: "A door.", description: "Does one thing.",
		fields: []field{{name: "word", typ: contract.TypeString, query: true, desc: "A word."}},
	}
	for _, verb := range []logical.Operation{logical.ReadOperation, logical.ListOperation, logical.UpdateOperation, logical.DeleteOperation} {
		p.ops = append(p.ops, op{
			verb: verb, summary: "Do it.", do: do, statuses: []int{http.StatusForbidden, http.StatusNotFound},
			ok: []field{{name: "keys", typ: contract.TypeStrings, desc: "Keys."}, {name: "word", typ: contract.TypeString, desc: "Word."}},
		})
	}
	return p
}

func failing(err error) func(context.Context, *call) (*answer, error) {
	return func(context.Context, *call) (*answer, error) { return &answer{data: map[string]any{"word": "no"}}, err }
}

func TestEveryKindOfFailure(t *testing.T) {
	upstream := errors.New("upstream said: token s.abc is bad")
	rows := []struct {
		name, verbs string
		err         error
		code        int
		text        string // of the answer; "" = none
		is          fault.Code
		log         string // level of the line in the log; "" = none
	}{
		{"wrong input", "rlud", fault.New(fault.Invalid, fault.CodeInvalid, "invalid input: x: is required", nil), 400, "invalid input: x: is required", fault.CodeInvalid, ""},
		{"a state that does not allow it", "rlud", fault.New(fault.Conflict, fault.CodePending, "approval pending: 0 of 1", nil), 400, "approval pending: 0 of 1", fault.CodePending, ""},
		{"a conflict with a cause", "rlud", fault.New(fault.Conflict, fault.CodeBusy, "busy", upstream), 400, "busy", fault.CodeBusy, "DEBUG"},
		{"a denial", "rlud", fault.New(fault.Denied, fault.CodeHeld, "access denied: held", nil), 403, "access denied: held", fault.CodeHeld, ""},
		{"a denial with a cause", "rlud", fault.New(fault.Denied, fault.CodeLogin, "access denied: log in again", upstream), 403, "access denied: log in again", fault.CodeLogin, "DEBUG"},
		{"nothing there to read", "rl", fault.New(fault.Absent, fault.CodeInvalid, "no such request", nil), 404, "", "", ""},
		{"nothing there to write to", "ud", fault.New(fault.Absent, fault.CodeInvalid, "no such request", nil), 404, "no such request", fault.CodeInvalid, ""},
		{"a target that failed", "rlud", fault.New(fault.Upstream, fault.CodeUpstream, "the target failed: create token: it did not answer (Timeout)", upstream), 502, "the target failed: create token: it did not answer (Timeout)", "", "WARN"},
		{"a target whose words a host would act on", "rlud", fault.New(fault.Upstream, fault.CodeUpstream, "the target failed: overloaded", upstream), 502, "", "", "WARN"},
		{"our own fault", "rlud", fault.New(fault.Internal, fault.CodeInternal, "not for the caller", upstream), 500, "", "", "ERROR"},
		{"an error of no kind", "rlud", upstream, 500, "", "", "ERROR"},
		{"a fault of no kind", "rlud", fault.New(0, fault.CodeInternal, "not for the caller", upstream), 500, "", "", "ERROR"},
		{"a wrapped fault", "rlud", fmt.Errorf("store: %w", fault.New(fault.Conflict, fault.CodeBusy, "busy", upstream)), 400, "busy", fault.CodeBusy, "DEBUG"},
		{"a provider that failed", "rlud", &contract.Error{Op: "create token", Code: "500", Public: "the host failed", Cause: upstream}, 502, "", "", "WARN"},
		{"a provider that was throttled", "rlud", &contract.Error{Op: "create token", Public: "too fast", Throttled: true, Cause: upstream}, 502, "", "", "WARN"},
		{"a provider whose target refused", "rlud", fmt.Errorf("issue: %w", &contract.Error{Op: "create token", Code: "AccessDenied", Public: "the login may not do this", Refused: true, Cause: upstream}), 400, "the target refused: create token: the login may not do this", fault.CodeTarget, "DEBUG"},
		{"storage that cannot be written", "rlud", logical.ErrReadOnly, 500, "", "", "ERROR"},
		{"a call that was given up", "rlud", context.Canceled, 500, "", "", "ERROR"},
	}
	verbs := map[rune]logical.Operation{'r': logical.ReadOperation, 'l': logical.ListOperation, 'u': logical.UpdateOperation, 'd': logical.DeleteOperation}
	for _, row := range rows {
		for _, v := range row.verbs {
			t.Run(row.name+" on "+string(verbs[v]), func(t *testing.T) {
				b := newBench(t, door(failing(row.err)))
				path := map[bool]string{true: "door/", false: "door"}[v == 'l']
				resp, err := b.send(t, verbs[v], path, map[string]any{"word": canary})
				if code := status(t, verbs[v], resp, err); code != row.code {
					t.Fatalf("answers %d, want %d: %+v, %v", code, row.code, resp, err)
				}
				checkAnswer(t, b.backend, &logical.Request{Operation: verbs[v], Path: path}, resp, err)
				b.wantBoundary(t, resp, err, row.code, row.text, row.is)
				b.wantLog(t, row.log)
				b.wantNowhere(t, canary, resp, err)
			})
		}
	}
}

// wantBoundary wants the one form of every failure.
func (b *bench) wantBoundary(t *testing.T, resp *logical.Response, err error, code int, text string, is fault.Code) {
	t.Helper()
	if text != "" && code < 500 {
		got, data := errorOf(t, resp)
		if got != text || data["code"] != string(is) {
			t.Errorf("says %q with code %v", got, data["code"])
		}
	} else if resp != nil {
		t.Errorf("a response beside a %d: %+v", code, resp)
	}
	var coded logical.HTTPCodedError
	if is5xx := code >= 500; is5xx != errors.As(err, &coded) {
		t.Fatalf("error %T for a %d", err, code)
	}
	if coded != nil {
		if same := err == error(coded); !same { //nolint:errorlint // only the outermost type survives the way to the host
			t.Error("the coded error is not outermost")
		}
		if want := cmp.Or(text, map[int]string{500: textInternal, 502: textUpstream}[code]); err.Error() != want || coded.Code() != code {
			t.Errorf("says %q with %d", err, coded.Code())
		}
	}
}

// wantLog wants one line that names the cause, or none at all.
func (b *bench) wantLog(t *testing.T, level string) {
	t.Helper()
	lines := strings.Count(b.log.String(), "cause=")
	if level == "" && lines == 0 {
		return
	}
	if lines != 1 || !strings.Contains(b.log.String(), "["+level+"]") || !strings.Contains(b.log.String(), "request=req-1") {
		t.Errorf("want one line at %q in the log: %s", level, b.log.String())
	}
}

func TestTheCauseIsInTheLogAlone(t *testing.T) {
	cause := &contract.Error{Op: "create token", Code: "E1", Public: "refused", Cause: errors.New("the innermost reason\nwith a line break")}
	b := newBench(t, door(failing(fault.New(fault.Internal, fault.CodeInternal, "public words", fmt.Errorf("store: %w", cause)))))
	resp, err := b.send(t, logical.ReadOperation, "door", nil)
	if resp != nil || err == nil || err.Error() != textInternal {
		t.Fatalf("%+v, %v", resp, err)
	}
	for _, part := range []string{"public words", "create token", "E1", `the innermost reason\u000awith`} {
		if !strings.Contains(strings.ReplaceAll(b.log.String(), `\\`, `\`), part) {
			t.Errorf("the log does not say %q: %s", part, b.log.String())
		}
	}
}

func TestCausesAreBounded(t *testing.T) {
	if got := causes(errors.New(strings.Repeat("é", 1<<16))); len(got) > maxCause+10 || !strings.HasSuffix(got, " …") {
		t.Errorf("%d bytes", len(got))
	}
}

func TestTextsOnWhichHostsAct(t *testing.T) {
	for _, phrase := range []string{
		"invalid token", "Invalid Token", "overloaded", consts.ErrOverloaded.Error(), "node is not the leader",
		"cannot write to readonly storage", logical.ErrReadOnly.Error(), "CANNOT WRITE TO READONLY STORAGE",
	} {
		t.Run(phrase, func(t *testing.T) {
			text := "access denied: role " + phrase + " is held"
			f := fault.New(fault.Denied, fault.CodeHeld, text, nil).With("next", text).With("waiting_for", []string{"leads", text}).
				With("more", map[string]any{"deep": []any{text, 1}}).With("have", 1)
			b := newBench(t, door(failing(f)))
			resp, err := b.send(t, logical.ReadOperation, "door", nil)
			if code := status(t, logical.ReadOperation, resp, err); code != http.StatusForbidden {
				t.Fatalf("answers %d", code)
			}
			b.wantNowhere(t, phrase, resp, err)
			got, data := errorOf(t, resp)
			if got != textWithheld || data["next"] != dataWithheld || data["have"] != 1 || data["code"] != "held" {
				t.Errorf("%q with %v", got, data)
			}
			if list, ok := data["waiting_for"].([]string); !ok || list[0] != "leads" || list[1] != dataWithheld {
				t.Errorf("waiting for %v", data["waiting_for"])
			}
			if w, ok := f.Data["waiting_for"].([]string); !ok || w[1] != text {
				t.Error("the fault itself was changed")
			}
		})
	}
}

func TestCodesOfTargets(t *testing.T) {
	for code, want := range map[string]any{"AccessDenied.1-x_": "AccessDenied.1-x_", "": nil, "has spaces": nil, strings.Repeat("x", 65): nil, "<html>": nil} {
		b := newBench(t, door(failing(&contract.Error{Op: "create", Public: "no", Code: code, Refused: true})))
		resp, err := b.send(t, logical.ReadOperation, "door", nil)
		if err != nil {
			t.Fatal(err)
		}
		if _, data := errorOf(t, resp); data["target_code"] != want {
			t.Errorf("code %q is shown as %v", code, data["target_code"])
		}
	}
}

func TestPanics(t *testing.T) {
	var nothing map[string]any
	rows := []struct {
		name string
		do   func(c *call)
		log  string
	}{
		{"with what was sent", func(c *call) { panic(c.String("word")) }, "panic=string"},
		{"with an error that has what was sent", func(c *call) { panic(errors.New(c.String("word"))) }, `panic="*errors.errorString"`},
		{"of the runtime", func(*call) { nothing["x"] = 1 }, "assignment to entry in nil map"},
		{"over an undeclared field", func(c *call) { c.Int("wrod") }, "field wrod is not declared"},
		{"over a field of another type", func(c *call) { c.Int("word") }, "field word is not declared"},
		{"over a secret that is none", func(c *call) { c.Secret("word") }, "field word is not declared"},
		{"over a capture that is none", func(c *call) { c.Capture("id") }, "no capture id"},
	}
	for _, row := range rows {
		t.Run(row.name, func(t *testing.T) {
			b := newBench(t, door(func(_ context.Context, c *call) (*answer, error) { row.do(c); return nil, nil }))
			resp, err := b.send(t, logical.UpdateOperation, "door", map[string]any{"word": canary})
			if code := status(t, logical.UpdateOperation, resp, err); code != http.StatusInternalServerError {
				t.Fatalf("answers %d: %+v, %v", code, resp, err)
			}
			b.wantBoundary(t, resp, err, http.StatusInternalServerError, "", "")
			b.wantNowhere(t, canary, resp, err)
			if log := b.log.String(); !strings.Contains(log, row.log) || !strings.Contains(log, "handler_test.go") || !strings.Contains(log, "path=door") {
				t.Errorf("the log does not help: %s", log)
			}
		})
	}
}

func TestNothingRunsPastTheChecks(t *testing.T) {
	ran := false
	b := newBench(t, door(func(context.Context, *call) (*answer, error) { ran = true; return nil, nil }))
	req := &logical.Request{Operation: logical.UpdateOperation, Path: "door", Data: map[string]any{"word": "x"}}
	resp, err := b.backend.HandleRequest(context.Background(), req)
	if ran || resp != nil || err == nil || err.Error() != textInternal {
		t.Fatalf("ran %v: %+v, %v", ran, resp, err)
	}
}

func TestRequestsAreForwardedUntouched(t *testing.T) {
	ran := false
	b := newBenchAt(t, func() bool { return false }, door(func(context.Context, *call) (*answer, error) { ran = true; return nil, nil }))
	for _, verb := range []logical.Operation{logical.ReadOperation, logical.ListOperation, logical.UpdateOperation, logical.DeleteOperation} {
		if resp, err := b.send(t, verb, "door", nil); !errors.Is(err, logical.ErrReadOnly) || resp != nil {
			t.Errorf("%s on a standby: %+v, %v", verb, resp, err)
		}
	}
	if ran {
		t.Error("a node that may not answer carried an operation out")
	}
}

func TestAnswers(t *testing.T) {
	secret := &framework.Secret{Type: "test"}
	rows := []struct {
		name   string
		verb   logical.Operation
		answer *answer
		code   int
		check  func(*logical.Response) bool
	}{
		{"nothing to a write", logical.UpdateOperation, nil, 204, func(r *logical.Response) bool { return r == nil }},
		{"nothing to a read", logical.ReadOperation, nil, 404, func(r *logical.Response) bool { return r == nil }},
		{"data", logical.ReadOperation, &answer{data: map[string]any{"word": "yes"}}, 200, func(r *logical.Response) bool { return r.Data["word"] == "yes" }},
		{"a warning", logical.UpdateOperation, &answer{data: map[string]any{"word": "yes"}, warnings: []string{"weak"}}, 200, func(r *logical.Response) bool { return r.Warnings[0] == "weak" }},
		{"keys", logical.ListOperation, &answer{keys: []string{"a", "b"}, data: map[string]any{"word": "b"}}, 200, func(r *logical.Response) bool { return len(r.Data) == 2 && r.Data["word"] == "b" }},
		{"no keys", logical.ListOperation, &answer{}, 404, func(r *logical.Response) bool { return len(r.Data) == 0 }},
		{"a wrapped answer", logical.ReadOperation, &answer{data: map[string]any{"word": "x"}, wrap: time.Minute}, 200, func(r *logical.Response) bool { return r.WrapInfo.TTL == time.Minute }},
		{
			"a lease", logical.ReadOperation,
			&answer{data: map[string]any{"word": "x"}, lease: &lease{secret: secret, ttl: time.Minute, internal: map[string]string{"v": "1"}}}, 200,
			func(r *logical.Response) bool {
				s := r.Secret
				return s.TTL == time.Minute && s.MaxTTL == time.Minute && !s.Renewable && s.InternalData["v"] == "1" && s.InternalData["secret_type"] == "test" && r.Data["word"] == "x"
			},
		},
		{"a lease of nothing", logical.ReadOperation, &answer{lease: &lease{secret: secret}}, 500, func(r *logical.Response) bool { return r == nil }},
		{"a lease of less", logical.ReadOperation, &answer{lease: &lease{secret: secret, ttl: -time.Hour}}, 500, func(r *logical.Response) bool { return r == nil }},
		{"a lease of part of a second", logical.ReadOperation, &answer{lease: &lease{secret: secret, ttl: 1500 * time.Millisecond}}, 500, func(r *logical.Response) bool { return r == nil }},
	}
	for _, row := range rows {
		t.Run(row.name, func(t *testing.T) {
			b := newBench(t, door(func(context.Context, *call) (*answer, error) { return row.answer, nil }))
			resp, err := b.send(t, row.verb, "door", nil)
			if code := status(t, row.verb, resp, err); code != row.code || !row.check(resp) {
				t.Fatalf("answers %d: %+v, %v", code, resp, err)
			}
		})
	}
}

func TestRevocationsAreBoundedToo(t *testing.T) {
	rows := []struct {
		name string
		err  error
		text string
	}{
		{"done", nil, ""},
		{"a target that failed", &contract.Error{Op: "delete", Public: "no", Cause: errors.New(canary)}, textUpstream},
		{"a target that refused", &contract.Error{Op: "delete", Public: "not allowed", Refused: true, Cause: errors.New(canary)}, "the target refused: delete: not allowed"},
		{"a fault", fault.New(fault.Conflict, fault.CodePlace, "the target is another place now", nil), "the target is another place now"},
		{"an error", errors.New("private words"), textInternal},
		{"a text on which hosts act", fault.New(fault.Conflict, fault.CodePlace, "node is not the leader", nil), textWithheld},
	}
	for _, row := range rows {
		t.Run(row.name, func(t *testing.T) {
			b := newBench(t, door(failing(nil)))
			b.backend.Secrets = []*framework.Secret{{
				Type: "test", Revoke: func(context.Context, *logical.Request, *framework.FieldData) (*logical.Response, error) {
					return nil, row.err
				},
			}}
			req := &logical.Request{
				ID: "req-1", Operation: logical.RevokeOperation, Path: "door", Data: map[string]any{"word": canary},
				Secret: &logical.Secret{InternalData: map[string]any{"secret_type": "test"}},
			}
			resp, err := b.HandleRequest(context.Background(), req)
			if resp != nil || (err == nil) != (row.text == "") || err != nil && err.Error() != row.text {
				t.Fatalf("%+v, %v", resp, err)
			}
		})
	}
}
