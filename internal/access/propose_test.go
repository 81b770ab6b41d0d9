package access_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/vault-pim/vault-plugin-secrets-pim/internal/access"
	"github.com/vault-pim/vault-plugin-secrets-pim/internal/domain"
	"github.com/vault-pim/vault-plugin-secrets-pim/internal/fault"
	"github.com/vault-pim/vault-plugin-secrets-pim/internal/provider/contract"
	"github.com/vault-pim/vault-plugin-secrets-pim/internal/secret"
)

// sod is a mount on which edits take two people. Its role admin has an owner.
func sod(t tester) *mount {
	t.Helper()
	m := newMount(t)
	m.role("admin", func(r *domain.Role) { r.Owner = "carol" }, nil)
	eff, err := m.a.WriteConfig(m.Context(), access.Caller{}, func(c *domain.Config) { c.EditSOD = true }, access.EditOptions{})
	m.must(err)
	if !eff.Proposed.Waits {
		m.Fatal("one person alone switched edit_sod on")
	}
	m.must(m.confirm("bob", domain.EditConfig, ""))
	return m
}

// proposed is the edit that waits; it fails when there is none.
func (m *mount) proposed(kind domain.EditKind, name string) access.ProposalView {
	m.Helper()
	v, err := m.a.Proposal(m.Context(), kind, name)
	m.must(err)
	if v == nil {
		m.Fatalf("no edit of %s %s waits", kind, name)
	}
	return *v
}

// nothing insists that no edit waits.
func (m *mount) nothing(kind domain.EditKind, name string) {
	m.Helper()
	if v, err := m.a.Proposal(m.Context(), kind, name); err != nil || v != nil {
		m.Fatalf("an edit of %s %s waits: %+v, %v", kind, name, v, err)
	}
}

// confirm reads the edit that waits and confirms it.
func (m *mount) confirm(name string, kind domain.EditKind, of string) error {
	m.Helper()
	return onlyErr(m.a.Confirm(m.Context(), who(name), kind, of, access.Confirmation{Digest: m.proposed(kind, of).Digest}))
}

// editAs is an edit of the role admin by somebody.
func (m *mount) editAs(c access.Caller, f func(*domain.Role)) (access.Effect, error) {
	v, err := m.a.WriteRole(m.Context(), c, "admin", access.RoleEdit{Core: f}, access.EditOptions{})
	if err != nil {
		return access.Effect{}, err
	}
	return v.Effect, nil
}

func (m *mount) roleNow(name string) *domain.Role {
	m.Helper()
	v, err := m.a.ReadRole(m.Context(), name)
	m.must(err)
	if v == nil {
		return nil
	}
	return &v.Role
}

func TestWhatWaitsForAnotherPerson(t *testing.T) {
	password := map[string]secret.String{"password": secret.New("root-of-one")}
	fresh := map[string]secret.String{"password": secret.New("another-root")}
	none, description, roles, most := access.EditOptions{}, "for people", []string{"admin"}, 3
	target := func(name string, e access.TargetEdit) func(m *mount) (access.Effect, error) {
		return func(m *mount) (access.Effect, error) {
			v, err := m.a.WriteTarget(m.Context(), who("alice"), name, e, none)
			if err != nil {
				return access.Effect{}, err
			}
			return v.Effect, nil
		}
	}
	role := func(f func(*domain.Role)) func(m *mount) (access.Effect, error) {
		return func(m *mount) (access.Effect, error) { return m.editAs(who("alice"), f) }
	}
	typ := "fake"
	for _, row := range []struct {
		name  string
		kind  domain.EditKind
		on    string
		edit  func(m *mount) (access.Effect, error)
		waits bool
	}{
		{"a role's approvals", domain.EditRole, "admin", role(func(r *domain.Role) { r.Approvals = 2 }), true},
		{"a role's description", domain.EditRole, "admin", role(func(r *domain.Role) { r.Description = "x" }), false},
		{"a role's owner and labels", domain.EditRole, "admin", role(func(r *domain.Role) { r.Owner, r.Labels = "dave", map[string]string{"a": "b"} }), false},
		{"a role's description together with its ttl", domain.EditRole, "admin", role(func(r *domain.Role) { r.Description, r.TTL = "x", 60 }), true},
		{"nothing at all", domain.EditRole, "admin", role(func(*domain.Role) {}), false},
		{"a new role", domain.EditRole, "next", func(m *mount) (access.Effect, error) {
			v, err := m.a.WriteRole(m.Context(), who("alice"), "next", access.RoleEdit{Core: func(r *domain.Role) {
				r.Target, r.EligibleGroups, r.ApproverGroups, r.Owner = "site", []string{"engineers"}, []string{"leads"}, "carol"
			}, Set: contract.Values{"level": "admin"}}, none)
			if err != nil {
				return access.Effect{}, err
			}
			return v.Effect, nil
		}, true},
		{"the end of a role", domain.EditRole, "admin", func(m *mount) (access.Effect, error) {
			return m.a.DeleteRole(m.Context(), who("alice"), "admin", none)
		}, true},
		{"a target's secret", domain.EditTarget, "site", target("site", access.TargetEdit{Secrets: fresh}), true},
		{"a target's secret that is the same", domain.EditTarget, "site", target("site", access.TargetEdit{Secrets: password}), false},
		{"who may use a target", domain.EditTarget, "site", target("site", access.TargetEdit{AllowedRoles: &roles}), true},
		{"how much may live at a target", domain.EditTarget, "site", target("site", access.TargetEdit{MaxLive: &most}), true},
		{"a target's description", domain.EditTarget, "site", target("site", access.TargetEdit{Description: &description}), false},
		{"a new target", domain.EditTarget, "other", target("other", access.TargetEdit{Type: &typ, Set: contract.Values{"address": "one"}, Secrets: password}), true},
		{"another address", domain.EditTarget, "site", target("site", access.TargetEdit{Set: contract.Values{"address": "two"}, Secrets: map[string]secret.String{"password": secret.New("root-of-two")}}), true},
		{"the end of a target", domain.EditTarget, "more", func(m *mount) (access.Effect, error) {
			return m.a.DeleteTarget(m.Context(), who("alice"), "more", none)
		}, true},
		{"a setting", domain.EditConfig, "", func(m *mount) (access.Effect, error) {
			return m.a.WriteConfig(m.Context(), who("alice"), func(c *domain.Config) { c.IssueRate = 31 }, none)
		}, true},
		{"the switch itself", domain.EditConfig, "", func(m *mount) (access.Effect, error) {
			return m.a.WriteConfig(m.Context(), who("alice"), func(c *domain.Config) { c.EditSOD = false }, none)
		}, true},
	} {
		t.Run(row.name, func(t *testing.T) {
			m := sod(t)
			m.target2("more")
			before := m.inForce()
			eff, err := row.edit(m)
			m.must(err)
			if eff.Proposed.Waits != row.waits {
				t.Fatalf("waits: %v, want %v", eff.Proposed.Waits, row.waits)
			}
			if !row.waits {
				m.nothing(row.kind, row.on)
				return
			}
			if now := m.inForce(); now != before {
				t.Fatalf("it is in force although nobody confirmed it:\n%s\n%s", before, now)
			}
			v := m.proposed(row.kind, row.on)
			if v.Digest != eff.Proposed.Digest || v.Stale || eff.Created || eff.Revoked {
				t.Fatalf("the answer and the proposal differ: %+v %+v", eff, v)
			}
			m.must(m.confirm("bob", row.kind, row.on))
			if now := m.inForce(); now == before {
				t.Fatal("confirmed, and not in force")
			}
			m.nothing(row.kind, row.on)
			if keys := m.disk.keys("proposal/"); len(keys) > 0 {
				t.Errorf("left: %v", keys)
			}
		})
	}
}

// target2 writes one more target past edit_sod, as if it had been there before.
func (m *mount) target2(name string) {
	m.Helper()
	m.unsod(func() { m.target(name, "one") })
}

// unsod does something while edits take one person alone.
func (m *mount) unsod(f func()) {
	m.Helper()
	for _, on := range []bool{false, true} {
		_, err := m.a.WriteConfig(m.Context(), who("alice"), func(c *domain.Config) { c.EditSOD = on }, access.EditOptions{})
		m.must(err)
		m.must(m.confirm("bob", domain.EditConfig, ""))
		if !on {
			f()
		}
	}
}

// inForce is everything that edits change, as it is on the disk.
func (m *mount) inForce() string {
	m.Helper()
	var b strings.Builder
	for _, prefix := range []string{"config", "role/", "target/", "target-secret/"} {
		for _, k := range m.disk.keys(prefix) {
			fmt.Fprintf(&b, "%s %s\n", k, m.disk.value(k))
		}
	}
	return b.String()
}

func TestWhoMayConfirm(t *testing.T) {
	email := func(m *mount, name, value string) {
		m.people.change(name, func(e *domain.Entity) { e.Metadata = map[string]string{"email": value} })
	}
	byMail := func(m *mount) {
		for _, name := range []string{"alice", "bob", "carol", "dave"} {
			email(m, name, name+"@example.com")
		}
		_, err := m.a.WriteConfig(m.Context(), who("alice"), func(c *domain.Config) { c.PersonKey = "email" }, access.EditOptions{})
		m.must(err)
		m.must(m.confirm("bob", domain.EditConfig, ""))
	}
	for _, row := range []struct {
		name    string
		before  func(m *mount)
		author  access.Caller
		between func(m *mount)
		by      access.Caller
		want    fault.Code // "" = may
	}{
		{"another person", nil, who("alice"), nil, who("bob"), ""},
		{"the author", nil, who("alice"), nil, who("alice"), fault.CodeNotApprover},
		{"a machine", nil, who("alice"), nil, who("robot"), fault.CodeNotApprover},
		{"a root token", nil, who("alice"), nil, access.Caller{}, fault.CodeLogin},
		{"a person, what a root token wrote", nil, access.Caller{}, nil, who("alice"), ""},
		{"a root token, what it wrote", nil, access.Caller{}, nil, access.Caller{}, fault.CodeLogin},
		{"a person, what a machine wrote", nil, who("robot"), nil, who("alice"), ""},
		{"the machine itself", nil, who("robot"), nil, who("robot"), fault.CodeNotApprover},
		{"somebody who is disabled", nil, who("alice"), func(m *mount) {
			m.people.change("bob", func(e *domain.Entity) { e.Disabled = true })
		}, who("bob"), fault.CodeLogin},
		{"another person, after the author was disabled", nil, who("alice"), func(m *mount) {
			m.people.change("alice", func(e *domain.Entity) { e.Disabled = true })
		}, who("bob"), fault.CodeNotApprover},
		{"another person, after the author was merged into somebody", nil, who("alice"), func(m *mount) {
			m.people.remove("alice")
		}, who("bob"), fault.CodeNotApprover},
		{"another person by person_key", byMail, who("alice"), nil, who("bob"), ""},
		{"the same person by person_key", func(m *mount) { byMail(m); email(m, "dave", " Alice@Example.com") }, who("alice"), nil, who("dave"), fault.CodeNotApprover},
		{"who was the same person when it was proposed", func(m *mount) { byMail(m); email(m, "alice", "dave@example.com") }, who("alice"), func(m *mount) { email(m, "alice", "alice@example.com") }, who("dave"), fault.CodeNotApprover},
		{"who has become the same person since", byMail, who("alice"), func(m *mount) { email(m, "alice", "dave@example.com") }, who("dave"), fault.CodeNotApprover},
		{"somebody without the metadata", byMail, who("alice"), func(m *mount) { email(m, "bob", "") }, who("bob"), fault.CodeLogin},
	} {
		t.Run(row.name, func(t *testing.T) {
			m := sod(t)
			if row.before != nil {
				row.before(m)
			}
			_, err := m.editAs(row.author, func(r *domain.Role) { r.Approvals = 2 })
			m.must(err)
			if row.between != nil {
				row.between(m)
			}
			digest := m.proposed(domain.EditRole, "admin").Digest
			_, err = m.a.Confirm(m.Context(), row.by, domain.EditRole, "admin", access.Confirmation{Digest: digest})
			if row.want == "" {
				m.must(err)
			} else {
				m.refused(err, row.want)
			}
			if got := m.roleNow("admin").Approvals; (got == 2) != (row.want == "") {
				t.Errorf("the role takes %d approvals", got)
			}
		})
	}
}

// Whoever could not be told from the person who confirms cannot propose.
func TestWhoMayPropose(t *testing.T) {
	m := sod(t)
	two := func(r *domain.Role) { r.Approvals = 2 }
	m.people.change("alice", func(e *domain.Entity) { e.Disabled = true })
	m.refused(onlyErr(m.editAs(who("alice"), two)), fault.CodeLogin)
	m.refused(onlyErr(m.editAs(who("nobody"), two)), fault.CodeLogin)
	for _, name := range []string{"bob", "carol"} {
		m.people.change(name, func(e *domain.Entity) { e.Metadata = map[string]string{"email": name} })
	}
	_, err := m.a.WriteConfig(t.Context(), who("bob"), func(c *domain.Config) { c.PersonKey = "email" }, access.EditOptions{})
	m.must(err)
	m.must(m.confirm("carol", domain.EditConfig, ""))
	m.refused(onlyErr(m.editAs(who("dave"), two)), fault.CodeLogin)
	m.must(onlyErr(m.editAs(who("robot"), two)))
}

func TestAConfirmationMeansWhatWasShown(t *testing.T) {
	m := sod(t)
	confirm := func(digest string) error {
		return onlyErr(m.a.Confirm(t.Context(), who("bob"), domain.EditRole, "admin", access.Confirmation{Digest: digest}))
	}
	m.refused(confirm("x"), fault.CodeInvalid)
	_, err := m.editAs(who("alice"), func(r *domain.Role) { r.Approvals = 2 })
	m.must(err)
	first := m.proposed(domain.EditRole, "admin").Digest
	m.refused(confirm(""), fault.CodeDigest)
	// Her next edit takes the place of this one.
	_, err = m.editAs(who("alice"), func(r *domain.Role) { r.ApproverGroups = []string{"engineers"} })
	m.must(err)
	m.refused(confirm(first), fault.CodeDigest)
	v := m.proposed(domain.EditRole, "admin")
	if got := v.Proposal.Changes(); len(got) != 1 || got[0].Field != "approver_groups" {
		t.Fatalf("changes: %v", got)
	}
	// Somebody else's waits until hers is decided.
	m.refused(onlyErr(m.editAs(who("carol"), func(r *domain.Role) { r.TTL = 60 })), fault.CodeProposed)
	m.must(onlyErr(m.editAs(who("carol"), func(r *domain.Role) { r.Description = "no security edit" })))
	m.must(m.a.Withdraw(t.Context(), domain.EditRole, "admin"))
	m.must(m.a.Withdraw(t.Context(), domain.EditRole, "admin")) // twice is once
	m.nothing(domain.EditRole, "admin")
	m.must(onlyErr(m.editAs(who("carol"), func(r *domain.Role) { r.TTL = 60 })))
	m.must(m.confirm("alice", domain.EditRole, "admin"))
	r := m.roleNow("admin")
	if r.TTL != 60 || r.Approvals != 1 || r.ApproverGroups[0] != "leads" || r.Description != "no security edit" {
		t.Fatalf("%+v", r)
	}
}

func TestAStaleProposalIsNotConfirmed(t *testing.T) {
	for name, between := range map[string]func(m *mount){
		"the role was edited": func(m *mount) {
			m.must(onlyErr(m.edit("admin", access.LiveUnsaid, func(r *domain.Role) { r.TTL = 90 })))
		},
		"the role was deleted": func(m *mount) {
			m.must(onlyErr(m.a.DeleteRole(m.Context(), access.Caller{}, "admin", access.EditOptions{})))
		},
		"the role was deleted and written again": func(m *mount) {
			m.must(onlyErr(m.a.DeleteRole(m.Context(), access.Caller{}, "admin", access.EditOptions{})))
			m.role("admin", func(r *domain.Role) { r.Owner = "carol" }, nil)
		},
	} {
		t.Run(name, func(t *testing.T) {
			m := sod(t)
			_, err := m.editAs(who("alice"), func(r *domain.Role) { r.Approvals = 2 })
			m.must(err)
			m.unsod(func() { between(m) })
			if !m.proposed(domain.EditRole, "admin").Stale {
				t.Error("the proposal does not say that it is stale")
			}
			before := m.inForce()
			m.refused(m.confirm("bob", domain.EditRole, "admin"), fault.CodeStale)
			if m.inForce() != before {
				t.Error("it changed something")
			}
		})
	}
	t.Run("what was right when it was proposed is checked again", func(t *testing.T) {
		m := sod(t)
		_, err := m.editAs(who("alice"), func(r *domain.Role) { r.Approvals = 2 })
		m.must(err)
		m.unsod(func() {
			only := []string{"other"}
			_, err := m.a.WriteTarget(m.Context(), access.Caller{}, "site", access.TargetEdit{AllowedRoles: &only}, access.EditOptions{})
			m.must(err)
		})
		m.refused(m.confirm("bob", domain.EditRole, "admin"), fault.CodeInvalid)
	})
	t.Run("a target that is another place by now", func(t *testing.T) {
		m := sod(t)
		_, err := m.a.WriteTarget(m.Context(), who("alice"), "site", access.TargetEdit{
			Set: contract.Values{"address": "two"}, Secrets: map[string]secret.String{"password": secret.New("root-of-two")},
		}, access.EditOptions{})
		m.must(err)
		m.world.SetPlace("two", "somewhere else")
		m.refused(m.confirm("bob", domain.EditTarget, "site"), fault.CodePlace)
	})
}

func TestAProposalLapses(t *testing.T) {
	m := sod(t)
	_, err := m.editAs(who("alice"), func(r *domain.Role) { r.Approvals = 2 })
	m.must(err)
	digest := m.proposed(domain.EditRole, "admin").Digest
	m.clk.Advance(domain.ProposalTTL - time.Second)
	m.proposed(domain.EditRole, "admin")
	m.clk.Advance(time.Second)
	m.nothing(domain.EditRole, "admin")
	m.refused(onlyErr(m.a.Confirm(t.Context(), who("bob"), domain.EditRole, "admin", access.Confirmation{Digest: digest})), fault.CodeInvalid)
	if !m.a.Tidy(t.Context()) {
		t.Fatal("tidy does not run")
	}
	m.a.Idle()
	if keys := m.disk.keys("proposal/"); len(keys) > 0 {
		t.Errorf("left: %v", keys)
	}
}

// A copy that is restored brings back proposals that were decided since.
func TestRotateEpochVoidsProposals(t *testing.T) {
	m := sod(t)
	_, err := m.editAs(who("alice"), func(r *domain.Role) { r.Approvals = 2 })
	m.must(err)
	_, _, err = m.a.RotateEpoch(t.Context(), access.Caller{})
	m.must(err)
	m.nothing(domain.EditRole, "admin")
	m.clk.Advance(time.Second)
	_, err = m.editAs(who("alice"), func(r *domain.Role) { r.Approvals = 2 })
	m.must(err)
	m.must(m.confirm("bob", domain.EditRole, "admin"))
}

// The secret of a target that is only proposed is stored like any root
// credential, and shown to nobody.
func TestProposedSecretsAreNotShown(t *testing.T) {
	const canary = "canary-of-a-proposed-root"
	m := sod(t)
	m.world.SetPlace("one", "place-of-one")
	_, err := m.a.WriteTarget(t.Context(), who("alice"), "site", access.TargetEdit{
		Secrets: map[string]secret.String{"password": secret.New(canary)},
	}, access.EditOptions{})
	m.must(err)
	v := m.proposed(domain.EditTarget, "site")
	if s := fmt.Sprintf("%+v %v", v, v.Proposal.Changes()); strings.Contains(s, canary) {
		t.Error("the proposal shows the secret")
	}
	if got := v.Proposal.Secrets; len(got) != 1 || got[0] != "password" {
		t.Errorf("it does not say that it brings a secret: %v", got)
	}
	for _, k := range m.disk.keys("") {
		if strings.Contains(string(m.disk.value(k)), canary) != (k == "proposal/target.site") {
			t.Errorf("%s: the secret lies in the wrong place", k)
		}
	}
	m.must(m.confirm("bob", domain.EditTarget, "site"))
	for _, k := range m.disk.keys("") {
		if strings.Contains(string(m.disk.value(k)), canary) != (k == "target-secret/site") {
			t.Errorf("%s: the secret lies in the wrong place after the confirmation", k)
		}
	}
	for _, line := range m.log.all() {
		if strings.Contains(line, canary) {
			t.Errorf("logged: %s", line)
		}
	}
}
