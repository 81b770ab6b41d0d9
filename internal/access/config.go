package access

import (
	"context"
	"errors"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/vault-pim/vault-plugin-secrets-pim/internal/domain"
	"github.com/vault-pim/vault-plugin-secrets-pim/internal/fault"
	"github.com/vault-pim/vault-plugin-secrets-pim/internal/store"
)

// Config reads the mount's settings and how the epoch stands.
func (a *Access) Config(ctx context.Context) (domain.Config, domain.State, error) {
	cfg, err := a.store.Config(ctx)
	if err != nil {
		return cfg, domain.State{}, err
	}
	st, err := a.store.State(ctx)
	return cfg, st, err
}

// EpochDue tells whether the last sign of life is so old that the mount was
// sealed, or restored from a copy: somebody has to decide about rotate-epoch.
func (a *Access) EpochDue(st domain.State) bool {
	return a.stale.Load() || !st.Beat.IsZero() && a.now().Sub(st.Beat) > time.Hour
}

// errProposed ends an edit of the settings that was stored as a proposal.
var errProposed = errors.New("the edit was proposed")

// WriteConfig changes settings; edit changes a copy of the present ones. With
// edit_sod, and to switch it on, another person confirms.
func (a *Access) WriteConfig(ctx context.Context, c Caller, edit func(*domain.Config), o EditOptions) (Effect, error) {
	var eff Effect
	by := a.editor(ctx, c)
	_, err := a.store.UpdateConfig(ctx, func(old domain.Config) (domain.Config, error) {
		if err := a.confirming(ctx, o, func(p domain.Proposal) domain.Fit { return p.FitConfig(&old) }); err != nil {
			return old, err
		}
		next := old
		edit(&next)
		if err := checkConfig(next); err != nil {
			return old, err
		}
		if o.confirms != nil || !old.EditSOD && !next.EditSOD || reflect.DeepEqual(old, next) {
			return next, nil
		}
		var err error
		eff.Proposed, err = a.propose(ctx, by, store.Proposal{Proposal: domain.Proposal{
			Kind: domain.EditConfig, Config: &domain.Change[domain.Config]{From: &old, To: &next},
		}}, o)
		if err == nil {
			err = errProposed
		}
		return old, err
	})
	if errors.Is(err, errProposed) {
		return eff, nil
	}
	if err == nil && o.confirms != nil {
		err = a.store.WithConfig(func() error { return a.confirmed(ctx, o) })
	}
	return eff, err
}

func checkConfig(c domain.Config) error {
	var p fault.Problems
	positive := []struct {
		name string
		n    int
		most int
	}{
		{"max_open", c.MaxOpen, 1_000_000},
		{"person_max_open", c.PersonMaxOpen, 10_000},
		{"machine_max_open", c.MachineMaxOpen, 100_000},
		{"issue_rate", c.IssueRate, 100_000},
		{"machine_issue_rate", c.MachineIssueRate, 1_000_000},
		{"auto_request_per_day", c.AutoRequestPerDay, 100},
		{"hold_ttl", int(c.HoldTTL), int(domain.LimitTTL)},
		{"retention_human", int(c.RetentionHuman), 10 * int(domain.LimitTTL)},
		{"retention_auto", int(c.RetentionAuto), 10 * int(domain.LimitTTL)},
		{"reap_interval", int(c.ReapInterval), 60},
	}
	for _, k := range c.Events {
		if !slices.Contains(domain.EventKinds(), domain.EventKind(k)) {
			p.Add("events", "names a kind of event that there is not")
			break
		}
	}
	for _, x := range positive {
		if x.n < 1 || x.n > x.most {
			p.Addf(x.name, "must be from 1 to %d", x.most)
		}
	}
	if c.AutoRequestCooldown < 0 || c.AutoRequestCooldown > domain.LimitTTL {
		p.Addf("auto_request_cooldown", "must be from 0 to %d", domain.LimitTTL)
	}
	if c.MinRevocation != "" && !c.MinRevocation.Valid() {
		p.Add("min_revocation", "must be immediate, propagating or expiry_only")
	}
	if why := domain.CheckText(c.PersonKey, 128); why != "" {
		p.Add("person_key", why)
	}
	for _, m := range c.HumanMounts {
		if m == "" || strings.Contains(m, "*") {
			p.Add("human_mounts", "must be mount accessors")
			break
		}
	}
	return p.Err()
}
