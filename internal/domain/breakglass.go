package domain

import (
	"fmt"
	"slices"
	"time"
)

// KindBreakGlass is the kind of a request that was active at once, without any
// approval.
const KindBreakGlass = "break_glass"

// Defaults and bounds of the emergency path, in seconds where they are
// durations.
const (
	DefaultBreakGlassTTL         Seconds = 3600
	DefaultBreakGlassMax                 = 3
	DefaultBreakGlassLimitPerson         = 5
	DefaultBreakGlassLimitRole           = 20
	DefaultBreakGlassPeriod      Seconds = 7 * 24 * 3600
	DefaultReviewDeadline        Seconds = 72 * 3600
	LimitBreakGlassMax                   = 10
	LimitBreakGlassUses                  = 200 // uses of one role in one period
	LimitBreakGlassPeriod        Seconds = 90 * 24 * 3600
	// EditorBarred is how long who edited a role or target cannot break its
	// glass.
	EditorBarred = 24 * time.Hour
)

// BreakGlass are a role's rules for emergencies. Zero numbers stand for the
// defaults; without groups nobody can break the glass.
type BreakGlass struct {
	BreakGlassGroups      []string `json:"break_glass_groups,omitempty"`
	BreakGlassTTL         Seconds  `json:"break_glass_ttl,omitempty"`
	BreakGlassMax         int      `json:"break_glass_max,omitempty"`          // uses of one ticket before the review
	BreakGlassLimitPerson int      `json:"break_glass_limit_person,omitempty"` // uses of one person in a period
	BreakGlassLimitRole   int      `json:"break_glass_limit_role,omitempty"`   // uses of everybody in a period
	BreakGlassPeriod      Seconds  `json:"break_glass_period,omitempty"`
	BreakGlassRotate      bool     `json:"break_glass_rotate,omitempty"` // rotate the target's root credential after a use
	ReviewDeadline        Seconds  `json:"review_deadline,omitempty"`
	ReviewerGroups        []string `json:"reviewer_groups,omitempty"`
	ReviewerEntities      []string `json:"reviewer_entities,omitempty"`
}

// EmergencyTTL is the window of a break-glass: what the role says, or an hour,
// never more than its longest window.
func (r Role) EmergencyTTL() Seconds {
	return min(orElse(r.BreakGlassTTL, DefaultBreakGlassTTL), r.MaxTTL)
}

// EmergencyUses is how often one ticket may be used before its review.
func (r Role) EmergencyUses() int { return orElse(r.BreakGlassMax, DefaultBreakGlassMax) }

// EmergencyLimits are the uses that one person, and everybody together, have
// in a period.
func (r Role) EmergencyLimits() (person, role int, period time.Duration) {
	return orElse(r.BreakGlassLimitPerson, DefaultBreakGlassLimitPerson), orElse(r.BreakGlassLimitRole, DefaultBreakGlassLimitRole),
		orElse(r.BreakGlassPeriod, DefaultBreakGlassPeriod).Duration()
}

// ReviewWithin is how long a review may be owed before it bars its person from
// the role.
func (r Role) ReviewWithin() time.Duration {
	return orElse(r.ReviewDeadline, DefaultReviewDeadline).Duration()
}

func orElse[T comparable](v, otherwise T) T {
	var zero T
	if v == zero {
		return otherwise
	}
	return v
}

// MayBreakGlass looks for an entity among those who may break the role's
// glass. A deny wins here too. Being eligible is neither needed nor enough.
func (r Role) MayBreakGlass(e Entity) Match {
	if r.deniedTo(e) {
		return Match{}
	}
	return MatchEntity(e, r.BreakGlassGroups, nil, r.Pins)
}

// ReviewerRefs name who signs off: the reviewers, or else the approvers.
func (r Role) ReviewerRefs() (groups, entities []string) {
	if len(r.ReviewerGroups)+len(r.ReviewerEntities) > 0 {
		return r.ReviewerGroups, r.ReviewerEntities
	}
	return r.ApproverRefs()
}

// Reviewer looks for an entity among those who sign off.
func (r Role) Reviewer(e Entity) Match {
	groups, entities := r.ReviewerRefs()
	return MatchEntity(e, groups, entities, r.Pins)
}

// EmergencyGroups are the groups that only the emergency path names.
func (r Role) EmergencyGroups() []string {
	return slices.Concat(r.BreakGlassGroups, r.ReviewerGroups)
}

func (r Role) checkBreakGlass(p *problems) {
	for _, f := range []struct {
		field string
		refs  []string
		check func(string) string
	}{
		{"break_glass_groups", r.BreakGlassGroups, CheckGroupRef},
		{"reviewer_groups", r.ReviewerGroups, CheckGroupRef},
		{"reviewer_entities", r.ReviewerEntities, CheckEntityRef},
	} {
		if i := slices.IndexFunc(f.refs, func(s string) bool { return f.check(s) != "" }); i >= 0 {
			p.add(f.field, f.check(f.refs[i]))
		}
	}
	between := func(field string, v, most int) {
		if v < 0 || v > most {
			p.add(field, fmt.Sprintf("must be from 1 to %d; 0 = the default", most))
		}
	}
	between("break_glass_max", r.BreakGlassMax, LimitBreakGlassMax)
	between("break_glass_limit_person", r.BreakGlassLimitPerson, LimitBreakGlassUses)
	between("break_glass_limit_role", r.BreakGlassLimitRole, LimitBreakGlassUses)
	if r.BreakGlassPeriod < 0 || r.BreakGlassPeriod > LimitBreakGlassPeriod {
		p.add("break_glass_period", "must be at most "+LimitBreakGlassPeriod.Duration().String())
	}
	if r.ReviewDeadline < 0 || r.ReviewDeadline > LimitBreakGlassPeriod {
		p.add("review_deadline", "must be at most "+LimitBreakGlassPeriod.Duration().String())
	}
	if len(r.BreakGlassGroups) == 0 {
		return
	}
	groups, entities := r.ReviewerRefs()
	switch {
	case r.AutoApprove:
		p.add("break_glass_groups", "a role that approves by itself has no glass to break")
	case len(groups)+len(entities) == 0:
		p.add("reviewer_groups", "nobody could sign off a break-glass: name reviewer_groups or reviewer_entities")
	}
	if r.BreakGlassTTL < 0 || r.BreakGlassTTL > r.MaxTTL {
		p.add("break_glass_ttl", "is longer than max_ttl")
	} else if r.EmergencyTTL() < r.MinTTL {
		p.add("break_glass_ttl", "is shorter than min_ttl")
	}
}

// Glass is what a break-glass request has beside any other request.
type Glass struct {
	Event     string    `json:"event,omitempty"` // id of its event in the feed
	Heard     time.Time `json:"heard,omitzero"`  // when a consumer of events had read that
	HeardBy   string    `json:"heard_by,omitempty"`
	Rotate    Rotation  `json:"rotate,omitempty"`
	RotateDue time.Time `json:"rotate_due,omitzero"` // next try
	Tries     int       `json:"tries,omitempty"`
}

// Rotation says whether the target's root credential is to be rotated after a
// use.
type Rotation string

// The states of a rotation after use.
const (
	RotationOwed Rotation = "owed"
	RotationDone Rotation = "done"
)

// BreaksGlass tells whether the request was active without any approval.
func (r Request) BreaksGlass() bool { return r.Kind == KindBreakGlass }

// Heard tells whether a consumer of events has read of a break-glass.
func (r Request) Heard() bool { return r.Glass != nil && !r.Glass.Heard.IsZero() }

// BreakGlassNow makes a new request that is active at once. The caller has
// filled every field that is asked, the kind among them.
func BreakGlassNow(r Request, owed Review, rotate bool, now time.Time) Request {
	r.State, r.Kind = Active, KindBreakGlass
	r.WindowStart, r.WindowEnd = now, now.Add(r.TTL.Duration())
	r.ExpiresAt, r.Granted = r.WindowEnd, r.TTL
	r.Times = Times{Requested: now}
	r.Glass = &Glass{}
	if rotate {
		r.Glass.Rotate = RotationOwed
	}
	r.note(now, r.Requester, string(EventBreakGlass), fmt.Sprintf(
		"broke the glass of role %s: access without any approval until %s; no consumer of events has heard of it yet", r.Role, stamp(r.WindowEnd)))
	return r.Owe(owed, now)
}

func (r *Request) glass(edit func(*Glass)) {
	var g Glass
	if r.Glass != nil {
		g = *r.Glass
	}
	edit(&g)
	r.Glass = &g
}

// HeardBy notes that a consumer of events has read of the break-glass. Hearing
// of it again changes nothing.
func (r Request) HeardBy(consumer string, now time.Time) Request {
	if r.Heard() || !r.BreaksGlass() {
		return r
	}
	r.glass(func(g *Glass) { g.Heard, g.HeardBy = now, consumer })
	r.note(now, Party{}, "heard", "the consumer of events "+consumer+" has heard of it")
	return r
}

// RotationDue is when the target's root credential is to be rotated for this
// request; false = it is not.
func (r Request) RotationDue() (time.Time, bool) {
	if r.Glass == nil || r.Glass.Rotate != RotationOwed || !r.Finished() {
		return time.Time{}, false
	}
	return r.Glass.RotateDue, true
}

// Rotated notes the outcome of a rotation after use; again is when a failed one
// is tried next.
func (r Request) Rotated(done bool, text string, again, now time.Time) Request {
	what := "rotation_failed"
	r.glass(func(g *Glass) {
		g.Tries++
		g.RotateDue = again
		if done {
			g.Rotate, g.RotateDue, what = RotationDone, time.Time{}, "root_rotated"
		}
	})
	if done || r.Glass.Tries == 1 {
		r.note(now, Party{}, what, text)
		return r
	}
	r.Rev++
	return r
}

// GlassUse is one break-glass, or another thing that owes a review, in the
// ledger of its role. The request's own record is the truth.
type GlassUse struct {
	ID       RequestID `json:"id"`
	Kind     string    `json:"kind"` // of the request
	Person   Person    `json:"person"`
	Entity   string    `json:"entity"`
	Name     string    `json:"name"` // display only
	Ticket   string    `json:"ticket,omitempty"`
	At       time.Time `json:"at"`
	Deadline time.Time `json:"deadline"`
	Signed   time.Time `json:"signed,omitzero"`
	Heard    bool      `json:"heard,omitempty"`
	Overdue  bool      `json:"overdue,omitempty"` // the missed deadline is in the history
}

// Owed tells whether the use still waits for its sign-off.
func (u GlassUse) Owed() bool { return u.Signed.IsZero() }

// Of tells whether the use is a person's, under any of their values.
func (u GlassUse) Of(p Person, entity string) bool {
	return p != "" && u.Person == p || entity != "" && u.Entity == entity
}

// Ledger are the uses of one role that still count: those of the period, and
// those that owe a review.
type Ledger struct {
	Role string     `json:"role"`
	Uses []GlassUse `json:"uses"`
}

// GlassProblem is why a glass cannot be broken now.
type GlassProblem struct {
	Request RequestID // that owes the review; "" = a limit
	Text    string
}

// Barred tells why a person cannot break the role's glass with a ticket; nil =
// they can. Reviews come first: they can be cured.
func (l Ledger) Barred(r Role, p Person, entity, ticket string, now time.Time) *GlassProblem {
	perPerson, perRole, period := r.EmergencyLimits()
	mine, all, owed := 0, 0, 0
	var first, other RequestID
	for _, u := range l.Uses {
		recent := u.Kind == KindBreakGlass && now.Sub(u.At) < period
		if recent {
			all++
		}
		if !u.Of(p, entity) {
			continue
		}
		if recent {
			mine++
		}
		switch {
		case !u.Owed():
		case !now.Before(u.Deadline):
			return &GlassProblem{u.ID, "it is overdue"}
		case u.Ticket != ticket:
			other = u.ID
		default:
			owed++
			if first == "" {
				first = u.ID
			}
		}
	}
	switch {
	case other != "":
		return &GlassProblem{other, "its review is owed, and only its own ticket may be used again until then"}
	case owed >= r.EmergencyUses():
		return &GlassProblem{first, fmt.Sprintf("its ticket was used %d time(s), and its review is owed", owed)}
	case mine >= perPerson:
		return &GlassProblem{"", fmt.Sprintf("you broke this glass %d times within %s", mine, period)}
	case all >= perRole:
		return &GlassProblem{"", fmt.Sprintf("this glass was broken %d times within %s", all, period)}
	}
	return nil
}

// Left is how many uses a person has in the current period.
func (l Ledger) Left(r Role, p Person, entity string, now time.Time) int {
	perPerson, perRole, period := r.EmergencyLimits()
	for _, u := range l.Uses {
		if u.Kind != KindBreakGlass || now.Sub(u.At) >= period {
			continue
		}
		perRole--
		if u.Of(p, entity) {
			perPerson--
		}
	}
	return max(min(perPerson, perRole), 0)
}

// Overdue finds a review of a person that is past its deadline.
func (l Ledger) Overdue(p Person, entity string, now time.Time) (GlassUse, bool) {
	for _, u := range l.Uses {
		if u.Of(p, entity) && u.Owed() && !now.Before(u.Deadline) {
			return u, true
		}
	}
	return GlassUse{}, false
}

// Pruned drops the uses that count for nothing any more. period is how long a
// signed one counts.
func (l Ledger) Pruned(period time.Duration, now time.Time) Ledger {
	l.Uses = slices.DeleteFunc(slices.Clone(l.Uses), func(u GlassUse) bool {
		return !u.Owed() && now.Sub(u.At) >= period && (u.Heard || now.Sub(u.At) >= LimitBreakGlassPeriod.Duration())
	})
	return l
}

// Editor is somebody who made a security edit.
type Editor struct {
	Person Person    `json:"person,omitempty"`
	Entity string    `json:"entity"`
	At     time.Time `json:"at"`
}

// maxEditors bounds the editors that a record keeps.
const maxEditors = 50

// NoteEditor adds an editor to those of the last 24 hours. An edit without an
// identity leaves no editor.
func NoteEditor(list []Editor, by Party, now time.Time) []Editor {
	out := slices.DeleteFunc(slices.Clone(list), func(e Editor) bool {
		return now.Sub(e.At) >= EditorBarred || e.Entity == by.Entity
	})
	if by.Entity != "" {
		out = append(out, Editor{Person: by.Person, Entity: by.Entity, At: now})
	}
	if len(out) > maxEditors {
		out = out[len(out)-maxEditors:]
	}
	if len(out) == 0 {
		return nil
	}
	return out
}

// EditedBy tells whether a person is among the editors of the last 24 hours.
func EditedBy(list []Editor, p Person, entity string, now time.Time) bool {
	return slices.ContainsFunc(list, func(e Editor) bool {
		return now.Sub(e.At) < EditorBarred && (e.Entity == entity || e.Person != "" && e.Person == p)
	})
}
