package access

import (
	"context"

	"github.com/vault-pim/vault-plugin-secrets-pim/internal/domain"
	"github.com/vault-pim/vault-plugin-secrets-pim/internal/fault"
)

// SeriesAsk asks for several runs at once.
type SeriesAsk struct {
	Count int
	Each  []map[string]string // sets of parameters; none = those of the ask
}

// checkSeries validates an ask for several runs and resolves how long they have.
func (a *Access) checkSeries(p *fault.Problems, role *domain.Role, target *domain.Target, ask *Ask) (*domain.Series, domain.Seconds, error) {
	s := &domain.Series{Count: ask.Series.Count}
	switch {
	case role.SeriesMax == 0:
		p.Add("series_count", "the role takes no series")
		return s, 0, nil
	case s.Count < 1 || s.Count > role.SeriesMax:
		p.Addf("series_count", "must be from 1 to %d", role.SeriesMax)
	}
	ttl := role.SeriesWithin
	if ask.TTL != nil {
		ttl = *ask.TTL
	}
	if ttl <= 0 || ttl > role.SeriesWithin {
		p.Addf("ttl", "must be from 1 to the role's series_within of %s", role.SeriesWithin.Duration())
	}
	sets := ask.Series.Each
	if len(sets) == 0 {
		sets = []map[string]string{ask.Params}
	} else if len(ask.Params) > 0 {
		p.Add("params", "go into series_params where these are given")
	}
	if len(sets) > domain.LimitSeriesParams {
		p.Addf("series_params", "more than %d", domain.LimitSeriesParams)
		return s, ttl, nil
	}
	for _, set := range sets {
		params := checkParams(p, role, set)
		if target != nil {
			if err := a.checkValues(p, role, target, params); err != nil {
				return s, ttl, err
			}
		}
		if params == nil {
			params = map[string]string{}
		}
		s.Each = append(s.Each, params)
	}
	return s, ttl, nil
}

// runOf is what one read of a series uses: parameters that were approved. A
// series of one set needs none to be named.
func runOf(role *domain.Role, r *domain.Request, given map[string]string) (map[string]string, error) {
	if r.Series == nil {
		return r.Params, nil
	}
	if len(given) == 0 && len(r.Series.Each) == 1 {
		return r.Series.Each[0], nil
	}
	var p fault.Problems
	params := checkParams(&p, role, given)
	if err := p.Err(); err != nil {
		return nil, err
	}
	if params == nil {
		params = map[string]string{}
	}
	if !r.Run(params) {
		return nil, fault.New(fault.Denied, fault.CodePolicy,
			"access denied: the approved series has no run with these parameters; see: vault read pim/requests/"+string(r.ID), nil).
			With("request_id", string(r.ID)).With("role", role.Name)
	}
	return params, nil
}

func errSeriesOver(r domain.Request) error {
	return fault.Newf(fault.Conflict, fault.CodeLimit, "limit reached: all %d runs of the series %s are used", r.Series.Count, r.ID).
		With("request_id", string(r.ID))
}

// runsTaken asks the target whether it would take every run of a request, all of
// them together within one budget.
func (a *Access) runsTaken(ctx context.Context, role *domain.Role, r *domain.Request) error {
	if r.Series == nil {
		return a.stillTaken(ctx, role, r.Params)
	}
	ctx, cancel := context.WithTimeout(ctx, undoBudget)
	defer cancel()
	for _, params := range r.Series.Each {
		if err := a.stillTaken(ctx, role, params); err != nil {
			return err
		}
	}
	return nil
}
