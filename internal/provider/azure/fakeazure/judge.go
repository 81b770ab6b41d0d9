package fakeazure

import (
	_ "embed" // the vendor's description
	"encoding/json"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"sync"
)

// graphFact is what Microsoft's own Graph client says about one address;
// tests/azure/graph_facts.py reads it from that package.
type graphFact struct {
	Path  string                       `json:"path"`
	Query []string                     `json:"query"`
	Calls map[string]map[string]string `json:"calls"`
	form  *regexp.Regexp
}

//go:embed graph.json
var graphJSON []byte

//nolint:gochecknoglobals // read once
var graphFacts = sync.OnceValues(func() ([]graphFact, error) {
	var out []graphFact
	if err := json.Unmarshal(graphJSON, &out); err != nil {
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

// Judge holds calls to Microsoft Graph to Microsoft's own description and
// returns what differs, a sentence each. Calls to other services pass.
func Judge(calls []Seen) []string {
	facts, err := graphFacts()
	if err != nil {
		return []string{err.Error()}
	}
	var wrong []string
	for _, s := range calls {
		if s.Service != Graph {
			continue
		}
		for _, text := range judgeOne(facts, s) {
			wrong = append(wrong, s.Method+" "+s.Path+": "+text)
		}
	}
	return wrong
}

func judgeOne(facts []graphFact, s Seen) []string {
	path := strings.Replace(s.Path, "/microsoft.graph.application", "/graph.application", 1)
	i := slices.IndexFunc(facts, func(f graphFact) bool { return f.form.MatchString(path) })
	if i < 0 {
		return []string{"no such address"}
	}
	fields, ok := facts[i].Calls[s.Method]
	if !ok {
		return []string{"no such method there"}
	}
	var wrong []string
	for name := range s.Query {
		if name != "$skiptoken" && !slices.Contains(facts[i].Query, name) {
			wrong = append(wrong, "no query parameter "+name)
		}
	}
	for name := range strings.SplitSeq(s.Query.Get("$select"), ",") {
		if known := facts[i].Calls[http.MethodPatch]; name != "" && known != nil && known[name] == "" {
			wrong = append(wrong, "no property "+name)
		}
	}
	if len(fields) == 0 {
		if len(s.Body) > 0 {
			wrong = append(wrong, "a body where none is")
		}
		return wrong
	}
	return append(wrong, judgeBody(fields, s.Body)...)
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
