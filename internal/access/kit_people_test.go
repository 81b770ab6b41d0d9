package access_test

import (
	"context"
	"fmt"
	"slices"
	"sync"

	"github.com/vault-pim/vault-plugin-secrets-pim/internal/access"
	"github.com/vault-pim/vault-plugin-secrets-pim/internal/domain"
)

// Accessors of the host's login methods.
const (
	accUserpass = "auth_userpass_1"
	accApprole  = "auth_approle_1"
)

// people is the host's identity store.
type people struct {
	mu       sync.Mutex
	byID     map[string]domain.Entity
	calls    int // system-view calls: one for the entity, one for its groups
	fail     error
	panicked int // so many calls panic
}

var _ access.Directory = (*people)(nil)

func newPeople() *people {
	p := &people{byID: map[string]domain.Entity{}}
	for _, name := range []string{"alice", "dave"} {
		p.add(person(name, "engineers"))
	}
	for _, name := range []string{"bob", "carol"} {
		p.add(person(name, "leads"))
	}
	robot := person("robot", "engineers")
	robot.Aliases = []domain.Alias{{MountAccessor: accApprole, MountType: "approle", Name: "robot"}}
	p.add(robot)
	return p
}

// id is a made-up entity or group id for a name.
func id(name string) string {
	sum := 0
	for _, r := range name {
		sum = sum*31 + int(r)
	}
	return fmt.Sprintf("00000000-0000-4000-8000-%012x", sum&0xffffffffffff)
}

func person(name string, groups ...string) domain.Entity {
	e := domain.Entity{
		ID: id(name), Name: name, Metadata: map[string]string{"principal": name + "@site"},
		Aliases: []domain.Alias{{MountAccessor: accUserpass, MountType: "userpass", Name: name}},
	}
	for _, g := range groups {
		e.Groups = append(e.Groups, domain.Group{ID: id("group " + g), Name: g})
	}
	return e
}

func (p *people) add(e domain.Entity) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.byID[e.ID] = e
}

// change edits one person.
func (p *people) change(name string, f func(*domain.Entity)) {
	p.mu.Lock()
	defer p.mu.Unlock()
	e := p.byID[id(name)]
	f(&e)
	p.byID[e.ID] = e
}

func (p *people) remove(name string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.byID, id(name))
}

func (p *people) spent() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	n := p.calls
	p.calls = 0
	return n
}

func (p *people) setFail(err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.fail = err
}

func (p *people) panicNext(n int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.panicked = n
}

// Entity implements access.Directory.
func (p *people) Entity(ctx context.Context, id string, groups bool) (*domain.Entity, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if p.panicked > 0 {
		p.panicked--
		panic("the identity store is broken")
	}
	p.calls++
	if groups {
		p.calls++
	}
	if p.fail != nil {
		return nil, p.fail
	}
	e, ok := p.byID[id]
	if !ok {
		return nil, nil //nolint:nilnil // as access.Directory has it
	}
	e.Aliases, e.Groups = slices.Clone(e.Aliases), slices.Clone(e.Groups)
	if !groups {
		e.Groups = nil
	}
	return &e, nil
}
