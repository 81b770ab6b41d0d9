package pim

import (
	"context"
	"fmt"
	"net/http"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/vault/sdk/framework"
	"github.com/hashicorp/vault/sdk/logical"

	"github.com/vault-pim/vault-plugin-secrets-pim/internal/provider/contract"
)

// garden is a resource with a field of every type. Its operations remember the
// call.
func garden(seen *[]*call) path {
	remember := func(_ context.Context, c *call) (*answer, error) {
		*seen = append(*seen, c)
		return &answer{data: map[string]any{"name": c.Capture("name")}}, nil
	}
	named := []field{{name: "name", typ: contract.TypeString, required: true, desc: "Its name."}}
	return path{
		pattern: "gardens/" + segment("name"), name: "garden",
		help: "One garden.", description: "A garden has a field of every type.",
		captures: []field{nameCapture("name", "Name of the garden.")},
		fields: []field{
			{name: "label", typ: contract.TypeString, desc: "A text."},
			{name: "kind", typ: contract.TypeString, desc: "One of a list.", allowed: []string{"herbs", "roses"}, def: "herbs"},
			{name: "key", typ: contract.TypeString, desc: "A secret.", sensitive: true},
			{name: "rows", typ: contract.TypeInt, desc: "A number.", def: 3},
			{name: "depth", typ: contract.TypeInt, desc: "A bounded number.", least: 1, most: 9},
			{name: "open", typ: contract.TypeBool, desc: "A switch."},
			{name: "rest", typ: contract.TypeSeconds, desc: "A duration."},
			{name: "owners", typ: contract.TypeStrings, desc: "A list."},
			{name: "labels", typ: contract.TypeMap, desc: "A map."},
			{name: "opens_at", typ: typeTime, desc: "A moment."},
			{name: "beds", typ: typeObjects, desc: "Named objects.", members: []field{
				{name: "plant", typ: contract.TypeString, required: true, desc: "What grows."},
				{name: "count", typ: contract.TypeInt, desc: "How many."},
				{name: "wet", typ: contract.TypeBool, desc: "Watered."},
			}},
			{name: "verbose", typ: contract.TypeBool, query: true, desc: "Say more."},
		},
		ops: []op{
			{verb: logical.ReadOperation, summary: "Read a garden.", do: remember, ok: named, statuses: []int{http.StatusForbidden, http.StatusNotFound}},
			{verb: logical.UpdateOperation, summary: "Write a garden.", do: remember, ok: named, statuses: []int{http.StatusForbidden, http.StatusNotFound}},
			{verb: logical.DeleteOperation, summary: "Delete a garden.", do: remember, takes: []string{}, ok: named},
		},
	}
}

func gardens() path {
	return path{
		pattern: "gardens/?", name: "gardens", help: "All gardens.", description: "Lists the gardens.",
		fields: pageFields(),
		ops: []op{{
			verb: logical.ListOperation, summary: "List gardens.", ok: listFields("About each garden."),
			statuses: []int{http.StatusNotFound},
			do: func(_ context.Context, c *call) (*answer, error) {
				keys := []string{"east", "west"}
				return &answer{keys: keys[:min(c.Int("limit"), len(keys))], info: map[string]any{"east": map[string]any{"rows": 3}}}, nil
			},
		}},
	}
}

func TestDeclaredPathsAreComplete(t *testing.T) {
	var seen []*call
	b := newBench(t, gardens(), garden(&seen))
	checkPaths(t, b.backend.Paths)
}

func TestHelpAndOpenAPI(t *testing.T) {
	var seen []*call
	b := newBench(t, gardens(), garden(&seen))
	resp, err := b.send(t, logical.HelpOperation, "gardens/east", nil)
	if err != nil {
		t.Fatal(err)
	}
	if text := fmt.Sprint(resp.Data["help"]); !strings.Contains(text, "A garden has a field of every type.") || !strings.Contains(text, "opens_at") {
		t.Fatalf("help says %s", text)
	}
	doc, ok := resp.Data["openapi"].(*framework.OASDocument)
	if !ok {
		t.Fatalf("no OpenAPI but %T", resp.Data["openapi"])
	}
	item := doc.Paths["/gardens/{name}"]
	if item == nil || item.Post.OperationID != "pim-write-garden" || item.Get.OperationID != "pim-read-garden" {
		t.Fatalf("OpenAPI has %+v", item)
	}
	if item.Get.Responses[http.StatusBadRequest] == nil || item.Get.Responses[http.StatusForbidden] == nil {
		t.Fatalf("OpenAPI declares answers %v", item.Get.Responses)
	}
}

func TestWhatWasSentArrivesTyped(t *testing.T) {
	rows := []struct {
		name string
		sent map[string]any
		get  func(*call) any
		want any
	}{
		{"a string", map[string]any{"label": "a b"}, func(c *call) any { return c.String("label") }, "a b"},
		{"an absent string is its default", nil, func(c *call) any { return c.String("kind") }, "herbs"},
		{"a string of the closed list", map[string]any{"kind": "roses"}, func(c *call) any { return c.String("kind") }, "roses"},
		{"a secret", map[string]any{"key": canary}, func(c *call) any { return c.Secret("key").Reveal() }, canary},
		{"a number", map[string]any{"rows": 7}, func(c *call) any { return c.Int("rows") }, 7},
		{"a number as text", map[string]any{"rows": "-7"}, func(c *call) any { return c.Int("rows") }, -7},
		{"a zero is no absence", map[string]any{"rows": 0}, func(c *call) any { return c.Int("rows") }, 0},
		{"an absent number is its default", nil, func(c *call) any { return c.Int("rows") }, 3},
		{"true", map[string]any{"open": true}, func(c *call) any { return c.Bool("open") }, true},
		{"true as text", map[string]any{"open": "true"}, func(c *call) any { return c.Bool("open") }, true},
		{"a duration in seconds", map[string]any{"rest": 90}, func(c *call) any { return int(c.Seconds("rest")) }, 90},
		{"a duration in seconds as text", map[string]any{"rest": "90"}, func(c *call) any { return int(c.Seconds("rest")) }, 90},
		{"a duration with units", map[string]any{"rest": "1h30m"}, func(c *call) any { return int(c.Seconds("rest")) }, 5400},
		{"a duration in days", map[string]any{"rest": "7d"}, func(c *call) any { return int(c.Seconds("rest")) }, 604800},
		{"a list", map[string]any{"owners": []string{"alice", "bob, carol"}}, func(c *call) any { return c.Strings("owners") }, []string{"alice", "bob, carol"}},
		{"a list with commas", map[string]any{"owners": "alice, bob"}, func(c *call) any { return c.Strings("owners") }, []string{"alice", "bob"}},
		{"a list as JSON text", map[string]any{"owners": `["alice","a,b"]`}, func(c *call) any { return c.Strings("owners") }, []string{"alice", "a,b"}},
		{"a map", map[string]any{"labels": map[string]string{"a": "1"}}, func(c *call) any { return c.Map("labels") }, map[string]string{"a": "1"}},
		{"a pair", map[string]any{"labels": "a=1=2"}, func(c *call) any { return c.Map("labels") }, map[string]string{"a": "1=2"}},
		{"pairs", map[string]any{"labels": []string{"a=1", "b="}}, func(c *call) any { return c.Map("labels") }, map[string]string{"a": "1", "b": ""}},
		{"a map as JSON text", map[string]any{"labels": `{"a":"1"}`}, func(c *call) any { return c.Map("labels") }, map[string]string{"a": "1"}},
		{"a moment, in UTC", map[string]any{"opens_at": "2026-03-02T10:00:00+01:00"}, func(c *call) any { return c.Time("opens_at") }, time.Date(2026, 3, 2, 9, 0, 0, 0, time.UTC)},
		{"a member", map[string]any{"beds": map[string]any{"b1": map[string]any{"plant": "thyme", "count": "4"}}}, func(c *call) any { return c.Objects("beds")["b1"].Int("count") }, 4},
		{"an absent member", map[string]any{"beds": `{"b1":{"plant":"thyme"}}`}, func(c *call) any { return c.Objects("beds")["b1"].Given("wet") }, false},
		{"a sent false is given", map[string]any{"open": false}, func(c *call) any { return c.Given("open") && !c.Cleared("open") && !c.Bool("open") }, true},
		{"what is absent is not given", nil, func(c *call) any { return c.Given("rows") }, false},
	}
	for _, row := range rows {
		t.Run(row.name, func(t *testing.T) {
			var seen []*call
			b := newBench(t, garden(&seen))
			resp, err := b.send(t, logical.UpdateOperation, "gardens/east", row.sent)
			if err != nil || len(seen) != 1 {
				t.Fatalf("%+v, %v", resp, err)
			}
			if got := row.get(seen[0]); !reflect.DeepEqual(got, row.want) {
				t.Fatalf("got %#v, want %#v", got, row.want)
			}
			if seen[0].Capture("name") != "east" || seen[0].Request.Data != nil {
				t.Fatalf("name %q; the data went on: %v", seen[0].Capture("name"), seen[0].Request.Data != nil)
			}
		})
	}
}

func TestNothingClears(t *testing.T) {
	for name, nothing := range map[string]any{"an empty text": "", "null": nil, "an empty list": []any{}, "an empty object": map[string]any{}} {
		t.Run(name, func(t *testing.T) {
			var seen []*call
			b := newBench(t, garden(&seen))
			sent := map[string]any{}
			names := []string{"label", "kind", "key", "rows", "open", "rest", "owners", "labels", "opens_at", "beds"}
			for _, n := range names {
				sent[n] = nothing
			}
			if resp, err := b.send(t, logical.UpdateOperation, "gardens/east", sent); err != nil || len(seen) != 1 {
				t.Fatalf("%+v, %v", resp, err)
			}
			c := seen[0]
			for _, n := range names {
				if !c.Given(n) || !c.Cleared(n) {
					t.Errorf("%s: given %v, cleared %v", n, c.Given(n), c.Cleared(n))
				}
			}
			if c.String("kind") != "" || c.Int("rows") != 0 || c.Strings("owners") != nil || !c.Secret("key").Empty() || c.Objects("beds") != nil {
				t.Error("a cleared field has a value")
			}
		})
	}
	var seen []*call
	b := newBench(t, garden(&seen))
	sent := map[string]any{"owners": "[]", "labels": "{}", "beds": "{}", "label": "[]"}
	if resp, err := b.send(t, logical.UpdateOperation, "gardens/east", sent); err != nil || len(seen) != 1 {
		t.Fatalf("%+v, %v", resp, err)
	}
	if c := seen[0]; !c.Cleared("owners") || !c.Cleared("labels") || !c.Cleared("beds") || c.String("label") != "[]" {
		t.Error("brackets clear lists and maps, and are a text elsewhere")
	}
}

func TestValuesForProviders(t *testing.T) {
	fields := []contract.Field{
		{Name: "label", Type: contract.TypeString},
		{Name: "rows", Type: contract.TypeInt},
		{Name: "rest", Type: contract.TypeSeconds},
		{Name: "open", Type: contract.TypeBool},
		{Name: "owners", Type: contract.TypeStrings},
		{Name: "labels", Type: contract.TypeMap},
		{Name: "key", Type: contract.TypeString, Secret: true},
	}
	var seen []*call
	b := newBench(t, garden(&seen))
	for _, sent := range []map[string]any{
		{"label": "x", "rest": "1m", "owners": "alice", "open": "false", "rows": "", "key": canary},
		{"key": ""},
	} {
		if resp, err := b.send(t, logical.UpdateOperation, "gardens/east", sent); err != nil {
			t.Fatalf("%+v, %v", resp, err)
		}
	}
	set, cleared := seen[0].Values(fields)
	want := contract.Values{"label": "x", "rest": 60, "owners": []string{"alice"}, "open": false}
	if !reflect.DeepEqual(set, want) || !reflect.DeepEqual(cleared, []string{"rows"}) {
		t.Errorf("values %v, cleared %v", set, cleared)
	}
	if set.Seconds("rest") != time.Minute {
		t.Errorf("rest is %s", set.Seconds("rest"))
	}
	secrets, gone := seen[0].Secrets(fields)
	if len(secrets) != 1 || secrets["key"].Reveal() != canary || len(gone) != 0 {
		t.Errorf("secrets %v, cleared %v", secrets, gone)
	}
	if secrets, gone = seen[1].Secrets(fields); len(secrets) != 0 || !reflect.DeepEqual(gone, []string{"key"}) {
		t.Errorf("secrets %v, cleared %v", secrets, gone)
	}
}

func TestACallPrintsNothingThatWasSent(t *testing.T) {
	var seen []*call
	b := newBench(t, garden(&seen))
	if _, err := b.send(t, logical.UpdateOperation, "gardens/east", map[string]any{"label": canary, "key": canary}); err != nil {
		t.Fatal(err)
	}
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%d"} {
		if text := fmt.Sprintf(verb, seen[0]); text != "call of garden" {
			t.Errorf("%s prints %q", verb, text)
		}
	}
}

func TestMistakesInDeclarations(t *testing.T) {
	plain := func(edit func(*path)) path {
		p := path{
			pattern: "a", name: "a", fields: []field{{name: "x", typ: contract.TypeString}},
			ops: []op{{verb: logical.ReadOperation}},
		}
		edit(&p)
		return p
	}
	for name, p := range map[string]path{
		"a field twice":          plain(func(p *path) { p.fields = append(p.fields, p.fields[0]) }),
		"a capture as a field":   plain(func(p *path) { p.captures = p.fields }),
		"a field without type":   plain(func(p *path) { p.fields[0].typ = 0 }),
		"an operation twice":     plain(func(p *path) { p.ops = append(p.ops, p.ops[0]) }),
		"a taken field too many": plain(func(p *path) { p.ops[0].takes = []string{"y"} }),
		"a broken pattern":       plain(func(p *path) { p.pattern = "(" }),
	} {
		if _, err := newHandler(&framework.Backend{}, nil, []path{p}); err == nil {
			t.Errorf("%s is accepted", name)
		}
	}
}

func TestProviderFieldsAreMerged(t *testing.T) {
	roleFields := func(d contract.Descriptor) []contract.Field { return d.RoleFields }
	d := func(name string, fields ...contract.Field) contract.Descriptor {
		return contract.Descriptor{Type: name, RoleFields: fields}
	}
	kind := func(desc string, allowed ...string) contract.Field {
		return contract.Field{Name: "credential_type", Type: contract.TypeString, Description: desc, Allowed: allowed}
	}
	got, err := providerFields([]contract.Descriptor{
		d("aws", kind("Kind.", "iam_user", "federation_token"), contract.Field{Name: "region", Type: contract.TypeString, Description: "Region.", Default: "us-east-1"}),
		d("host", kind("What to issue.", "lease", "token"), contract.Field{Name: "path", Type: contract.TypeString, Description: "Path."}),
		d("gcp", kind("Kind.", "token"), contract.Field{Name: "region", Type: contract.TypeString, Description: "Region."}),
	}, roleFields)
	if err != nil {
		t.Fatal(err)
	}
	want := []field{
		{
			name: "credential_type", typ: contract.TypeString, allowed: []string{"iam_user", "federation_token", "lease", "token"},
			desc: "aws: Kind. host: What to issue. gcp: Kind.",
		},
		{name: "region", typ: contract.TypeString, desc: "Region."},
		{name: "path", typ: contract.TypeString, desc: "Path."},
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("merged to %+v", got)
	}
	text := contract.Field{Name: "zone", Type: contract.TypeString}
	number, hidden := text, text
	number.Type, hidden.Secret = contract.TypeInt, true
	for name, other := range map[string]contract.Field{"another type": number, "a secret elsewhere": hidden} {
		if _, err := providerFields([]contract.Descriptor{d("aws", text), d("gcp", other)}, roleFields); err == nil {
			t.Errorf("one name for %s is accepted", name)
		}
	}
}
