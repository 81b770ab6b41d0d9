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

// comparePinned runs the rows in order and compares every answer with the golden
// file, which must hold nothing else for this host.
func comparePinned(t *testing.T, rows []errorRow) {
	t.Helper()
	want := map[string]pinned{}
	raw, err := os.ReadFile(goldenFile)
	if err == nil {
		err = json.Unmarshal(raw, &want)
	}
	if err != nil && (!*update || !errors.Is(err, fs.ErrNotExist)) {
		t.Fatal(err)
	}
	got := map[string]pinned{}
	for _, row := range rows {
		t.Run(row.name, func(t *testing.T) {
			answer := pin(t, row.do(t))
			if _, twice := got[row.key()]; twice {
				t.Errorf("two rows have this name")
			}
			got[row.key()] = answer
			if !*update && !reflect.DeepEqual(answer, want[row.key()]) {
				t.Errorf("the answer is another one than %s says (-update writes it)\n got %s\nwant %s",
					goldenFile, asJSON(t, answer), asJSON(t, want[row.key()]))
			}
		})
	}
	if t.Failed() || len(got) < len(rows) { // some rows were left out by -run
		return
	}
	for _, key := range slices.Sorted(maps.Keys(want)) {
		other := strings.HasSuffix(key, " [vault]") && host.OpenBao || strings.HasSuffix(key, " [openbao]") && !host.OpenBao
		if _, ok := got[key]; !ok && other {
			got[key] = want[key]
		} else if !ok && !*update {
			t.Errorf("%s holds a row that no test has: %s", goldenFile, key)
		}
	}
	if *update {
		if err := os.WriteFile(goldenFile, asJSON(t, got), 0o644); err != nil {
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
