package access

import (
	"context"
	"slices"
	"strings"
	"time"

	"github.com/vault-pim/vault-plugin-secrets-pim/internal/domain"
	"github.com/vault-pim/vault-plugin-secrets-pim/internal/fault"
)

// orphanGrace is how long something that carries our tag is left alone at
// least: longer than a listing takes, so that nothing issued during it counts.
const orphanGrace = 2 * listBudget

// SweepAsk says what a sweep is to look at and to do.
type SweepAsk struct {
	Target string // "" = every target
	// End ends what an earlier sweep has listed and this one finds again.
	End bool
}

// SweepState is how far the sweep of one target has come.
type SweepState string

// The states of a sweep.
const (
	SweepRunning     SweepState = "running"
	SweepDone        SweepState = "done"
	SweepFailed      SweepState = "failed"
	SweepInterrupted SweepState = "interrupted" // the process that ran it is gone
	SweepNoList      SweepState = "cannot_list" // the target's type keeps no tags that could be listed
)

// SweptTarget is the last sweep of one target.
type SweptTarget struct {
	Target string
	State  SweepState
	domain.TargetSweep
}

// SweepStatus is what the last sweeps found.
type SweepStatus struct {
	Running bool
	Targets []SweptTarget   // in order of their names
	Orphans []domain.Orphan // in order of their ids
}

// Sweep looks for orphans in the background, and answers at once. One sweep
// runs at a time.
func (a *Access) Sweep(ctx context.Context, ask SweepAsk) (SweepStatus, error) {
	if err := a.indexed(ctx); err != nil {
		return SweepStatus{}, err
	}
	all, err := a.store.Targets(ctx, "", 0)
	if err != nil {
		return SweepStatus{}, err
	}
	names := all
	if ask.Target != "" {
		if !slices.Contains(all, ask.Target) {
			var p fault.Problems
			p.Add("target", "there is no such target")
			return SweepStatus{}, p.Err()
		}
		names = []string{ask.Target}
	}
	if !a.sweeping.CompareAndSwap(false, true) {
		return SweepStatus{}, fault.New(fault.Conflict, fault.CodeBusy, "busy: a sweep is under way; see orphans/sweep", nil).
			With("poll_after_seconds", 5)
	}
	before, err := a.store.Orphans(ctx)
	if err == nil {
		_, err = a.store.UpdateOrphans(ctx, func(o *domain.Orphans) { beginSweep(o, all, names, a.now(), a.boot) })
	}
	if err != nil {
		a.sweeping.Store(false)
		return SweepStatus{}, err
	}
	status, err := a.Orphans(ctx)
	a.background.Go(func() {
		defer a.sweeping.Store(false)
		inParallel(a, names, sweepWorkers, func(name string) {
			a.sweepTarget(a.life, name, before, ask.End)
		})
	})
	return status, err
}

// sweepWorkers is how many targets are swept at a time.
const sweepWorkers = 4

// beginSweep notes which targets are being swept, and forgets those that do not
// exist any more.
func beginSweep(o *domain.Orphans, all, names []string, now time.Time, boot string) {
	for name := range o.Sweeps {
		if !slices.Contains(all, name) {
			delete(o.Sweeps, name)
		}
	}
	o.List = slices.DeleteFunc(o.List, func(x domain.Orphan) bool { return !slices.Contains(all, x.Target) })
	for _, name := range names {
		o.Sweeps[name] = domain.TargetSweep{Begun: now, Boot: boot}
	}
}

// Orphans is what the last sweeps found. It calls no target.
func (a *Access) Orphans(ctx context.Context) (SweepStatus, error) {
	running := a.sweeping.Load()
	o, err := a.store.Orphans(ctx)
	if err != nil {
		return SweepStatus{}, err
	}
	out := SweepStatus{Running: running, Orphans: o.List}
	for name, s := range o.Sweeps {
		out.Targets = append(out.Targets, SweptTarget{Target: name, State: a.sweepState(s, running), TargetSweep: s})
	}
	slices.SortFunc(out.Targets, func(x, y SweptTarget) int { return strings.Compare(x.Target, y.Target) })
	return out, nil
}

func (a *Access) sweepState(s domain.TargetSweep, running bool) SweepState {
	switch {
	case s.NoList:
		return SweepNoList
	case s.Problem != "":
		return SweepFailed
	case !s.Done.IsZero():
		return SweepDone
	case running && s.Boot == a.boot:
		return SweepRunning
	}
	return SweepInterrupted
}

// Orphan reads one orphan of the last sweeps. nil = none of that id.
func (a *Access) Orphan(ctx context.Context, id string) (*domain.Orphan, error) {
	o, err := a.store.Orphans(ctx)
	if err != nil {
		return nil, err
	}
	for _, x := range o.List {
		if string(x.Credential) == id {
			return &x, nil
		}
	}
	return nil, nil //nolint:nilnil // unknown
}
