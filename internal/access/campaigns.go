package access

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/vault-pim/vault-plugin-secrets-pim/internal/domain"
	"github.com/vault-pim/vault-plugin-secrets-pim/internal/fault"
	"github.com/vault-pim/vault-plugin-secrets-pim/internal/store"
)

// Bounds of an access review.
const (
	maxCampaignLife = 180 * 24 * time.Hour
	maxCampaigns    = 500 // open ones
)

// campaigns are in memory on the writable node, so that looking for those that
// are due costs nothing.
type campaigns struct {
	store *store.Store

	opening sync.Mutex // one review of a role is open at a time

	mu     sync.Mutex
	loaded bool
	byID   map[string]domain.Campaign
}

func newCampaigns(s *store.Store) *campaigns {
	return &campaigns{store: s, byID: map[string]domain.Campaign{}}
}

// list copies the access reviews that keep accepts, in order of their ids.
func (c *campaigns) list(ctx context.Context, keep func(domain.Campaign) bool) ([]domain.Campaign, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.loaded {
		list, err := c.store.Campaigns(ctx)
		if err != nil {
			return nil, err
		}
		c.byID = make(map[string]domain.Campaign, len(list))
		for _, x := range list {
			c.byID[x.ID] = x
		}
		c.loaded = true
	}
	var out []domain.Campaign
	for _, x := range c.byID {
		if keep(x) {
			out = append(out, x)
		}
	}
	slices.SortFunc(out, func(a, b domain.Campaign) int { return strings.Compare(a.ID, b.ID) })
	return out, nil
}

// change writes one access review under its lock. Memory is locked all the while,
// so that it never keeps the older of two writes.
func (c *campaigns) change(ctx context.Context, id string, f func(*domain.Campaign) (*domain.Campaign, error)) (*domain.Campaign, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	var out *domain.Campaign
	err := c.store.WithCampaign(ctx, id, func(cur *domain.Campaign) (*domain.Campaign, error) {
		next, err := f(cur)
		out = next
		return next, err
	})
	switch {
	case err != nil:
		c.loaded = false // it may have been written
		return nil, err
	case out != nil:
		c.byID[id] = *out
	}
	return out, nil
}

func (c *campaigns) drop(ctx context.Context, id string) error {
	err := c.store.DeleteCampaign(ctx, id)
	c.mu.Lock()
	defer c.mu.Unlock()
	if err != nil {
		c.loaded = false
		return err
	}
	delete(c.byID, id)
	return nil
}

// CampaignAsk is what a new access review says.
type CampaignAsk struct {
	Role      string
	Groups    []string
	Entities  []string
	Due       time.Time
	Undecided string
}

// OpenCampaign starts a review of who may have a role.
func (a *Access) OpenCampaign(ctx context.Context, c Caller, ask CampaignAsk) (domain.Campaign, error) {
	role, err := a.checkCampaign(ctx, ask)
	if err != nil {
		return domain.Campaign{}, err
	}
	a.campaigns.opening.Lock()
	defer a.campaigns.opening.Unlock()
	open, err := a.campaigns.list(ctx, func(x domain.Campaign) bool {
		return x.State == domain.CampaignOpen || x.State == domain.CampaignClosing
	})
	if err != nil {
		return domain.Campaign{}, err
	}
	for _, x := range open {
		if x.Role == ask.Role {
			return domain.Campaign{}, fault.New(fault.Conflict, fault.CodeLimit, "limit reached: review "+x.ID+" of this role is still open", nil)
		}
	}
	if len(open) >= maxCampaigns {
		return domain.Campaign{}, fault.Newf(fault.Conflict, fault.CodeLimit, "limit reached: %d access reviews are open", maxCampaigns)
	}
	id, err := a.newID()
	if err != nil {
		return domain.Campaign{}, err
	}
	next := domain.OpenCampaign(domain.Campaign{
		ID: id, Groups: ask.Groups, Entities: ask.Entities, Due: ask.Due, Undecided: ask.Undecided, By: a.namedCaller(ctx, c),
	}, *role, a.now())
	_, err = a.campaigns.change(ctx, id, func(*domain.Campaign) (*domain.Campaign, error) { return &next, nil })
	return next, err
}

func (a *Access) checkCampaign(ctx context.Context, ask CampaignAsk) (*domain.Role, error) {
	var p fault.Problems
	role, err := a.store.Role(ctx, ask.Role)
	if err != nil {
		return nil, err
	}
	switch {
	case role == nil:
		p.Add("role", "does not exist")
	case len(role.Principals()) > domain.LimitCampaign:
		p.Addf("role", "names more than %d principals, too many for one review: make groups of them", domain.LimitCampaign)
	}
	for _, g := range ask.Groups {
		if why := domain.CheckGroupRef(g); why != "" {
			p.Add("reviewer_groups", why)
		}
	}
	for _, e := range ask.Entities {
		if why := domain.CheckEntityRef(e); why != "" {
			p.Add("reviewer_entities", why)
		}
	}
	if len(ask.Groups)+len(ask.Entities) == 0 {
		p.Add("reviewer_groups", "nobody could review: name reviewer_groups or reviewer_entities")
	}
	switch now := a.now(); {
	case ask.Due.IsZero():
		p.Add("due", "is required")
	case !ask.Due.After(now):
		p.Add("due", "is in the past")
	case ask.Due.After(now.Add(maxCampaignLife)):
		p.Add("due", "is more than 180 days ahead")
	}
	if ask.Undecided != domain.Keep && ask.Undecided != domain.Remove {
		p.Add("undecided", "must be keep or remove: what happens to those whom nobody decides on")
	}
	if err := p.Err(); err != nil {
		return nil, err
	}
	return role, nil
}

// Campaigns lists all access reviews.
func (a *Access) Campaigns(ctx context.Context) ([]domain.Campaign, error) {
	return a.campaigns.list(ctx, func(domain.Campaign) bool { return true })
}

// Campaign reads one access review; nil = none.
func (a *Access) Campaign(ctx context.Context, id string) (*domain.Campaign, error) {
	return a.store.Campaign(ctx, id)
}

// DropCampaign cancels an access review; nothing is changed by it. Cancelling
// one that does not exist changes nothing.
func (a *Access) DropCampaign(ctx context.Context, c Caller, id string) error {
	by := a.namedCaller(ctx, c)
	_, err := a.campaigns.change(ctx, id, func(cur *domain.Campaign) (*domain.Campaign, error) {
		if cur == nil || cur.State == domain.CampaignDropped {
			return nil, nil //nolint:nilnil // nothing to write
		}
		next, err := cur.Drop(by, a.now())
		return &next, campaignFault(err)
	})
	return err
}

// CloseCampaign closes an access review before it is due, and applies it.
func (a *Access) CloseCampaign(ctx context.Context, c Caller, id string) (*domain.Campaign, error) {
	if err := a.indexed(ctx); err != nil {
		return nil, err // what is open of those who are removed has to be known
	}
	by := a.namedCaller(ctx, c)
	out, err := a.campaigns.change(ctx, id, func(cur *domain.Campaign) (*domain.Campaign, error) {
		switch {
		case cur == nil:
			return nil, errNoReview()
		case cur.State == domain.CampaignClosing:
			return nil, nil //nolint:nilnil // it is being applied
		}
		next, err := cur.Close(by, a.now())
		return &next, campaignFault(err)
	})
	if err != nil {
		return nil, err
	}
	if out != nil {
		a.step("access review closing")
	}
	if err := a.applyCampaign(ctx, id); err != nil {
		return nil, err
	}
	return a.store.Campaign(ctx, id)
}

func campaignFault(err error) error {
	switch {
	case errors.Is(err, domain.ErrNotOpen):
		return fault.New(fault.Conflict, fault.CodeNotPending, "this access review is not open any more", nil)
	case errors.Is(err, domain.ErrNoRoom):
		return fault.New(fault.Conflict, fault.CodeLimit, "limit reached: the comments of this access review have no more room; make this one shorter", nil)
	case errors.Is(err, domain.ErrNoPrincipal):
		return fault.New(fault.Invalid, fault.CodeInvalid, "invalid input: principal: is not under review; see the review's principals", nil)
	}
	return err
}

// entitled tells whether an entity may have a role in the ordinary way, or
// by breaking its glass.
func (a *Access) entitled(role *domain.Role, e domain.Entity, glass bool) bool {
	if glass {
		return role.MayBreakGlass(e).OK
	}
	return role.Eligible(e, a.now()).OK
}

func (a *Access) campaignsOf(ctx context.Context, who actor, p *Page) error {
	list, err := a.campaigns.list(ctx, func(c domain.Campaign) bool {
		return c.State == domain.CampaignOpen && c.Reviewer(who.Entity).OK
	})
	for _, c := range list {
		p.Keys = append(p.Keys, c.ID)
		p.Info[c.ID] = map[string]any{
			"kind": "access_review", "role": c.Role, "who": domain.Printable(c.By.Name), "ticket": "",
			"at": stamp(domain.TimeOf(c.ID)), "due": stamp(c.Due), "overdue": !a.now().Before(c.Due),
		}
	}
	return err
}

func (a *Access) campaignForReviewer(ctx context.Context, who actor, id string) (ReviewView, error) {
	c, err := a.store.Campaign(ctx, id)
	if err != nil {
		return ReviewView{}, err
	}
	if c == nil || who.machine || !c.Reviewer(who.Entity).OK {
		return ReviewView{}, errNoReview()
	}
	v := ReviewView{Campaign: c}
	if c.State == domain.CampaignOpen {
		v.Next = "vault write pim/reviews/" + c.ID + ` principal=… verdict=keep comment="…"`
	}
	return v, nil
}

// judgePrincipal writes down what a reviewer says of one principal. Nobody says it of
// themselves.
func (a *Access) judgePrincipal(ctx context.Context, who actor, id string, v Verdict) (ReviewView, error) {
	view, err := a.campaignForReviewer(ctx, who, id)
	if err != nil {
		return view, err
	}
	var p fault.Problems
	if v.Verdict != domain.Keep && v.Verdict != domain.Remove {
		p.Add("verdict", "must be keep or remove")
	}
	if v.Principal == "" {
		p.Add("principal", "is required: one of those under review")
	}
	checkComment(&p, v.Comment)
	if err := p.Err(); err != nil {
		return view, err
	}
	role, err := a.store.Role(ctx, view.Campaign.Role)
	if err != nil {
		return view, err
	}
	var pins map[string]string
	if role != nil {
		pins = role.Pins
	}
	own, err := a.isPrincipal(ctx, who, domain.Principal(v.Principal), pins)
	if err != nil {
		return view, err
	}
	if own {
		return view, fault.New(fault.Denied, fault.CodeNotApprover, "access denied: nobody reviews an access that they have themselves", nil)
	}
	next, err := a.campaigns.change(ctx, id, func(cur *domain.Campaign) (*domain.Campaign, error) {
		if cur == nil {
			return nil, errNoReview()
		}
		next, err := cur.Judge(who.party(), domain.Principal(v.Principal), v.Verdict, v.Comment, a.now())
		next = next.Pinned(cur.Reviewer(who.Entity).Pin)
		return &next, campaignFault(err)
	})
	view.Campaign = next
	return view, err
}

// isPrincipal tells whether a principal stands for somebody, or for another entity
// of the same person. Who else is in a group the host does not say.
func (a *Access) isPrincipal(ctx context.Context, who actor, p domain.Principal, pins map[string]string) (bool, error) {
	if p.Covers(who.Entity, pins) {
		return true, nil
	}
	kind, ref := p.Split()
	if kind != domain.PrincipalEntity || !domain.LooksLikeID(ref) {
		return false, nil
	}
	return a.isNow(ctx, who, ref)
}

// tidyCampaigns drops the access reviews whose retention is over.
func (a *Access) tidyCampaigns(ctx context.Context, cfg domain.Config) (int, error) {
	now := a.now()
	old, err := a.campaigns.list(ctx, func(c domain.Campaign) bool {
		return !c.Closed.IsZero() && now.Sub(c.Closed) >= max(cfg.RetentionHuman.Duration(), domain.UsageKept)
	})
	for i, c := range old {
		if err := a.campaigns.drop(ctx, c.ID); err != nil {
			return i, err
		}
	}
	return len(old), err
}
