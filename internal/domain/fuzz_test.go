package domain

import (
	"maps"
	"math/rand/v2"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"golang.org/x/text/unicode/norm"
	"pgregory.net/rapid"
)

// Names of targets and roles are parts of paths and of storage keys.
func FuzzNames(f *testing.F) {
	for _, s := range []string{"prod-admin", "a", "", "-a", "a-", "a--b", "PROD", "pröd", "a/b", "..", "a\n", "a\x00", strings.Repeat("a", 63), strings.Repeat("a", 64), "prod*", "***", "ᵃ", "ſ"} {
		f.Add(s, "prod-admin")
		f.Add("prod-*n", s)
	}
	const letters = "abcdefghijklmnopqrstuvwxyz0123456789-"
	f.Fuzz(func(t *testing.T, pattern, name string) {
		plain := name != "" && len(name) <= 63 && strings.Trim(name, letters) == "" &&
			!strings.HasPrefix(name, "-") && !strings.HasSuffix(name, "-")
		if ValidName(name) != plain {
			t.Fatalf("%q is a name: %v", name, ValidName(name))
		}
		if plain && (strings.ToLower(name) != name || strings.ContainsAny(name, "/.%*")) {
			t.Fatalf("%q has other spellings", name)
		}
		if ValidNamePattern(name) && strings.Trim(name, letters+"*") != "" {
			t.Fatalf("%q is a pattern", name)
		}
		if !ValidNamePattern(pattern) || !plain {
			return
		}
		if got, want := MatchName(pattern, name), glob(pattern, name); got != want {
			t.Fatalf("%q matches %q: %v, want %v", pattern, name, got, want)
		}
		if !MatchName("*", name) || !MatchName(name, name) || MatchName(name, name+"x") || MatchName(name, "x"+name) {
			t.Fatalf("%q is matched by another pattern than itself and *", name)
		}
	})
}

// glob is MatchName done in another way.
func glob(pattern, name string) bool {
	if pattern == "" {
		return name == ""
	}
	if pattern[0] == '*' {
		return glob(strings.TrimLeft(pattern, "*"), name) || name != "" && glob(pattern, name[1:])
	}
	return name != "" && pattern[0] == name[0] && glob(pattern[1:], name[1:])
}

// Ids have one form each.
func FuzzIDs(f *testing.F) {
	for _, s := range []string{id(1), strings.ToUpper(id(1)), id(1) + "\n", "8" + id(1)[1:], "01jnb00000000000000000000i", "01jnb00000000000000000000l", "01jnb00000000000000000000u", ""} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		request, err := ParseRequestID(s)
		credential, err2 := ParseCredentialID(s)
		if ok := ValidID(s); (err == nil) != ok || (err2 == nil) != ok {
			t.Fatalf("%q: valid %v, %v, %v", s, ok, err, err2)
		}
		if err != nil {
			if request != "" || len(s) > 2 && strings.Contains(err.Error(), s) && !strings.Contains(errID.Error(), s) {
				t.Fatalf("%q comes back: %q, %v", s, request, err)
			}
			return
		}
		if string(request) != s || string(credential) != s || strings.ToLower(s) != s || len(s) != 26 || TimeOf(s).IsZero() && !strings.HasPrefix(s, "0000000000") {
			t.Fatalf("%q is read as %q, made at %s", s, request, TimeOf(s))
		}
	})
}

// Texts of people: what is taken is shown as it is, and what is shown forges nothing.
func FuzzTexts(f *testing.F) {
	for _, s := range []string{"deploy", "ok\x1b[2J", "ok\nok", "\u202eko", "\xff\xfe", "é", "e\u0301", "\u00ad", "\ufffd", "\ufeff", "\U000e0061", `\u001b`, strings.Repeat("é", 1024)} {
		f.Add(s, 2048)
	}
	f.Fuzz(func(t *testing.T, s string, most int) {
		why, shown := CheckText(s, most), Printable(s)
		if why == "" && (shown != s || len(s) > most || !utf8.ValidString(s)) {
			t.Fatalf("%q is taken, and shown as %q", s, shown)
		}
		if len(s) > 8 && strings.Contains(why, s) && !strings.Contains("has control or bidirectional characters not valid UTF-8", s) {
			t.Fatalf("what is wrong with %q repeats it: %s", s, why)
		}
		if strings.IndexFunc(shown, hidden) >= 0 || !utf8.ValidString(shown) || strings.ContainsAny(shown, "\n\r\x1b\x00") {
			t.Fatalf("%q is shown as %q", s, shown)
		}
		if again := Printable(shown); again != shown {
			t.Fatalf("%q is shown as %q, and that as %q", s, shown, again)
		}
		if len(shown) > 8*len(s) {
			t.Fatalf("%d bytes are shown as %d", len(s), len(shown))
		}
	})
}

// Patterns of roles hold for the whole text, whatever is in them.
func FuzzPatterns(f *testing.F) {
	for _, p := range []string{"INC-[0-9]+", "a|b", "a)|(b", `\Qa`, `\Q)|(.*`, "(?m)^a$", "(?s).*", "(?i)ab", "(?U)a+", "a$|^b", "", "(", "[", "x{1000}", "(?:a)(?P<n>b)", `a\z|b`, `\bfoo\b`, "(?-s:.)"} {
		f.Add(p, "INC-1")
		f.Add(p, "a\nb")
	}
	f.Fuzz(func(t *testing.T, p, text string) {
		re, err := CompilePattern(p)
		if err != nil {
			if len(p) > 4 && strings.Contains(err.Error(), p) && err != errPattern { //nolint:errorlint // the one sentinel
				t.Fatalf("the error repeats the pattern: %v", err)
			}
			return
		}
		if len(p) > MaxPattern || CheckText(p, MaxPattern) != "" {
			t.Fatalf("%q is taken", p)
		}
		alone, err := regexp.Compile(p)
		if err != nil {
			t.Fatalf("%q is a pattern in brackets alone: %v", p, err)
		}
		alone.Longest()
		at := alone.FindStringIndex(text)
		whole := at != nil && at[0] == 0 && at[1] == len(text)
		if got := re.MatchString(text); got != whole {
			t.Fatalf("%q takes %q: %v; alone it finds %v", p, text, got, at)
		}
	})
}

// One person is one person in every spelling that means the same letters.
func FuzzPersons(f *testing.F) {
	for _, v := range []string{"alice@example.org", " Zoë ", "ZOE\u0308", "İ", "ǅ", "\u1e9e", "\u212b", "\u00a0a\u2003", "\u0345", "e\u0301\u0316", "", "ﬁ", "\xff"} {
		f.Add(v, "mail")
	}
	f.Fuzz(func(t *testing.T, value, key string) {
		of := func(v string) (Person, bool) {
			return PersonOf(Entity{ID: uuid(1), Metadata: map[string]string{key: v}}, key)
		}
		p, ok := of(value)
		switch {
		case key == "":
			if p != Person("entity:"+uuid(1)) || !ok {
				t.Fatalf("without a key the entity is %q", p)
			}
			return
		case !ok:
			if strings.TrimSpace(value) != "" {
				t.Fatalf("%q is nobody", value)
			}
			return
		}
		plain := strings.TrimPrefix(string(p), key+":")
		if plain == "" || strings.TrimSpace(plain) != plain || strings.ToLower(plain) != plain {
			t.Fatalf("%q becomes %q", value, p)
		}
		if !utf8.ValidString(value) {
			return // there are no letters in it
		}
		for name, same := range map[string]string{
			"composed": norm.NFC.String(value), "decomposed": norm.NFD.String(value), "with blanks": " " + value + "\t",
			"in small letters": strings.ToLower(value), "as it was kept": plain,
		} {
			if other, ok := of(same); !ok || other != p {
				t.Fatalf("%q is %q, and %s %q", value, p, name, other)
			}
		}
	})
}

// A digest stands for exactly one ask.
func FuzzDigests(f *testing.F) {
	f.Add("prod", "dev", "alice", "env", "dev", int64(3600), 0)
	f.Add("prod\x00", "dev", "", "env=dev", "", int64(0), 3)
	f.Add(`","role":"x`, "<&>", "\u2028", "a", "b", int64(-1), 7)
	f.Fuzz(func(t *testing.T, role, target, person, name, value string, ttl int64, swap int) {
		for _, s := range []string{role, target, person, name, value} {
			if !utf8.ValidString(s) {
				return // CheckText takes no such text, and hosts hand none over
			}
		}
		one := Sealed{Role: role, Target: target, Person: Person(person), Params: map[string]string{name: value}, TTL: Seconds(ttl)}
		two := one
		switch swap % 8 {
		case 1:
			two.Role, two.Target = one.Target, one.Role
		case 2:
			two.Role, two.Target = role+target, ""
		case 3:
			two.Params = map[string]string{value: name}
		case 4:
			two.Params = map[string]string{name + value: ""}
		case 5:
			two.Principal, two.Requester = person, ""
		case 6:
			two.TTL++
		case 7:
			two.Params = nil
		}
		same := reflect.DeepEqual(one, two)
		if (one.Digest() == two.Digest()) != same {
			t.Fatalf("%+v and %+v: equal %v, digests %s and %s", one, two, same, one.Digest(), two.Digest())
		}
		if d := one.Digest(); len(d) != 64 || d != one.Digest() {
			t.Fatalf("digest %q", d)
		}
		if given, other := maps.Clone(one.Params), one.Params; ParamsHash(given) != ParamsHash(other) {
			t.Fatal("the same parameters have two hashes")
		}
	})
}

// Any sequence of events leaves a request that keeps the promises, as check has them.
func FuzzApply(f *testing.F) {
	for i := range byte(8) { // an input is what is drawn: it has to be long enough for a life
		seed := make([]byte, 16<<10)
		if _, err := rand.NewChaCha8([32]byte{i}).Read(seed); err != nil {
			f.Fatal(err)
		}
		f.Add(seed)
	}
	f.Fuzz(rapid.MakeFuzz(func(t *rapid.T) {
		l := newLife(t)
		for range rapid.IntRange(1, 60).Draw(t, "steps") {
			rev, length := l.r.Rev, len(l.r.History.Entries)
			head, folded := l.r.History.Head, l.r.History.Folded
			l.step(t)
			l.check(t)
			grown := l.r.Rev - rev
			if l.r.Rev < rev || len(l.r.History.Entries)+l.r.History.Folded < length+folded {
				t.Fatal("something was taken back")
			}
			if grown == 0 && l.r.History.Head != head {
				t.Fatal("the history changed without a write")
			}
		}
	}))
}

// Histories that were tampered with show it.
func FuzzHistories(f *testing.F) {
	f.Add("filed", "approved", uint8(1), uint8(2), "x")
	f.Add("", "", uint8(0), uint8(0), "")
	f.Fuzz(func(t *testing.T, first, second string, at, keep uint8, forged string) {
		if !utf8.ValidString(first+second) || !utf8.ValidString(forged) {
			return
		}
		var h History
		for i, text := range []string{first, second, first + second, "last"} {
			h = h.add(Entry{At: t0.Add(Seconds(i).Duration()), By: "alice", What: "test", Text: text})
		}
		head := h.Head
		h = h.Fold(1 + int(keep)%4)
		if !h.Intact() || h.Head != head {
			t.Fatalf("folded: %+v", h)
		}
		i := int(at) % len(h.Entries)
		bent := h
		bent.Entries = slices.Clone(h.Entries)
		bent.Entries[i].Text = forged
		if bent.Intact() != (forged == h.Entries[i].Text) {
			t.Fatalf("%q in the place of %q goes unseen", forged, h.Entries[i].Text)
		}
		bent.Entries = slices.Delete(slices.Clone(h.Entries), i, i+1)
		if bent.Intact() {
			t.Fatal("a missing entry goes unseen")
		}
	})
}
