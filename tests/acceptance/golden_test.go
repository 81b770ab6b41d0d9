package acceptance

import (
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"io/fs"
	"maps"
	"os"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/vault-pim/vault-plugin-secrets-pim/tests/harness"
)

var update = flag.Bool("update", false, "write testdata/errors.golden.json from what this host answers")

const goldenFile = "testdata/errors.golden.json"

// pinned is what a caller gets for one row: the status, and the body with what
// differs from run to run replaced by what it is.
type pinned struct {
	Status int `json:"status"`
	Body   any `json:"body"`
}

// errorRow is one row: a sentence, and how to come to the answer.
type errorRow struct {
	name string
	// host says that the answer is the host's own, which differs between them.
	host bool
	do   func(t *testing.T) harness.Answer
}

func (r errorRow) key() string {
	switch {
	case !r.host:
		return r.name
	case host.OpenBao:
		return r.name + " [openbao]"
	}
	return r.name + " [vault]"
}

var changing = []struct {
	is   *regexp.Regexp
	name string
}{
	{regexp.MustCompile(`\b[0-7][0-9a-hjkmnp-tv-z]{25}\b`), "ID"},
	{regexp.MustCompile(`\b[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}\b`), "UUID"},
	{regexp.MustCompile(`\b\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ`), "TIME"},
	{regexp.MustCompile(`\b[0-9a-f]{64}\b`), "DIGEST"},
	{regexp.MustCompile(`type: must be one of [a-z, ]+`), "type: must be one of TYPES"}, // each build has its own
	{regexp.MustCompile(`\bbao (read|write|list|delete)\b`), "vault $1"},                // the program at hand
	{regexp.MustCompile(`\b(pim|eng|leads|alice)-[a-z2-7]{8}\b`), "$1"},
}

// pin normalises an answer. What everybody gets to see never holds what somebody
// sent: rows send "canary" where they send text.
func pin(t *testing.T, a harness.Answer) pinned {
	t.Helper()
	a.NoTrace(t, "canary")
	text := string(a.Body)
	for _, c := range changing {
		text = c.is.ReplaceAllString(text, c.name)
	}
	p := pinned{Status: a.Status, Body: text}
	if text == "" {
		p.Body = nil
	}
	var body any
	if json.Unmarshal([]byte(text), &body) == nil {
		p.Body = body
	}
	return p
}

// golden compares answers with the golden file.
type golden struct {
	want map[string]pinned

	mu   sync.Mutex
	got  map[string]pinned
	rows int // that should have an answer
}

func readGolden(t *testing.T) *golden {
	t.Helper()
	g := &golden{want: map[string]pinned{}, got: map[string]pinned{}}
	raw, err := os.ReadFile(goldenFile)
	if err == nil {
		err = json.Unmarshal(raw, &g.want)
	}
	if err != nil && (!*update || !errors.Is(err, fs.ErrNotExist)) {
		t.Fatal(err)
	}
	return g
}

// compare runs rows in their order and compares every answer.
func (g *golden) compare(t *testing.T, rows ...[]errorRow) {
	t.Helper()
	for _, row := range slices.Concat(rows...) {
		g.mu.Lock()
		g.rows++
		g.mu.Unlock()
		t.Run(row.name, func(t *testing.T) {
			answer, want := pin(t, row.do(t)), g.want[row.key()]
			if !*update && !reflect.DeepEqual(answer, want) {
				t.Errorf("the answer is another one than %s says (-update writes it)\n got %s\nwant %s",
					goldenFile, asJSON(t, answer), asJSON(t, want))
			}
			g.mu.Lock()
			defer g.mu.Unlock()
			if _, twice := g.got[row.key()]; twice {
				t.Error("two rows have this name")
			}
			g.got[row.key()] = answer
		})
	}
}

// finish fails the test if the file holds what no row has, or writes the file. The
// rows of the other host stay.
func (g *golden) finish(t *testing.T) {
	t.Helper()
	if t.Failed() || len(g.got) < g.rows { // some rows were left out by -run
		return
	}
	for _, key := range slices.Sorted(maps.Keys(g.want)) {
		other := strings.HasSuffix(key, " [vault]") && host.OpenBao || strings.HasSuffix(key, " [openbao]") && !host.OpenBao
		if _, ok := g.got[key]; !ok && other {
			g.got[key] = g.want[key]
		} else if !ok && !*update {
			t.Errorf("%s holds a row that no test has: %s", goldenFile, key)
		}
	}
	if *update {
		if err := os.WriteFile(goldenFile, asJSON(t, g.got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

func asJSON(t *testing.T, v any) []byte {
	t.Helper()
	var out bytes.Buffer
	enc := json.NewEncoder(&out)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	if err := enc.Encode(v); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}
