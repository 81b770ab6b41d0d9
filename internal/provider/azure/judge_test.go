package azure

import (
	"encoding/json"
	"net/http"
	"os"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
)

// graphFact is what Microsoft's own Graph client says about one address;
// tests/azure/graph_facts.py reads it from that package.
type graphFact struct {
	Path  string                       `json:"path"`
	Query []string                     `json:"query"`
	Calls map[string]map[string]string `json:"calls"`
	form  *regexp.Regexp
}

var graphFacts = sync.OnceValues(func() ([]graphFact, error) {
	raw, err := os.ReadFile("testdata/graph.json")
	if err != nil {
		return nil, err
	}
	var out []graphFact
	if err := json.Unmarshal(raw, &out); err != nil {
		return nil, err
	}
	for i, f := range out {
		pattern := strings.ReplaceAll(regexp.QuoteMeta(f.Path), `\*`, `[^/']+`)
		out[i].form = regexp.MustCompile("^/v1\\.0" + pattern + "$")
	}
	// The most telling address first: one with a word where another has an id.
	slices.SortStableFunc(out, func(a, b graphFact) int { return strings.Count(a.Path, "*") - strings.Count(b.Path, "*") })
	return out, nil
})

// judge holds every call that was made to Microsoft's own description.
func judge(t testing.TB, calls []seen) {
	t.Helper()
	facts, err := graphFacts()
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range calls {
		for _, wrong := range judgeOne(facts, s) {
			t.Errorf("%s %s: %s", s.method, s.path, wrong)
		}
	}
}

func judgeOne(facts []graphFact, s seen) []string {
	path := strings.Replace(s.path, "/microsoft.graph.application", "/graph.application", 1)
	i := slices.IndexFunc(facts, func(f graphFact) bool { return f.form.MatchString(path) })
	if i < 0 {
		return []string{"no such address"}
	}
	fields, ok := facts[i].Calls[s.method]
	if !ok {
		return []string{"no such method there"}
	}
	var wrong []string
	for name := range s.query {
		if name != "$skiptoken" && !slices.Contains(facts[i].Query, name) {
			wrong = append(wrong, "no query parameter "+name)
		}
	}
	for name := range strings.SplitSeq(s.query.Get("$select"), ",") {
		if known := facts[i].Calls[http.MethodPatch]; name != "" && known != nil && known[name] == "" {
			wrong = append(wrong, "no property "+name)
		}
	}
	if len(fields) == 0 {
		if len(s.body) > 0 {
			wrong = append(wrong, "a body where none is")
		}
		return wrong
	}
	return append(wrong, judgeBody(fields, s.body)...)
}

func judgeBody(fields map[string]string, raw []byte) []string {
	var body map[string]any
	if err := json.Unmarshal(raw, &body); err != nil {
		return []string{"the body is not an object"}
	}
	var wrong []string
	for name, value := range body {
		kind := "object"
		switch value.(type) {
		case string:
			kind = "string"
		case bool:
			kind = "bool"
		case float64:
			kind = "number"
		case []any:
			kind = "list"
		}
		if fields[name] != kind {
			wrong = append(wrong, "field "+name+" is no "+kind)
		}
	}
	return wrong
}

func TestTheJudgeRefusesWhatGraphDoesNotDescribe(t *testing.T) {
	t.Parallel()
	facts, err := graphFacts()
	if err != nil {
		t.Fatal(err)
	}
	for name, s := range map[string]seen{
		"an address that is none":     {method: "GET", path: "/v1.0/applicationz"},
		"a method that is none there": {method: "PUT", path: "/v1.0/applications/x"},
		"a query that is none there":  {method: "GET", path: "/v1.0/groups/x", query: map[string][]string{"$filter": {"a"}}},
		"a property that is none":     {method: "GET", path: "/v1.0/groups/x", query: map[string][]string{"$select": {"nonesuch"}}},
		"a field that is none":        {method: "POST", path: "/v1.0/applications/x/removePassword", body: []byte(`{"key":"a"}`)},
		"a field of another type":     {method: "PATCH", path: "/v1.0/servicePrincipals/x", body: []byte(`{"accountEnabled":"no"}`)},
		"a body where none belongs":   {method: "DELETE", path: "/v1.0/applications/x", body: []byte(`{}`)},
		"a body that is no object":    {method: "POST", path: "/v1.0/applications/x/addPassword", body: []byte(`[]`)},
	} {
		if len(judgeOne(facts, s)) == 0 {
			t.Errorf("%s was let through", name)
		}
	}
}
