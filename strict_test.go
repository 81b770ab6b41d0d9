package pim

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/hashicorp/vault/sdk/logical"

	"github.com/vault-pim/vault-plugin-secrets-pim/internal/provider/contract"
)

func TestMalformedInput(t *testing.T) {
	nested := map[string]any{"password": canary}
	long := strings.Repeat("x", maxText+1)
	bed := func(members any) map[string]any { return map[string]any{"beds": map[string]any{"b1": members}} }
	rows := []struct {
		name string
		sent map[string]any
		want []string
	}{
		{"an object for a string", map[string]any{"label": nested}, []string{"label: must be a string"}},
		{"a list for a string", map[string]any{"label": []any{canary}}, []string{"label: must be a string"}},
		{"a number for a string", map[string]any{"label": 5}, []string{"label: must be a string"}},
		{"too long a string", map[string]any{"label": long}, []string{"label: longer than 65536 bytes"}},
		{"a string outside the list", map[string]any{"kind": canary}, []string{"kind: must be one of herbs, roses"}},
		{"an object for a secret", map[string]any{"key": nested}, []string{"key: must be a string"}},
		{"a text for a number", map[string]any{"rows": canary}, []string{"rows: must be a whole number"}},
		{"a fraction for a number", map[string]any{"rows": 1.5}, []string{"rows: must be a whole number"}},
		{"a number with an exponent", map[string]any{"rows": "1e3"}, []string{"rows: must be a whole number"}},
		{"a number that is too large", map[string]any{"rows": "9007199254740993"}, []string{"rows: must be a whole number of less than 17 digits"}},
		{"a number beyond all", map[string]any{"rows": "99999999999999999999"}, []string{"rows: must be a whole number"}},
		{"a switch for a number", map[string]any{"rows": true}, []string{"rows: must be a whole number"}},
		{"an object for a number", map[string]any{"rows": nested}, []string{"rows: must be a whole number"}},
		{"a number below its bound", map[string]any{"depth": 0}, []string{"depth: must be between 1 and 9"}},
		{"a number above its bound", map[string]any{"depth": "10"}, []string{"depth: must be between 1 and 9"}},
		{"a text for a switch", map[string]any{"open": canary}, []string{"open: must be true or false"}},
		{"a number for a switch", map[string]any{"open": 1}, []string{"open: must be true or false"}},
		{"an object for a switch", map[string]any{"open": nested}, []string{"open: must be true or false"}},
		{"a text for a duration", map[string]any{"rest": canary}, []string{"rest: must be a duration: seconds, or for example 90s, 1h30m, 7d"}},
		{"a negative duration", map[string]any{"rest": "-1h"}, []string{"rest: must not be negative"}},
		{"a negative number of seconds", map[string]any{"rest": -1}, []string{"rest: must not be negative"}},
		{"part of a second", map[string]any{"rest": "1500ms"}, []string{"rest: must be whole seconds"}},
		{"a duration beyond all", map[string]any{"rest": "999999d"}, []string{"rest: must be less than 100 years"}},
		{"a switch for a duration", map[string]any{"rest": true}, []string{"rest: must be a duration: seconds, or for example 90s, 1h30m, 7d"}},
		{"an object for a list", map[string]any{"owners": nested}, []string{"owners: must be a list of strings"}},
		{"a number for a list", map[string]any{"owners": 5}, []string{"owners: must be a list of strings"}},
		{"an object in a list", map[string]any{"owners": []any{"alice", nested}}, []string{"owners: must be a list of strings"}},
		{"a number in a list", map[string]any{"owners": []any{5}}, []string{"owners: must be a list of strings"}},
		{"an empty item", map[string]any{"owners": "alice,,bob"}, []string{"owners: must not have empty items"}},
		{"an item of white space", map[string]any{"owners": []any{" "}}, []string{"owners: must not have empty items"}},
		{"a list that is too long a text", map[string]any{"owners": "[" + strings.Repeat("[],", maxForm/3) + "[]]"}, []string{"owners: longer than 1048576 bytes"}},
		{"a map that is too long a text", map[string]any{"labels": `{"a":"` + strings.Repeat("x", maxForm) + `"}`}, []string{"labels: longer than 1048576 bytes"}},
		{"a map with too many keys", map[string]any{"labels": many(maxItems+1, func(i int) string { return fmt.Sprint("k", i) })}, []string{"labels: has more than 1000 keys"}},
		{"a number that is too long a text", map[string]any{"rows": strings.Repeat("9", maxForm+1)}, []string{"rows: longer than 65536 bytes"}},
		{"a broken JSON list", map[string]any{"owners": `["` + canary}, []string{"owners: must be a list of strings"}},
		{"too many items", map[string]any{"owners": strings.Repeat("a,", maxItems) + "a"}, []string{"owners: has more than 1000 items"}},
		{"a text for a map", map[string]any{"labels": canary}, []string{"labels: must be a map of strings: key=value, or an object of strings"}},
		{"a number in a map", map[string]any{"labels": map[string]any{"a": 1}}, []string{"labels: must be a map of strings: key=value, or an object of strings"}},
		{"an object in a map", map[string]any{"labels": map[string]any{"a": nested}}, []string{"labels: must be a map of strings: key=value, or an object of strings"}},
		{"a broken JSON object", map[string]any{"labels": `{"a":"` + canary + `=1"`}, []string{"labels: must be a map of strings: key=value, or an object of strings"}},
		{"a pair without a key", map[string]any{"labels": "=" + canary}, []string{"labels: must not have an empty key"}},
		{"a pair twice", map[string]any{"labels": []any{"a=1", "a=" + canary}}, []string{"labels: has a key twice"}},
		{"a number for a map", map[string]any{"labels": 5}, []string{"labels: must be a map of strings: key=value, or an object of strings"}},
		{"a text for a moment", map[string]any{"opens_at": canary}, []string{"opens_at: must be a time like 2026-03-02T09:00:00Z"}},
		{"a moment without a zone", map[string]any{"opens_at": "2026-03-02T09:00:00"}, []string{"opens_at: must be a time like 2026-03-02T09:00:00Z"}},
		{"a moment of no year in UTC", map[string]any{"opens_at": "9999-12-31T23:59:59-14:00"}, []string{"opens_at: must be a time like 2026-03-02T09:00:00Z"}},
		{"a number for a moment", map[string]any{"opens_at": 1770000000}, []string{"opens_at: must be a time like 2026-03-02T09:00:00Z"}},
		{"a text for objects", map[string]any{"beds": canary}, []string{"beds: must be an object of objects"}},
		{"a text for an object", bed(canary), []string{"beds: must be an object of objects"}},
		{"a member that is missing", bed(map[string]any{"count": 1}), []string{"beds.*.plant: is required"}},
		{"a member of a wrong type", bed(map[string]any{"plant": nested}), []string{"beds.*.plant: must be a string"}},
		{"a member that is unknown", bed(map[string]any{"plant": "thyme", "soil": canary}), []string{"beds.*.soil: unknown field"}},
		{"a member whose name may be a secret", bed(map[string]any{"plant": "thyme", canary: 1}), []string{"beds.*: 1 unknown field, whose name is not repeated here"}},
		{"a field that is unknown", map[string]any{"lable": canary}, []string{"lable: unknown field"}},
		{"a field whose name may be a secret", map[string]any{canary: "x"}, []string{"input: 1 unknown field, whose name is not repeated here"}},
		{"more such fields", map[string]any{canary: "x", "A": "y", "a b": "z"}, []string{"input: 3 unknown fields, whose names are not repeated here"}},
		{"a field that is part of the path", map[string]any{"name": canary}, []string{"name: is part of the path and must not be sent beside it"}},
		{
			"everything at once",
			map[string]any{"soil": 1, canary: 1, "name": "west", "label": nested, "rows": "many", "open": "maybe", "rest": "long", "owners": 1, "labels": 1, "opens_at": 1, "beds": 1, "kind": "x"},
			[]string{
				"name: is part of the path and must not be sent beside it", "soil: unknown field",
				"input: 1 unknown field, whose name is not repeated here", "label: must be a string", "kind: must be one of herbs, roses",
				"rows: must be a whole number", "open: must be true or false", "rest: must be a duration: seconds, or for example 90s, 1h30m, 7d",
				"owners: must be a list of strings", "labels: must be a map of strings: key=value, or an object of strings",
				"opens_at: must be a time like 2026-03-02T09:00:00Z", "beds: must be an object of objects",
			},
		},
	}
	for _, row := range rows {
		t.Run(row.name, func(t *testing.T) {
			var seen []*call
			b := newBench(t, garden(&seen))
			wantProblems(t, b, logical.UpdateOperation, "gardens/east", row.sent, row.want)
			if len(seen) != 0 {
				t.Error("the operation ran all the same")
			}
		})
	}
}

func many(n int, name func(int) string) map[string]any {
	out := make(map[string]any, n)
	for i := range n {
		out[name(i)] = "x"
	}
	return out
}

// An answer does not grow with what was sent.
func TestUnknownFieldsAreNamedUpToABound(t *testing.T) {
	letters := func(i int) string { return "f_" + strings.Repeat("a", i/26) + string(rune('a'+i%26)) }
	var want []string
	for _, name := range slices.Sorted(maps.Keys(many(100, letters)))[:maxNamed] {
		want = append(want, name+": unknown field")
	}
	var seen []*call
	b := newBench(t, garden(&seen))
	wantProblems(t, b, logical.UpdateOperation, "gardens/east", many(100, letters),
		append(want, "input: 80 unknown fields, whose names are not repeated here"))
}

// wantProblems sends something wrong and wants one 400 that names all of it
// and repeats nothing.
func wantProblems(t *testing.T, b *bench, verb logical.Operation, path string, sent map[string]any, want []string) {
	t.Helper()
	resp, err := b.send(t, verb, path, sent)
	if err != nil {
		t.Fatal(err)
	}
	if code := status(t, verb, resp, err); code != http.StatusBadRequest {
		t.Fatalf("answers %d", code)
	}
	text, data := errorOf(t, resp)
	if !reflect.DeepEqual(data["problems"], want) || data["code"] != "invalid_input" {
		t.Fatalf("problems %q, code %v; want %q", data["problems"], data["code"], want)
	}
	if text != "invalid input: "+strings.Join(want, "; ") {
		t.Fatalf("the text says %q", text)
	}
	b.wantNowhere(t, canary, resp, err)
	checkAnswer(t, b.backend, &logical.Request{Operation: verb, Path: path}, resp, err)
}

func TestReadsTakeQueryFieldsAlone(t *testing.T) {
	rows := []struct {
		name, path string
		verb       logical.Operation
		sent       map[string]any
		want       []string
	}{
		{"a read with a query field", "gardens/east", logical.ReadOperation, map[string]any{"verbose": "true"}, nil},
		{"a read with a field of writes", "gardens/east", logical.ReadOperation, map[string]any{"label": canary}, []string{"label: is not a field of this operation"}},
		{"a read with a wrong query field", "gardens/east", logical.ReadOperation, map[string]any{"verbose": canary}, []string{"verbose: must be true or false"}},
		{"a read with a repeated query field", "gardens/east", logical.ReadOperation, map[string]any{"verbose": []any{"true", canary}}, []string{"verbose: must be true or false"}},
		{"a read with an unknown field", "gardens/east", logical.ReadOperation, map[string]any{"verbos": canary}, []string{"verbos: unknown field"}},
		{"a read that says list=false", "gardens/east", logical.ReadOperation, map[string]any{"list": "false"}, nil},
		{"a read that says help=0", "gardens/east", logical.ReadOperation, map[string]any{"help": "0"}, nil},
		{"a read that says list and something", "gardens/east", logical.ReadOperation, map[string]any{"list": canary}, []string{"list: unknown field"}},
		{"a write that says list=false", "gardens/east", logical.UpdateOperation, map[string]any{"list": "false"}, []string{"list: unknown field"}},
		{"a delete that takes nothing", "gardens/east", logical.DeleteOperation, map[string]any{"verbose": "true"}, []string{"verbose: is not a field of this operation"}},
		{"a list with a page", "gardens/", logical.ListOperation, map[string]any{"after": "a", "limit": "2"}, nil},
		{"a list that says list=true", "gardens/", logical.ListOperation, map[string]any{"list": "true"}, nil},
		{"a list with too large a page", "gardens/", logical.ListOperation, map[string]any{"limit": "101"}, []string{"limit: must be between 1 and 100"}},
		{"a list with an empty page", "gardens/", logical.ListOperation, map[string]any{"limit": "0"}, []string{"limit: must be between 1 and 100"}},
		{"a name in upper case", "gardens/East", logical.ReadOperation, nil, []string{"name: must be 1 to 63 lower-case letters, digits and inner hyphens"}},
		{"a name with a dot and a wrong field", "gardens/a.b", logical.ReadOperation, map[string]any{"x": "1"}, []string{"name: must be 1 to 63 lower-case letters, digits and inner hyphens", "x: unknown field"}},
		{"a name that may be a secret", "gardens/" + canary + "!", logical.DeleteOperation, nil, []string{"name: must be 1 to 63 lower-case letters, digits and inner hyphens"}},
	}
	for _, row := range rows {
		t.Run(row.name, func(t *testing.T) {
			var seen []*call
			b := newBench(t, gardens(), garden(&seen))
			if row.want != nil {
				wantProblems(t, b, row.verb, row.path, row.sent, row.want)
				return
			}
			resp, err := b.send(t, row.verb, row.path, row.sent)
			if code := status(t, row.verb, resp, err); code != http.StatusOK {
				t.Fatalf("answers %d: %+v, %v", code, resp, err)
			}
			checkAnswer(t, b.backend, &logical.Request{Operation: row.verb, Path: row.path}, resp, err)
		})
	}
}

func TestRequiredFields(t *testing.T) {
	p := path{
		pattern: "decide/" + segment("id"), name: "decision", help: "Decide.", description: "Decides.",
		captures: []field{idCapture("id", "Id.")},
		fields:   []field{{name: "decision", typ: contract.TypeString, required: true, desc: "Decision.", allowed: []string{"approve", "deny"}}},
		ops: []op{
			{verb: logical.UpdateOperation, summary: "Decide.", do: func(context.Context, *call) (*answer, error) { return nil, nil }},
			{verb: logical.ReadOperation, summary: "Read.", do: func(_ context.Context, c *call) (*answer, error) {
				return &answer{data: map[string]any{"decision": c.String("decision")}}, nil
			}, ok: []field{{name: "decision", typ: contract.TypeString, desc: "Decision."}}},
		},
	}
	b := newBench(t, p)
	const good = "decide/01jnb000000000000000000001"
	wantProblems(t, b, logical.UpdateOperation, good, nil, []string{"decision: is required"})
	wantProblems(t, b, logical.UpdateOperation, good, map[string]any{"decision": ""}, []string{"decision: must not be empty"})
	wantProblems(t, b, logical.UpdateOperation, "decide/01JNB000000000000000000001", map[string]any{"decision": "approve"},
		[]string{"id: must be an id: 26 characters, digits and lower-case letters"})
	if resp, err := b.send(t, logical.UpdateOperation, good, map[string]any{"decision": "deny"}); err != nil || resp != nil {
		t.Errorf("%+v, %v", resp, err)
	}
	resp, err := b.send(t, logical.ReadOperation, good, nil)
	if err != nil || resp.Data["decision"] != "" {
		t.Errorf("a read needs what a write needs: %+v, %v", resp, err)
	}
}

func TestWhatIsNoOperation(t *testing.T) {
	rows := []struct {
		name, path string
		verb       logical.Operation
		code       int
		err        error
	}{
		{"an unknown path", "lawns/east", logical.ReadOperation, http.StatusNotFound, logical.ErrUnsupportedPath},
		{"a segment too many", "gardens/east/west", logical.ReadOperation, http.StatusNotFound, logical.ErrUnsupportedPath},
		{"reading what can only be listed", "gardens", logical.ReadOperation, http.StatusNotFound, nil},
		{"writing what can only be listed", "gardens", logical.UpdateOperation, http.StatusMethodNotAllowed, logical.ErrUnsupportedOperation},
		{"listing what can only be read", "gardens/east", logical.ListOperation, http.StatusMethodNotAllowed, logical.ErrUnsupportedOperation},
		{"patching", "gardens/east", logical.PatchOperation, http.StatusMethodNotAllowed, logical.ErrUnsupportedOperation},
	}
	for _, row := range rows {
		t.Run(row.name, func(t *testing.T) {
			var seen []*call
			b := newBench(t, gardens(), garden(&seen))
			resp, err := b.send(t, row.verb, row.path, map[string]any{"label": map[string]any{"password": canary}})
			if code := status(t, row.verb, resp, err); code != row.code || !errors.Is(err, row.err) || resp != nil {
				t.Fatalf("answers %d: %+v, %v", code, resp, err)
			}
			b.wantNowhere(t, canary, resp, err)
		})
	}
}

func FuzzInput(f *testing.F) {
	f.Add("label", `"text"`)
	f.Add("rows", `1e99`)
	f.Add("rest", `"9223372036854775807h"`)
	f.Add("rest", `"999999d"`)
	f.Add("beds", `{"b":{"plant":{"x":[1,null]}}}`)
	f.Add("labels", `"{\"a\":\"b\"}x"`)
	f.Add("owners", `["a",["b"]]`)
	f.Fuzz(func(t *testing.T, name, value string) {
		var seen []*call
		b := newBench(t, garden(&seen))
		req := &logical.Request{ID: "req-1", Operation: logical.UpdateOperation, Path: "gardens/east", Data: map[string]any{}}
		for _, v := range []any{value, decoded(value)} {
			req.Data[name] = v
			resp, err := b.HandleRequest(context.Background(), req)
			if err != nil {
				t.Fatalf("%s of %s: %v", name, value, err)
			}
			if code := status(t, req.Operation, resp, err); code != http.StatusOK && code != http.StatusBadRequest {
				t.Fatalf("answers %d", code)
			}
		}
		if strings.Contains(b.log.String(), "panic") {
			t.Fatalf("log: %s", b.log.String())
		}
	})
}
