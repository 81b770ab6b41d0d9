package domain

import (
	"encoding/json"
	"reflect"
	"strings"
	"testing"
)

func proposedRole(edit func(*Role)) Proposal {
	from := NewRole("admin", "inc")
	from.Target, from.EligibleGroups, from.ApproverGroups = "site", []string{"eng"}, []string{"leads"}
	from.Fields = map[string]any{"level": "admin"}
	from.Pins = map[string]string{"eng": "id-of-eng"}
	to := from
	edit(&to)
	return Proposal{ID: "p", Kind: EditRole, Name: "admin", Role: &Change[Role]{From: &from, To: &to}}
}

func TestChangesAreShownFieldByField(t *testing.T) {
	gone := proposedRole(func(*Role) {})
	gone.Role.To = nil
	for _, row := range []struct {
		name string
		p    Proposal
		want []FieldChange
	}{
		{"nothing", proposedRole(func(*Role) {}), nil},
		{"what the engine learnt is no edit", proposedRole(func(r *Role) { r.Pins, r.Incarnation = nil, "x" }), nil},
		{"a number", proposedRole(func(r *Role) { r.Approvals = 2 }), []FieldChange{{"approvals", "1", "2"}}},
		{"a list", proposedRole(func(r *Role) { r.ApproverGroups = []string{"leads", "<all>"} }), []FieldChange{{"approver_groups", `["leads"]`, `["leads","<all>"]`}}},
		{"a field of the target's type", proposedRole(func(r *Role) { r.Fields = map[string]any{"level": "root"} }), []FieldChange{{"level", `"admin"`, `"root"`}}},
		{"two, in order", proposedRole(func(r *Role) { r.TTL, r.AutoRequest = 60, true }), []FieldChange{{"auto_request", "", "true"}, {"ttl", "3600", "60"}}},
	} {
		if got := row.p.Changes(); !reflect.DeepEqual(got, row.want) {
			t.Errorf("%s: %v, want %v", row.name, got, row.want)
		}
	}
	if n := len(gone.Changes()); n < 10 || !gone.Deletes() || gone.Creates() {
		t.Errorf("a deletion shows %d fields", n)
	}
}

func TestFitTellsWhatWasChangedSince(t *testing.T) {
	p := proposedRole(func(r *Role) { r.Approvals = 2 })
	other, described := *p.Role.From, *p.Role.From
	other.Approvals, described.Description = 3, "for people"
	again := *p.Role.To
	again.Incarnation = "another"
	for _, row := range []struct {
		name string
		cur  *Role
		want Fit
	}{
		{"as it was", p.Role.From, FitOpen},
		{"described otherwise", &described, FitOpen},
		{"as it is to be", p.Role.To, FitApplied},
		{"changed by somebody else", &other, FitStale},
		{"deleted", nil, FitStale},
		{"deleted and written again", &again, FitStale},
	} {
		if got := p.FitRole(row.cur); got != row.want {
			t.Errorf("%s: %d, want %d", row.name, got, row.want)
		}
	}
	made := Proposal{Role: &Change[Role]{To: p.Role.To}}
	dropped := Proposal{Role: &Change[Role]{From: p.Role.From}}
	if made.FitRole(nil) != FitOpen || made.FitRole(p.Role.To) != FitApplied || made.FitRole(p.Role.From) != FitStale {
		t.Error("a creation")
	}
	if dropped.FitRole(nil) != FitApplied || dropped.FitRole(p.Role.From) != FitOpen || dropped.FitRole(&other) != FitStale {
		t.Error("a deletion")
	}
	if (Proposal{}).FitRole(nil) != FitStale {
		t.Error("nothing fits a proposal of something else")
	}
}

func TestFitOfTargetsAndSettings(t *testing.T) {
	from := Target{Name: "site", Incarnation: "i", Type: "fake", Place: "p", Fields: map[string]any{"address": "one"}}
	to, rotated, learnt, wider := from, from, from, from
	to.MaxLive, rotated.RotatedAt, learnt.Selves, wider.AllowedRoles = 7, at("1h"), []string{"e"}, []string{"*"}
	p := Proposal{Target: &Change[Target]{From: &from, To: &to}}
	if p.FitTarget(&from) != FitOpen || p.FitTarget(&learnt) != FitOpen || p.FitTarget(&rotated) != FitOpen ||
		p.FitTarget(&to) != FitApplied || p.FitTarget(&wider) != FitStale {
		t.Error("a target")
	}
	p.Secrets = []string{"password"}
	if p.FitTarget(&from) != FitOpen || p.FitTarget(&rotated) != FitStale {
		t.Error("a secret must not undo a rotation")
	}
	a, b, c := DefaultConfig(), DefaultConfig(), DefaultConfig()
	b.MaxOpen, c.MaxOpen = 1, 2
	q := Proposal{Config: &Change[Config]{From: &a, To: &b}}
	if q.FitConfig(&a) != FitOpen || q.FitConfig(&b) != FitApplied || q.FitConfig(&c) != FitStale {
		t.Error("settings")
	}
}

// A proposal is confirmed long after it was written, by a process that has read
// it from storage.
func TestDigestSurvivesStorageAndCoversEverything(t *testing.T) {
	p := proposedRole(func(r *Role) { r.Fields = map[string]any{"level": "root", "n": 3600} })
	p.At, p.Expires, p.Secrets = at("1h"), at("2h"), []string{"password"}
	raw, err := json.Marshal(p)
	if err != nil {
		t.Fatal(err)
	}
	var read Proposal
	if err := json.Unmarshal(raw, &read); err != nil {
		t.Fatal(err)
	}
	if read.Digest("m") != p.Digest("m") || p.FitRole(p.Role.To) != read.FitRole(p.Role.To) {
		t.Error("storage changes the digest")
	}
	for name, edit := range map[string]func(*Proposal){
		"id": func(p *Proposal) { p.ID = "q" }, "kind": func(p *Proposal) { p.Kind = EditTarget },
		"name": func(p *Proposal) { p.Name = "b" }, "live": func(p *Proposal) { p.Live = "keep" },
		"author": func(p *Proposal) { p.By.Entity = "e" }, "time": func(p *Proposal) { p.At = at("3h") },
		"end": func(p *Proposal) { p.Expires = at("3h") }, "secrets": func(p *Proposal) { p.Secrets = nil },
		"result": func(p *Proposal) { p.Role = proposedRole(func(r *Role) { r.Approvals = 9 }).Role },
		"target": func(p *Proposal) { p.Target = &Change[Target]{} }, "config": func(p *Proposal) { p.Config = &Change[Config]{} },
	} {
		q := read
		edit(&q)
		if q.Digest("m") == p.Digest("m") {
			t.Errorf("the digest does not cover the %s", name)
		}
	}
	if p.Digest("m") == p.Digest("n") || len(p.Digest("m")) != 64 {
		t.Error("the digest does not cover the mount")
	}
	if n := reflect.TypeFor[Proposal]().NumField(); n != 11 {
		t.Errorf("a proposal has %d fields: add the new one to this test", n)
	}
}

func TestMergedKeepsWhatTheEditDidNotTouch(t *testing.T) {
	p := proposedRole(func(r *Role) { r.Approvals, r.Owner = 2, "carol" })
	cur := *p.Role.From
	cur.Description, cur.Owner = "written meanwhile", "dave"
	got := Merged(*p.Role, cur)
	if got.Approvals != 2 || got.Owner != "carol" || got.Description != "written meanwhile" || !strings.HasPrefix(got.Revision(), "inc:") {
		t.Errorf("%+v", got)
	}
	if got := Merged(Change[Role]{To: p.Role.To}, Role{Description: "x"}); !reflect.DeepEqual(got, *p.Role.To) {
		t.Errorf("a creation: %+v", got)
	}
}

func TestSameProposer(t *testing.T) {
	for _, row := range []struct {
		name string
		a, b Party
		want bool
	}{
		{"one entity", Party{Entity: "a"}, Party{Entity: "a"}, true},
		{"two tokens without an entity", Party{}, Party{}, true},
		{"one person with two entities", Party{Entity: "a", Person: "k:x"}, Party{Entity: "b", Person: "k:x"}, true},
		{"two people", Party{Entity: "a", Person: "k:x"}, Party{Entity: "b", Person: "k:y"}, false},
		{"a person and a token without an entity", Party{Entity: "a", Person: "k:x"}, Party{}, false},
		{"two machines without a person", Party{Entity: "a"}, Party{Entity: "b"}, false},
	} {
		if got := SameProposer(row.a, row.b); got != row.want {
			t.Errorf("%s: %v", row.name, got)
		}
	}
}
