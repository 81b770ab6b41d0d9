package domain

import (
	"fmt"
	"strings"
	"testing"
)

// use is a use by alice with ticket INC-1 an hour ago; edit says what differs.
func use(n int, edit func(*GlassUse)) GlassUse {
	u := GlassUse{
		ID: RequestID(id(n)), Kind: KindBreakGlass, Person: "alice", Entity: uuid(1), Ticket: "INC-1",
		At: at("0s"), Deadline: at("72h"),
	}
	if edit != nil {
		edit(&u)
	}
	return u
}

func signed(u *GlassUse) { u.Signed = at("30m") }

func TestWhatBarsABreakGlass(t *testing.T) {
	role := testRole()
	role.BreakGlass = BreakGlass{BreakGlassLimitPerson: 4, BreakGlassLimitRole: 6}
	other := func(u *GlassUse) { u.Person, u.Entity = "bob", uuid(2) }
	rows := []struct {
		name   string
		uses   []GlassUse
		ticket string
		want   string // part of the text; "" = nothing bars it
	}{
		{"nothing before", nil, "INC-1", ""},
		{"the same ticket once before", []GlassUse{use(1, nil)}, "INC-1", ""},
		{"the same ticket three times before", []GlassUse{use(1, nil), use(2, nil), use(3, nil)}, "INC-1", "its ticket was used 3 time(s)"},
		{"three times, one of them signed off", []GlassUse{use(1, signed), use(2, nil), use(3, nil)}, "INC-1", ""},
		{"another ticket while one is owed", []GlassUse{use(1, nil)}, "INC-2", "only its own ticket"},
		{"another ticket after the sign-off", []GlassUse{use(1, signed)}, "INC-2", ""},
		{"the same ticket past the deadline", []GlassUse{use(1, func(u *GlassUse) { u.Deadline = at("30m") })}, "INC-1", "overdue"},
		{"what somebody else owes", []GlassUse{use(1, other), use(2, other), use(3, other)}, "INC-2", ""},
		{"another entity of the same person", []GlassUse{use(1, func(u *GlassUse) { u.Entity = uuid(9) })}, "INC-2", "only its own ticket"},
		{"the same entity under another person value", []GlassUse{use(1, func(u *GlassUse) { u.Person = "renamed" })}, "INC-2", "only its own ticket"},
		{"four signed uses in a period", []GlassUse{use(1, signed), use(2, signed), use(3, signed), use(4, signed)}, "INC-1", "4 times within"},
		{"four signed uses, one before the period", []GlassUse{use(1, func(u *GlassUse) { u.Signed, u.At = at("0s"), at("-200h") }), use(2, signed), use(3, signed), use(4, signed)}, "INC-1", ""},
		{"six uses of others", []GlassUse{use(1, other), use(2, other), use(3, other), use(4, other), use(5, other), use(6, other)}, "INC-1", "6 times within"},
		{"a fallback counts as debt, not as use", []GlassUse{use(1, func(u *GlassUse) { u.Kind = KindNormal })}, "INC-1", ""},
	}
	for _, row := range rows {
		t.Run(row.name, func(t *testing.T) {
			got := Ledger{Uses: row.uses}.Barred(role, "alice", uuid(1), row.ticket, at("1h"))
			switch {
			case row.want == "" && got != nil:
				t.Errorf("barred: %s", got.Text)
			case row.want != "" && (got == nil || !strings.Contains(got.Text, row.want)):
				t.Errorf("%+v, want %q", got, row.want)
			}
		})
	}
}

// More uses never open what fewer bar, whoever they are of.
func TestMoreUsesNeverHelp(t *testing.T) {
	role := testRole()
	role.BreakGlass = BreakGlass{BreakGlassLimitPerson: 3, BreakGlassLimitRole: 5, BreakGlassMax: 2}
	var l Ledger
	barred := false
	for n := range 12 {
		l.Uses = append(l.Uses, use(n, func(u *GlassUse) {
			if n%3 == 1 {
				u.Person, u.Entity = "bob", uuid(2)
			}
		}))
		now := l.Barred(role, "alice", uuid(1), "INC-1", at("1h")) != nil
		if barred && !now {
			t.Fatalf("use %d opened it again", n)
		}
		barred = now
		if left := l.Left(role, "alice", uuid(1), at("1h")); left > 3 || barred && n > 4 && left != 0 {
			t.Errorf("after %d uses %d are left", n+1, left)
		}
	}
	if !barred {
		t.Error("twelve uses bar nothing")
	}
}

func TestRolesWithAGlass(t *testing.T) {
	rows := []struct {
		name string
		edit func(*Role)
		want string // field of the problem; "" = none
	}{
		{"a group alone is enough", nil, ""},
		{"with reviewers of its own", func(r *Role) { r.ReviewerGroups = []string{"security"} }, ""},
		{"a window longer than max_ttl", func(r *Role) { r.BreakGlassTTL = 9 * 3600 }, "break_glass_ttl"},
		{"a window shorter than min_ttl", func(r *Role) { r.BreakGlassTTL = 30 }, "break_glass_ttl"},
		{"anybody", func(r *Role) { r.BreakGlassGroups = []string{"*"} }, "break_glass_groups"},
		{"reviewers by wildcard", func(r *Role) { r.ReviewerGroups = []string{"*"} }, "reviewer_groups"},
		{"reviewers by entity name", func(r *Role) { r.ReviewerEntities = []string{"bob"} }, "reviewer_entities"},
		{"a ticket for ever", func(r *Role) { r.BreakGlassMax = 11 }, "break_glass_max"},
		{"less than no use", func(r *Role) { r.BreakGlassLimitPerson = -1 }, "break_glass_limit_person"},
		{"too many for one role", func(r *Role) { r.BreakGlassLimitRole = 201 }, "break_glass_limit_role"},
		{"a period of a year", func(r *Role) { r.BreakGlassPeriod = 366 * 24 * 3600 }, "break_glass_period"},
		{"a review in a year", func(r *Role) { r.ReviewDeadline = 366 * 24 * 3600 }, "review_deadline"},
		{"at a role that approves by itself", func(r *Role) {
			r.AutoApprove, r.Approvals, r.ApproverGroups, r.ReviewerGroups = true, 0, nil, []string{"security"}
		}, "break_glass_groups"},
	}
	for _, row := range rows {
		t.Run(row.name, func(t *testing.T) {
			r := testRole()
			r.BreakGlassGroups = []string{"on-call"}
			if row.edit != nil {
				row.edit(&r)
			}
			got := fmt.Sprint(r.Problems())
			if (row.want == "") != (got == "[]") || !strings.Contains(got, row.want) {
				t.Errorf("problems: %s, want one of %q", got, row.want)
			}
		})
	}
}

func TestEditorsAreKeptForADay(t *testing.T) {
	var list []Editor
	list = NoteEditor(list, Party{Entity: uuid(1), Person: "alice"}, at("0s"))
	list = NoteEditor(list, Party{Entity: uuid(2), Person: "bob"}, at("1h"))
	list = NoteEditor(list, Party{Name: "a token without identity"}, at("2h"))
	for what, want := range map[string]bool{"23h59m": true, "24h": false} {
		if got := EditedBy(list, "alice", uuid(7), at(what)); got != want {
			t.Errorf("alice's other entity after %s: %v", what, got)
		}
		if got := EditedBy(list, "renamed", uuid(1), at(what)); got != want {
			t.Errorf("alice's entity under another value after %s: %v", what, got)
		}
	}
	if EditedBy(list, "", uuid(9), at("1h")) || len(list) != 2 {
		t.Errorf("editors: %+v", list)
	}
	if left := NoteEditor(list, Party{}, at("25h")); left != nil {
		t.Errorf("a day later: %+v", left)
	}
	for n := range 100 {
		list = NoteEditor(list, Party{Entity: uuid(100 + n)}, at("3h"))
	}
	if len(list) != maxEditors || !EditedBy(list, "", uuid(199), at("3h")) {
		t.Errorf("%d editors", len(list))
	}
}

func TestReviews(t *testing.T) {
	r := BreakGlassNow(asked(), ReviewOf(testRole(), "the glass was broken", t0), false, t0)
	if r.State != Active || !r.OwesReview() || r.Granted != 3600 || !r.History.Intact() || r.Heard() {
		t.Fatalf("%+v", r)
	}
	if again := r.Owe(ReviewOf(testRole(), "again", at("1h")), at("1h")); again.History.Head != r.History.Head {
		t.Error("it is owed twice")
	}
	if early := r.MissReview(at("1h")); early.Rev != r.Rev {
		t.Error("missed before its deadline")
	}
	for _, by := range []Party{party("alice"), {Entity: uuid(9), Person: party("alice").Person}, {Entity: party("alice").Entity, Person: "x"}} {
		if _, err := r.SignOff(by, Justified, "fine", at("1h")); err == nil {
			t.Errorf("%+v reviews what is their own", by)
		}
	}
	done, err := r.SignOff(party("bob"), Unjustified, "no need", at("1h"))
	if err != nil || done.OwesReview() || !done.History.Intact() || r.Review.Verdict != "" {
		t.Errorf("%+v, %v", done.Review, err)
	}
	if _, err := done.SignOff(party("carol"), Justified, "fine", at("2h")); err == nil {
		t.Error("it is signed off twice")
	}
	if late := done.MissReview(at("100h")); late.Rev != done.Rev {
		t.Error("missed although it is signed off")
	}
}

// Every entry of a history that people are told of is an event, once, with the
// head that the history had then.
func TestEventsOfAHistory(t *testing.T) {
	r := active(t)
	r = mustCredential(t, r.Plan(planned(10), at("61m")), 10, at("62m"), CredIssued, CredEndAsked)
	r, err := r.RevocationFailed(CredentialID(id(10)), "Timeout", at("2h"), at("63m"))
	if err != nil {
		t.Fatal(err)
	}
	if r, err = r.RevocationFailed(CredentialID(id(10)), "Timeout", at("2h"), at("64m")); err != nil {
		t.Fatal(err)
	}
	everything := func(EventKind) bool { return true }
	got := r.Unfed(everything)
	want := []EventKind{EventFiled, EventGranted, EventRevokeFailed}
	if len(got) != len(want) {
		t.Fatalf("%+v", got)
	}
	for i, e := range got {
		if e.Kind != want[i] {
			t.Errorf("event %d is %s, want %s", i, e.Kind, want[i])
		}
	}
	if r.History.Entries[len(r.History.Entries)-1].What != "revocation_failed" || got[2].Head != r.History.Head || got[2].N != len(r.History.Entries) {
		t.Errorf("the last event: %+v, head %s", got[2], r.History.Head)
	}
	fed := r.FedAll(got)
	if left := fed.Unfed(everything); len(left) != 0 {
		t.Errorf("fed, and still new: %+v", left)
	}
	folded := fed
	folded.History = folded.History.Fold(1)
	if left := folded.Unfed(everything); len(left) != 0 {
		t.Errorf("folded, and new again: %+v", left)
	}
	for _, k := range EventKinds() {
		if k == "" || len(k) > 20 {
			t.Errorf("kind %q", k)
		}
	}
}
