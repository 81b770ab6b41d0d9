package access

import (
	"context"
	"sync"

	"github.com/vault-pim/vault-plugin-secrets-pim/internal/domain"
)

// early is what a read under a grant is about to need, asked for at once instead
// of one after the other: the request itself, and who decided on it. Memory says
// what to ask for; the answers are the storage's and the host's, given during
// this call, each used once. A wrong guess costs a call, nothing else.
type early struct {
	a    *Access
	role string
	id   string // the request that the caller names; "" = they name none

	mu      sync.Mutex
	people  map[string]chan entityAnswer // by entity
	groups  bool                         // people were asked for with their groups
	request domain.RequestID
	record  chan requestAnswer // of request; nil = it was not asked for, or is used up
}

type entityAnswer struct {
	entity *domain.Entity
	err    error
}

type requestAnswer struct {
	request *domain.Request
	err     error
}

func (a *Access) early(role string, ask CredsAsk) *early {
	return &early{a: a, role: role, id: ask.RequestID}
}

// expect asks for what a read of this person will need, if memory knows of one
// grant of theirs that it means. Only the first call that finds one asks.
func (e *early) expect(ctx context.Context, p domain.Person) error {
	if e.record != nil {
		return nil
	}
	id, ok := e.guess(p)
	if !ok {
		return nil
	}
	role, err := e.a.store.Role(ctx, e.role)
	if err != nil || role == nil || role.AutoApprove {
		return err
	}
	e.request, e.record = id, make(chan requestAnswer, 1)
	go func(to chan<- requestAnswer) {
		r, err := e.a.store.OpenRequest(ctx, id)
		to <- requestAnswer{r, err}
	}(e.record)
	e.authors(ctx, role, id)
	return nil
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

// authors asks for those whose decisions made the request a grant.
func (e *early) authors(ctx context.Context, role *domain.Role, id domain.RequestID) {
	seen := e.a.store.Seen(id)
	if seen == nil {
		return
	}
	groups, _ := role.ApproverRefs()
	e.groups, e.people = len(groups) > 0, map[string]chan entityAnswer{}
	for _, d := range needed(*seen) {
		who := d.By.Entity
		if e.people[who] != nil {
			continue
		}
		to := make(chan entityAnswer, 1)
		e.people[who] = to
		go func() {
			entity, err := e.a.directory.Entity(ctx, who, e.groups)
			to <- entityAnswer{entity, err}
		}()
	}
}

// Entity implements Directory.
func (e *early) Entity(ctx context.Context, id string, groups bool) (*domain.Entity, error) {
	e.mu.Lock()
	from := e.people[id]
	if groups != e.groups {
		from = nil
	}
	delete(e.people, id)
	e.mu.Unlock()
	if from == nil {
		return e.a.directory.Entity(ctx, id, groups)
	}
	got := <-from
	return got.entity, got.err
}

// open reads a request that is not archived; nil = none.
func (e *early) open(ctx context.Context, id domain.RequestID) (*domain.Request, error) {
	if e.record == nil || e.request != id {
		return e.a.store.OpenRequest(ctx, id)
	}
	got := <-e.record
	e.request = ""
	return got.request, got.err
}
