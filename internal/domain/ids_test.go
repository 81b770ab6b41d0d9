package domain

import (
	"bytes"
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"testing/iotest"
)

func TestNewID(t *testing.T) {
	first, err := NewID(t0, bytes.NewReader(make([]byte, 10)))
	if err != nil {
		t.Fatal(err)
	}
	second, err := NewID(at("1ms"), bytes.NewReader(bytes.Repeat([]byte{0xff}, 10)))
	if err != nil {
		t.Fatal(err)
	}
	if !ValidID(first) || !ValidID(second) || first >= second {
		t.Fatalf("%q then %q", first, second)
	}
	if _, err := NewID(t0, iotest.ErrReader(errors.New("no entropy"))); err == nil {
		t.Fatal("an id was made without entropy")
	}
}

func TestIDs(t *testing.T) {
	good := id(1)
	rows := []struct {
		name, text string
		ok         bool
	}{
		{"an id in the exact form", good, true},
		{"the largest id", "7" + strings.Repeat("z", 25), true},
		{"nothing", "", false},
		{"upper case is not folded", strings.ToUpper(good), false},
		{"beyond 48 bits of time", "8" + good[1:], false},
		{"one letter short", good[1:], false},
		{"one letter long", good + "0", false},
		{"a letter outside the alphabet", good[:25] + "u", false},
		{"letters that look like digits", good[:25] + "o", false},
		{"a line break at the end", good[:25] + "\n", false},
		{"a line break after the end", good + "\n", false},
		{"a path", "../" + good[3:], false},
	}
	for _, row := range rows {
		t.Run(row.name, func(t *testing.T) {
			r, rerr := ParseRequestID(row.text)
			c, cerr := ParseCredentialID(row.text)
			if (rerr == nil) != row.ok || (cerr == nil) != row.ok || ValidID(row.text) != row.ok {
				t.Fatalf("request id: %v, credential id: %v", rerr, cerr)
			}
			if row.ok && (string(r) != row.text || string(c) != row.text) || !row.ok && (r != "" || c != "") {
				t.Fatalf("parsed as %q and %q", r, c)
			}
		})
	}
}

func TestNames(t *testing.T) {
	rows := []struct {
		name, text string
		ok         bool
	}{
		{"letters, digits and hyphens", "prod-admin-1", true},
		{"one letter", "a", true},
		{"sixty-three letters", strings.Repeat("a", 63), true},
		{"sixty-four letters", strings.Repeat("a", 64), false},
		{"nothing", "", false},
		{"upper case", "Prod", false},
		{"a dot", "a.b", false},
		{"an underscore", "a_b", false},
		{"a slash", "a/b", false},
		{"a hyphen first", "-a", false},
		{"a hyphen last", "a-", false},
		{"another script", "é", false},
		{"a line break", "a\n", false},
	}
	for _, row := range rows {
		if got := ValidName(row.text); got != row.ok {
			t.Errorf("%s: %v", row.name, got)
		}
	}
}

func TestHandleRoundTrip(t *testing.T) {
	h := testHandle(10)
	h.Shared = "binding-1"
	text, err := h.Encode()
	if err != nil {
		t.Fatal(err)
	}
	const want = `{"p":"fake","v":1,"t":"prod","l":"place-1","c":"01jnb000000000000000000010","s":"binding-1","d":{"user":"pim-1"}}`
	if text != want {
		t.Fatalf("encoded as %s: leases of older versions would not be understood", text)
	}
	back, err := DecodeHandle(text)
	if err != nil {
		t.Fatal(err)
	}
	if again, err := back.Encode(); err != nil || again != text {
		t.Fatalf("decoded to %s, %v", again, err)
	}
}

func TestHandlesThatAreRefused(t *testing.T) {
	edit := func(f func(*Handle)) string {
		h := testHandle(10)
		f(&h)
		raw, err := json.Marshal(h)
		if err != nil {
			t.Fatal(err)
		}
		return string(raw)
	}
	for name, text := range map[string]string{
		"nothing":                 "",
		"no JSON":                 "hunter2secret",
		"half of it":              edit(func(*Handle) {})[:40],
		"a list":                  "[]",
		"no object":               "null",
		"more after it":           edit(func(*Handle) {}) + "{}",
		"no provider":             edit(func(h *Handle) { h.Provider = "" }),
		"no target":               edit(func(h *Handle) { h.Target = "" }),
		"no credential":           edit(func(h *Handle) { h.Credential = "" }),
		"a credential of no form": edit(func(h *Handle) { h.Credential = "x" }),
		"too large":               edit(func(h *Handle) { h.Shared = strings.Repeat("x", MaxHandleBytes) }),
	} {
		t.Run(name, func(t *testing.T) {
			h, err := DecodeHandle(text)
			if err == nil {
				t.Fatalf("decoded as %+v", h)
			}
			if strings.Contains(err.Error(), "hunter2secret") {
				t.Fatalf("the error repeats the text: %v", err)
			}
		})
	}
}

func TestHandlesThatCannotBeEncoded(t *testing.T) {
	large, broken := testHandle(10), testHandle(10)
	large.Data = json.RawMessage(`"` + strings.Repeat("x", MaxHandleBytes) + `"`)
	broken.Data = json.RawMessage(`{`)
	for name, h := range map[string]Handle{"too large": large, "broken data": broken} {
		if text, err := h.Encode(); err == nil {
			t.Errorf("%s: encoded as %s", name, text)
		}
	}
}

func FuzzDecodeHandle(f *testing.F) {
	text, err := testHandle(10).Encode()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(text)
	f.Add(strings.Replace(text, `{"user":"pim-1"}`, `[ 1 , "\u2028" ]`, 1))
	f.Add(`{"p":"a","t":"b","c":"` + id(1) + `","d":null}`)
	f.Add(`{"P":"a","T":"b","C":"` + id(1) + `"}`)
	f.Add("{")
	f.Fuzz(func(t *testing.T, in string) {
		h, err := DecodeHandle(in)
		if err != nil {
			return
		}
		if h.Provider == "" || h.Target == "" || !ValidID(string(h.Credential)) {
			t.Fatalf("half a name was decoded: %+v", h)
		}
		out, err := h.Encode()
		if err != nil {
			return // escaping may make it longer than a lease carries
		}
		back, err := DecodeHandle(out)
		if err != nil {
			t.Fatalf("what was encoded cannot be decoded: %v", err)
		}
		if again, err := back.Encode(); err != nil || again != out {
			t.Fatalf("not stable: %s, then %s (%v)", out, again, err)
		}
	})
}
