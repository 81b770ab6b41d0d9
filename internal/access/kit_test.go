package access_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/vault-pim/vault-plugin-secrets-pim/internal/access"
	"github.com/vault-pim/vault-plugin-secrets-pim/internal/clock"
	"github.com/vault-pim/vault-plugin-secrets-pim/internal/domain"
	"github.com/vault-pim/vault-plugin-secrets-pim/internal/fault"
	"github.com/vault-pim/vault-plugin-secrets-pim/internal/provider/contract"
	"github.com/vault-pim/vault-plugin-secrets-pim/internal/provider/providertest/fake"
	"github.com/vault-pim/vault-plugin-secrets-pim/internal/secret"
	"github.com/vault-pim/vault-plugin-secrets-pim/internal/store"
)

// start is when every test's time begins.
var start = time.Date(2026, 3, 2, 9, 0, 0, 0, time.UTC)

// alarm is the manual clock, and knows who waits for it.
type alarm struct {
	*clock.Manual
	mu    sync.Mutex
	asked map[time.Duration]int
}

func newAlarm() *alarm {
	return &alarm{Manual: clock.NewManual(start), asked: map[time.Duration]int{}}
}

// After implements clock.Clock.
func (c *alarm) After(d time.Duration) <-chan time.Time {
	ch := c.Manual.After(d)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.asked[d]++
	return ch
}

// waited counts how often somebody has asked to be woken after d.
func (c *alarm) waited(d time.Duration) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.asked[d]
}

// host is what the use cases see of the host.
type host struct {
	mu       sync.Mutex
	max      time.Duration
	readonly bool
	tainted  bool
	calls    int
	planning func() // runs while a credential is planned: nothing is locked, nothing is on record
}

func (h *host) MaxLeaseTTL() time.Duration {
	h.mu.Lock()
	h.calls++
	longest, planning := h.max, h.planning
	h.planning = nil
	h.mu.Unlock()
	if planning != nil {
		planning()
	}
	return longest
}

func (h *host) Writable() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return !h.readonly
}

func (h *host) Tainted() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.tainted
}

func (h *host) spent() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	n := h.calls
	h.calls = 0
	return n
}

// journal is the plugin's log.
type journal struct {
	mu    sync.Mutex
	lines []string
}

func (j *journal) add(level, msg string, args []any) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.lines = append(j.lines, level+" "+msg+fmt.Sprint(args...))
}

func (j *journal) Debug(msg string, args ...any) { j.add("debug", msg, args) }
func (j *journal) Warn(msg string, args ...any)  { j.add("warn", msg, args) }
func (j *journal) Error(msg string, args ...any) { j.add("error", msg, args) }

func (j *journal) all() []string {
	j.mu.Lock()
	defer j.mu.Unlock()
	return slices.Clone(j.lines)
}

// tester is what a mount needs of a test; both *testing.T and *rapid.T have it.
type tester interface {
	Helper()
	Context() context.Context
	Cleanup(f func())
	Logf(format string, args ...any)
	Error(args ...any)
	Errorf(format string, args ...any)
	Fatal(args ...any)
	Fatalf(format string, args ...any)
	FailNow()
	Failed() bool
}

// mount is one mount of the plugin with everything around it. a and s belong to
// the process that runs now.
type mount struct {
	tester
	clk    *alarm
	disk   *disk
	people *people
	host   *host
	world  *fake.World
	log    *journal
	a      *access.Access
	s      *session
	store  *store.Store
	step   func(string)

	blind    bool // the next process cannot read requests at first
	dangling bool // entries that name nothing are in order for now
	list     *contract.RevocationList
	more     []contract.Descriptor // further types of targets
	bulk     *inBulk               // the target ends many at once; nil = it does not
}

// bare is a mount on which nothing has been written yet.
func bare(t tester) *mount {
	t.Helper()
	clk := newAlarm()
	m := &mount{
		tester: t, clk: clk, disk: newDisk(), people: newPeople(), host: &host{max: 32 * 24 * time.Hour},
		world: fake.NewWorld(clk), log: &journal{},
	}
	m.boot()
	t.Cleanup(func() {
		m.unaltered()
		m.a.Stop()
	})
	return m
}

// unaltered insists that nobody has changed a role or a target in the cache, which
// all that read it share.
func (m *mount) unaltered() {
	m.Helper()
	ctx, fresh := context.Background(), store.New(&session{d: m.disk})
	names, err := fresh.Roles(ctx, "", 0)
	m.must(err)
	for _, name := range names {
		cached, err := m.store.Role(ctx, name)
		written, errWritten := fresh.Role(ctx, name)
		if err == nil && errWritten == nil && !reflect.DeepEqual(cached, written) {
			m.Errorf("role %s in the cache is not what was written:\n%+v\n%+v", name, cached, written)
		}
	}
	names, err = fresh.Targets(ctx, "", 0)
	m.must(err)
	for _, name := range names {
		cached, err := m.store.Target(ctx, name)
		written, errWritten := fresh.Target(ctx, name)
		if err == nil && errWritten == nil && !reflect.DeepEqual(cached, written) {
			m.Errorf("target %s in the cache is not what was written:\n%+v\n%+v", name, cached, written)
		}
	}
}

// newMount is a mount with one target.
func newMount(t tester) *mount {
	t.Helper()
	m := bare(t)
	m.target("site", "one")
	return m
}

// boot starts a process on the disk as it is.
func (m *mount) boot() {
	m.Helper()
	m.s = &session{d: m.disk, blind: m.blind, bulk: m.bulk}
	m.store = store.New(m.s)
	if _, measured := m.tester.(*testing.B); !measured {
		m.store.Recheck()
	}
	descriptor := mortal(m.world.Descriptor(), m.s)
	descriptor.List = m.list
	a, err := access.New(access.Options{
		Store: m.store, Directory: m.people, Host: m.host, Log: m.log, Mount: "mount-uuid", Step: m.step,
		Descriptors: append([]contract.Descriptor{descriptor}, m.more...),
		Env:         contract.Env{Clock: m.clk, Log: m.log, AllowLocal: true},
	})
	m.must(err)
	m.a = a
	m.tick()
}

// crash ends the process without any warning and starts the next one.
func (m *mount) crash() {
	m.Helper()
	m.unaltered()
	m.s.kill()
	m.a.Stop()
	m.boot()
}

// tick is one look of the reaper, and everything that it started.
func (m *mount) tick() {
	m.a.Tick(context.Background())
	m.a.Idle()
}

// pass lets time pass, with the reaper looking all the while.
func (m *mount) pass(d time.Duration) {
	const every = 30 * time.Second
	for ; d > 0; d -= every {
		m.clk.Advance(min(d, every))
		m.tick()
	}
}

func (m *mount) must(err error) {
	m.Helper()
	if err != nil {
		m.Fatalf("unexpected error: %v (cause: %v)", err, errors.Unwrap(err))
	}
}

// refused insists on a fault with a code.
func (m *mount) refused(err error, code fault.Code) fault.Error {
	m.Helper()
	if err == nil {
		m.Fatalf("want the refusal %s, got none", code)
	}
	f := fault.From(err)
	if f.Code != code {
		m.Fatalf("want the refusal %s, got %s: %v (cause: %v)", code, f.Code, f.Public, errors.Unwrap(f))
	}
	return *f
}

func who(name string) access.Caller { return access.Caller{EntityID: id(name), CallID: "call-" + name} }

func (m *mount) target(name, address string) {
	m.Helper()
	typ := fake.Type
	_, err := m.a.WriteTarget(m.Context(), access.Caller{}, name, access.TargetEdit{
		Type: &typ, Set: contract.Values{"address": address},
		Secrets: map[string]secret.String{"password": secret.New("root-of-" + address)},
	}, access.EditOptions{})
	m.must(err)
}

// role writes a role with sensible fields; edit and fields say what differs.
func (m *mount) role(name string, edit func(*domain.Role), fields contract.Values) {
	m.Helper()
	set := contract.Values{"level": "admin"}
	maps.Copy(set, fields)
	_, err := m.a.WriteRole(m.Context(), access.Caller{}, name, access.RoleEdit{Core: func(r *domain.Role) {
		r.Target, r.EligibleGroups, r.ApproverGroups = "site", []string{"engineers"}, []string{"leads"}
		if edit != nil {
			edit(r)
		}
	}, Set: set}, access.EditOptions{})
	m.must(err)
}

// auto makes a role approve by itself.
func auto(r *domain.Role) {
	r.AutoApprove, r.Approvals, r.ApproverGroups, r.RequireJustification = true, 0, nil, false
}

func (m *mount) edit(name string, live access.Live, f func(*domain.Role)) (*access.RoleView, error) {
	return m.a.WriteRole(m.Context(), access.Caller{}, name, access.RoleEdit{Core: f}, access.EditOptions{Live: live})
}

func (m *mount) config(f func(*domain.Config)) {
	m.Helper()
	_, err := m.a.WriteConfig(m.Context(), access.Caller{}, f, access.EditOptions{})
	m.must(err)
}

func (m *mount) ask(name, role string, ask access.Ask) (access.Submitted, error) {
	if ask.Justification == "" {
		ask.Justification = "on call"
	}
	return m.a.Submit(m.Context(), who(name), role, ask)
}

func (m *mount) decide(name string, id domain.RequestID, v domain.Verdict) error {
	view, err := m.a.Approval(m.Context(), who(name), id)
	if err != nil {
		return err
	}
	_, err = m.a.Decide(m.Context(), who(name), id, access.Decision{Verdict: v, Digest: view.Request.Digest})
	return err
}

// pending files a request that waits for its approval.
func (m *mount) pending(name, role string) domain.RequestID {
	m.Helper()
	s, err := m.ask(name, role, access.Ask{})
	m.must(err)
	return s.View.Request.ID
}

// granted files a request and has bob approve it.
func (m *mount) granted(name, role string) domain.RequestID {
	m.Helper()
	id := m.pending(name, role)
	m.must(m.decide("bob", id, domain.Approve))
	return id
}

func (m *mount) creds(name, role string) (*access.Answer, error) {
	return m.a.Creds(m.Context(), who(name), role, access.CredsAsk{})
}

// issued reads a credential and insists that it works.
func (m *mount) issued(name, role string) *access.Answer {
	m.Helper()
	ans, err := m.creds(name, role)
	m.must(err)
	m.works(ans, true)
	return ans
}

// works insists on whether the credential of an answer gives access.
func (m *mount) works(ans *access.Answer, want bool) {
	m.Helper()
	password, ok := ans.Data["password"].(string)
	if !ok {
		m.Fatalf("the answer holds no password: %d fields", len(ans.Data))
	}
	if got := m.world.Works(password); got != want {
		m.Fatalf("the credential works: %v, want %v", got, want)
	}
}

// request reads a request as it is on record.
func (m *mount) request(id domain.RequestID) domain.Request {
	m.Helper()
	v, err := m.a.AuditRequest(m.Context(), id, false)
	m.must(err)
	return v.Request
}

func (m *mount) state(id domain.RequestID, want domain.RequestState) {
	m.Helper()
	v, err := m.a.AuditRequest(m.Context(), id, false)
	m.must(err)
	if v.State != want {
		m.Fatalf("request is %s, want %s (reason %q)", v.State, want, v.Request.Reason)
	}
}

// cred is the state of one credential on record.
func (m *mount) cred(ans *access.Answer) domain.Credential {
	m.Helper()
	c, ok := m.request(ans.Lease.Request).Credential(ans.Lease.Credential)
	if !ok {
		m.Fatalf("credential %s is on no record", ans.Lease.Credential)
	}
	return c
}

// eventually polls with a bound.
func (m *mount) eventually(what string, cond func() bool) {
	m.Helper()
	deadline := time.NewTimer(10 * time.Second)
	defer deadline.Stop()
	poll := time.NewTicker(time.Millisecond)
	defer poll.Stop()
	for !cond() {
		select {
		case <-deadline.C:
			m.Fatalf("it did not come about within 10 s: %s", what)
		case <-poll.C:
		}
	}
}
