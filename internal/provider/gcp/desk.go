package gcp

import (
	"context"
	"errors"
	"net/http"
	"sync"
	"time"

	"github.com/vault-pim/vault-plugin-secrets-pim/internal/clock"
	"github.com/vault-pim/vault-plugin-secrets-pim/internal/provider/remote"
)

const (
	maxConflicts  = 20 // in a row, with somebody else's writes
	conflictPause = 100 * time.Millisecond
	maxConflict   = 3 * time.Second
	turnTimeout   = 20 * time.Second // of one writer, whatever its own call may take
)

// errLeft says that whoever was writing for others gave up on the way; they go
// on by themselves.
var errLeft = errors.New("the writer left")

// desk writes policies. Changes of one policy that come together go into one
// write: a hundred at once would otherwise mostly undo each other's tries, and
// Google counts writes. Whoever comes first writes for those who wait, within
// its own call, so that nothing is on its way once everybody has returned.
type desk struct {
	api  policyAPI
	clk  clock.Clock
	pace remote.Pace

	mu    sync.Mutex
	lines map[resource]*line
}

type policyAPI interface {
	policy(ctx context.Context, r resource) (*policy, error)
	writePolicy(ctx context.Context, r resource, p *policy) (*policy, error)
}

// line is who waits for one policy. It exists while somebody writes.
type line struct{ waiting []*visit }

type visit struct {
	ctx  context.Context //nolint:containedctx // whoever writes for others asks whether they still want it
	edit edit
	done chan error
	lead chan struct{} // closed when it is this one's turn to write
}

func newDesk(api policyAPI, clk clock.Clock, p remote.Pace) *desk {
	return &desk{api: api, clk: clk, pace: p, lines: map[resource]*line{}}
}

// change makes one edit of one policy.
func (d *desk) change(ctx context.Context, r resource, e edit) error {
	for {
		v := &visit{ctx: ctx, edit: e, done: make(chan error, 1), lead: make(chan struct{})}
		if d.enter(r, v) {
			d.write(ctx, r)
		}
		select {
		case err := <-v.done:
			if !errors.Is(err, errLeft) {
				return err
			}
		case <-v.lead:
			d.write(ctx, r)
			if err := <-v.done; !errors.Is(err, errLeft) {
				return err
			}
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
	}
}

// enter puts a visit into the line and tells whether it is to write.
func (d *desk) enter(r resource, v *visit) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	l := d.lines[r]
	first := l == nil
	if first {
		l = &line{}
		d.lines[r] = l
	}
	l.waiting = append(l.waiting, v)
	return first
}

// write takes everybody who waits, writes for them, and hands over to whoever
// came meanwhile.
func (d *desk) write(ctx context.Context, r resource) {
	d.mu.Lock()
	batch := d.lines[r].waiting
	d.lines[r].waiting = nil
	d.mu.Unlock()
	defer d.handOver(r, batch)
	ctx, cancel := context.WithTimeout(ctx, turnTimeout)
	defer cancel()
	d.serve(ctx, r, batch)
}

// handOver leaves nobody waiting, even if the writer broke down.
func (d *desk) handOver(r resource, batch []*visit) {
	for _, v := range batch {
		select {
		case v.done <- errLeft:
		default: // answered
		}
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if l := d.lines[r]; len(l.waiting) > 0 {
		close(l.waiting[0].lead)
		return
	}
	delete(d.lines, r)
}

// serve answers every visit of a batch. A write that Google refuses for one of
// them is done again one by one, so that nobody fails for another's fault.
func (d *desk) serve(ctx context.Context, r resource, batch []*visit) {
	errs := d.store(ctx, r, batch)
	for i, v := range batch {
		err := errs[i]
		if len(batch) > 1 && err != nil && isRefusal(err) {
			err = d.store(ctx, r, []*visit{v})[0]
		}
		if err != nil && ctx.Err() != nil && v.ctx.Err() == nil {
			err = errLeft // it was this writer's time that ended
		}
		v.done <- err
	}
}

// isRefusal tells whether Google refused a policy for its content.
func isRefusal(err error) bool { return isAnswer(err) && !isConflict(err) }

// store reads, changes and writes a policy until nobody else comes between.
// It gives one error, or nil, for each visit.
func (d *desk) store(ctx context.Context, r resource, batch []*visit) []error {
	errs := make([]error, len(batch))
	pause := conflictPause
	for try := 1; ; try++ {
		err := d.attempt(ctx, r, batch, errs)
		if err == nil {
			return errs
		}
		if !worthReading(err, try) {
			return all(errs, err)
		}
		if err := d.pace(ctx, d.clk, pause); err != nil {
			return all(errs, err)
		}
		pause = min(2*pause, maxConflict)
	}
}

// worthReading tells whether to read the policy again and go on: somebody else
// wrote it meanwhile, or nobody knows whether our own write took effect.
func worthReading(err error, try int) bool {
	if isConflict(err) {
		return try < maxConflicts
	}
	return statusOf(err) >= http.StatusInternalServerError && try < maxTries
}

// all gives everybody who has no reason of its own the same one.
func all(errs []error, err error) []error {
	for i := range errs {
		if errs[i] == nil {
			errs[i] = err
		}
	}
	return errs
}

// attempt is one turn of read, change and write. It notes in errs what failed
// for one visit alone.
func (d *desk) attempt(ctx context.Context, r resource, batch []*visit, errs []error) error {
	p, err := d.api.policy(ctx, r)
	if err != nil {
		return err
	}
	changed := false
	for i, v := range batch {
		errs[i] = v.ctx.Err()
		if errs[i] != nil {
			continue
		}
		var c bool
		c, errs[i] = v.edit.apply(p)
		changed = changed || c
	}
	if changed {
		if p, err = d.api.writePolicy(ctx, r, p); err != nil {
			return err
		}
	}
	return d.compare(ctx, r, p, batch, errs)
}

// compare looks at what Google made of a write, and takes back what is not what
// was asked for.
func (d *desk) compare(ctx context.Context, r resource, p *policy, batch []*visit, errs []error) error {
	wrong := false
	for i, v := range batch {
		if errs[i] != nil {
			continue
		}
		if errs[i] = v.edit.check(p); errs[i] == nil {
			continue
		}
		changed, err := v.edit.takeBack(p)
		if err != nil {
			return err
		}
		wrong = wrong || changed
	}
	if !wrong {
		return nil
	}
	_, err := d.api.writePolicy(ctx, r, p)
	return err
}
