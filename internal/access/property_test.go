package access_test

import (
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/vault-pim/vault-plugin-secrets-pim/internal/access"
	"github.com/vault-pim/vault-plugin-secrets-pim/internal/domain"
	"github.com/vault-pim/vault-plugin-secrets-pim/internal/provider/contract"
	"github.com/vault-pim/vault-plugin-secrets-pim/internal/provider/providertest/fake"
)

// life is a mount with whatever happens to it: two people who want two roles,
// one of which shares an object at the target, two who approve, crashes, broken
// disks and targets, kill switches, and time.
type life struct {
	*mount
	given []given
	heads map[string][]domain.Entry // histories as they were last seen
	up    func()                    // brings the target back
	trap  cut                       // what the next operation steps into
}

// given is a credential that somebody was handed.
type given struct {
	ans   *access.Answer
	role  string
	ended bool // the host was told that it is gone
}

const mostLive = 2

func newLife(t tester) *life {
	l := &life{mount: newMount(t), heads: map[string][]domain.Entry{}}
	bounded := func(r *domain.Role) { r.MaxCredentials, r.MaxActive, r.Approvals = mostLive, 2, 2 }
	l.role("admin", bounded, nil)
	l.role("other", bounded, contract.Values{"principal_source": "principal"})
	l.role("ci", func(r *domain.Role) { shortLeases(r); r.MaxCredentials = mostLive }, contract.Values{"credential_type": "late"})
	return l
}

var (
	names     = rapid.SampledFrom([]string{"alice", "dave"})
	roleNames = rapid.SampledFrom([]string{"admin", "other", "ci"})
	deciders  = rapid.SampledFrom([]string{"bob", "carol"})
	lengths   = rapid.SampledFrom([]int{600, 1800, 3600})
	waits     = rapid.SampledFrom([]time.Duration{time.Second, 30 * time.Second, 2 * time.Minute, 20 * time.Minute, time.Hour})
)

// open draws a request that is not archived.
func (l *life) open(t *rapid.T) domain.RequestID {
	keys := l.disk.keys("req/")
	if len(keys) == 0 {
		t.Skip("nothing is open")
	}
	return domain.RequestID(rapid.SampledFrom(keys).Draw(t, "request")[len("req/"):])
}

// try does something that may well be refused, and steps into the trap that was
// laid for it.
func (l *life) try(t *rapid.T, what string, do func() error) {
	trap := l.trap
	l.trap = cut{}
	l.s.plan(trap)
	err := do()
	l.a.Idle()
	t.Logf("%s: %v", what, err)
	if trap.at == 0 {
		return
	}
	reached := l.s.reached()
	l.s.plan(cut{})
	if reached && trap.crash {
		l.crash()
	}
}

func (l *life) actions() map[string]func(*rapid.T) {
	return map[string]func(*rapid.T){
		"ask": func(t *rapid.T) {
			name, role := names.Draw(t, "who"), roleNames.Draw(t, "role")
			ttl := seconds(lengths.Draw(t, "ttl"))
			l.try(t, name+" asks for "+role, func() error { return onlyErr(l.ask(name, role, access.Ask{TTL: ttl})) })
		},
		"decide": func(t *rapid.T) {
			id, name := l.open(t), deciders.Draw(t, "who")
			verdict := rapid.SampledFrom([]domain.Verdict{domain.Approve, domain.Approve, domain.Approve, domain.Deny}).Draw(t, "verdict")
			l.try(t, name+" says "+string(verdict), func() error { return l.decide(name, id, verdict) })
		},
		"approve all": func(t *rapid.T) {
			for _, k := range l.disk.keys("req/") {
				for _, name := range []string{"bob", "carol"} {
					l.try(t, name+" approves", func() error { return l.decide(name, domain.RequestID(k[len("req/"):]), domain.Approve) })
				}
			}
		},
		"grant":        l.grantOne,
		"read":         l.read,
		"read again":   l.read,
		"read once":    l.read,
		"end":          l.endOne,
		"cancel":       l.cancelOne,
		"revoke":       l.revokeOne,
		"people":       l.movePeople,
		"hold or kill": l.pullSwitch,
		"edit":         l.editRole,
		"target": func(t *rapid.T) {
			if l.up != nil {
				l.up()
				l.up = nil
				return
			}
			op := rapid.SampledFrom([]fake.Op{fake.OpCreate, fake.OpDelete, fake.OpPlace, ""}).Draw(t, "op")
			mode := rapid.SampledFrom([]fake.Mode{fake.FailBefore, fake.FailAfter, fake.Refuse}).Draw(t, "mode")
			l.up = l.world.Inject(fake.Fault{On: op, Mode: mode})
		},
		"trap": func(t *rapid.T) {
			l.trap = cut{
				at: rapid.IntRange(1, 6).Draw(t, "write"), crash: rapid.Bool().Draw(t, "crash"), written: rapid.Bool().Draw(t, "written"),
			}
		},
		"crash": func(*rapid.T) { l.crash() },
		"tick":  func(t *rapid.T) { l.try(t, "the reaper looks", func() error { l.tick(); return nil }) },
		"time":  func(t *rapid.T) { l.clk.Advance(waits.Draw(t, "wait")) },
		"time and tick": func(t *rapid.T) {
			l.clk.Advance(waits.Draw(t, "wait"))
			l.try(t, "the reaper looks", func() error { l.tick(); return nil })
		},
		"epoch": func(t *rapid.T) {
			if rapid.IntRange(0, 3).Draw(t, "rarely") > 0 {
				t.Skip("not now")
			}
			l.try(t, "rotate-epoch", func() error {
				_, _, err := l.a.RotateEpoch(l.Context(), access.Caller{})
				return err
			})
		},
		"": l.check,
	}
}

// grantOne is the ordinary way to a grant, and a read right after it.
func (l *life) grantOne(t *rapid.T) {
	name, role := names.Draw(t, "who"), rapid.SampledFrom([]string{"admin", "other"}).Draw(t, "role")
	l.try(t, name+" asks for "+role, func() error { return onlyErr(l.ask(name, role, access.Ask{})) })
	for _, k := range l.disk.keys("req/") {
		for _, approver := range []string{"bob", "carol"} {
			l.try(t, approver+" approves", func() error { return l.decide(approver, domain.RequestID(k[len("req/"):]), domain.Approve) })
		}
	}
	l.readAs(t, name, role)
}

func (l *life) read(t *rapid.T) {
	l.readAs(t, names.Draw(t, "who"), roleNames.Draw(t, "role"))
}

func (l *life) readAs(t *rapid.T, name, role string) {
	var ans *access.Answer
	l.try(t, name+" reads "+role, func() error {
		var err error
		if ans, err = l.creds(name, role); err == nil {
			l.justified(name, role, ans)
		}
		return err
	})
	if ans != nil {
		l.given = append(l.given, given{ans: ans, role: role})
	}
}

func (l *life) endOne(t *rapid.T) {
	if len(l.given) == 0 {
		t.Skip("nothing was issued")
	}
	i := rapid.IntRange(0, len(l.given)-1).Draw(t, "lease")
	l.try(t, "a lease ends", func() error {
		err := l.a.LeaseEnded(l.Context(), l.given[i].ans.Lease)
		l.given[i].ended = l.given[i].ended || err == nil
		return err
	})
}

func (l *life) cancelOne(t *rapid.T) {
	id, name := l.open(t), names.Draw(t, "who")
	l.try(t, name+" gives back", func() error { return onlyErr(l.a.Cancel(l.Context(), who(name), id)) })
}

func (l *life) revokeOne(t *rapid.T) {
	id, name := l.open(t), deciders.Draw(t, "who")
	l.try(t, name+" revokes", func() error { return onlyErr(l.a.RevokeGrant(l.Context(), who(name), id, "enough")) })
}

func (l *life) movePeople(t *rapid.T) {
	name := rapid.SampledFrom([]string{"alice", "dave", "bob", "carol"}).Draw(t, "who")
	group := "engineers"
	if name == "bob" || name == "carol" {
		group = "leads"
	}
	switch rapid.SampledFrom([]string{"disable", "leave", "vanish", "back", "back"}).Draw(t, "how") {
	case "disable":
		l.people.add(person(name, group))
		l.people.change(name, disable)
	case "leave":
		l.people.add(person(name, group))
		l.people.change(name, leave)
	case "vanish":
		l.people.remove(name)
	case "back":
		l.people.add(person(name, group))
	}
}

func (l *life) pullSwitch(t *rapid.T) {
	kill := rapid.SampledFrom([]access.Kill{
		{Kind: domain.HoldPerson, Value: id("alice")}, {Kind: domain.HoldRole, Value: "ci"}, {Kind: domain.HoldTarget, Value: "site"},
	}).Draw(t, "kill")
	kill.Hold = seconds(rapid.SampledFrom([]int{0, 60, 1800}).Draw(t, "hold"))
	if rapid.Bool().Draw(t, "hold only") {
		kill.Hold = seconds(60)
		l.try(t, "a hold", func() error { return onlyErr(l.a.SetHold(l.Context(), access.Caller{}, kill)) })
		return
	}
	l.try(t, "kill switch", func() error { return onlyErr(l.a.Kill(l.Context(), access.Caller{}, kill)) })
}

func (l *life) editRole(t *rapid.T) {
	role := roleNames.Draw(t, "role")
	live := rapid.SampledFrom([]access.Live{access.LiveUnsaid, access.LiveKeep, access.LiveRevoke}).Draw(t, "live")
	ttl := domain.Seconds(rapid.SampledFrom([]int{3600, 3500}).Draw(t, "default ttl"))
	l.try(t, "edit "+role+" "+string(live), func() error {
		return onlyErr(l.edit(role, live, func(r *domain.Role) { r.TTL = ttl }))
	})
}

// Whatever happens in whatever order: nothing exists at the target that nobody
// will end, nobody gets what was not approved, nothing counts as gone that is
// not, and in the end all is gone and archived.
func TestWhateverHappens(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		l := newLife(rt)
		rt.Repeat(l.actions())
		l.trap = cut{}
		if l.up != nil {
			l.up()
		}
		l.dangling = true
		l.clean()
		l.nothingWorks()
	})
}

func (l *life) nothingWorks() {
	for _, g := range l.given {
		if password, ok := g.ans.Data["password"].(string); ok {
			l.works(g.ans, false)
			if password == "" {
				l.Fatal("a credential without a password")
			}
		}
	}
}
