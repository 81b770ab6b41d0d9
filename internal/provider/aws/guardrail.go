package aws

import (
	"context"
	"errors"
	"time"

	"github.com/vault-pim/vault-plugin-secrets-pim/internal/provider/contract"
)

var errRailFull = &contract.Error{
	Op: "deny open sessions", Code: "guardrail_full", Refused: true,
	Public: "the service control policy of scp_deny is full",
}

// denial of the open sessions of an assignment, as of now. No session under a
// permission set lives longer than 12 h.
func (d handleData) railDeny(now time.Time) railDeny {
	return railDeny{
		account: d.Assignment.Account, set: d.SetName, users: names{d.Assignment.User},
		before: now.Truncate(time.Second).Add(time.Second), until: hourAfter(now.Add(maxRoleSession + slack)),
	}
}

// railOrder is what one batch has to deny in one service control policy.
// Without denies it prunes.
type railOrder struct {
	id     string
	denies []railDeny
}

func mergeRailOrders(into *railOrder, more railOrder) {
	into.denies = append(into.denies, more.denies...)
}

// denyOpenSessions denies the open sessions of an assignment. It returns until
// when the deny is needed.
func (p *Provider) denyOpenSessions(ctx context.Context, d handleData) (time.Time, error) {
	want := d.railDeny(p.env.Clock.Now())
	_, err := p.rails.do(ctx, d.Rail, railOrder{id: d.Rail, denies: []railDeny{want}})
	return want.until, err
}

// denyRail writes denies, reads them back, and does so again after the time in
// which an older reader may have written over them.
func (p *Provider) denyRail(ctx context.Context, o railOrder) (wrote bool, err error) {
	for try := range p.pace.tries {
		if try > 0 {
			if werr := p.denier.wait(ctx, time.Duration(try*(200+p.denier.seed))*time.Millisecond); werr != nil {
				return wrote, errors.Join(werr, err)
			}
		}
		if err = p.enterRail(ctx, o); err != nil {
			if worthAnotherTry(err) {
				continue
			}
			return wrote, err
		}
		if len(o.denies) == 0 {
			return false, nil // a prune that is lost is done again
		}
		wrote = true
		if err := p.denier.wait(ctx, p.pace.settle); err != nil {
			return wrote, err
		}
		now, err := p.readRail(ctx, o.id)
		if err != nil || now.hasAll(o.denies) {
			return wrote, err
		}
	}
	if err == nil {
		err = &contract.Error{Op: "deny open sessions", Code: "contended", Public: "other writers kept replacing the service control policy"}
	}
	return wrote, err
}

// enterRail adds denies and drops what is no longer needed.
func (p *Provider) enterRail(ctx context.Context, o railOrder) error {
	r, err := p.readRail(ctx, o.id)
	if err != nil || (len(o.denies) > 0 && r.hasAll(o.denies)) {
		return err
	}
	if pruned := r.prune(p.env.Clock.Now()); !pruned && len(o.denies) == 0 {
		return nil
	}
	for _, want := range o.denies {
		if ok, err := r.add(want); err != nil || !ok {
			if err == nil {
				err = errRailFull
			}
			return err
		}
	}
	return p.writeRail(ctx, o.id, r)
}

// reserveRail refuses an assignment whose open sessions could not be ended.
func (p *Provider) reserveRail(ctx context.Context, d handleData) error {
	r, err := p.readRail(ctx, d.Rail)
	if err != nil {
		return err
	}
	now := p.env.Clock.Now()
	r.prune(now)
	if ok, err := r.add(d.railDeny(now)); err != nil || !ok {
		if err == nil {
			err = errRailFull
		}
		return err
	}
	return nil
}

func (p *Provider) readRail(ctx context.Context, id string) (*rail, error) {
	text, err := p.cloud.Rails.ReadGuardrail(ctx, id)
	if err != nil {
		return nil, failed("read service control policy", err)
	}
	return parseRail(text)
}

func (p *Provider) writeRail(ctx context.Context, id string, r *rail) error {
	text, err := r.render()
	if err != nil {
		return err
	}
	return failed("write service control policy", p.cloud.Rails.WriteGuardrail(ctx, id, text))
}

// pruneRail takes out what is no longer needed.
func (p *Provider) pruneRail(ctx context.Context, id string) error {
	_, err := p.rails.do(ctx, id, railOrder{id: id})
	return err
}
