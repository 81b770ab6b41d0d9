package access

import (
	"context"
	"errors"
	"slices"
	"strings"

	"github.com/vault-pim/vault-plugin-secrets-pim/internal/domain"
	"github.com/vault-pim/vault-plugin-secrets-pim/internal/fault"
)

// ReviewView is one thing that waits for a reviewer: a request that nobody
// approved beforehand, or the access review of a role.
type ReviewView struct {
	Request  *RequestView
	Campaign *domain.Campaign
	Next     string
}

// Reviews lists what the caller can review: sign-offs that are owed, and access
// reviews that are open.
func (a *Access) Reviews(ctx context.Context, c Caller, after string, limit int) (Page, error) {
	who, err := a.actor(ctx, c)
	if err != nil {
		return Page{}, err
	}
	if limit <= 0 || limit > MaxPage {
		limit = MaxPage
	}
	p := Page{Info: map[string]map[string]any{}}
	if who.machine {
		return p, nil
	}
	if err := a.owedTo(ctx, who, &p); err != nil {
		return p, err
	}
	if err := a.campaignsOf(ctx, who, &p); err != nil {
		return p, err
	}
	slices.Sort(p.Keys)
	p.Keys = slices.DeleteFunc(p.Keys, func(k string) bool { return k <= after })
	p.Keys = p.Keys[:min(limit, len(p.Keys))]
	return p, nil
}

func (a *Access) owedTo(ctx context.Context, who actor, p *Page) error {
	now := a.now()
	return a.eachUse(ctx, func(name string, u domain.GlassUse) error {
		if !u.Owed() || u.Of(who.person, who.ID) || a.ledgers.flies(u.ID) {
			return nil
		}
		role, err := a.store.Role(ctx, name)
		if err != nil {
			return err
		}
		if role == nil || !role.Reviewer(who.Entity).OK {
			// The role may be gone, and the request still knows its reviewers.
			r, err := a.store.Request(ctx, u.ID)
			if err != nil || r == nil || role != nil || !a.reviews(ctx, who, *r) {
				return err
			}
		}
		p.Keys = append(p.Keys, string(u.ID))
		p.Info[string(u.ID)] = map[string]any{
			"kind": u.Kind, "role": name, "who": domain.Printable(u.Name), "ticket": domain.Printable(u.Ticket),
			"at": stamp(u.At), "due": stamp(u.Deadline), "overdue": !now.Before(u.Deadline),
		}
		return nil
	})
}

// reviews tells whether somebody may sign off a request: a reviewer of its
// role, and no party to it.
func (a *Access) reviews(ctx context.Context, who actor, r domain.Request) bool {
	if r.Review == nil || who.machine {
		return false
	}
	if party, err := a.partyTo(ctx, who, r); err != nil || party {
		return false
	}
	role, err := a.store.Role(ctx, r.Role)
	if err != nil {
		return false
	}
	if role != nil {
		return role.Reviewer(who.Entity).OK
	}
	return domain.MatchEntity(who.Entity, r.Review.Groups, r.Review.Entities, r.Review.Pins).OK
}

// Review reads one thing that waits, or waited, for the caller's review. For
// everybody else it does not exist.
func (a *Access) Review(ctx context.Context, c Caller, id string) (ReviewView, error) {
	who, err := a.actor(ctx, c)
	if err != nil {
		return ReviewView{}, err
	}
	r, err := a.store.Request(ctx, domain.RequestID(id))
	if err != nil {
		return ReviewView{}, err
	}
	if r != nil {
		if !a.reviews(ctx, who, *r) {
			return ReviewView{}, errNoReview()
		}
		return a.reviewView(ctx, who, *r)
	}
	return a.campaignForReviewer(ctx, who, id)
}

func errNoReview() error { return fault.New(fault.Absent, fault.CodeInvalid, "no such review", nil) }

func (a *Access) reviewView(ctx context.Context, who actor, r domain.Request) (ReviewView, error) {
	v, err := a.view(ctx, r, who)
	if err != nil {
		return ReviewView{}, err
	}
	out := ReviewView{Request: &v}
	if r.OwesReview() {
		out.Next = "vault write pim/reviews/" + string(r.ID) + ` verdict=justified comment="…"`
	}
	return out, nil
}

// Verdict is what a reviewer says.
type Verdict struct {
	Verdict   string
	Principal string // of an access review
	Comment   string
}

// SignOff gives a review: of a request, or of one principal in an access
// review.
func (a *Access) SignOff(ctx context.Context, c Caller, id string, v Verdict) (ReviewView, error) {
	who, err := a.actor(ctx, c)
	if err != nil {
		return ReviewView{}, err
	}
	if err := a.free(ctx, domain.Scope{Person: who.person, Entity: who.ID}); err != nil {
		return ReviewView{}, err
	}
	r, err := a.store.Request(ctx, domain.RequestID(id))
	if err != nil {
		return ReviewView{}, err
	}
	if r == nil {
		return a.judgePrincipal(ctx, who, id, v)
	}
	if own, err := a.sameHuman(ctx, who, r.Requester); err != nil {
		return ReviewView{}, err
	} else if r.Review != nil && own {
		return ReviewView{}, fault.New(fault.Denied, fault.CodeNotApprover, "access denied: nobody reviews their own request", nil)
	}
	if !a.reviews(ctx, who, *r) {
		return ReviewView{}, errNoReview()
	}
	if err := checkVerdict(v); err != nil {
		return ReviewView{}, err
	}
	next, err := a.signOff(ctx, who, *r, v)
	if err != nil {
		return ReviewView{}, err
	}
	return a.reviewView(ctx, who, *next)
}

func checkVerdict(v Verdict) error {
	var p fault.Problems
	if verdict := domain.ReviewVerdict(v.Verdict); verdict != domain.Justified && verdict != domain.Unjustified {
		p.Add("verdict", "must be justified or unjustified")
	}
	if v.Principal != "" {
		p.Add("principal", "goes with an access review only")
	}
	checkComment(&p, v.Comment)
	return p.Err()
}

func checkComment(p *fault.Problems, comment string) {
	if strings.TrimSpace(comment) == "" {
		p.Add("comment", "is required: what was looked at")
	} else if why := domain.CheckText(comment, domain.MaxComment); why != "" {
		p.Add("comment", why)
	}
}

// signOff writes the request, which is the truth, then the ledger.
func (a *Access) signOff(ctx context.Context, who actor, r domain.Request, v Verdict) (*domain.Request, error) {
	if role, err := a.store.Role(ctx, r.Role); err == nil && role != nil {
		if m := role.Reviewer(who.Entity); len(m.Pin) > 0 {
			if _, err := a.pin(ctx, r.Role, m.Pin); err != nil {
				return nil, err
			}
		}
	}
	next, err := a.amend(ctx, r.ID, func(cur domain.Request) (domain.Request, error) {
		return cur.SignOff(who.party(), domain.ReviewVerdict(v.Verdict), v.Comment, a.now())
	})
	switch {
	case errors.Is(err, domain.ErrNothingOwed):
		return nil, fault.New(fault.Conflict, fault.CodeAlreadyDecided, "this review is signed off already", nil)
	case errors.Is(err, domain.ErrParty):
		return nil, fault.New(fault.Denied, fault.CodeNotApprover, "access denied: nobody reviews what they were part of", nil)
	case err != nil:
		return nil, err
	case next == nil:
		return nil, errNoReview()
	}
	a.step("sign-off noted")
	return next, a.ledgers.use(ctx, r.Role, r.ID, func(u domain.GlassUse) *domain.GlassUse { u.Signed = next.Review.At; return &u })
}
