package access_test

import (
	"slices"
	"testing"
	"time"

	"github.com/vault-pim/vault-plugin-secrets-pim/internal/access"
	"github.com/vault-pim/vault-plugin-secrets-pim/internal/domain"
	"github.com/vault-pim/vault-plugin-secrets-pim/internal/fault"
)

// Who passed since nobody answered owes a review like who broke the glass.
func TestPassingUnansweredOwesAReview(t *testing.T) {
	for _, crashed := range []bool{false, true} {
		m := newMount(t)
		m.role("admin", staged(domain.Stage{
			AllOf: []domain.Threshold{by("leads")}, Timeout: 1800, OnTimeout: domain.OnTimeoutApprove,
			OnCallWhen: `"on-call" in requester.groups`,
		}), nil)
		onCall(m, "alice")
		rid := m.pending("alice", "admin")
		m.pass(31 * time.Minute)
		m.state(rid, domain.Active)
		if crashed {
			m.crash()
		}
		p, err := m.a.Reviews(t.Context(), who("bob"), "", 0)
		m.must(err)
		if !slices.Contains(p.Keys, string(rid)) || !slices.Contains(m.kinds(), domain.EventReviewOwed) {
			t.Fatalf("the inbox: %v, the feed: %v", p.Keys, m.kinds())
		}
		m.returned("alice", rid)
		m.clk.Advance(domain.DefaultReviewDeadline.Duration())
		m.refused(onlyErr(m.ask("alice", "admin", access.Ask{})), fault.CodeReviewOwed)
		m.must(m.signOff("bob", rid))
		m.pending("alice", "admin")
	}
}

// Of an edit that took two people neither breaks the glass that day.
func TestBothPeopleOfAnEditAreBarred(t *testing.T) {
	m := sod(t)
	m.people.add(person("erin", "on-call"))
	onCall(m, "alice")
	onCall(m, "bob")
	_, err := m.a.WriteRole(t.Context(), who("alice"), "admin", access.RoleEdit{Core: func(r *domain.Role) {
		r.BreakGlassGroups, r.ReviewerEntities = []string{"on-call"}, []string{id("carol")}
	}}, access.EditOptions{})
	m.must(err)
	m.refused(onlyErr(m.glass("erin", "INC-1")), fault.CodeNotEligible) // only proposed
	m.must(m.confirm("bob", domain.EditRole, "admin"))
	m.refused(onlyErr(m.glass("alice", "INC-1")), fault.CodeEditor)
	m.refused(onlyErr(m.glass("bob", "INC-1")), fault.CodeEditor)
	m.broken("erin", "INC-1")
}
