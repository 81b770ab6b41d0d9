package domain

import (
	"slices"
	"strings"
	"testing"
	"time"
)

func TestResolveTTL(t *testing.T) {
	rows := []struct {
		name    string
		asked   Seconds
		given   bool
		want    Seconds
		problem string
	}{
		{"nothing asked gives the role's default", 0, false, 3600, ""},
		{"what is asked is given", 1800, true, 1800, ""},
		{"up to the longest", 8 * 3600, true, 8 * 3600, ""},
		{"down to the shortest", 60, true, 60, ""},
		{"longer than the longest is wrong", 8*3600 + 1, true, 0, "is longer than the role's max_ttl of 8h0m0s"},
		{"shorter than the shortest is wrong", 59, true, 0, "is shorter than the role's min_ttl of 1m0s"},
		{"zero is wrong, not the default", 0, true, 0, "must be longer than zero"},
		{"negative is wrong", -1, true, 0, "must be longer than zero"},
	}
	for _, row := range rows {
		t.Run(row.name, func(t *testing.T) {
			ttl, problem := ResolveTTL(testRole(), row.asked, row.given)
			if ttl != row.want || problem != row.problem {
				t.Fatalf("%d, %q", ttl, problem)
			}
		})
	}
	short := testRole()
	short.MaxTTL = 600
	if ttl, problem := ResolveTTL(short, 0, false); ttl != 600 || problem != "" {
		t.Errorf("a default beyond the longest gives %d, %q", ttl, problem)
	}
}

func TestResolveLease(t *testing.T) {
	const h, m, s = time.Hour, time.Minute, time.Second
	rows := []struct {
		name                        string
		lease                       Seconds
		left, provMin, provMax, max time.Duration
		want                        time.Duration
		ok                          bool
	}{
		{"the window by default", 0, h, 0, 0, 0, h, true},
		{"the role's lease when shorter", 900, h, 0, 0, 0, 15 * m, true},
		{"the window when it ends earlier", 7200, h, 0, 0, 0, h, true},
		{"the provider's longest", 0, h, 0, 30 * m, 0, 30 * m, true},
		{"the mount's longest", 0, h, 0, 0, 20 * m, 20 * m, true},
		{"the shortest of all", 1500, h, 0, 30 * m, 20 * m, 20 * m, true},
		{"whole seconds, never more than is left", 0, 90*s + 999*time.Millisecond, 0, 0, 0, 90 * s, true},
		{"exactly the shortest", 0, m, 0, 0, 0, m, true},
		{"below the role's shortest the window is ending", 0, 59*s + 999*time.Millisecond, 0, 0, 0, 59 * s, false},
		{"below the provider's shortest too", 0, 10 * m, 15 * m, 0, 0, 10 * m, false},
		{"a lease capped below the provider's shortest is none", 0, h, 15 * m, 10 * m, 0, 10 * m, false},
		{"nothing left is none", 0, 0, 0, 0, 0, 0, false},
		{"a window that is over is none", 0, -h, 0, 0, 0, -h, false},
	}
	for _, row := range rows {
		t.Run(row.name, func(t *testing.T) {
			r := testRole()
			r.LeaseTTL = row.lease
			ttl, ok := ResolveLease(r, row.left, row.provMin, row.provMax, row.max)
			if ttl != row.want || ok != row.ok {
				t.Fatalf("%s, %v", ttl, ok)
			}
		})
	}
	eager := testRole()
	eager.MinTTL = 0
	if ttl, ok := ResolveLease(eager, 900*time.Millisecond, 0, 0, 0); ok {
		t.Errorf("a lease of %s: the host would make it endless", ttl)
	}
}

func TestWorst(t *testing.T) {
	imm := func(n int, s ...Survivor) Revocation { return Revocation{Immediate, n, s} }
	prop := func(n int, s ...Survivor) Revocation { return Revocation{Propagating, n, s} }
	exp := func(n int, s ...Survivor) Revocation { return Revocation{ExpiryOnly, n, s} }
	rows := []struct {
		name  string
		parts []Revocation
		want  Revocation
	}{
		{"nothing is immediate", nil, imm(0)},
		{"one part is itself", []Revocation{prop(30, OpenSessions)}, prop(30, OpenSessions)},
		{"the weaker class wins with its own bound", []Revocation{imm(15), prop(8)}, prop(8)},
		{"expiry is the weakest", []Revocation{imm(1), exp(3600), prop(60)}, exp(3600)},
		{"the longer bound of one class wins", []Revocation{prop(30), prop(60)}, prop(60)},
		{"no published bound beats any bound", []Revocation{prop(0), prop(60)}, prop(0)},
		{"an immediate part without a number leaves the other's bound", []Revocation{imm(0), prop(60)}, prop(60)},
		{"all that survives any part survives, in print order", []Revocation{imm(1, CreatedObjects), prop(5, OpenSessions), imm(1, OpenSessions)}, prop(5, OpenSessions, CreatedObjects)},
		{"an unknown class is the weakest of all", []Revocation{exp(1), {Class: "soon"}}, Revocation{Class: "soon"}},
	}
	for _, row := range rows {
		t.Run(row.name, func(t *testing.T) {
			for range 2 {
				got := Worst(row.parts...)
				if got.Class != row.want.Class || got.Seconds != row.want.Seconds || !slices.Equal(got.Survives, row.want.Survives) {
					t.Fatalf("%+v", got)
				}
				slices.Reverse(row.parts)
			}
		})
	}
}

func TestClasses(t *testing.T) {
	for i, c := range Classes() {
		if !c.Valid() || c.WeakerThan(c) {
			t.Errorf("%s: valid %v, weaker than itself %v", c, c.Valid(), c.WeakerThan(c))
		}
		for _, stronger := range Classes()[:i] {
			if !c.WeakerThan(stronger) || stronger.WeakerThan(c) {
				t.Errorf("%s is not weaker than %s", c, stronger)
			}
		}
		if unknown := Class("soon"); !unknown.WeakerThan(c) {
			t.Errorf("an unknown class passes for %s", c)
		}
	}
	if Class("").Valid() || Class("Immediate").Valid() {
		t.Error("what is no class is valid")
	}
}

func TestHistoryChain(t *testing.T) {
	var h History
	if !h.Intact() {
		t.Fatal("an empty history is not intact")
	}
	heads := map[string]bool{}
	for n := range MaxHistory + 50 {
		before := h
		h = h.add(Entry{At: t0.Add(time.Duration(n) * time.Second), By: "bob", What: "approve", Text: strings.Repeat("x", n%7)})
		if !h.Intact() || heads[h.Head] || !before.Intact() {
			t.Fatalf("entry %d: intact %v, before %v, head seen %v", n, h.Intact(), before.Intact(), heads[h.Head])
		}
		heads[h.Head] = true
	}
	if len(h.Entries) != MaxHistory || h.Folded != 50 || h.Base == "" {
		t.Fatalf("%d entries, %d folded, base %q", len(h.Entries), h.Folded, h.Base)
	}
}

func TestTwoContinuationsOfOneHistory(t *testing.T) {
	h := History{}.add(Entry{At: t0, What: "filed"}).add(Entry{At: t0, What: "approve"}).add(Entry{At: t0, What: "x"})
	left, right := h.add(Entry{What: "left"}), h.add(Entry{What: "right"})
	if !left.Intact() || !right.Intact() || left.Head == right.Head {
		t.Fatal("one history overwrote the other")
	}
}

func TestTamperingBreaksTheChain(t *testing.T) {
	fresh := func() History {
		var h History
		for n := range MaxHistory + 3 {
			h = h.add(Entry{At: at("1h"), By: "bob", Who: uuid(n), What: "approve", Text: "approved"})
		}
		return h
	}
	rows := []struct {
		name   string
		tamper func(*History)
	}{
		{"another text", func(h *History) { h.Entries[5].Text = "denied" }},
		{"another name", func(h *History) { h.Entries[5].By = "carol" }},
		{"another entity", func(h *History) { h.Entries[5].Who = uuid(99) }},
		{"another event", func(h *History) { h.Entries[5].What = "deny" }},
		{"another moment", func(h *History) { h.Entries[5].At = at("2h") }},
		{"an entry removed", func(h *History) { h.Entries = slices.Delete(h.Entries, 5, 6) }},
		{"the last entry removed", func(h *History) { h.Entries = h.Entries[:len(h.Entries)-1] }},
		{"all entries removed", func(h *History) { h.Entries = nil }},
		{"two entries swapped", func(h *History) { h.Entries[5], h.Entries[6] = h.Entries[6], h.Entries[5] }},
		{"an entry added", func(h *History) { h.Entries = append(h.Entries, Entry{What: "approve"}) }},
		{"another base", func(h *History) { h.Base = h.Head }},
		{"another head", func(h *History) { h.Head = h.Base }},
	}
	for _, row := range rows {
		t.Run(row.name, func(t *testing.T) {
			h := fresh()
			if !h.Intact() {
				t.Fatal("not intact before")
			}
			if row.tamper(&h); h.Intact() {
				t.Fatal("nobody would notice")
			}
		})
	}
}
