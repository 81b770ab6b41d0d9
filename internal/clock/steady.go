package clock

import (
	"sync/atomic"
	"time"
)

// Steady is a clock that does not show less than what is known to have been: where
// several machines take turns, one whose clock is behind would otherwise give back
// time that has passed.
type Steady struct {
	Clock
	floor atomic.Pointer[floor]
}

// floor is a moment that had passed when the clock beneath showed read.
type floor struct{ passed, read time.Time }

// NewSteady returns a clock that shows what c shows until NotBefore is called.
func NewSteady(c Clock) *Steady { return &Steady{Clock: c} }

// Now implements Clock.
func (s *Steady) Now() time.Time {
	now := s.Clock.Now()
	if f := s.floor.Load(); f != nil {
		// Between two readings counts what the machine's monotonic clock says, so that
		// a clock that is set right meanwhile is not corrected twice.
		if least := f.passed.Add(now.Sub(f.read)); least.After(now) {
			return least
		}
	}
	return now
}

// NotBefore tells the clock that a moment has passed. It returns how far the clock
// beneath is behind that moment, 0 if it is not; from then on the difference is added.
func (s *Steady) NotBefore(passed time.Time) (behind time.Duration) {
	now := s.Clock.Now()
	if behind = passed.Sub(now); behind <= 0 {
		return 0
	}
	s.floor.Store(&floor{passed: passed.UTC(), read: now})
	return behind
}
