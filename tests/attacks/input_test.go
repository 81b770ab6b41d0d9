package attacks

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/vault-pim/vault-plugin-secrets-pim/tests/harness"
	"github.com/vault-pim/vault-plugin-secrets-pim/tests/harness/poll"
)

// J: input that costs more to read than to send.

const (
	mib = 1 << 20
	// costs is within what time even the worst input has to be refused.
	costs = 20 * time.Second
	// grows is by how much the plugin may have grown once it is over.
	grows = 256 * mib
)

// post sends a body byte for byte.
func post(t *testing.T, who harness.Actor, path, contentType string, body []byte) (status int, answer string, took time.Duration) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPut, host.Addr+"/v1/"+path, bytes.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("X-Vault-Token", who.Token)
	req.Header.Set("Content-Type", contentType)
	from := time.Now()
	resp, err := (&http.Client{Timeout: 2 * costs}).Do(req)
	if err != nil {
		return 0, err.Error(), time.Since(from) // the host hangs up on what is too long
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(io.LimitReader(resp.Body, 8*mib))
	if err != nil {
		return 0, err.Error(), time.Since(from)
	}
	return resp.StatusCode, string(text), time.Since(from)
}

func quoted(s string) string { return strconv.Quote(s) }

// bombs are bodies of a request. Where a text is a form of a list or a map, there is
// JSON in the text too.
func bombs() map[string]string {
	nest := func(open, end string, n int) string { return strings.Repeat(open, n) + strings.Repeat(end, n) }
	members := func(n int, format string) string {
		var b strings.Builder
		for i := range n {
			if i > 0 {
				b.WriteByte(',')
			}
			fmt.Fprintf(&b, format, i)
		}
		return b.String()
	}
	var names strings.Builder
	for i := range 100_000 {
		fmt.Fprintf(&names, `"f_%s":1,`, strings.Map(func(r rune) rune { return r - '0' + 'a' }, strconv.Itoa(i)))
	}
	return map[string]string{
		"lists in lists":                        `{"justification":"why","params":` + nest("[", "]", 100_000) + `}`,
		"objects in objects":                    `{"params":` + nest(`{"a":`, "", 100_000) + "1" + strings.Repeat("}", 100_000) + `}`,
		"lists in lists, in a text":             `{"justification":"why","params":` + quoted(nest("[", "]", 200_000)) + `}`,
		"objects in objects, in a text":         `{"justification":"why","params":` + quoted(strings.Repeat(`{"a":`, 100_000)+"1"+strings.Repeat("}", 100_000)) + `}`,
		"empty lists side by side, in a text":   `{"justification":"why","params":` + quoted(`{"a":[`+strings.TrimSuffix(strings.Repeat("[],", 5_000_000), ",")+`]}`) + `}`,
		"a million commas":                      `{"justification":"why","params":` + quoted(strings.Repeat(",", mib)) + `}`,
		"a million pairs":                       `{"justification":"why","params":[` + members(1_000_000, `"k%d=v"`) + `]}`,
		"a hundred thousand unknown fields":     `{"justification":"why",` + members(100_000, `"field_`+"%d"+`":1`) + `}`,
		"a hundred thousand plain names":        `{"justification":"why",` + names.String() + `"f":1}`,
		"a thousand repeats of a field":         `{` + members(1000, `"justification":"%d"`) + `}`,
		"a justification of 20 MiB":             `{"justification":` + quoted(strings.Repeat("a", 20*mib)) + `}`,
		"a justification of a hundred thousand": `{"justification":` + quoted(strings.Repeat("é", 100_000)) + `}`,
		"a body of 40 MiB":                      `{"justification":"why","x":` + quoted(strings.Repeat("a", 40*mib)) + `}`,
		"a number of a million digits":          `{"justification":"why","ttl":` + strings.Repeat("9", mib/2) + `}`,
		"a number without a place":              `{"justification":"why","ttl":1e999999999}`,
		"a number of a million digits, as text": `{"justification":"why","ttl":"` + strings.Repeat("9", mib/2) + `"}`,
		"a duration of many parts":              `{"justification":"why","ttl":"` + strings.Repeat("1s", mib/4) + `"}`,
		"a start that never ends":               `{"justification":"why","start_time":"` + strings.Repeat("2026-", mib/8) + `"}`,
		"half an object":                        `{"justification":"why"`,
		"no object":                             `["justification","why"]`,
		"nothing in the place of the object":    `null`,
		"two objects":                           `{"justification":1}{"justification":2}`,
		"bytes that are no text":                "{\"justification\":\"\xff\xfe\x00\"}",
		"half a surrogate":                      `{"justification":"\ud800","ttl":"x"}`,
		"a name of a mebibyte":                  `{` + quoted(strings.Repeat("n", mib)) + `:1,"justification":"why"}`,
	}
}

// hostsOwn is how the host answers bodies that it does not pass on.
var hostsOwn = regexp.MustCompile(`(?i)^\{"errors":\["(failed to parse|malformed|duplicate key|invalid character|JSON |error parsing)`)

func TestInputBombs(t *testing.T) {
	t.Parallel()
	a := begin(t, "J1", "deeply nested, endless, doubled and broken JSON")
	w := newWorld(t, harness.Plugin{Variant: harness.Plain, Env: []string{marker}}, nil)
	params := map[string]any{"env": map[string]any{"allowed": []string{"dev"}}}
	w.role(t, "bombed", map[string]any{"params": params}).OK(t)
	id, _ := w.ask(t, "bombed", map[string]any{"ttl": "2h"})
	before, tells := memory(t)
	var slowest time.Duration
	try := func(who harness.Actor, name, path, body string) {
		status, answer, took := post(t, who, path, "application/json", []byte(body))
		slowest = max(slowest, took)
		// What the host cannot read it answers itself, some of it with 500.
		unread := status == http.StatusInternalServerError && hostsOwn.MatchString(answer)
		a.tried(t, status/100 != 2 && (status < 500 || unread) && took < costs && len(answer) < mib,
			"%s at %s: %d after %s, an answer of %d bytes: %.300s", name, path, status, took, len(answer), answer)
	}
	all := bombs()
	for name, body := range all {
		try(w.alice.Actor, name, w.path("request/bombed"), body)
	}
	for _, name := range []string{"lists in lists, in a text", "empty lists side by side, in a text", "a million commas", "a hundred thousand plain names"} {
		body := all[name]
		try(w.alice.Actor, name, w.path("creds/bombed"), body)
		try(w.bob.Actor, name, w.path("approvals/"+id), body)
		try(host.Root(), name, w.path("roles/bombed"), strings.ReplaceAll(body, `"params"`, `"labels"`))
		try(host.Root(), name, w.path("roles/bombed"), strings.ReplaceAll(body, `"params"`, `"eligible_groups"`))
		try(host.Root(), name, w.path("roles/bombed"), body)
	}
	from := time.Now()
	a.control(t, w.alice.Write(t, w.path("request/bombed"), map[string]any{"justification": "why", "ttl": "3h", "params": `{"env":"dev"}`}))
	a.seen(t, time.Since(from) < costs, "the mount takes %s for an ordinary request", time.Since(from))
	a.note("slowest refusal %.1f s", slowest.Seconds())
	if !tells {
		return // no /proc: nothing is known of other processes
	}
	poll.Until(t, 2*promised, func() error {
		if after, _ := memory(t); after > before+grows {
			return fmt.Errorf("the plugin had %d MiB and has %d MiB", before/mib, after/mib)
		}
		return nil
	})
	_, tells = memory(t)
	a.seen(t, tells, "the process that was bombed is gone")
}

// marker is in the environment of the plugin process that is bombed, and of no other.
var marker = fmt.Sprintf("PIM_ATTACKS=%d-%d", os.Getpid(), time.Now().UnixNano())

// memory is what that process uses now, where the system tells.
func memory(t *testing.T) (bytes int, ok bool) {
	t.Helper()
	files, err := filepath.Glob("/proc/[0-9]*/environ")
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		environ, err := os.ReadFile(file)
		if err != nil || !strings.Contains(string(environ), marker) {
			continue // somebody else's, or gone meanwhile
		}
		text, err := os.ReadFile(filepath.Join(filepath.Dir(file), "status"))
		if err != nil {
			continue
		}
		_, rest, _ := strings.Cut(string(text), "VmRSS:")
		kib, err := strconv.Atoi(strings.Fields(rest + " 0")[0])
		if err != nil {
			t.Fatal(err)
		}
		bytes, ok = max(bytes, kib<<10), true
	}
	return bytes, ok
}
