package fake_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/vault-pim/vault-plugin-secrets-pim/internal/clock"
	"github.com/vault-pim/vault-plugin-secrets-pim/internal/domain"
	"github.com/vault-pim/vault-plugin-secrets-pim/internal/provider/contract"
	"github.com/vault-pim/vault-plugin-secrets-pim/internal/provider/providertest/fake"
)

const credential = domain.CredentialID("01jn8x0000000000000000000a")

// bench is one world with one provider and one planned account in it.
type bench struct {
	clk *clock.Manual
	w   *fake.World
	p   contract.Provider
	in  contract.Input
	h   domain.Handle
}

func newBench(t *testing.T, fields contract.Values) *bench {
	t.Helper()
	clk := clock.NewManual(start)
	b := &bench{clk: clk, w: fake.NewWorld(clk)}
	target := target("here")
	target.Place = "place-of-here"
	var err error
	if b.p, err = b.w.Descriptor().New(contract.Env{Clock: clk}, target); err != nil {
		t.Fatal(err)
	}
	b.in = contract.Input{Credential: credential, Fields: fields, Principal: "alice", NotAfter: start.Add(time.Hour)}
	if b.h, err = b.p.Plan(t.Context(), b.in); err != nil {
		t.Fatal(err)
	}
	return b
}

func (b *bench) issue(ctx context.Context) error {
	_, err := b.p.Issue(ctx, b.in, b.h, func(domain.Handle) error { return nil })
	return err
}

func TestFaults(t *testing.T) {
	t.Parallel()
	for _, row := range []struct {
		name      string
		fault     fake.Fault
		exists    int
		throttled bool
		refused   bool
	}{
		{name: "a call that fails before does nothing", fault: fake.Fault{On: fake.OpCreate, Mode: fake.FailBefore, Times: 1}},
		{name: "a lost answer leaves what was made", fault: fake.Fault{On: fake.OpCreate, Mode: fake.FailAfter, Times: 1}, exists: 1},
		{name: "throttling says so", fault: fake.Fault{Mode: fake.Throttle, Times: 1}, throttled: true},
		{name: "a refusal is for good", fault: fake.Fault{Mode: fake.Refuse, Times: 1, Credential: credential}, refused: true},
		{name: "a skipped call passes", fault: fake.Fault{Mode: fake.FailBefore, Times: 1, Skip: 1}},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			b := newBench(t, contract.Values{"level": "read"})
			b.w.Inject(row.fault)
			var e *contract.Error
			if err := b.issue(t.Context()); !errors.As(err, &e) || e.Throttled != row.throttled || e.Refused != row.refused {
				t.Fatalf("got %v", err)
			}
			if n := len(b.w.Objects()); n != row.exists {
				t.Errorf("%d objects exist", n)
			}
			if err := b.issue(t.Context()); err != nil {
				t.Fatalf("the fault fires once, and then: %v", err)
			}
			if n := len(b.w.Of(credential)); n != 1 {
				t.Errorf("%d objects exist after trying again", n)
			}
		})
	}
}

func TestFaultEndsWhenRemoved(t *testing.T) {
	t.Parallel()
	b := newBench(t, contract.Values{"level": "read"})
	remove := b.w.Inject(fake.Fault{Mode: fake.FailBefore})
	for range 3 {
		if b.issue(t.Context()) == nil {
			t.Fatal("the fault did not fire")
		}
	}
	remove()
	if err := b.issue(t.Context()); err != nil {
		t.Fatal(err)
	}
}

func TestGateHoldsUntilReleasedOrCancelled(t *testing.T) {
	t.Parallel()
	b := newBench(t, contract.Values{"level": "read"})
	for _, release := range []bool{false, true} {
		gate := b.w.Hold(fake.OpCreate, credential)
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- b.issue(ctx) }()
		<-gate.Reached()
		if n := len(b.w.Objects()); n != 0 {
			t.Fatalf("%d objects exist behind a closed gate", n)
		}
		if release {
			gate.Release()
		} else {
			cancel()
		}
		if err := <-done; (err == nil) != release {
			t.Fatalf("released %v, got %v", release, err)
		}
		cancel()
	}
}

func TestDelayRunsOnTheWorldsClock(t *testing.T) {
	t.Parallel()
	b := newBench(t, contract.Values{"level": "read"})
	b.w.Inject(fake.Fault{On: fake.OpCreate, Delay: time.Minute, Times: 1})
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := b.issue(ctx); !errors.Is(err, context.Canceled) {
		t.Fatalf("got %v", err)
	}
	done := make(chan error, 1)
	go func() { done <- b.issue(t.Context()) }()
	for finished := false; !finished; {
		select {
		case err := <-done:
			if err != nil {
				t.Fatal(err)
			}
			finished = true
		default:
			b.clk.Advance(time.Second)
		}
	}
	if made := b.w.Objects()[0].CreatedAt; made.Before(start.Add(time.Minute)) {
		t.Errorf("made at %s, without delay", made)
	}
}

func TestWorldKnowsWhoHasAccess(t *testing.T) {
	t.Parallel()
	b := newBench(t, contract.Values{"level": "read"})
	if err := b.issue(t.Context()); err != nil {
		t.Fatal(err)
	}
	password := b.w.Objects()[0].Password
	if !b.w.Works(password) || b.w.Works("") || b.w.Works("guess") || len(b.w.Usable()) != 1 {
		t.Error("the issued password works, and no other does")
	}
	b.clk.Advance(time.Hour)
	if b.w.Works(password) || len(b.w.Usable()) != 0 || len(b.w.Objects()) != 1 {
		t.Error("at its end the credential is not usable any more, though it exists")
	}
	if b.w.Count(fake.OpCreate) != 1 || b.w.Count("") != len(b.w.Journal()) {
		t.Error("the journal has each call once")
	}
	last := b.w.Journal()[1]
	if last.Op != fake.OpCreate || !last.Changed || last.Failed || last.Credential != credential || !last.At.Equal(start) {
		t.Errorf("the journal says %+v", last)
	}
}

func TestStandingAccessIsNeverTouched(t *testing.T) {
	t.Parallel()
	b := newBench(t, contract.Values{"level": "admin", "principal_source": "login"})
	b.w.AddStanding("here", "admin", "alice")
	var e *contract.Error
	if err := b.issue(t.Context()); !errors.As(err, &e) || !e.Refused || e.Code != "outside_pim" {
		t.Fatalf("standing access was adopted: %v", err)
	}
	if _, err := b.p.Revoke(t.Context(), b.h); err != nil {
		t.Fatal(err)
	}
	for _, call := range b.w.Journal() {
		if call.Changed {
			t.Errorf("%s changed something that is not ours", call.Op)
		}
	}
}

func TestBadRolesAndTargets(t *testing.T) {
	t.Parallel()
	b := newBench(t, contract.Values{"level": "read"})
	for _, row := range []struct {
		name   string
		fields contract.Values
		field  string
	}{
		{"a role needs a level", contract.Values{}, "level"},
		{"a role never gives the engine's own identity", contract.Values{"level": "self"}, "level"},
		{"a binding needs a principal", contract.Values{"level": "x", "credential_type": "binding"}, "principal_source"},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			report := b.p.Validate(t.Context(), contract.Spec{Fields: row.fields}, false)
			if len(report.Problems) != 1 || report.Problems[0].Field != row.field {
				t.Errorf("got %v", report.Problems)
			}
		})
	}
	if report := b.w.Descriptor().CheckTarget(contract.Env{}, contract.Target{}); len(report.Problems) != 2 {
		t.Errorf("an empty target has two problems: %v", report.Problems)
	}
}
