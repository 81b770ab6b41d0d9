package attacks

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/vault-pim/vault-plugin-secrets-pim/tests/harness"
)

// E: edits that take two people. C: reviews of who may have a role.

// two is a world where edits take two people: carol and dave run it, erin guards it.
type two struct {
	*world
	carol, dave, erin *harness.Person
}

func newTwo(t *testing.T) *two {
	t.Helper()
	w := plain(t)
	operator, officer := w.persona(t, "operator"), w.persona(t, "security-officer")
	o := &two{world: w, carol: host.Person(t, "carol", operator), dave: host.Person(t, "dave", operator), erin: host.Person(t, "erin", officer)}
	w.role(t, "prod", map[string]any{"owner": "carol"}).OK(t)
	o.carol.Write(t, w.path("config"), map[string]any{"edit_sod": true}).OK(t)
	o.confirm(t, o.dave.Actor, "config", "").OK(t)
	return o
}

// confirm confirms what waits at a path, with the digest that is read there unless one
// is given.
func (o *two) confirm(t *testing.T, who harness.Actor, at, digest string) harness.Answer {
	t.Helper()
	if digest == "" {
		digest = host.Root().Read(t, o.path(at+"/confirm")).OK(t).String(t, "digest")
	}
	return who.Write(t, o.path(at+"/confirm"), map[string]any{"digest": digest})
}

func (o *two) propose(t *testing.T, who harness.Actor, fields map[string]any) (digest string) {
	t.Helper()
	fields["live"] = "keep"
	return who.Write(t, o.path("roles/prod"), fields).OK(t).String(t, "proposal_digest")
}

// inForce is what the role says of a field.
func (o *two) inForce(t *testing.T, field string) string {
	t.Helper()
	return fmt.Sprint(host.Root().Read(t, o.path("roles/prod")).OK(t).Data[field])
}

func TestOneConfirmsTheirOwnEdit(t *testing.T) {
	t.Parallel()
	a := begin(t, "E1", "one person alone makes an edit that takes two")
	o := newTwo(t)
	const same, own = "access denied: an edit is confirmed by another person", "access denied: "
	operator := o.persona(t, "operator")
	second := host.Person(t, "carol-admin", operator)
	gone := host.Person(t, "frank", operator)
	o.propose(t, o.carol.Actor, map[string]any{"approvals": 2})
	a.refused(t, o.confirm(t, o.carol.Actor, "roles/prod", ""), forbidden, same)
	a.refused(t, o.confirm(t, o.childOf(t, o.carol, operator), "roles/prod", ""), forbidden, same)
	a.refused(t, o.confirm(t, o.carol.Actor, "roles/prod", ""), forbidden, same) // after a new login
	for _, who := range []harness.Actor{o.alice.Actor, o.bob.Actor, o.machine(t, o.persona(t, "auditor"))} {
		a.refused(t, o.confirm(t, who, "roles/prod", ""), forbidden, "")
	}
	a.refused(t, o.confirm(t, o.machine(t, operator), "roles/prod", ""), forbidden, "access denied: a machine confirms no edit")
	a.refused(t, o.confirm(t, host.Root(), "roles/prod", ""), forbidden, "access denied: log in again")
	a.tried(t, o.inForce(t, "approvals") == "1", "in force: %s approvals", o.inForce(t, "approvals"))
	a.control(t, o.confirm(t, second.Actor, "roles/prod", "")) // the host says that they are two
	a.seen(t, o.inForce(t, "approvals") == "2", "confirmed, and %s approvals", o.inForce(t, "approvals"))
	// The second entity of one person, whose name is noted after the proposal.
	o.propose(t, o.carol.Actor, map[string]any{"approvals": 1})
	for p, name := range map[*harness.Person]string{o.carol: "carol", second: " CAROL", o.dave: "dave", o.erin: "erin", gone: "frank"} {
		mail(t, p, name+"@example.org")
	}
	o.dave.Write(t, o.path("config"), map[string]any{"person_key": "mail"}).OK(t)
	a.control(t, o.confirm(t, o.erin.Actor, "config", ""))
	a.refused(t, o.confirm(t, second.Actor, "roles/prod", ""), forbidden, same)
	second.Write(t, o.path("config"), map[string]any{"edit_sod": false}).OK(t)
	a.refused(t, o.confirm(t, o.carol.Actor, "config", ""), forbidden, same)
	second.Delete(t, o.path("config/confirm")).OK(t)
	hold := host.Root().Write(t, o.path("holds"), map[string]any{"entity_id": o.dave.EntityID, "reason": "a laptop was stolen"}).OK(t).String(t, "hold_id")
	a.refused(t, o.confirm(t, o.dave.Actor, "roles/prod", ""), forbidden, "access denied: a hold is in force for this person")
	host.Root().Delete(t, o.path("holds/"+hold)).OK(t)
	a.control(t, o.confirm(t, o.dave.Actor, "roles/prod", ""))
	o.authorIsGone(t, a, gone, own)
}

// authorIsGone: who proposed is disabled, or merged into the one who confirms.
func (o *two) authorIsGone(t *testing.T, a *attack, gone *harness.Person, own string) {
	t.Helper()
	o.propose(t, gone.Actor, map[string]any{"approvals": 3})
	host.Disable(t, gone, true)
	a.refused(t, o.confirm(t, o.dave.Actor, "roles/prod", ""), forbidden, own+"the identity that proposed this edit is unknown or disabled")
	host.Disable(t, gone, false)
	merge(t, gone, o.dave)
	a.refused(t, o.confirm(t, o.dave.Actor, "roles/prod", ""), forbidden, own)
	a.refused(t, o.confirm(t, gone.Actor, "roles/prod", ""), forbidden, "")
	a.tried(t, o.inForce(t, "approvals") == "1", "in force: %s approvals", o.inForce(t, "approvals"))
}

func TestEditSwappedBeforeItsConfirmation(t *testing.T) {
	t.Parallel()
	a := begin(t, "E2", "an edit is swapped between the look and the confirmation")
	o := newTwo(t)
	const other = "this digest is not that of the proposed edit"
	seen := o.propose(t, o.carol.Actor, map[string]any{"approvals": 2})
	read := o.dave.Read(t, o.path("roles/prod/confirm")).OK(t)
	a.tried(t, read.String(t, "digest") == seen && strings.Contains(fmt.Sprint(read.Data["changes"]), "approvals: 1 -> 2"), "shown: %s", read.Body)
	swapped := o.propose(t, o.carol.Actor, map[string]any{"approvals": 2, "max_ttl": "24h"})
	a.refused(t, o.confirm(t, o.dave.Actor, "roles/prod", seen), badRequest, other)
	o.carol.Delete(t, o.path("roles/prod/confirm")).OK(t)
	a.refused(t, o.confirm(t, o.dave.Actor, "roles/prod", swapped), notFound, "no edit waits")
	again := o.propose(t, o.carol.Actor, map[string]any{"approvals": 2}) // the very same edit is another proposal
	for name, digest := range map[string]string{
		"an earlier one": seen, "a withdrawn one": swapped, "cut short": again[:len(again)-1], "in capitals": upper(again), "two of them": again + "," + again, "none": "-",
	} {
		answer := o.dave.Write(t, o.path("roles/prod/confirm"), map[string]any{"digest": digest})
		a.tried(t, answer.Status == badRequest && o.inForce(t, "approvals") == "1", "a digest that is %s: %d %s", name, answer.Status, answer.Body)
	}
	// That of another thing's edit is not that of this one.
	elsewhere := o.carol.Write(t, o.path("config"), map[string]any{"max_open": 77}).OK(t).String(t, "proposal_digest")
	a.refused(t, o.confirm(t, o.dave.Actor, "roles/prod", elsewhere), badRequest, other)
	a.refused(t, o.confirm(t, o.dave.Actor, "config", again), badRequest, other)
	// Somebody else's proposal cannot be replaced by one's own.
	a.refused(t, o.dave.Write(t, o.path("roles/prod"), map[string]any{"max_ttl": "24h"}), badRequest, "another person's edit waits for its confirmation")
	// At once: the author swaps while another person confirms. What is in force is what was read.
	for i := range 5 {
		o.racingSwap(t, a, i)
	}
	digest := o.propose(t, o.carol.Actor, map[string]any{"approvals": 1, "max_ttl": "7h"})
	a.control(t, o.confirm(t, o.dave.Actor, "roles/prod", digest))
	a.refused(t, o.confirm(t, o.dave.Actor, "roles/prod", digest), notFound, "no edit waits")
}

func (o *two) racingSwap(t *testing.T, a *attack, i int) {
	t.Helper()
	digest := o.propose(t, o.carol.Actor, map[string]any{"approvals": 1, "max_ttl": 60 * (100 + i)})
	calls := make(chan func() (harness.Answer, error), 2)
	calls <- func() (harness.Answer, error) {
		return o.carol.Do(t.Context(), http.MethodPut, o.path("roles/prod"), map[string]any{"max_ttl": "30h", "live": "keep"}, nil)
	}
	calls <- func() (harness.Answer, error) {
		return o.dave.Do(t.Context(), http.MethodPut, o.path("roles/prod/confirm"), map[string]any{"digest": digest}, nil)
	}
	atOnce(t, 2, func() (harness.Answer, error) { return (<-calls)() })
	now := o.inForce(t, "max_ttl")
	a.tried(t, now != fmt.Sprint(30*3600), "what is in force is not what dave has seen: %s", now)
	o.carol.Delete(t, o.path("roles/prod/confirm")).OK(t)
}

func TestAccessReviewAsAnEdit(t *testing.T) {
	t.Parallel()
	a := begin(t, "C1", "an access review keeps or removes who it should not, or is an edit by one alone")
	o := newTwo(t)
	carol := host.Person(t, "carol-admin", o.person)
	reviewers := host.Group(t, "reviewers", o.bob, carol)
	write := map[string]any{
		"role": "prod", "reviewer_groups": reviewers.Name, "reviewer_entities": o.erin.EntityID, "due": time.Now().Add(time.Hour).UTC().Format(time.RFC3339), "undecided": "remove",
	}
	for _, who := range []harness.Actor{o.alice.Actor, o.bob.Actor, o.machine(t, o.person)} {
		a.refused(t, who.Write(t, o.path("campaigns"), write), forbidden, "")
	}
	o.carol.Write(t, o.path("roles/prod"), map[string]any{"eligible_entities": o.carol.EntityID + "," + o.alice.EntityID, "live": "keep"}).OK(t)
	a.control(t, o.confirm(t, o.dave.Actor, "roles/prod", ""))
	id := a.control(t, o.erin.Write(t, o.path("campaigns"), write)).String(t, "campaign_id")
	for _, who := range []harness.Actor{o.alice.Actor, o.bob.Actor, o.machine(t, o.person, reviewers)} {
		a.refused(t, who.Write(t, o.path("campaigns/"+id+"/close"), nil), forbidden, "")
		a.refused(t, who.Read(t, o.path("campaigns/"+id)), forbidden, "")
		a.refused(t, who.Delete(t, o.path("campaigns/"+id)), forbidden, "")
	}
	o.judging(t, a, id, carol, reviewers)
	// Who opened it with themselves as reviewer closes it, and confirms what comes out.
	a.control(t, o.say(t, o.erin, id, "entity:"+o.alice.EntityID, "remove"))
	closed := a.control(t, o.erin.Write(t, o.path("campaigns/"+id+"/close"), nil))
	if outcome := closed.String(t, "outcome"); !strings.Contains(outcome, "once another person confirms") {
		t.Errorf("the outcome: %s", outcome)
	}
	a.refused(t, o.confirm(t, o.erin.Actor, "roles/prod", ""), forbidden, "access denied: an edit is confirmed by another person")
	a.tried(t, strings.Contains(o.inForce(t, "eligible_entities"), o.alice.EntityID), "alice was removed by one person alone")
	a.refused(t, o.say(t, o.erin, id, "entity:"+o.alice.EntityID, "keep"), badRequest, "this access review is not open any more")
	a.control(t, o.confirm(t, o.dave.Actor, "roles/prod", ""))
	a.seen(t, !strings.Contains(o.inForce(t, "eligible_entities"), o.alice.EntityID), "confirmed, and alice still has the role")
}

func (o *two) say(t *testing.T, who *harness.Person, id, principal, verdict string) harness.Answer {
	t.Helper()
	return who.Write(t, o.path("reviews/"+id), map[string]any{"principal": principal, "verdict": verdict, "comment": "looked at it"})
}

// judging is what reviewers, and those who are none, try to say.
func (o *two) judging(t *testing.T, a *attack, id string, carol *harness.Person, reviewers *harness.Group) {
	t.Helper()
	const own = "access denied: nobody reviews an access that they have themselves"
	group, mine := "group:"+o.eligible.Name, "entity:"+o.carol.EntityID
	a.refused(t, o.say(t, o.alice, id, mine, "remove"), notFound, "no such review")
	a.control(t, o.say(t, carol, id, mine, "keep")) // the host says that they are two
	for p, name := range map[*harness.Person]string{o.carol: "carol", carol: "Carol", o.dave: "dave", o.erin: "erin", o.bob: "bob", o.alice: "alice"} {
		mail(t, p, name+"@example.org")
	}
	o.dave.Write(t, o.path("config"), map[string]any{"person_key": "mail"}).OK(t)
	a.control(t, o.confirm(t, o.erin.Actor, "config", ""))
	a.refused(t, o.say(t, carol, id, mine, "keep"), forbidden, own)
	host.SetMembers(t, o.eligible, o.alice, o.bob)
	a.refused(t, o.say(t, o.bob, id, group, "keep"), forbidden, own)
	host.SetMembers(t, o.eligible, o.alice)
	a.control(t, o.say(t, o.bob, id, group, "keep"))
	for _, principal := range []string{"group:" + strings.ToUpper(o.eligible.Name), "entity:" + o.dave.EntityID, "group:*", "", "break_glass_group:" + o.eligible.Name} {
		a.refused(t, o.say(t, o.bob, id, principal, "remove"), badRequest, "invalid input: principal: ")
	}
	// A group of the reviewers' name that is another group.
	host.Root().Delete(t, "identity/group/id/"+reviewers.ID).OK(t)
	anew := map[string]any{"name": reviewers.Name, "member_entity_ids": []string{o.alice.EntityID}}
	host.Root().Write(t, "identity/group", anew).OK(t)
	a.refused(t, o.say(t, o.alice, id, mine, "remove"), notFound, "no such review")
	a.control(t, o.say(t, o.erin, id, mine, "keep"))
}
