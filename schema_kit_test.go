package pim

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/vault/sdk/framework"
	"github.com/hashicorp/vault/sdk/helper/testhelpers/schema"
	"github.com/hashicorp/vault/sdk/logical"
)

// canary is a secret that a caller sends by mistake. It must never come back.
const canary = "hunter2secret"

// logBuffer is a log that tests can read while others write.
type logBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *logBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *logBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// bench is a handler over some paths, as the host would run it.
type bench struct {
	*handler
	log *logBuffer
}

func newBench(t *testing.T, paths ...path) *bench {
	t.Helper()
	return newBenchAt(t, func() bool { return true }, paths...)
}

// newBenchAt is newBench on a node that answers only while answers says so.
func newBenchAt(t *testing.T, answers func() bool, paths ...path) *bench {
	t.Helper()
	b := &bench{log: &logBuffer{}}
	fb := &framework.Backend{BackendType: logical.TypeLogical}
	h, err := newHandler(fb, answers, paths)
	if err != nil {
		t.Fatal(err)
	}
	err = fb.Setup(context.Background(), &logical.BackendConfig{
		Logger:      hclog.New(&hclog.LoggerOptions{Output: b.log, Level: hclog.Trace}),
		System:      logical.TestSystemView(),
		StorageView: &logical.InmemStorage{},
	})
	if err != nil {
		t.Fatal(err)
	}
	b.handler = h
	return b
}

// send is one call as it comes from the host: what was sent went through JSON.
func (b *bench) send(t *testing.T, verb logical.Operation, path string, data map[string]any) (*logical.Response, error) {
	t.Helper()
	req := &logical.Request{ID: "req-1", Operation: verb, Path: path, Data: overTheWire(t, data), Storage: &logical.InmemStorage{}}
	return b.HandleRequest(context.Background(), req)
}

func overTheWire(t *testing.T, data map[string]any) map[string]any {
	t.Helper()
	if data == nil {
		return nil
	}
	raw, err := json.Marshal(data)
	if err != nil {
		t.Fatal(err)
	}
	dec := json.NewDecoder(bytes.NewReader(raw))
	dec.UseNumber()
	var out map[string]any
	if err := dec.Decode(&out); err != nil {
		t.Fatal(err)
	}
	return out
}

// status is the HTTP status that the host gives an answer.
func status(t *testing.T, verb logical.Operation, resp *logical.Response, err error) int {
	t.Helper()
	code, herr := logical.RespondErrorCommon(&logical.Request{Operation: verb}, resp, err)
	if herr != nil {
		logical.AdjustErrorStatusCode(&code, herr)
	}
	switch {
	case code == 0 && resp == nil:
		return http.StatusNoContent
	case code == 0:
		return http.StatusOK
	}
	return code
}

// errorOf is the text and the data of an error answer.
func errorOf(t *testing.T, resp *logical.Response) (string, map[string]any) {
	t.Helper()
	if resp == nil || !resp.IsError() {
		t.Fatalf("no error answer but %+v", resp)
	}
	data, ok := resp.Data["data"].(map[string]any)
	if !ok || data["code"] == "" {
		t.Fatalf("the error has no data with a code: %+v", resp.Data)
	}
	return resp.Error().Error(), data
}

// wantNowhere fails when a text is in an answer, in an error or in the log.
func (b *bench) wantNowhere(t *testing.T, text string, resp *logical.Response, err error) {
	t.Helper()
	seen := fmt.Sprintf("%+v %+v", resp, err)
	if resp != nil {
		raw, merr := json.Marshal(resp)
		if merr != nil {
			t.Fatal(merr)
		}
		seen += string(raw)
	}
	if strings.Contains(seen, text) {
		t.Errorf("%q came back: %s", text, seen)
	}
	if strings.Contains(b.log.String(), text) {
		t.Errorf("%q is in the log: %s", text, b.log.String())
	}
}

var (
	segmentPattern = regexp.MustCompile(`\(\?P<[a-z_]+>[^)]*\)`)
	trailingSlash  = regexp.MustCompile(`/\?$`)
)

var fieldName = regexp.MustCompile(`^[a-z][a-z0-9_]{0,39}$`)

// checkPaths walks all paths of a backend and reports what every path must
// have and one has not: help, names for generated clients, declared answers,
// both forward flags on every operation, and no path hidden by an earlier one.
func checkPaths(t *testing.T, paths []*framework.Path) {
	t.Helper()
	ids := map[string]string{}
	for i, p := range paths {
		spoken(t, p.Pattern, "help", p.HelpSynopsis)
		spoken(t, p.Pattern, "description", p.HelpDescription)
		checkFields(t, p)
		if len(p.Operations) == 0 {
			t.Errorf("%s: has no operations", p.Pattern)
		}
		for verb, handler := range p.Operations {
			checkOperation(t, p, verb, handler.Properties(), ids)
		}
		sample := segmentPattern.ReplaceAllString(strings.Trim(p.Pattern, "^$"), "x")
		for _, form := range []string{strings.TrimSuffix(sample, "/?"), strings.TrimSuffix(sample, "?")} {
			if j := slices.IndexFunc(paths, func(q *framework.Path) bool {
				return regexp.MustCompile("^" + strings.Trim(q.Pattern, "^$") + "$").MatchString(form)
			}); j != i {
				t.Errorf("%q is meant for %s and goes to another path", form, p.Pattern)
			}
		}
	}
}

func checkFields(t *testing.T, p *framework.Path) {
	t.Helper()
	for _, name := range regexp.MustCompile(p.Pattern).SubexpNames() {
		if name != "" && p.Fields[name] == nil {
			t.Errorf("%s: capture %s is not declared", p.Pattern, name)
		}
	}
	for name, f := range p.Fields {
		if !fieldName.MatchString(name) || f.Type == framework.TypeInvalid {
			t.Errorf("%s: field %q of type %s", p.Pattern, name, f.Type)
		}
		spoken(t, p.Pattern, "field "+name, f.Description)
	}
}

func checkOperation(t *testing.T, p *framework.Path, verb logical.Operation, o framework.OperationProperties, ids map[string]string) {
	t.Helper()
	where := fmt.Sprintf("%s of %s", verb, p.Pattern)
	spoken(t, where, "summary", o.Summary)
	if !o.ForwardPerformanceStandby || !o.ForwardPerformanceSecondary {
		t.Errorf("%s: would be answered by a node that cannot write", where)
	}
	switch verb {
	case logical.ReadOperation, logical.UpdateOperation, logical.DeleteOperation:
	case logical.ListOperation:
		if !strings.HasSuffix(strings.TrimSuffix(p.Pattern, "$"), "/?") {
			t.Errorf("%s: a list ends with /?", where)
		}
	default:
		t.Errorf("%s: is not one of the operations that are checked", where)
	}
	d := o.DisplayAttrs
	if d == nil || d.OperationPrefix != "pim" || d.OperationVerb == "" || d.OperationSuffix == "" {
		t.Errorf("%s: has no name for generated clients: %+v", where, d)
		return
	}
	id := d.OperationVerb + "-" + d.OperationSuffix
	if other := ids[id]; other != "" || !regexp.MustCompile(`^[a-z]+(-[a-z]+)*$`).MatchString(id) {
		t.Errorf("%s: is called %s, like %q", where, id, other)
	}
	ids[id] = where
	if o.Responses[http.StatusBadRequest] == nil || o.Responses[http.StatusOK] == nil && o.Responses[http.StatusNoContent] == nil {
		t.Errorf("%s: declares answers %v only", where, slices.Sorted(maps.Keys(o.Responses)))
	}
	for code, responses := range o.Responses {
		for _, r := range responses {
			if r.Description == "" || code == http.StatusOK && len(r.Fields) == 0 && r.MediaType == "" {
				t.Errorf("%s: says nothing about its %d", where, code)
			}
			for name, f := range r.Fields {
				spoken(t, where, "answered field "+name, f.Description)
			}
		}
	}
}

// spoken wants a text for people.
func spoken(t *testing.T, where, what, text string) {
	t.Helper()
	if strings.TrimSpace(text) == "" {
		t.Errorf("%s: %s says nothing", where, what)
	}
}

// checkAnswer wants an answer as it is declared: no field that is not, every
// one that is always there.
func checkAnswer(t *testing.T, backend *framework.Backend, req *logical.Request, resp *logical.Response, err error) {
	t.Helper()
	p := backend.Route(req.Path)
	if p == nil || p.Operations[req.Operation] == nil {
		t.Fatalf("%s of %s is no operation", req.Operation, req.Path)
	}
	code := status(t, req.Operation, resp, err)
	if code == http.StatusInternalServerError || code == http.StatusBadGateway {
		if resp != nil {
			t.Errorf("an answer beside a %d", code)
		}
		return
	}
	declared := p.Operations[req.Operation].Properties().Responses[code]
	if declared == nil {
		t.Fatalf("%s of %s answers %d, which is not declared", req.Operation, req.Path, code)
	}
	if resp == nil {
		return
	}
	data := resp.Data
	if resp.IsError() {
		_, data = errorOf(t, resp)
	}
	if declared[0].Fields != nil {
		schema.ValidateResponseData(t, &declared[0], data, true)
	}
}
