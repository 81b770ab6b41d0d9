package domain

import (
	"errors"
	"maps"
	"slices"
	"strings"
	"time"
)

// What a review of access says of one principal.
const (
	Keep   = "keep"
	Remove = "remove"
)

// The kinds of principals that a role names.
const (
	PrincipalGroup      = "group"
	PrincipalEntity     = "entity"
	PrincipalBreakGlass = "break_glass_group"
)

// Principal is somebody that a role names, as "kind:reference".
type Principal string

// PrincipalOf puts a principal together.
func PrincipalOf(kind, ref string) Principal { return Principal(kind + ":" + ref) }

// Split takes a principal apart. An entity's reference may have colons of its
// own.
func (p Principal) Split() (kind, ref string) {
	kind, ref, _ = strings.Cut(string(p), ":")
	return kind, ref
}

// Principals are all who are eligible for the role or may break its glass, as
// the role names them.
func (r Role) Principals() []Principal {
	var out []Principal
	for _, g := range r.EligibleGroups {
		out = append(out, PrincipalOf(PrincipalGroup, g))
	}
	for _, e := range r.EligibleEntities {
		out = append(out, PrincipalOf(PrincipalEntity, e))
	}
	for _, g := range r.BreakGlassGroups {
		out = append(out, PrincipalOf(PrincipalBreakGlass, g))
	}
	return out
}

// HasEligible tells whether the role names anybody who is eligible.
func (r Role) HasEligible() bool { return len(r.EligibleGroups)+len(r.EligibleEntities) > 0 }

// Without is the role without some of its principals.
func (r Role) Without(gone []Principal) Role {
	cut := func(kind string, refs []string) []string {
		var out []string
		for _, ref := range refs {
			if !slices.Contains(gone, PrincipalOf(kind, ref)) {
				out = append(out, ref)
			}
		}
		return out
	}
	r.EligibleGroups = cut(PrincipalGroup, r.EligibleGroups)
	r.EligibleEntities = cut(PrincipalEntity, r.EligibleEntities)
	r.BreakGlassGroups = cut(PrincipalBreakGlass, r.BreakGlassGroups)
	kept := maps.Clone(r.EligibleUntil)
	maps.DeleteFunc(kept, func(ref string, _ time.Time) bool {
		return !slices.Contains(r.EligibleGroups, ref) && !slices.Contains(r.EligibleEntities, ref)
	})
	r.EligibleUntil = kept
	return r
}

// Covers tells whether a principal stands for an entity now.
func (p Principal) Covers(e Entity, pins map[string]string) bool {
	kind, ref := p.Split()
	if kind == PrincipalEntity {
		return entityMatches(e, ref)
	}
	return MatchEntity(e, []string{ref}, nil, pins).OK
}

// CampaignState is where an access review stands.
type CampaignState string

// The states of an access review.
const (
	CampaignOpen    CampaignState = "open"
	CampaignClosing CampaignState = "closing" // what comes out of it is fixed, and being applied
	CampaignClosed  CampaignState = "closed"
	CampaignDropped CampaignState = "cancelled"
)

// CampaignItem is one principal under review.
type CampaignItem struct {
	Principal Principal `json:"principal"`
	Verdict   string    `json:"verdict,omitempty"` // "" = undecided
	By        *Party    `json:"by,omitempty"`
	Comment   string    `json:"comment,omitempty"`
	At        time.Time `json:"at,omitzero"`
}

// Campaign is an access review: whether those who are eligible for a role still
// should be.
type Campaign struct {
	ID        string            `json:"id"`
	Role      string            `json:"role"`
	Groups    []string          `json:"groups,omitempty"` // reviewers
	Entities  []string          `json:"entities,omitempty"`
	Pins      map[string]string `json:"pins,omitempty"`
	Due       time.Time         `json:"due"`
	Undecided string            `json:"undecided"` // keep or remove, for what nobody decided
	By        Party             `json:"by"`
	Items     []CampaignItem    `json:"items"`
	State     CampaignState     `json:"state"`
	Closed    time.Time         `json:"closed,omitzero"`
	ClosedBy  Party             `json:"closed_by,omitzero"` // who closed it before it was due
	Removed   []Principal       `json:"removed,omitempty"`
	Outcome   string            `json:"outcome,omitempty"` // what came of it, in our words
	History   History           `json:"history"`
}

// Bounds of one access review: its record has room for what closes it, whatever
// its reviewers say.
const (
	LimitCampaign         = 500        // principals
	LimitCampaignComments = 128 * 1024 // bytes of all comments together
)

// Errors of verdicts that the rules refuse.
var (
	ErrNotOpen     = errors.New("the review is closed")
	ErrNoPrincipal = errors.New("no such principal is under review")
	ErrNoRoom      = errors.New("the comments of the review have no more room")
)

// OpenCampaign makes an access review of a role as it is now.
func OpenCampaign(c Campaign, r Role, now time.Time) Campaign {
	c.Role, c.State = r.Name, CampaignOpen
	for _, p := range r.Principals() {
		c.Items = append(c.Items, CampaignItem{Principal: p})
	}
	return c.note(now, c.By, "opened", "opened a review of who may have role "+r.Name+", due "+stamp(c.Due)+"; what nobody decides: "+c.Undecided)
}

func (c Campaign) note(now time.Time, by Party, what, text string) Campaign {
	c.History = c.History.add(Entry{At: now, By: Printable(by.Name), Who: by.Entity, What: what, Text: text})
	return c
}

// Reviewer looks for an entity among the reviewers.
func (c Campaign) Reviewer(e Entity) Match { return MatchEntity(e, c.Groups, c.Entities, c.Pins) }

// Author is whose edit the outcome is: of who closed it, or of who opened what
// time alone closed.
func (c Campaign) Author() Party {
	if c.ClosedBy.Entity != "" {
		return c.ClosedBy
	}
	return c.By
}

// Judge writes down what a reviewer says of one principal. The last word
// counts until it closes.
func (c Campaign) Judge(by Party, p Principal, verdict, comment string, now time.Time) (Campaign, error) {
	if c.State != CampaignOpen || !now.Before(c.Due) {
		return c, ErrNotOpen
	}
	i := slices.IndexFunc(c.Items, func(x CampaignItem) bool { return x.Principal == p })
	if i < 0 {
		return c, ErrNoPrincipal
	}
	said := len(comment) - len(c.Items[i].Comment)
	for _, x := range c.Items {
		said += len(x.Comment)
	}
	if said > LimitCampaignComments {
		return c, ErrNoRoom
	}
	c.Items = slices.Clone(c.Items)
	c.Items[i] = CampaignItem{Principal: p, Verdict: verdict, By: &by, Comment: comment, At: now}
	return c.note(now, by, verdict, verdict+" "+Printable(string(p))), nil
}

// Pinned is the access review with what a match taught about its reviewers'
// groups: from then on only those of that id count.
func (c Campaign) Pinned(pins map[string]string) Campaign {
	if len(pins) == 0 {
		return c
	}
	learnt := maps.Clone(pins)
	maps.Copy(learnt, c.Pins)
	c.Pins = learnt
	return c
}

// Undone counts the principals that nobody has decided on.
func (c Campaign) Undone() int {
	n := 0
	for _, x := range c.Items {
		if x.Verdict == "" {
			n++
		}
	}
	return n
}

// Close fixes what comes out of the review.
func (c Campaign) Close(by Party, now time.Time) (Campaign, error) {
	if c.State != CampaignOpen {
		return c, ErrNotOpen
	}
	c.State, c.Removed, c.ClosedBy = CampaignClosing, nil, by
	for _, x := range c.Items {
		if x.Verdict == Remove || x.Verdict == "" && c.Undecided == Remove {
			c.Removed = append(c.Removed, x.Principal)
		}
	}
	return c.note(now, by, "closing", "the review closes"), nil
}

// Done notes that what came out of the review was applied.
func (c Campaign) Done(outcome string, now time.Time) Campaign {
	c.State, c.Closed, c.Outcome = CampaignClosed, now, outcome
	return c.note(now, Party{}, "closed", outcome)
}

// Drop cancels the review; nothing is changed.
func (c Campaign) Drop(by Party, now time.Time) (Campaign, error) {
	if c.State != CampaignOpen {
		return c, ErrNotOpen
	}
	c.State, c.Closed, c.Outcome = CampaignDropped, now, "cancelled"
	return c.note(now, by, "cancelled", "cancelled the review; nothing is changed"), nil
}
