package domain

import (
	"maps"
	"slices"
)

// KindSeries is the kind of a request for several runs that are approved at
// once.
const KindSeries = "series"

// Bounds of series.
const (
	LimitSeries       = 1000 // runs
	LimitSeriesParams = 32   // sets of parameters
)

// Series is what a request for several runs asks for: so many credentials at
// most, each with parameters from a closed list, all within the window.
type Series struct {
	Count int                 `json:"count"`
	Each  []map[string]string `json:"each"` // sets of parameters; one that is empty = none
}

// First is the first set of parameters.
func (s *Series) First() map[string]string {
	if s == nil || len(s.Each) == 0 {
		return nil
	}
	return s.Each[0]
}

// Run tells whether the request covers a run with these parameters. A request
// that is no series covers none.
func (r Request) Run(params map[string]string) bool {
	return r.Series != nil && slices.ContainsFunc(r.Series.Each, func(one map[string]string) bool { return maps.Equal(one, params) })
}

// RunsLeft is how many credentials a series may still take. A run that failed
// counts: how far it got is not known.
func (r Request) RunsLeft() int {
	if r.Series == nil {
		return 0
	}
	return max(r.Series.Count-r.Issued, 0)
}

func (r Role) checkSeries(p *problems) {
	switch {
	case r.SeriesMax == 0 && r.SeriesWithin == 0:
		return
	case r.SeriesMax < 1 || r.SeriesMax > LimitSeries:
		p.add("series_max", "must be from 1 to 1000")
	}
	if r.SeriesWithin < 1 || r.SeriesWithin > LimitTTL {
		p.add("series_within", "is required with series_max, at most "+LimitTTL.Duration().String())
	}
	if r.AutoApprove {
		p.add("series_max", "a role that approves by itself needs no series")
	}
	if r.ReuseWindow > 0 {
		p.add("series_max", "goes without reuse_window: runs do not share credentials")
	}
	if r.Start == StartFirstRead {
		p.add("series_max", "goes with start=approval only")
	}
}
