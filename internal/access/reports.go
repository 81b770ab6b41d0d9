package access

import (
	"context"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/vault-pim/vault-plugin-secrets-pim/internal/domain"
)

// reportEvery is how long the report keeps what it read of everybody's records.
const reportEvery = time.Minute

// roleUse is who used one role, as far as it is known.
type roleUse struct {
	last   time.Time
	by     domain.Person // who used it last
	count  int
	people map[domain.Person]domain.Usage
}

// useReport is everybody's use of every role. It reads one record for each
// person, so what was read is kept for a minute.
type useReport struct {
	mu     sync.Mutex
	at     time.Time
	byRole map[string]*roleUse
}

// EligibleRow is one role with those who are eligible for it.
type EligibleRow struct {
	Role       string
	Owner      string
	Principals []PrincipalRow
	LastUsed   time.Time
	LastUsedBy domain.Person
	Uses       int // grants that were used, since records of it are kept
	People     int // different people who used it
	UnusedDays int // since the last use; -1 = it was never used
}

// PrincipalRow is one principal of a role.
type PrincipalRow struct {
	Principal domain.Principal
	Until     time.Time // end of the eligibility; zero = none
	Over      bool
	LastUsed  time.Time // of an entity; of a group it is not known who is in it
	Uses      int
}

// PersonUse is one person's use of a role.
type PersonUse struct {
	Person domain.Person
	Usage  domain.Usage
}

// uses reads everybody's use, or what was read within the last minute.
func (a *Access) uses(ctx context.Context) (map[string]*roleUse, error) {
	r := &a.useReport
	r.mu.Lock()
	defer r.mu.Unlock()
	now := a.now()
	if !r.at.IsZero() && now.Sub(r.at) < reportEvery {
		return r.byRole, nil
	}
	out := map[string]*roleUse{}
	err := a.store.Persons(ctx, func(rec domain.PersonRecord) error {
		for role := range a.rolesUsed(rec) {
			out[role] = out[role].add(rec.Person, a.usageIn(rec, role))
		}
		return ctx.Err()
	})
	if err != nil {
		return nil, err
	}
	r.at, r.byRole = now, out
	return out, nil
}

// rolesUsed are the roles that a person has used or has something open for.
func (a *Access) rolesUsed(rec domain.PersonRecord) map[string]bool {
	out := map[string]bool{}
	for role := range rec.Usage {
		out[role] = true
	}
	for _, e := range rec.Entries {
		out[e.Role] = true
	}
	return out
}

func (u *roleUse) add(p domain.Person, use domain.Usage) *roleUse {
	if use == (domain.Usage{}) {
		return u
	}
	if u == nil {
		u = &roleUse{people: map[domain.Person]domain.Usage{}}
	}
	u.people[p] = use
	u.count += use.Count
	if use.Last.After(u.last) {
		u.last, u.by = use.Last, p
	}
	return u
}

// EligibilityReport says who is eligible for what and how it is used: a page
// of roles after a name, those alone that nobody used for so many days when
// unused is above zero.
func (a *Access) EligibilityReport(ctx context.Context, after string, limit, unused int) ([]EligibleRow, error) {
	if limit <= 0 || limit > MaxPage {
		limit = MaxPage
	}
	names, err := a.store.Roles(ctx, after, 0)
	if err != nil {
		return nil, err
	}
	uses, err := a.uses(ctx)
	if err != nil {
		return nil, err
	}
	var out []EligibleRow
	for _, name := range names {
		role, err := a.store.Role(ctx, name)
		if err != nil {
			return nil, err
		}
		if role == nil {
			continue
		}
		row, err := a.eligibleRow(ctx, role, uses[name])
		if err != nil {
			return nil, err
		}
		if unused > 0 && row.UnusedDays >= 0 && row.UnusedDays < unused {
			continue
		}
		if out = append(out, row); len(out) == limit {
			break
		}
	}
	return out, nil
}

// RoleEligibility is the report of one role, and of each person who used it;
// nil = no such role.
func (a *Access) RoleEligibility(ctx context.Context, name string) (*EligibleRow, []PersonUse, error) {
	role, err := a.store.Role(ctx, name)
	if err != nil || role == nil {
		return nil, nil, err
	}
	uses, err := a.uses(ctx)
	if err != nil {
		return nil, nil, err
	}
	row, err := a.eligibleRow(ctx, role, uses[name])
	if err != nil {
		return nil, nil, err
	}
	var people []PersonUse
	if u := uses[name]; u != nil {
		for p, use := range u.people {
			people = append(people, PersonUse{p, use})
		}
	}
	slices.SortFunc(people, func(a, b PersonUse) int { return strings.Compare(string(a.Person), string(b.Person)) })
	return &row, people, nil
}

func (a *Access) eligibleRow(ctx context.Context, role *domain.Role, u *roleUse) (EligibleRow, error) {
	now := a.now()
	row := EligibleRow{Role: role.Name, Owner: role.Owner, UnusedDays: -1}
	if u != nil {
		row.LastUsed, row.LastUsedBy, row.Uses, row.People = u.last, u.by, u.count, len(u.people)
		if !u.last.IsZero() {
			row.UnusedDays = int(now.Sub(u.last) / (24 * time.Hour))
		}
	}
	for _, p := range role.Principals() {
		kind, ref := p.Split()
		r := PrincipalRow{Principal: p}
		if kind != domain.PrincipalBreakGlass {
			r.Until = role.EligibleUntil[ref]
			r.Over = !r.Until.IsZero() && !now.Before(r.Until)
		}
		if kind == domain.PrincipalEntity && u != nil {
			if err := a.entityUse(ctx, ref, u, &r); err != nil {
				return row, err
			}
		}
		row.Principals = append(row.Principals, r)
	}
	return row, nil
}

// entityUse fills in how one entity used a role. An alias is not looked up: the
// host has no way to.
func (a *Access) entityUse(ctx context.Context, ref string, u *roleUse, r *PrincipalRow) error {
	if !domain.LooksLikeID(ref) {
		return nil
	}
	cfg, err := a.store.Config(ctx)
	if err != nil {
		return err
	}
	e, err := a.directory.Entity(ctx, ref, false)
	if err != nil || e == nil {
		return err
	}
	if p, ok := domain.PersonOf(*e, cfg.PersonKey); ok {
		r.LastUsed, r.Uses = u.people[p].Last, u.people[p].Count
	}
	return nil
}
