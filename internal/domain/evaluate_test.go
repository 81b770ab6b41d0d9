package domain

import (
	"reflect"
	"slices"
	"testing"
)

func standing(name string, edit ...func(*Standing)) Standing {
	e := entity(name, "leads")
	s := Standing{
		Decision: Decision{By: party(name), Verdict: Approve, At: at("1h"), Digest: "d1"},
		Now:      &e, Person: party(name).Person,
	}
	for _, f := range edit {
		f(&s)
	}
	return s
}

func TestEvaluate(t *testing.T) {
	now := func(p string) func(*Standing) { return func(s *Standing) { s.Person = Person(p) } }
	stored := func(p string) func(*Standing) { return func(s *Standing) { s.Decision.By.Person = Person(p) } }
	ttl := func(n Seconds) func(*Standing) { return func(s *Standing) { s.Decision.TTL = n } }
	denies := func(s *Standing) { s.Decision.Verdict = Deny }
	const alice, bob = "email:alice@example.com", "email:bob@example.com"
	rows := []struct {
		name      string
		need      int
		standings []Standing
		met       bool
		have      int
		ttl       Seconds
	}{
		{"nobody approved", 1, nil, false, 0, 0},
		{"one of one", 1, []Standing{standing("bob")}, true, 1, 0},
		{"one of two", 2, []Standing{standing("bob")}, false, 1, 0},
		{"two of two", 2, []Standing{standing("bob"), standing("carol")}, true, 2, 0},
		{"more than asked", 1, []Standing{standing("bob"), standing("carol")}, true, 2, 0},
		{"the smallest ttl counts", 2, []Standing{standing("bob", ttl(900)), standing("carol", ttl(600))}, true, 2, 600},
		{"who did not shorten does not count for the ttl", 2, []Standing{standing("bob"), standing("carol", ttl(600))}, true, 2, 600},
		{"a denial beats a quorum", 1, []Standing{standing("bob"), standing("carol", denies)}, false, 1, 0},
		{"a denial of one who lost the role still denies", 1, []Standing{standing("bob"), standing("carol", denies, func(s *Standing) { s.Now = nil })}, false, 1, 0},
		{"two entities of one person count once", 2, []Standing{standing("bob"), standing("carol", now(bob), stored(bob))}, false, 1, 0},
		{"one person under stored and current value counts once", 2, []Standing{standing("bob"), standing("carol", now(bob))}, false, 1, 0},
		{"and when the stored value is the shared one", 2, []Standing{standing("bob", now("email:new")), standing("carol", stored(bob))}, false, 1, 0},
		{"two whom a third shows to be one person count once", 2, []Standing{standing("bob"), standing("carol"), standing("dave", stored(bob), now("email:carol@example.com"))}, false, 1, 0},
		{"the requester never counts", 1, []Standing{standing("alice")}, false, 0, 0},
		{"the requester never counts under the stored value", 1, []Standing{standing("bob", stored(alice))}, false, 0, 0},
		{"the requester never counts under the current value", 1, []Standing{standing("bob", now(alice))}, false, 0, 0},
		{"the requester's new value never counts", 1, []Standing{standing("bob", stored("email:alice-new"))}, false, 0, 0},
		{"a ttl of one who does not count does not count", 1, []Standing{standing("bob"), standing("alice", ttl(60))}, true, 1, 0},
		{"who is unknown to the host does not count", 1, []Standing{standing("bob", func(s *Standing) { s.Now = nil })}, false, 0, 0},
		{"who is disabled does not count", 1, []Standing{standing("bob", func(s *Standing) { s.Now.Disabled = true })}, false, 0, 0},
		{"who has no login here does not count", 1, []Standing{standing("bob", func(s *Standing) { s.Now.Aliases = nil })}, false, 0, 0},
		{"a machine does not count", 1, []Standing{standing("bob", func(s *Standing) { s.Machine = true })}, false, 0, 0},
		{"who has no person key does not count", 1, []Standing{standing("bob", now(""))}, false, 0, 0},
		{"who left the group does not count", 1, []Standing{standing("bob", func(s *Standing) { s.Now.Groups = nil })}, false, 0, 0},
		{"who was renamed counts once", 1, []Standing{standing("bob", now("email:bob-new"))}, true, 1, 0},
	}
	for _, row := range rows {
		t.Run(row.name, func(t *testing.T) {
			role := testRole()
			role.Approvals = row.need
			o := Evaluate(role, factsOf("email:alice-new", row.standings))
			if o.Met != row.met || o.Have != row.have || o.TTL != row.ttl || o.Need != row.need {
				t.Fatalf("met %v, %d of %d, ttl %d: %+v", o.Met, o.Have, o.Need, o.TTL, o.Rules)
			}
			if row.have < len(row.standings) && len(o.Rules) < 1 {
				t.Fatal("nobody can see why")
			}
			slices.Reverse(row.standings)
			if back := Evaluate(role, factsOf("email:alice-new", row.standings)); !reflect.DeepEqual(o, back) {
				t.Fatalf("the order matters:\n%+v\n%+v", o, back)
			}
		})
	}
}

func TestNoApprovalNeeded(t *testing.T) {
	rows := []struct {
		name      string
		approvals int
		auto      bool
		standings []Standing
		met       bool
	}{
		{"a role that approves by itself needs nobody", 0, true, nil, true},
		{"it needs nobody whatever else is stored", 5, true, nil, true},
		{"zero approvals alone are never met", 0, false, nil, false},
		{"not even by an approval", 0, false, []Standing{standing("bob")}, false},
		{"negative approvals are never met", -1, false, []Standing{standing("bob")}, false},
		{"a denial stops a role that approves by itself", 0, true, []Standing{standing("bob", func(s *Standing) { s.Decision.Verdict = Deny })}, false},
	}
	for _, row := range rows {
		t.Run(row.name, func(t *testing.T) {
			role := testRole()
			role.Approvals, role.AutoApprove = row.approvals, row.auto
			if o := Evaluate(role, factsOf(party("alice").Person, row.standings)); o.Met != row.met {
				t.Fatalf("met %v: %+v", o.Met, o.Rules)
			}
		})
	}
}

func TestReasonsAreForPeople(t *testing.T) {
	s := standing("bob", func(s *Standing) { s.Now.Disabled = true; s.Decision.By.Name = "bob\u202e" })
	o := Evaluate(testRole(), factsOf(party("alice").Person, []Standing{s}))
	want := []RuleResult{
		{Rule: "approval", Status: Unmet, Reason: `bob\u202e no longer counts: disabled`},
		{Rule: "approvals", Status: Unmet, Reason: "0 of 1"},
	}
	if !reflect.DeepEqual(o.Rules, want) {
		t.Fatalf("%+v", o.Rules)
	}
}

func TestMatchEntity(t *testing.T) {
	alice := entity("alice", "Engineers", "leads")
	rows := []struct {
		name             string
		groups, entities []string
		pins             map[string]string
		ok               bool
		by               string
		pin, mismatch    string
	}{
		{"empty lists match nobody", nil, nil, nil, false, "", "", ""},
		{"an entity by its id", nil, []string{alice.ID}, nil, true, alice.ID, "", ""},
		{"an entity by its alias", nil, []string{"alias:auth_userpass_1/alice"}, nil, true, "alias:auth_userpass_1/alice", "", ""},
		{"not by the alias of another mount", nil, []string{"alias:auth_userpass_2/alice"}, nil, false, "", "", ""},
		{"not by a name that only begins so", nil, []string{"alias:auth_userpass_1/ali"}, nil, false, "", "", ""},
		{"not by the entity's name", nil, []string{"alice"}, nil, false, "", "", ""},
		{"a group by its id", []string{"id-of-leads"}, nil, nil, true, "group id-of-leads", "", ""},
		{"a group by name, pinned at the first match", []string{"leads"}, nil, nil, true, "group leads", "id-of-leads", ""},
		{"names of groups do not depend on case", []string{"engineers"}, nil, nil, true, "group engineers", "id-of-Engineers", ""},
		{"a pinned group matches again without a new pin", []string{"leads"}, nil, map[string]string{"leads": "id-of-leads"}, true, "group leads", "", ""},
		{"a name that now means another group does not match", []string{"leads"}, nil, map[string]string{"leads": "id-of-old"}, false, "", "", "leads"},
		{"another group matches beside a changed one", []string{"leads", "engineers"}, nil, map[string]string{"leads": "id-of-old"}, true, "group engineers", "id-of-Engineers", "leads"},
		{"a group of others does not match", []string{"owners"}, nil, nil, false, "", "", ""},
		{"nothing is a wildcard", []string{"*", ""}, []string{"*", "", "alias:", "alias:auth_userpass_1/*"}, nil, false, "", "", ""},
	}
	for _, row := range rows {
		t.Run(row.name, func(t *testing.T) {
			m := MatchEntity(alice, row.groups, row.entities, row.pins)
			if m.OK != row.ok || m.By != row.by {
				t.Fatalf("%+v", m)
			}
			if row.pin == "" && len(m.Pin) > 0 || row.pin != "" && m.Pin[row.groups[len(row.groups)-1]] != row.pin {
				t.Fatalf("pins %v", m.Pin)
			}
			if row.mismatch == "" && len(m.Mismatch) > 0 || row.mismatch != "" && !slices.Equal(m.Mismatch, []string{row.mismatch}) {
				t.Fatalf("mismatches %v", m.Mismatch)
			}
		})
	}
}

func TestAGroupNamedLikeAnIdMatchesNoId(t *testing.T) {
	taker := entity("bob")
	taker.Groups = []Group{{ID: uuid(2), Name: uuid(1)}}
	if m := MatchEntity(taker, []string{uuid(1)}, nil, nil); m.OK || m.Pin != nil {
		t.Fatalf("a group took the id of another one as its name: %+v", m)
	}
	if m := MatchEntity(taker, []string{uuid(2)}, nil, nil); !m.OK {
		t.Fatal("a group is not matched by its id")
	}
}

func TestRoleMatchesItsOwnLists(t *testing.T) {
	r := testRole()
	r.EligibleEntities, r.ApproverEntities = []string{uuid('c')}, []string{uuid('d')}
	rows := []struct {
		name               string
		who                Entity
		eligible, approver bool
	}{
		{"an engineer is eligible", entity("alice", "engineers"), true, false},
		{"a lead approves", entity("bob", "leads"), false, true},
		{"carol is eligible by entity", entity("carol"), true, false},
		{"dave approves by entity", entity("dave"), false, true},
		{"a stranger is neither", entity("bob"), false, false},
	}
	for _, row := range rows {
		t.Run(row.name, func(t *testing.T) {
			if e, a := r.Eligible(row.who, t0).OK, r.Approver(row.who).OK; e != row.eligible || a != row.approver {
				t.Fatalf("eligible %v, approver %v", e, a)
			}
		})
	}
}
