package acceptance

import (
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/vault-pim/vault-plugin-secrets-pim/tests/harness"
	"github.com/vault-pim/vault-plugin-secrets-pim/tests/harness/poll"
)

// reviewed is a cast whose role prod is open to alice's group and to dave's,
// and is reviewed by carol.
type reviewed struct {
	*cast
	dave, carol       *harness.Person
	interns, security *harness.Group
}

func newReviewed(t *testing.T) *reviewed {
	t.Helper()
	c := prodScene(t, nil)
	r := &reviewed{cast: c, dave: host.Person(t, "dave", c.policy), carol: host.Person(t, "carol", c.policy)}
	r.interns, r.security = host.Group(t, "interns", r.dave), host.Group(t, "security", r.carol)
	host.Root().Write(t, c.path("roles/prod"), map[string]any{
		"eligible_groups": []string{c.eligible.Name, r.interns.Name},
	}).OK(t)
	return r
}

func (r *reviewed) open(t *testing.T, due time.Duration, undecided string) string {
	t.Helper()
	return host.Root().Write(t, r.path("campaigns"), map[string]any{
		"role": "prod", "reviewer_groups": r.security.Name, "due": time.Now().Add(due).UTC().Format(time.RFC3339Nano), "undecided": undecided,
	}).OK(t).String(t, "campaign_id")
}

func (r *reviewed) say(t *testing.T, who *harness.Person, id, group, verdict string) harness.Answer {
	t.Helper()
	return who.Write(t, r.path("reviews/"+id), map[string]any{"principal": "group:" + group, "verdict": verdict, "comment": "looked at it"})
}

func (r *reviewed) grantOf(t *testing.T, who *harness.Person) harness.Actor {
	t.Helper()
	id := who.Write(t, r.path("request/prod"), map[string]any{"justification": "order 4711"}).OK(t)
	r.approve(t, id.String(t, "request_id"), id.String(t, "digest"))
	return who.With("credential", who.Read(t, r.path("creds/prod")).OK(t).String(t, "token"))
}

// Whom a review removes loses the role and what they have open; the others
// keep what they have.
func TestAccessReviewRemovesWhomItRemoves(t *testing.T) {
	t.Parallel()
	r := newReviewed(t)
	mine, theirs := r.grantOf(t, r.alice), r.grantOf(t, r.dave)
	id := r.open(t, time.Hour, "keep")
	host.Root().Write(t, r.path("campaigns"), map[string]any{
		"role": "prod", "reviewer_groups": r.security.Name, "due": time.Now().Add(time.Hour).UTC().Format(time.RFC3339), "undecided": "keep",
	}).Refused(t, http.StatusBadRequest, "limit reached: review "+id)
	if keys := r.carol.List(t, r.path("reviews/")).OK(t).Keys(t); !slices.Equal(keys, []string{id}) {
		t.Fatalf("the inbox: %v", keys)
	}
	if a := r.bob.Read(t, r.path("reviews/"+id)); a.Status != http.StatusNotFound {
		t.Errorf("who is no reviewer reads it: %d %s", a.Status, a.Body)
	}
	r.say(t, r.carol, id, "nobody", "keep").Refused(t, http.StatusBadRequest, "invalid input: principal: ")
	r.say(t, r.carol, id, r.eligible.Name, "keep").OK(t)
	host.SetMembers(t, r.interns, r.dave, r.carol)
	r.say(t, r.carol, id, r.interns.Name, "keep").Refused(t, http.StatusForbidden, "access denied: nobody reviews an access that they have themselves")
	host.SetMembers(t, r.interns, r.dave)
	r.say(t, r.carol, id, r.interns.Name, "remove").OK(t)

	closed := host.Root().Write(t, r.path("campaigns/"+id+"/close"), nil).OK(t)
	if closed.String(t, "state") != "closed" || closed.String(t, "outcome") != "removed 1 of 2 principals" {
		t.Errorf("closed: %s", closed.Body)
	}
	role := host.Root().Read(t, r.path("roles/prod")).OK(t)
	if groups, _ := role.Data["eligible_groups"].([]any); len(groups) != 1 || groups[0] != r.eligible.Name {
		t.Errorf("eligible: %v", role.Data["eligible_groups"])
	}
	r.dave.Write(t, r.path("request/prod"), map[string]any{"justification": "x"}).Refused(t, http.StatusForbidden, "access denied: no such role, or you are not eligible")
	poll.Until(t, promised, func() error {
		if theirs.Read(t, "secret/data/prod/none").Status != http.StatusForbidden {
			return errors.New("who was removed still gets in")
		}
		return nil
	})
	if a := mine.Read(t, "secret/data/prod/none"); a.Status != http.StatusNotFound {
		t.Errorf("who was kept is refused: %d", a.Status)
	}
	r.say(t, r.carol, id, r.eligible.Name, "remove").Refused(t, http.StatusBadRequest, "this access review is not open any more")
}

// When it is due it closes by itself, and undecided ones follow its rule; where
// nobody would be left, a hold stands in.
func TestAccessReviewClosesWhenItIsDue(t *testing.T) {
	t.Parallel()
	r := newReviewed(t)
	token := r.grantOf(t, r.alice)
	id := r.open(t, 2*time.Second, "remove")
	poll.Until(t, settles, func() error {
		a := host.Root().Read(t, r.path("campaigns/"+id)).OK(t)
		if a.String(t, "state") != "closed" {
			return fmt.Errorf("it is %s", a.String(t, "state"))
		}
		if !strings.Contains(a.String(t, "outcome"), "a hold is in force") {
			t.Errorf("the outcome: %s", a.Body)
		}
		return nil
	})
	r.alice.Write(t, r.path("request/prod"), map[string]any{"justification": "x"}).Refused(t, http.StatusForbidden, "access denied: a hold is in force for this role")
	poll.Until(t, promised, func() error {
		if token.Read(t, "secret/data/prod/none").Status != http.StatusForbidden {
			return errors.New("who was removed still gets in")
		}
		return nil
	})
}

func TestCancelledAccessReviewChangesNothing(t *testing.T) {
	t.Parallel()
	r := newReviewed(t)
	id := r.open(t, time.Hour, "remove")
	host.Root().Delete(t, r.path("campaigns/"+id)).OK(t)
	host.Root().Delete(t, r.path("campaigns/"+id)).OK(t)
	host.Root().Write(t, r.path("campaigns/"+id+"/close"), nil).Refused(t, http.StatusBadRequest, "this access review is not open any more")
	r.grantOf(t, r.dave)
}

// docs/reviews.md as it stands, each block by whom its first line names.
func TestThePageOnReviewsWorksAsItStands(t *testing.T) {
	t.Parallel()
	c, yields := withPolicy(t)
	people := map[string]*harness.Person{
		"operator": host.Person(t, "operator", persona(t, c.pim, "operator")),
		"auditor":  host.Person(t, "dave", persona(t, c.pim, "auditor")),
		"security": host.Person(t, "carol", persona(t, c.pim, "security-officer")),
	}
	interns, security := host.Group(t, "interns"), host.Group(t, "security", people["security"])
	c.role(t, "prod-read", map[string]any{"token_policies": yields, "eligible_groups": []string{c.eligible.Name, interns.Name}}).OK(t)
	names := strings.NewReplacer(
		"group:eng ", "group:"+c.eligible.Name+" ", "group:interns", "group:"+interns.Name, "=security", "="+security.Name,
		"<time>", time.Now().Add(14*24*time.Hour).UTC().Format(time.RFC3339))
	follow(t, c, "reviews.md", people, func(block string) string {
		return onlyOne(t, names.Replace(block), people["operator"], c.path("campaigns/"))
	})
	role := host.Root().Read(t, c.path("roles/prod-read")).OK(t)
	if groups, _ := role.Data["eligible_groups"].([]any); len(groups) != 1 || groups[0] != c.eligible.Name {
		t.Errorf("eligible: %v", role.Data["eligible_groups"])
	}
}
