package fake

import (
	"context"
	"sync"
	"time"

	"github.com/vault-pim/vault-plugin-secrets-pim/internal/domain"
	"github.com/vault-pim/vault-plugin-secrets-pim/internal/provider/contract"
)

// Mode says how a call goes wrong.
type Mode int

// The modes.
const (
	Pass       Mode = iota // works; for a Fault that only delays
	FailBefore             // fails, and nothing happened
	FailAfter              // happens, but the answer is lost
	Throttle               // refused as too many calls; nothing happened
	Refuse                 // refused for good; nothing happened
)

// Fault makes matching calls go wrong.
type Fault struct {
	On         Op                  // "" = every call
	Credential domain.CredentialID // "" = of every credential
	Mode       Mode
	Delay      time.Duration // waited on the world's clock, before anything happens
	Times      int           // so many matching calls; 0 = until removed
	Skip       int           // let so many matching calls pass first
}

// Inject adds a fault; the first one that matches a call applies to it. remove
// ends it early.
func (w *World) Inject(f Fault) (remove func()) {
	w.mu.Lock()
	defer w.mu.Unlock()
	entry := &f
	if f.Times == 0 {
		entry.Times = -1
	}
	w.faults = append(w.faults, entry)
	return func() {
		w.mu.Lock()
		defer w.mu.Unlock()
		entry.Times = 0
	}
}

// Gate holds calls back until it is released.
type Gate struct {
	on         Op
	credential domain.CredentialID
	reached    chan struct{}
	released   chan struct{}
	once       sync.Once
	spent      bool // guarded by World.mu
}

// Reached is closed when a call waits at the gate.
func (g *Gate) Reached() <-chan struct{} { return g.reached }

// Release lets the call go on. It may be called more than once.
func (g *Gate) Release() { g.once.Do(func() { close(g.released) }) }

// Hold makes the next matching call wait before anything happens, until the
// gate is released or the call's context ends. op "" and credential "" match
// everything.
func (w *World) Hold(op Op, credential domain.CredentialID) *Gate {
	w.mu.Lock()
	defer w.mu.Unlock()
	g := &Gate{on: op, credential: credential, reached: make(chan struct{}), released: make(chan struct{})}
	w.gates = append(w.gates, g)
	return g
}

// call is one call as the provider makes it.
type call struct {
	op         Op
	place      string
	name       string
	credential domain.CredentialID
}

func matches(op Op, id domain.CredentialID, c call) bool {
	return (op == "" || op == c.op) && (id == "" || id == c.credential)
}

// do is the one way into the world: gate, delay, failure, effect, journal.
// effect runs under the world's lock and tells whether it changed something.
func (w *World) do(ctx context.Context, c call, effect func() (changed bool, err error)) error {
	w.watched(false)
	if err := w.wait(ctx, c); err != nil {
		return err
	}
	err := w.act(ctx, c, effect)
	w.watched(true)
	if ctx.Err() != nil {
		return cancelled(c.op, ctx.Err())
	}
	return err
}

// act is the call itself, once nothing holds it back.
func (w *World) act(ctx context.Context, c call, effect func() (changed bool, err error)) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	fault := w.takeFault(c)
	if fault.Delay > 0 {
		w.mu.Unlock()
		err := w.pause(ctx, c, fault.Delay)
		w.mu.Lock()
		if err != nil {
			return err
		}
	}
	event := Event{
		Seq: len(w.journal) + 1, At: w.clk.Now(), Op: c.op, Place: c.place, Name: c.name, Credential: c.credential,
	}
	err := failure(fault.Mode, c.op)
	if fault.Mode == Pass || fault.Mode == FailAfter {
		var effectErr error
		event.Changed, effectErr = effect()
		if err == nil {
			err = effectErr
		}
	}
	event.Failed = err != nil
	w.journal = append(w.journal, event)
	return err
}

// Watch has see called before each call does anything and again after it did,
// until stop is called.
func (w *World) Watch(see func(after bool)) (stop func()) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.watch = see
	return func() {
		w.mu.Lock()
		defer w.mu.Unlock()
		w.watch = nil
	}
}

func (w *World) watched(after bool) {
	w.mu.Lock()
	see := w.watch
	w.mu.Unlock()
	if see != nil {
		see(after)
	}
}

// wait stops at a gate.
func (w *World) wait(ctx context.Context, c call) error {
	if err := ctx.Err(); err != nil {
		return cancelled(c.op, err)
	}
	gate := w.takeGate(c)
	if gate == nil {
		return nil
	}
	close(gate.reached)
	select {
	case <-gate.released:
		return nil
	case <-ctx.Done():
		return cancelled(c.op, ctx.Err())
	}
}

func (w *World) takeGate(c call) *Gate {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, g := range w.gates {
		if !g.spent && matches(g.on, g.credential, c) {
			g.spent = true
			return g
		}
	}
	return nil
}

func (w *World) pause(ctx context.Context, c call, d time.Duration) error {
	select {
	case <-w.clk.After(d):
		return nil
	case <-ctx.Done():
		return cancelled(c.op, ctx.Err())
	}
}

// takeFault uses up one firing of the first fault that matches. The caller
// holds mu.
func (w *World) takeFault(c call) Fault {
	for _, f := range w.faults {
		if f.Times == 0 || !matches(f.On, f.Credential, c) {
			continue
		}
		if f.Skip > 0 {
			f.Skip--
			continue
		}
		if f.Times > 0 {
			f.Times--
		}
		return *f
	}
	return Fault{}
}

func cancelled(op Op, cause error) error {
	return &contract.Error{Op: string(op), Code: "cancelled", Public: "the call was cut short", Cause: cause}
}

func failure(m Mode, op Op) error {
	switch m {
	case FailBefore, FailAfter:
		return &contract.Error{Op: string(op), Code: "unavailable", Public: "the target did not answer"}
	case Throttle:
		return &contract.Error{Op: string(op), Code: "throttled", Public: "the target asks for fewer calls", Throttled: true}
	case Refuse:
		return &contract.Error{Op: string(op), Code: "refused", Public: "the target refused", Refused: true}
	case Pass:
	}
	return nil
}
