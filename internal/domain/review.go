package domain

import (
	"errors"
	"fmt"
	"slices"
	"time"
)

// Review is a look back at an access that nobody approved beforehand. It is
// part of the request that owes it.
type Review struct {
	Why      string            `json:"why"` // what it is owed for, in our words
	Owed     time.Time         `json:"owed"`
	Deadline time.Time         `json:"deadline"`
	Groups   []string          `json:"groups,omitempty"` // reviewers as the role had them, for when the role is gone
	Entities []string          `json:"entities,omitempty"`
	Pins     map[string]string `json:"pins,omitempty"`
	Verdict  ReviewVerdict     `json:"verdict,omitempty"`
	By       *Party            `json:"by,omitempty"`
	Comment  string            `json:"comment,omitempty"`
	At       time.Time         `json:"at,omitzero"`
}

// ReviewVerdict is what a reviewer says.
type ReviewVerdict string

// The verdicts. Both settle what is owed: who used an emergency without need
// is dealt with by people.
const (
	Justified   ReviewVerdict = "justified"
	Unjustified ReviewVerdict = "unjustified"
)

// Errors of sign-offs that the rules refuse.
var (
	ErrNothingOwed = errors.New("no review is owed")
	ErrParty       = errors.New("nobody reviews what they were part of")
)

// ReviewOf is a review as a role's rules have it.
func ReviewOf(r Role, why string, now time.Time) Review {
	groups, entities := r.ReviewerRefs()
	pins := map[string]string{}
	for _, g := range groups {
		if id := r.Pins[g]; id != "" {
			pins[g] = id
		}
	}
	if len(pins) == 0 {
		pins = nil
	}
	return Review{Why: why, Owed: now, Deadline: now.Add(r.ReviewWithin()), Groups: groups, Entities: entities, Pins: pins}
}

// OwesReview tells whether the request waits for a sign-off.
func (r Request) OwesReview() bool { return r.Review != nil && r.Review.Verdict == "" }

// Owe notes that a review is owed. One that is owed or given already stays.
func (r Request) Owe(v Review, now time.Time) Request {
	if r.Review != nil {
		return r
	}
	r.Review = &v
	r.note(now, Party{}, string(EventReviewOwed), fmt.Sprintf("a review is owed until %s: %s", stamp(v.Deadline), v.Why))
	return r
}

// MustOwe tells whether the request was let through in a way that owes a
// review, and does not owe it yet.
func (r Request) MustOwe() bool { return r.ReviewOwed != "" && r.Review == nil }

// MissReview notes that the deadline has passed.
func (r Request) MissReview(now time.Time) Request {
	if !r.OwesReview() || now.Before(r.Review.Deadline) {
		return r
	}
	r.note(now, Party{}, string(EventReviewOverdue), "the review is overdue: until it is signed off, the person can neither break this glass nor request the role")
	return r
}

// PartyTo tells whether somebody took part in the request: who asked, and who
// decided, on more time too.
func (r Request) PartyTo(p Person, entity string) bool {
	return slices.ContainsFunc(r.Parties(), func(x Party) bool { return x.Person == p || x.Entity == entity })
}

// Parties are who asked, and everybody who decided on it or on more time.
func (r Request) Parties() []Party {
	out := []Party{r.Requester}
	for _, d := range r.Decisions {
		out = append(out, d.By)
	}
	for _, e := range r.Extensions {
		for _, d := range e.Decisions {
			out = append(out, d.By)
		}
	}
	return out
}

// SignOff gives the review that is owed. Nobody signs off what they were part
// of.
func (r Request) SignOff(by Party, verdict ReviewVerdict, comment string, now time.Time) (Request, error) {
	switch {
	case !r.OwesReview():
		return r, ErrNothingOwed
	case r.PartyTo(by.Person, by.Entity):
		return r, ErrParty
	}
	v := *r.Review
	v.Verdict, v.By, v.Comment, v.At = verdict, &by, comment, now
	r.Review = &v
	r.note(now, by, string(EventReviewed), "reviewed it: "+string(verdict))
	return r, nil
}
