// Package fake is a provider for tests, type "fake", and the world it acts on.
//
// A World stands for everything that targets of the type can reach. It
// outlives every provider instance, as a cloud outlives a process, so a
// restart is simply another instance made by the same Descriptor. Tests use it
// as the oracle: Usable says who has access at this moment, Journal says what
// was called when, Inject and Hold make the calls fail, lag or wait.
//
//	w := fake.NewWorld(clk)
//	d := w.Descriptor()                  // give it to the code under test
//	gate := w.Hold(fake.OpCreate, "")    // the next create waits …
//	<-gate.Reached()                     // … until it is known to be there
//	gate.Release()
//	w.Usable()                           // who has access now
//
// Role fields choose the shape of what is made: see RoleFields.
package fake

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/vault-pim/vault-plugin-secrets-pim/internal/clock"
	"github.com/vault-pim/vault-plugin-secrets-pim/internal/domain"
)

// Op is one kind of call that the provider makes at the world.
type Op string

// The calls. Create, enable, disable and delete change the world; the others
// only read it, but for stage and retire, which change a site's passwords.
const (
	OpPlace   Op = "place"   // proves which place the address is
	OpFind    Op = "find"    // looks for an object by name, id or tag
	OpCreate  Op = "create"  // makes an object
	OpEnable  Op = "enable"  // makes an object usable (credential_type=late)
	OpDisable Op = "disable" // ends access and leaves a remainder
	OpDelete  Op = "delete"  // removes an object
	OpList    Op = "list"    // lists everything that carries our tag
	OpStage   Op = "stage"   // adds a root password
	OpRetire  Op = "retire"  // removes a root password
)

// Object is one thing that exists in the world.
type Object struct {
	ID         string // given by the world: srv-1, srv-2 …
	Name       string
	Place      string
	Kind       string // account, late or binding
	Level      string
	Principal  string // of a binding
	Credential domain.CredentialID
	Request    domain.RequestID
	Role       string
	EntityID   string
	Person     string
	Ticket     string
	Params     map[string]string
	Password   string // "" for a binding
	Standing   bool   // was there before us and is not ours
	Enabled    bool
	CreatedAt  time.Time
	ReadyAt    time.Time
	NotAfter   time.Time
}

// usable tells whether the object gives access at now.
func (o Object) usable(now time.Time) bool {
	return o.Enabled && !now.Before(o.ReadyAt) && (o.NotAfter.IsZero() || now.Before(o.NotAfter))
}

// Event is one call that reached the world.
type Event struct {
	Seq        int
	At         time.Time
	Op         Op
	Place      string
	Name       string
	Credential domain.CredentialID
	Changed    bool // the call changed something
	Failed     bool // the caller was told of a failure, whether something changed or not
}

// site is one address and what answers there.
type site struct {
	place     string
	passwords map[string]bool // nil = any password will do
}

// World is where fake credentials exist. It is safe for concurrent use.
type World struct {
	clk clock.Clock

	mu         sync.Mutex
	sites      map[string]*site
	objects    map[string]*Object // by id
	journal    []Event
	faults     []*Fault
	gates      []*Gate
	watch      func(after bool)
	self       []string
	readyAfter time.Duration
	lastID     int
}

// NewWorld returns an empty world on the given clock. Every address exists in
// it, as the place "place-of-<address>", and accepts any password.
func NewWorld(clk clock.Clock) *World {
	return &World{clk: clk, sites: map[string]*site{}, objects: map[string]*Object{}}
}

// siteAt returns the site at an address. The caller holds mu.
func (w *World) siteAt(address string) *site {
	s, ok := w.sites[address]
	if !ok {
		s = &site{place: "place-of-" + address}
		w.sites[address] = s
	}
	return s
}

// SetPlace makes another place answer at an address. Objects stay where they
// were made.
func (w *World) SetPlace(address, place string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.siteAt(address).place = place
}

// SetPassword makes password the only one that an address accepts.
func (w *World) SetPassword(address, password string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.siteAt(address).passwords = map[string]bool{password: true}
}

// SetSelf sets the entity ids that every instance reports as its own login.
func (w *World) SetSelf(entityIDs ...string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.self = entityIDs
}

// SetReadyAfter makes objects of roles with slow=true usable only that long
// after they were made; until then Issue answers PollAfter.
func (w *World) SetReadyAfter(d time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.readyAfter = d
}

// AddStanding puts a binding into the world that is not ours: a principal who
// has that level already.
func (w *World) AddStanding(address, level, principal string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	o := Object{
		Kind: kindBinding, Name: bindingName(level, principal), Place: w.siteAt(address).place,
		Level: level, Principal: principal, Standing: true, Enabled: true,
	}
	w.insert(o)
}

// insert stores an object under a new id. The caller holds mu.
func (w *World) insert(o Object) Object {
	w.lastID++
	o.ID = fmt.Sprintf("srv-%d", w.lastID)
	o.CreatedAt = w.clk.Now()
	w.objects[o.ID] = &o
	return o
}

// Objects returns everything of ours that exists, usable or not, oldest first.
func (w *World) Objects() []Object {
	return w.pick(func(o Object) bool { return !o.Standing })
}

// Usable returns everything of ours that gives access at this moment.
func (w *World) Usable() []Object {
	now := w.clk.Now()
	return w.pick(func(o Object) bool { return !o.Standing && o.usable(now) })
}

// Of returns everything that exists for one credential.
func (w *World) Of(id domain.CredentialID) []Object {
	return w.pick(func(o Object) bool { return o.Credential == id })
}

// Works tells whether somebody who holds that password gets in at this moment.
func (w *World) Works(password string) bool {
	now := w.clk.Now()
	hits := w.pick(func(o Object) bool { return password != "" && o.Password == password && o.usable(now) })
	return len(hits) > 0
}

func (w *World) pick(want func(Object) bool) []Object {
	w.mu.Lock()
	defer w.mu.Unlock()
	var out []Object
	for _, o := range w.objects {
		if want(*o) {
			found := *o
			found.Params = maps.Clone(o.Params)
			out = append(out, found)
		}
	}
	slices.SortFunc(out, func(a, b Object) int {
		return cmp.Or(a.CreatedAt.Compare(b.CreatedAt), cmp.Compare(len(a.ID), len(b.ID)), cmp.Compare(a.ID, b.ID))
	})
	return out
}

// Journal returns every call that reached the world, in order.
func (w *World) Journal() []Event {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Clone(w.journal)
}

// Count returns how many calls of one kind reached the world; "" counts all.
func (w *World) Count(op Op) int {
	n := 0
	for _, e := range w.Journal() {
		if op == "" || e.Op == op {
			n++
		}
	}
	return n
}
