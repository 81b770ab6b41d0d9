package access

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/vault-pim/vault-plugin-secrets-pim/internal/domain"
	"github.com/vault-pim/vault-plugin-secrets-pim/internal/provider/contract"
)

// publications keeps the lists that targets publish (KRLs) in step with the
// records. A list is rebuilt from the index, which every write of a record goes
// through; nothing is ever added to a stored list by hand.
type publications struct {
	a *Access

	mu      sync.Mutex
	waiting map[string]*publication // by target: the one that has not begun
	writing map[string]*sync.Mutex
	due     map[string]time.Time // when a list has to be written again by itself
}

// publication is one writing of a list, for everybody who asked before it
// began.
type publication struct {
	done chan struct{}
	err  error
}

func newPublications(a *Access) *publications {
	return &publications{
		a: a, waiting: map[string]*publication{}, writing: map[string]*sync.Mutex{}, due: map[string]time.Time{},
	}
}

// listOf is how a target's type publishes; nil = not at all.
func (a *Access) listOf(providerType string) *contract.RevocationList {
	return a.descriptors[providerType].List
}

// listedUntil is how long a handle has to be on its target's list; zero = it
// has nothing to do with it.
func (a *Access) listedUntil(h domain.Handle) time.Time {
	if l := a.listOf(h.Provider); l != nil {
		return l.Until(h)
	}
	return time.Time{}
}

// publish returns when a list has been written that holds everything that was
// in the index at the call. Many callers at a time share one write.
func (p *publications) publish(ctx context.Context, target string) error {
	// An index that is not complete would drop entries.
	if err := p.a.indexed(ctx); err != nil {
		return err
	}
	p.mu.Lock()
	if w := p.waiting[target]; w != nil {
		p.mu.Unlock()
		select {
		case <-w.done:
			return w.err
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	w := &publication{done: make(chan struct{})}
	p.waiting[target] = w
	turn := p.writing[target]
	if turn == nil {
		turn = &sync.Mutex{}
		p.writing[target] = turn
	}
	p.mu.Unlock()
	turn.Lock()
	defer turn.Unlock()
	p.mu.Lock()
	delete(p.waiting, target) // who comes now waits for the next one
	p.mu.Unlock()
	defer close(w.done)
	// Others wait for it too, so it does not end with the first one's call.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), undoBudget)
	defer cancel()
	w.err = p.write(ctx, target, nil)
	return w.err
}

// write brings the stored list in step with the index. stray is the handle of a
// credential that no record is left of.
func (p *publications) write(ctx context.Context, target string, stray *domain.Handle) error {
	t, err := p.a.store.Target(ctx, target)
	if err != nil {
		return err
	}
	if t == nil || p.a.listOf(t.Type) == nil {
		p.schedule(target, time.Time{})
		return nil
	}
	var next time.Time
	p.a.step("before put list")
	err = p.a.store.UpdateList(ctx, target, func(l *domain.RevocationList) (bool, error) {
		before := len(l.Strays)
		write, err := p.rebuild(l, p.a.listOf(t.Type), target, stray)
		next = l.Next
		return write || len(l.Strays) != before, err
	})
	p.a.step("after put list")
	if err != nil {
		p.schedule(target, p.a.now().Add(backoff(1)))
		return fmt.Errorf("publish the list of %s: %w", target, err)
	}
	p.schedule(target, next)
	return nil
}

// rebuild makes l say what the index says, and tells whether that is something
// new.
func (p *publications) rebuild(l *domain.RevocationList, how *contract.RevocationList, target string, stray *domain.Handle) (bool, error) {
	now := p.a.now().Truncate(time.Second)
	handles := p.a.index.listedAt(target)
	if stray != nil {
		same := func(h domain.Handle) bool { return h.Credential == stray.Credential }
		l.Strays = append(slices.DeleteFunc(l.Strays, same), *stray)
	}
	over := func(h domain.Handle) bool { return !how.Until(h).After(now) }
	l.Strays = slices.DeleteFunc(l.Strays, over)
	handles = slices.DeleteFunc(append(handles, l.Strays...), over)
	slices.SortFunc(handles, func(a, b domain.Handle) int { return strings.Compare(string(a.Credential), string(b.Credential)) })
	bare, err := how.Render(handles, 0, time.Time{})
	if err != nil {
		return false, err
	}
	l.Next = time.Time{}
	for _, h := range handles {
		if until := how.Until(h); l.Next.IsZero() || until.Before(l.Next) {
			l.Next = until
		}
	}
	content := sum(bare)
	if l.Number > 0 && content == l.Content {
		return false, nil
	}
	// At least the time in milliseconds: so the number grows even when the record
	// before this one was lost with a restored snapshot.
	l.Number = max(l.Number+1, uint64(max(p.a.now().UnixMilli(), 1)))
	if l.Body, err = how.Render(handles, l.Number, now); err != nil {
		return false, err
	}
	l.At, l.Entries, l.Content, l.Sum = now, len(handles), content, sum(l.Body)
	return true, nil
}

func sum(raw []byte) string {
	s := sha256.Sum256(raw)
	return hex.EncodeToString(s[:])
}

func (p *publications) schedule(target string, at time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if at.IsZero() {
		delete(p.due, target)
		return
	}
	p.due[target] = at
}

// tick writes the lists whose time has come: an entry falls off, or a write
// failed.
func (p *publications) tick(ctx context.Context) {
	now := p.a.now()
	var due []string
	p.mu.Lock()
	for target, at := range p.due {
		if !at.After(now) {
			due = append(due, target)
		}
	}
	p.mu.Unlock()
	for _, target := range due {
		p.try(ctx, target)
	}
}

// try publishes where nobody waits for it; what fails is tried again by tick.
func (p *publications) try(ctx context.Context, target string) {
	if err := p.publish(ctx, target); err != nil {
		p.schedule(target, p.a.now().Add(backoff(1)))
		p.a.log.Warn("a list could not be published; it is tried again", "target", target, "error", err)
	}
}

// all brings every list in step, after a start: a crash may have come between a
// record and its list.
func (p *publications) all(ctx context.Context) {
	names, err := p.a.store.Targets(ctx, "", 0)
	if err != nil {
		p.a.log.Warn("lists could not be brought in step", "error", err)
		return
	}
	for _, name := range names {
		p.try(ctx, name)
	}
}

// publishFor puts what is being ended on its target's list. Until that is
// written, no access counts as gone.
func (a *Access) publishFor(ctx context.Context, h domain.Handle) error {
	if !a.listedUntil(h).After(a.now()) {
		return nil
	}
	return a.publications.publish(ctx, h.Target)
}

// publishStray puts a credential on the list of which no record is left.
func (a *Access) publishStray(ctx context.Context, h domain.Handle) error {
	if !a.listedUntil(h).After(a.now()) {
		return nil
	}
	if err := a.indexed(ctx); err != nil {
		return err
	}
	return a.publications.write(ctx, h.Target, &h)
}

// Published is a target's list as it is served.
type Published struct {
	domain.RevocationList
	Public bool // callers without a token may have it
}

// ReadList reads what a target publishes; nil = no such target, or it publishes
// nothing. It computes nothing.
func (a *Access) ReadList(ctx context.Context, target string) (*Published, error) {
	t, err := a.store.Target(ctx, target)
	if err != nil || t == nil {
		return nil, err
	}
	how := a.listOf(t.Type)
	if how == nil {
		return nil, nil //nolint:nilnil // absent is an ordinary answer
	}
	l, err := a.store.List(ctx, target)
	if err != nil || l == nil {
		return nil, err
	}
	public, _ := t.All()[how.PublicField].(bool)
	return &Published{RevocationList: *l, Public: public}, nil
}
