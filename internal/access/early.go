package access

import (
	"context"
	"errors"
	"sync"

	"github.com/vault-pim/vault-plugin-secrets-pim/internal/domain"
)

// reply is what a call gave that somebody else made.
type reply[T any] struct {
	value T
	err   error
}

var errBeside = errors.New("a call that was made beside another one broke")

// beside makes a call while its caller goes on. Nobody has to wait for the reply.
func beside[T any](a *Access, what string, call func() (T, error)) <-chan reply[T] {
	to := make(chan reply[T], 1)
	go func() {
		got := reply[T]{err: errBeside}
		defer func() { to <- got }()
		defer a.recovered(what)
		got.value, got.err = call()
	}()
	return to
}

// early is what a read under a grant is about to need, asked for at once instead
// of one after the other: the request itself, and who decided on it. Memory says
// what to ask for; the answers are the storage's and the host's, given during
// this call, each used once. A wrong guess costs calls, and nothing else.
type early struct {
	a    *Access
	role string
	id   string // the request that the caller names; "" = they name none

	asked   bool
	request domain.RequestID
	coming  <-chan reply[*domain.Request] // of request; nil = it has arrived
	record  *reply[*domain.Request]       // as it arrived; nil = it was used

	mu     sync.Mutex
	people map[string]<-chan reply[*domain.Entity] // by entity
	groups bool                                    // they were asked for with their groups
}

func (a *Access) early(role string, ask CredsAsk) *early {
	return &early{a: a, role: role, id: ask.RequestID}
}

// expect asks for what a read of this person will need, if memory knows of one
// grant of theirs that it means. Only the first call that finds one asks. What
// goes wrong here goes wrong again where it is needed, and is said there.
func (e *early) expect(ctx context.Context, p domain.Person) {
	if e.asked {
		return
	}
	id, ok := e.guess(p)
	if !ok {
		return
	}
	role, err := e.a.store.Role(ctx, e.role)
	if err != nil || role == nil || role.AutoApprove {
		return
	}
	e.asked, e.request = true, id
	e.coming = beside(e.a, "request", func() (*domain.Request, error) { return e.a.store.OpenRequest(ctx, id) })
	if seen := e.a.store.Seen(id); seen != nil {
		e.authors(ctx, role, needed(*seen))
	}
}

// guess is the request that a read of this person means.
func (e *early) guess(p domain.Person) (domain.RequestID, bool) {
	if e.id == "" {
		return e.a.index.only(p, e.role)
	}
	id, err := domain.ParseRequestID(e.id)
	if err != nil {
		return "", false
	}
	seen := e.a.store.Seen(id)
	return id, seen != nil && seen.Requester.Person == p && seen.Role == e.role
}

// authors asks about those whose decisions made the request a grant.
func (e *early) authors(ctx context.Context, role *domain.Role, ds []domain.Decision) {
	groups, _ := role.ApproverRefs()
	e.groups, e.people = len(groups) > 0, map[string]<-chan reply[*domain.Entity]{}
	for _, d := range ds {
		who := d.By.Entity
		if e.people[who] == nil {
			e.people[who] = beside(e.a, "identity", func() (*domain.Entity, error) { return e.a.directory.Entity(ctx, who, e.groups) })
		}
	}
}

// arrive waits for the record, before anything is written in this call: the host
// may send with each answer how far its storage has come.
func (e *early) arrive() {
	if e.coming != nil {
		got := <-e.coming
		e.coming, e.record = nil, &got
	}
}

// Entity implements Directory.
func (e *early) Entity(ctx context.Context, id string, groups bool) (*domain.Entity, error) {
	e.mu.Lock()
	from := e.people[id]
	delete(e.people, id)
	e.mu.Unlock()
	if from == nil || groups != e.groups {
		return e.a.directory.Entity(ctx, id, groups)
	}
	got := <-from
	return got.value, got.err
}

// open reads a request that is not archived; nil = none.
func (e *early) open(ctx context.Context, id domain.RequestID) (*domain.Request, error) {
	if e.record == nil || e.request != id {
		return e.a.store.OpenRequest(ctx, id)
	}
	got := e.record
	e.record = nil
	return got.value, got.err
}
