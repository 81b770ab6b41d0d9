package access_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/vault-pim/vault-plugin-secrets-pim/internal/access"
	"github.com/vault-pim/vault-plugin-secrets-pim/internal/domain"
	"github.com/vault-pim/vault-plugin-secrets-pim/internal/fault"
	"github.com/vault-pim/vault-plugin-secrets-pim/internal/provider/contract"
	"github.com/vault-pim/vault-plugin-secrets-pim/internal/provider/providertest/fake"
)

// The command in an answer has exactly the fields that the role requires.
func TestCommandsHaveWhatTheRoleRequires(t *testing.T) {
	rows := []struct {
		name string
		edit func(*domain.Role)
		want string
	}{
		{"a justification", nil, `vault write pim/request/admin justification="why"`},
		{"nothing", func(r *domain.Role) { r.RequireJustification = false }, `vault write -f pim/request/admin`},
		{"a ticket", func(r *domain.Role) { r.RequireJustification, r.RequireTicket = false, true }, `vault write pim/request/admin ticket="number"`},
		{"both", func(r *domain.Role) { r.RequireTicket = true }, `vault write pim/request/admin justification="why" ticket="number"`},
		{"parameters", func(r *domain.Role) {
			r.RequireJustification = false
			r.Params = map[string]domain.Param{
				"needed":    {Pattern: "[a-z]+", Required: true},
				"chosen":    {Allowed: []string{"north", "south"}, Required: true},
				"defaulted": {Allowed: []string{"x"}, Required: true, Default: "x"},
				"optional":  {Pattern: ".*"},
			}
		}, `vault write pim/request/admin params=chosen="north" params=needed="value"`},
		{"a value that a shell would run", func(r *domain.Role) {
			r.RequireJustification = false
			r.Params = map[string]domain.Param{"p": {Allowed: []string{`"; rm -rf ~; "`}, Required: true}}
		}, `vault write pim/request/admin params=p="value"`},
	}
	for _, row := range rows {
		t.Run(row.name, func(t *testing.T) {
			m := newMount(t)
			m.role("admin", row.edit, nil)
			f := m.refused(onlyErr(m.creds("alice", "admin")), fault.CodeNoGrant)
			if f.Data["next"] != row.want || !strings.HasSuffix(f.Public, row.want) {
				t.Errorf("%q, %q; want %q", f.Public, f.Data["next"], row.want)
			}
			v, err := m.a.EligibleRole(t.Context(), who("alice"), "admin")
			m.must(err)
			if v.Command != row.want {
				t.Errorf("eligible says %q", v.Command)
			}
		})
	}
}

// An answer says what it is, how hard its end bites, and nothing that clients
// take for something else.
func TestWhatAnAnswerHolds(t *testing.T) {
	m, ans := ready(t, nil, contract.Values{"revocation": "propagating"})
	want := map[string]any{
		"pim_request_id": string(ans.Lease.Request), "pim_credential_id": string(ans.Lease.Credential),
		"pim_revocation": "propagating", "pim_revocation_seconds": 60, "pim_revocation_survives": "open_sessions",
		"pim_shared": false, "pim_expires_at": "2026-03-02T10:00:00Z", "pim_window_ends_at": "2026-03-02T10:00:00Z",
		"pim_history_head": m.request(ans.Lease.Request).History.Head,
	}
	for k, v := range want {
		if ans.Data[k] != v {
			t.Errorf("%s is %v, want %v", k, ans.Data[k], v)
		}
	}
	for _, k := range []string{"username", "password"} {
		if s, ok := ans.Data[k].(string); !ok || s == "" {
			t.Errorf("no %s", k)
		}
	}
	if _, err := ans.Lease.Handle.Encode(); err != nil {
		t.Error(err)
	}
}

// Whatever goes wrong at a target, its own words reach nobody.
func TestFailuresOfATarget(t *testing.T) {
	rows := []struct {
		mode fake.Mode
		code fault.Code
		kind fault.Kind
	}{
		{fake.FailBefore, fault.CodeUpstream, fault.Upstream},
		{fake.FailAfter, fault.CodeUpstream, fault.Upstream},
		{fake.Throttle, fault.CodeUpstream, fault.Upstream},
		{fake.Refuse, fault.CodeTarget, fault.Conflict},
	}
	for i, row := range rows {
		for _, kind := range []string{"account", "late"} {
			for _, op := range []fake.Op{fake.OpPlace, fake.OpCreate, fake.OpEnable} {
				if op == fake.OpEnable && kind == "account" {
					continue
				}
				t.Run(fmt.Sprintf("%d/%s/%s", i, kind, op), func(t *testing.T) {
					m := newMount(t)
					m.role("admin", nil, contract.Values{"credential_type": kind})
					m.granted("alice", "admin")
					m.world.Inject(fake.Fault{On: op, Mode: row.mode, Times: 1})
					f := m.refused(onlyErr(m.creds("alice", "admin")), row.code)
					if f.Kind != row.kind {
						t.Errorf("kind %d", f.Kind)
					}
					if n := len(m.world.Usable()); n != 0 {
						t.Errorf("%d are left", n)
					}
					ans, err := m.creds("alice", "admin")
					m.must(err)
					m.works(ans, true)
					m.clean()
				})
			}
		}
	}
}

// A bug that breaks one round of the reaper does not end it.
func TestReaperOutlivesABrokenRound(t *testing.T) {
	m, ans := ready(t, nil, nil)
	m.pending("dave", "admin")
	m.people.panicNext(3)
	m.a.Start()
	broken := func() bool {
		m.a.Nudge()
		return slices.ContainsFunc(m.log.all(), func(l string) bool { return strings.HasPrefix(l, "error panic") })
	}
	m.eventually("a round breaks", broken)
	m.clk.Advance(time.Hour)
	m.eventually("the reaper ends the credential", func() bool { m.a.Nudge(); return len(m.world.Usable()) == 0 })
	m.eventually("and archives its request", func() bool { m.a.Nudge(); return len(m.disk.keys("req/")) == 1 })
	m.a.Stop()
	m.works(ans, false)
}

// A bug in a provider leaves nothing behind and holds nothing up.
func TestProviderThatBreaks(t *testing.T) {
	for _, slow := range []bool{false, true} {
		t.Run(fmt.Sprintf("slow %v", slow), func(t *testing.T) {
			m := newMount(t)
			m.role("admin", nil, contract.Values{"slow": slow})
			m.granted("alice", "admin")
			arm := m.at("after provider issue", func() { panic("broken") })
			arm()
			func() {
				defer func() {
					if p := recover(); (p == nil) != slow {
						t.Errorf("the panic: %v", p)
					}
				}()
				if ans, err := m.creds("alice", "admin"); err == nil {
					t.Errorf("answered with %d fields", len(ans.Data))
				}
			}()
			m.pass(5 * time.Minute)
			if n := len(m.world.Objects()); n != 0 {
				t.Fatalf("%d are left", n)
			}
			m.issued("alice", "admin")
			m.clean()
		})
	}
}

// A start on a disk that fails for a while forgets nobody.
func TestStartOnAFailingDisk(t *testing.T) {
	m, ans := ready(t, nil, nil)
	waiting := m.pending("dave", "admin")
	m.blind = true
	m.crash()
	m.tick()
	m.s.setBlind(false)
	m.look(10 * time.Second)
	page, err := m.a.Inbox(t.Context(), who("bob"), "", 0)
	m.must(err)
	if len(page.Keys) != 1 || page.Keys[0] != string(waiting) {
		t.Errorf("inbox: %v", page.Keys)
	}
	m.pass(time.Hour)
	m.works(ans, false)
	m.clean()
}

// A handful of people and machines at once, with the reaper running: no race,
// no deadlock, nothing left, nothing leaked.
func TestManyAtOnce(t *testing.T) {
	m := newMount(t)
	m.role("admin", func(r *domain.Role) { r.MaxActive, r.MaxCredentials = 5, 5 }, nil)
	m.role("ci", shortLeases, contract.Values{"credential_type": "late"})
	m.role("shared", nil, contract.Values{"principal_source": "principal"})
	m.role("reuse", func(r *domain.Role) { shortLeases(r); reusable(r) }, nil)
	m.config(func(c *domain.Config) { c.IssueRate, c.MachineIssueRate, c.PersonMaxOpen = 10_000, 10_000, 1000 })
	m.a.Start()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var all sync.WaitGroup
	do := func(f func(i int)) {
		all.Go(func() {
			for i := range 25 {
				f(i)
			}
		})
	}
	for _, name := range []string{"alice", "dave", "robot"} {
		for _, role := range []string{"admin", "ci", "shared", "reuse"} {
			do(func(i int) {
				s, err := m.a.Submit(ctx, who(name), role, access.Ask{Justification: "x", TTL: seconds(600 + i%3)})
				if err == nil && i%2 == 0 {
					_, _ = m.a.Decide(ctx, who("bob"), s.View.Request.ID, access.Decision{Verdict: domain.Approve, Digest: s.View.Request.Digest})
				}
				ans, err := m.a.Creds(ctx, who(name), role, access.CredsAsk{})
				if err == nil && i%3 == 0 {
					_ = m.a.LeaseEnded(ctx, ans.Lease)
				}
				if err == nil && i%5 == 0 {
					_, _ = m.a.Cancel(ctx, who(name), ans.Lease.Request)
				}
			})
		}
	}
	do(func(int) { _, _ = m.a.Inbox(ctx, who("bob"), "", 0); m.a.Nudge(); m.clk.Advance(time.Second) })
	do(func(i int) {
		if i%10 == 5 {
			_, _ = m.edit("admin", access.LiveRevoke, func(r *domain.Role) { r.TTL = domain.Seconds(1800 + i) })
		}
	})
	do(func(i int) {
		if i%12 == 6 {
			_, _ = m.a.Kill(ctx, access.Caller{}, access.Kill{Kind: domain.HoldPerson, Value: id("dave"), Hold: seconds(1)})
		}
	})
	all.Wait()
	m.a.Stop()
	m.covered()
	m.boot()
	m.clean()
}

// Stop ends everything that a process had going, wherever it was.
func TestStopLeavesNothingRunning(t *testing.T) {
	before := goleak.IgnoreCurrent()
	m := slowMount(t)
	m.role("other", nil, nil)
	m.granted("dave", "other")
	m.issued("dave", "other")
	m.a.Start()
	m.tooSlow("alice", "admin")
	gate := m.world.Hold(fake.OpDelete, "")
	m.must(onlyErr(m.a.Kill(t.Context(), access.Caller{}, access.Kill{Kind: domain.HoldRole, Value: "other"})))
	<-gate.Reached()
	m.a.Stop()
	m.a.Stop() // twice is once
	goleak.VerifyNone(t, before)
	m.boot()
	m.clean()
}

// Who asks for what does not exist costs no memory.
func TestWaitingForNothingCostsNothing(t *testing.T) {
	m := newMount(t)
	admin(m)
	for i := range 50 {
		unknown, err := domain.NewID(m.clk.Now(), strings.NewReader(fmt.Sprintf("%010d", i)))
		m.must(err)
		if err := onlyErr(m.a.Wait(t.Context(), who("alice"), domain.RequestID(unknown))); err == nil {
			t.Fatal("found")
		}
	}
	if n := m.a.Waiting(); n != 0 {
		t.Errorf("%d places are kept for waiting", n)
	}
}

// Who cannot write that it is alive may not be the owner of the storage: it ends
// nothing until it can.
func TestReaperThatCannotWriteEndsNothing(t *testing.T) {
	m, ans := ready(t, nil, nil)
	m.clk.Advance(time.Hour)
	m.s.plan(cut{at: 1})
	m.tick()
	if n := m.world.Count(fake.OpDelete); n != 0 || len(m.s.written()) != 1 {
		t.Fatalf("%d deletes, writes %v", n, m.s.written())
	}
	if got := m.a.Pause(); got != time.Second {
		t.Errorf("it tries again after %s, although something is due; want a second", got)
	}
	m.tick()
	m.works(ans, false)
	m.clean()
}
