package access

import (
	"context"
	"errors"
	"math/rand/v2"
	"regexp"
	"time"

	"github.com/vault-pim/vault-plugin-secrets-pim/internal/domain"
	"github.com/vault-pim/vault-plugin-secrets-pim/internal/fault"
	"github.com/vault-pim/vault-plugin-secrets-pim/internal/provider/contract"
	"github.com/vault-pim/vault-plugin-secrets-pim/internal/store"
)

// finish ends one credential at its target: on record first, then there, then
// on record again. It is idempotent, and its error means that the access may
// still exist.
func (a *Access) finish(ctx context.Context, id domain.RequestID, cred domain.CredentialID, why string, s *sight) error {
	return a.flights.end(ctx, cred, func() error {
		ctx, cancel := context.WithTimeout(ctx, callBudget)
		defer cancel()
		c, todo, err := a.intendEnd(ctx, id, cred, why, s)
		if err != nil || !todo {
			return err
		}
		a.reuse.drop(id, cred)
		if err := a.flights.grounded(ctx, cred); err != nil {
			return err
		}
		// What was issued meanwhile may have named more: read the handle again.
		if c, err = a.handleOf(ctx, id, c, s); err != nil {
			return err
		}
		if err := a.publishFor(ctx, c.Handle); err != nil {
			return a.settleEnd(ctx, id, c, contract.Ended{}, err, s)
		}
		ended, err := a.revokeAt(ctx, c)
		return a.settleEnd(ctx, id, c, ended, err, s)
	})
}

// intendEnd writes down that a credential is to end. todo is false when
// nothing is left to do at the target now.
func (a *Access) intendEnd(ctx context.Context, id domain.RequestID, cred domain.CredentialID, why string, s *sight) (out domain.Credential, todo bool, err error) {
	err = a.store.WithRequest(id, func(tx *store.RequestTx) error {
		r, err := a.look(ctx, tx, id, s)
		if err != nil {
			return err
		}
		if r == nil {
			return domain.ErrNoCredential
		}
		c, ok := r.Credential(cred)
		if !ok {
			return domain.ErrNoCredential
		}
		out = c
		switch c.State {
		case domain.CredGone:
			return nil
		case domain.CredEnded:
			todo = !a.now().Before(c.Due)
			return nil
		case domain.CredRevoking, domain.CredUndoing:
			todo = true
			return nil
		case domain.CredIssuing, domain.CredActive:
		}
		next, err := r.ApplyCredential(cred, domain.CredEndAsked, why, a.now())
		if err != nil {
			return err
		}
		todo = true
		out, _ = next.Credential(cred)
		return a.saveSeen(ctx, tx, next, "end intended", s)
	})
	return out, todo, err
}

func (a *Access) handleOf(ctx context.Context, id domain.RequestID, c domain.Credential, s *sight) (domain.Credential, error) {
	r, err := a.glance(ctx, id, s)
	if err != nil || r == nil {
		return c, err
	}
	if again, ok := r.Credential(c.ID); ok {
		c = again
	}
	return c, nil
}

// revokeAt calls the target, unless another credential still uses the shared
// object.
func (a *Access) revokeAt(ctx context.Context, c domain.Credential) (contract.Ended, error) {
	last, err := a.release(ctx, c)
	if err != nil {
		return contract.Ended{}, err
	}
	if !last {
		return contract.Gone(), nil
	}
	ended, err := a.revokeHandle(ctx, c.Handle)
	if err != nil {
		return ended, err
	}
	if c.Handle.Shared != "" {
		if err := a.released(ctx, c); err != nil {
			return ended, err
		}
	}
	return a.lookTwice(c, ended), nil
}

func (a *Access) revokeHandle(ctx context.Context, h domain.Handle) (contract.Ended, error) {
	p, err := a.providers.of(ctx, h.Target)
	if err != nil {
		return contract.Ended{}, err
	}
	if h.Place != "" && p.target.Place != "" && h.Place != p.target.Place {
		return contract.Ended{}, contract.PlaceError("revoke")
	}
	a.step("before provider revoke")
	ended, err := p.Revoke(ctx, h)
	a.step("after provider revoke")
	return ended, err
}

// lookTwice keeps an undone credential in sight a little longer: a call that
// was given up, or a process that was thought dead, may still have landed.
func (a *Access) lookTwice(c domain.Credential, ended contract.Ended) contract.Ended {
	again := c.Planned.Add(secondLook)
	if c.State != domain.CredUndoing || !ended.Done() || !a.now().Before(again) {
		return ended
	}
	ended.Rest, ended.Again = c.Handle, again
	return ended
}

// settleEnd writes down what the target said.
func (a *Access) settleEnd(ctx context.Context, id domain.RequestID, c domain.Credential, ended contract.Ended, failed error, s *sight) error {
	// The outcome is written even if the caller gave up: it is already true.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), undoBudget)
	defer cancel()
	err := a.store.WithRequest(id, func(tx *store.RequestTx) error {
		r, err := a.look(ctx, tx, id, s)
		if err != nil {
			return err
		}
		if r == nil {
			return nil // archived by somebody who saw the same end
		}
		now := a.now()
		next, err := afterEnd(*r, c.ID, ended, failed, now)
		if err != nil {
			return err
		}
		return a.saveSeen(ctx, tx, next, "end settled", s)
	})
	if failed != nil {
		a.log.Warn("ending a credential failed; it is tried again", "request", string(id), "credential", string(c.ID),
			"attempt", c.Attempts+1, "error", failed)
		return failed
	}
	return err
}

// afterEnd is the record after a revocation. Pure.
func afterEnd(r domain.Request, id domain.CredentialID, ended contract.Ended, failed error, now time.Time) (domain.Request, error) {
	if failed != nil {
		c, _ := r.Credential(id)
		return r.RevocationFailed(id, codeOf(failed), now.Add(backoff(c.Attempts+1)), now)
	}
	if !ended.AccessGone {
		// Nothing can end it before its time: it may still give access, so it
		// stays in sight as what it is.
		return r.Edit(id, func(c *domain.Credential) {
			if ended.Rest.Provider != "" {
				c.Handle = ended.Rest
			}
			c.Attempts, c.Problem, c.Due = 0, "", ended.Again
			if !c.Due.After(now) {
				c.Due = now.Add(backoff(1))
			}
		})
	}
	ev := domain.CredConfirmed
	if !ended.Done() {
		ev = domain.CredAccessOff
	}
	return r.ApplyCredential(id, ev, "", now, func(c *domain.Credential) {
		if ended.RefusedAfter > 0 {
			c.RefusedAfter = ended.RefusedAfter.Milliseconds()
		}
		if ev == domain.CredAccessOff {
			c.Handle, c.Due = ended.Rest, ended.Again
			return
		}
		c.Handle.Data = nil // nothing is left that it could name
	})
}

// backoff is when a failed revocation is tried again: 10 s doubling to 10 min,
// half of it random, for ever.
func backoff(attempt int) time.Duration {
	d := 10 * time.Second
	for i := 1; i < attempt && d < 10*time.Minute; i++ {
		d *= 2
	}
	d = min(d, 10*time.Minute)
	return d/2 + rand.N(d/2) //nolint:gosec // spreads load; nothing is decided on it
}

func codeOf(err error) string {
	var pe *contract.Error
	if errors.As(err, &pe) && pe.Code != "" {
		return pe.Code
	}
	if errors.Is(err, context.DeadlineExceeded) {
		return "timeout"
	}
	return "error"
}

// providerFault turns a failure at a target into what the caller may know. The
// target's own words never get out.
func providerFault(err error) error {
	var pe *contract.Error
	var fe *fault.Error
	switch {
	case errors.As(err, &fe):
		return err
	case errors.Is(err, contract.ErrPlace):
		return fault.New(fault.Conflict, fault.CodePlace, "the target is another place than the one it is pinned to; nothing was done there", err)
	case errors.As(err, &pe) && pe.Refused:
		return withCode(fault.New(fault.Conflict, fault.CodeTarget, "the target refused: "+said(pe), err), pe)
	case errors.As(err, &pe):
		return withCode(fault.New(fault.Upstream, fault.CodeUpstream, "the target failed: "+said(pe), err), pe)
	case errors.Is(err, context.DeadlineExceeded):
		return fault.New(fault.Upstream, fault.CodeUpstream, "the target did not answer in time", err)
	}
	return fault.New(fault.Upstream, fault.CodeUpstream, "the target failed; see the log of the plugin", err)
}

// targetCode is the closed form of the codes that targets may add to our
// words.
var targetCode = regexp.MustCompile(`^[A-Za-z0-9_.-]{1,64}$`)

// said is what a provider says of a failure: its own words and, where it has
// the closed form, the target's code.
func said(e *contract.Error) string {
	text := e.Op + ": " + e.Public
	if targetCode.MatchString(e.Code) {
		text += " (" + e.Code + ")"
	}
	return text
}

func withCode(f *fault.Error, e *contract.Error) *fault.Error {
	if targetCode.MatchString(e.Code) {
		return f.With("target_code", e.Code)
	}
	return f
}
