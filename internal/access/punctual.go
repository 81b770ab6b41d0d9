package access

import (
	"context"
	"time"
)

const (
	// behindLogged is how far behind a node's clock may be without a word.
	behindLogged = time.Second
	// behindBelieved is how far a node's clock is corrected. Beyond that, nobody can
	// say which of the two is wrong, and all that was granted would end.
	behindBelieved = time.Hour
)

// punctual compares this node's clock with the last sign of life on record, once after
// a start and before anything new is given out. A clock that is behind would give
// back time that has passed: windows would end later than they were granted for.
func (a *Access) punctual(ctx context.Context) error {
	if a.timed.Load() {
		return nil
	}
	st, err := a.store.State(ctx)
	if err != nil {
		return err
	}
	behind := st.Beat.Sub(a.clock.Now())
	switch {
	case behind > behindBelieved:
		a.log.Error("this node's clock is hours behind what is on record; windows end by it all the same", "behind", behind.String())
	case behind > 0:
		a.clock.NotBefore(st.Beat)
		if behind > behindLogged {
			a.log.Error("this node's clock is behind what is on record; the difference is added to it", "behind", behind.String())
		}
	}
	a.timed.Store(true)
	return nil
}
