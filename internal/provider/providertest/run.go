package providertest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/vault-pim/vault-plugin-secrets-pim/internal/domain"
	"github.com/vault-pim/vault-plugin-secrets-pim/internal/provider/contract"
)

const (
	lifetime  = 10 * time.Minute // of every credential the suite issues
	tolerance = 5 * time.Second  // rounding to whole seconds and the way to a real target
	maxRounds = 20               // of waiting for a slow issue or a remainder
)

var errCheckpoint = errors.New("checkpoint could not be stored")

// run is one row on one case in a world of its own. It records every text that
// leaves the provider and checks at the end that none holds a secret.
type run struct {
	*testing.T
	suite Suite
	c     Case
	w     *World
	p     contract.Provider
	// beside is how many issues go on side by side. All of them move the one
	// clock, so each moves it less far.
	beside int

	mu      sync.Mutex
	texts   []string // handles, errors, log lines
	secrets []string
	listed  map[domain.CredentialID]domain.Handle // on the provider's list
	issues  uint64                                // of that list
}

func newRun(t *testing.T, s Suite, c Case) *run {
	t.Helper()
	r := &run{T: t, suite: s, c: c, w: s.Open(t)}
	r.secrets = slices.Clone(r.w.Markers)
	r.w.Env.Log = recorder{r}
	if n := r.w.Descriptor.Normalize; n != nil {
		r.c.Fields = n(c.Fields)
	}
	place, err := r.open(r.w.Target).Place(t.Context())
	if err != nil || place == "" {
		t.Fatalf("the target must tell its place: %q, %v", place, err)
	}
	r.w.Target.Place = place
	r.p = r.open(r.w.Target)
	t.Cleanup(r.checkTexts)
	given := fmt.Sprint(r.c.Fields)
	t.Cleanup(func() {
		if left := fmt.Sprint(r.c.Fields); left != given {
			t.Errorf("the provider changed the role's fields, which all calls share: %s, given %s", left, given)
		}
	})
	return r
}

// open makes an instance, as a process that has just started does.
func (r *run) open(target contract.Target) contract.Provider {
	r.Helper()
	p, err := r.w.Descriptor.New(r.w.Env, target)
	if err != nil {
		r.Fatalf("open the provider: %v", err)
	}
	r.Cleanup(func() {
		if err := p.Close(); err != nil {
			r.Errorf("close the provider: %v", err)
		}
	})
	return p
}

// input is a fresh credential's input.
func (r *run) input() contract.Input {
	r.Helper()
	now := r.w.Env.Clock.Now()
	return contract.Input{
		Credential: domain.CredentialID(NewID(r, now)), Request: domain.RequestID(NewID(r, now)), Role: "conformance",
		EntityID: "00000000-0000-0000-0000-00000000a11c", Person: "alice", Ticket: "T-1",
		Principal: r.c.Principal, Fields: r.c.Fields, Params: r.c.Params, NotAfter: now.Add(lifetime),
	}
}

// plan plans in, which must work.
func (r *run) plan(in contract.Input) domain.Handle {
	r.Helper()
	h, err := r.p.Plan(r.Context(), in)
	if err != nil {
		r.Fatalf("plan: %v", err)
	}
	r.note(r.encode(h))
	return h
}

func (r *run) encode(h domain.Handle) string {
	r.Helper()
	s, err := h.Encode()
	if err != nil {
		r.Fatalf("the handle cannot be stored: %v", err)
	}
	back, err := domain.DecodeHandle(s)
	if err != nil {
		r.Fatalf("the handle cannot be read back: %v", err)
	}
	if again, err := back.Encode(); err != nil || again != s {
		r.Fatalf("the handle changes when it is stored and read: %q, then %q (%v)", s, again, err)
	}
	return s
}

// journey is one Issue and the handles it made known.
type journey struct {
	in     contract.Input
	last   domain.Handle // what a record would hold now
	saved  int           // checkpoints stored
	issued contract.Issued
	err    error
}

// issue runs Issue, again while the credential is not usable yet. onCheckpoint
// may be nil; it sees the number of the checkpoint, from 1, before it is
// stored, and its error is the checkpoint's.
func (r *run) issue(ctx context.Context, p contract.Provider, in contract.Input, h domain.Handle, onCheckpoint func(n int) error) *journey {
	r.Helper()
	j := &journey{in: in, last: h}
	checkpoint := func(h domain.Handle) error {
		if onCheckpoint != nil {
			if err := onCheckpoint(j.saved + 1); err != nil {
				return err
			}
		}
		r.note(r.encode(h))
		j.last, j.saved = h, j.saved+1
		return nil
	}
	beside := max(1, r.beside)
	for range maxRounds * beside {
		j.issued, j.err = p.Issue(ctx, in, j.last, checkpoint)
		r.noteError(j.err)
		if j.err != nil {
			return j
		}
		j.last = j.issued.Handle
		r.note(r.encode(j.last))
		if j.issued.PollAfter <= 0 {
			r.noteSecrets(j.issued)
			return j
		}
		if r.w.Advance == nil {
			r.Fatal("a slow role needs a world whose clock can be moved")
		}
		r.w.Advance(max(j.issued.PollAfter/time.Duration(beside), min(j.issued.PollAfter, 250*time.Millisecond)))
	}
	r.Fatalf("the credential was not usable after %d tries", maxRounds*beside)
	return j
}

// mustIssue issues a fresh credential, which must work.
func (r *run) mustIssue() *journey {
	r.Helper()
	in := r.input()
	j := r.issue(r.Context(), r.p, in, r.plan(in), nil)
	if j.err != nil {
		r.Fatalf("issue: %v", j.err)
	}
	return j
}

// mustEnd revokes with h alone, by an instance that has just started, until
// nothing is left to clear.
func (r *run) mustEnd(h domain.Handle) {
	r.Helper()
	p := r.open(r.w.Target)
	for range maxRounds {
		r.publish(h)
		ended, err := p.Revoke(r.Context(), h)
		r.noteError(err)
		if err != nil {
			r.Fatalf("revoke: %v", err)
		}
		if !ended.AccessGone {
			h = r.awaitOwnEnd(ended)
			continue
		}
		r.mustBeUnusable(h)
		if ended.Done() {
			return
		}
		r.checkRemainder(p, h, ended)
		h = ended.Rest
		r.w.Advance(ended.Again.Sub(r.w.Env.Clock.Now()))
	}
	r.Fatalf("a remainder was still left after %d tries", maxRounds)
}

// awaitOwnEnd moves to the time at which a credential that cannot be ended
// early ends by itself. Only a role of that class may say so.
func (r *run) awaitOwnEnd(ended contract.Ended) domain.Handle {
	r.Helper()
	wait := ended.Again.Sub(r.w.Env.Clock.Now())
	if !r.expiryOnly() || wait <= 0 || ended.Rest.Provider == "" {
		r.Fatal("revoke did not fail, and yet says that access is not gone")
	}
	if r.w.Advance == nil {
		r.Fatal("a role that ends by itself alone needs a world whose clock can be moved")
	}
	r.w.Advance(wait)
	return ended.Rest
}

// expiryOnly tells whether the role promises no more than its own end.
func (r *run) expiryOnly() bool {
	return r.w.Descriptor.Revocation(r.c.Fields).Class == domain.ExpiryOnly
}

// checkRemainder sees to it that a remainder can be stored, says when, and is
// patient with a caller who comes early.
func (r *run) checkRemainder(p contract.Provider, h domain.Handle, ended contract.Ended) {
	r.Helper()
	r.note(r.encode(ended.Rest))
	if ended.Rest.Credential != h.Credential || ended.Rest.Place != h.Place {
		r.Fatal("the remainder is of another credential or place")
	}
	if r.w.Advance == nil {
		r.Fatal("a role with a remainder needs a world whose clock can be moved")
	}
	if !ended.Again.After(r.w.Env.Clock.Now()) {
		r.Fatal("the remainder does not say when to come again")
	}
	early, err := p.Revoke(r.Context(), ended.Rest)
	if err != nil || !early.AccessGone || early.Done() {
		r.Fatalf("clearing a remainder early must keep it: %+v, %v", early, err)
	}
}

// exists lists what is there for h.
func (r *run) exists(h domain.Handle) []Object {
	r.Helper()
	return r.w.Exists(r, h)
}

func (r *run) mustBeUnusable(h domain.Handle) {
	r.Helper()
	for _, o := range r.exists(h) {
		if o.Usable && !r.excused(o) {
			r.Fatalf("still usable after it was revoked: %s", o.What)
		}
	}
}

// mustBeGone fails when anything is left; afterCut allows the documented inert
// remainder.
func (r *run) mustBeGone(h domain.Handle, afterCut bool) {
	r.Helper()
	for _, o := range r.exists(h) {
		if !afterCut || !r.excused(o) {
			r.Errorf("still there: %s", o.What)
		}
	}
}

// excused tells whether o is the remainder that the suite declares.
func (r *run) excused(o Object) bool {
	latest := r.w.Env.Clock.Now().Add(lifetime + tolerance)
	return r.suite.InertRemainder != "" && o.Inert && !o.Until.IsZero() && !o.Until.After(latest)
}

// usable counts what gives access for h.
func (r *run) usable(h domain.Handle) int {
	r.Helper()
	n := 0
	for _, o := range r.exists(h) {
		if o.Usable {
			n++
		}
	}
	return n
}

func (r *run) works(j *journey) bool {
	r.Helper()
	if r.w.Works == nil {
		return r.usable(j.last) > 0
	}
	return r.w.Works(r, j.issued)
}

// note records a text that leaves the provider.
func (r *run) note(text string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.texts = append(r.texts, text)
}

// noteError records an error as it could be printed, with all its causes.
func (r *run) noteError(err error) {
	if err == nil {
		return
	}
	r.note(fmt.Sprintf("%v | %+v | %#v", err, err, err))
	switch e := err.(type) { //nolint:errorlint // the chain is walked by hand on purpose
	case interface{ Unwrap() error }:
		r.noteError(e.Unwrap())
	case interface{ Unwrap() []error }:
		for _, part := range e.Unwrap() {
			r.noteError(part)
		}
	}
}

// noteSecrets records what an answer holds that is nobody else's business.
func (r *run) noteSecrets(issued contract.Issued) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for name, value := range issued.Data.Reveal() {
		if s, ok := value.(string); ok && len(s) >= 8 && !slices.Contains(r.w.Public, name) {
			r.secrets = append(r.secrets, s)
		}
	}
	for _, value := range issued.Composite {
		r.secrets = append(r.secrets, value.Reveal())
	}
}

func (r *run) checkTexts() {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, secret := range r.secrets {
		for _, text := range r.texts {
			if secret != "" && strings.Contains(text, secret) {
				r.Errorf("a secret or the target's own words were in a handle, an error or a log line")
				return
			}
		}
	}
}

// recorder is the log of the instances under test.
type recorder struct{ r *run }

func (l recorder) Debug(msg string, args ...any) { l.r.note(msg + fmt.Sprint(args...)) }
func (l recorder) Warn(msg string, args ...any)  { l.r.note(msg + fmt.Sprint(args...)) }
func (l recorder) Error(msg string, args ...any) { l.r.note(msg + fmt.Sprint(args...)) }
