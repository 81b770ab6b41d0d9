package access_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/vault-pim/vault-plugin-secrets-pim/internal/access"
	"github.com/vault-pim/vault-plugin-secrets-pim/internal/domain"
	"github.com/vault-pim/vault-plugin-secrets-pim/internal/fault"
	"github.com/vault-pim/vault-plugin-secrets-pim/internal/provider/contract"
	"github.com/vault-pim/vault-plugin-secrets-pim/internal/provider/providertest/fake"
)

const (
	patience = 20 * time.Second // of one read
	slowness = 30 * time.Second // of the target
)

type outcome struct {
	ans *access.Answer
	err error
}

// reading reads a credential in the background.
func (m *mount) reading(ctx context.Context, name, role string) <-chan outcome {
	out := make(chan outcome, 1)
	go func() {
		ans, err := m.a.Creds(ctx, who(name), role, access.CredsAsk{})
		out <- outcome{ans, err}
	}()
	return out
}

// slowMount has a grant at a target that takes its time.
func slowMount(t *testing.T) *mount {
	m := newMount(t)
	m.world.SetReadyAfter(slowness)
	m.role("admin", nil, contract.Values{"slow": true})
	m.granted("alice", "admin")
	return m
}

// tooSlow reads once, and insists that the answer is to read again.
func (m *mount) tooSlow(name, role string) {
	m.Helper()
	before, polled := m.clk.waited(patience), m.clk.waited(slowness)
	out := m.reading(m.Context(), name, role)
	m.eventually("the read waits", func() bool { return m.clk.waited(patience) > before && m.clk.waited(slowness) > polled })
	m.clk.Advance(patience)
	o := <-out
	f := m.refused(o.err, fault.CodePreparing)
	if f.Data["poll_after_seconds"] == nil {
		m.Errorf("nobody is told when to read again: %v", f.Data)
	}
}

func TestWhatTakesLongIsDeliveredByTheNextRead(t *testing.T) {
	m := slowMount(t)
	m.tooSlow("alice", "admin")
	m.clk.Advance(slowness - patience)
	ans := m.issued("alice", "admin")
	if c := m.cred(ans); c.State != domain.CredActive || !m.clk.Now().Add(ans.TTL).Equal(c.Expires) {
		t.Errorf("%s; a lease of %s ends at %s, the credential at %s", c.State, ans.TTL, m.clk.Now().Add(ans.TTL), c.Expires)
	}
	if n := len(m.world.Objects()); n != 1 {
		t.Errorf("%d credentials were made for one", n)
	}
	m.must(m.a.LeaseEnded(t.Context(), ans.Lease))
	m.clean()
}

func TestWhatIsReadyAtOnceIsDeliveredAtOnce(t *testing.T) {
	m := newMount(t)
	m.role("admin", nil, contract.Values{"slow": true})
	m.granted("alice", "admin")
	m.issued("alice", "admin")
	m.issued("alice", "admin") // delivered once: this one is new
	if n := len(m.world.Objects()); n != 2 {
		t.Fatalf("%d credentials", n)
	}
	m.clean()
}

func TestWhatNobodyFetchesIsUndone(t *testing.T) {
	m := slowMount(t)
	m.tooSlow("alice", "admin")
	m.clk.Advance(slowness - patience)
	m.a.Idle() // it is ready now
	m.clk.Advance(5 * time.Minute)
	m.tick()
	if n := len(m.world.Usable()); n != 1 {
		t.Fatalf("%d credentials wait for their reader", n)
	}
	m.clk.Advance(time.Second)
	m.tick()
	if n := len(m.world.Objects()); n != 0 {
		t.Fatalf("%d credentials are left that nobody fetched", n)
	}
	m.clean()
}

func TestWhatIsPreparedDiesWithItsProcess(t *testing.T) {
	for name, ready := range map[string]bool{"while it is made": false, "while it waits": true} {
		t.Run(name, func(t *testing.T) {
			m := slowMount(t)
			m.tooSlow("alice", "admin")
			if ready {
				m.clk.Advance(slowness - patience)
				m.a.Idle()
			}
			m.crash()
			if n := len(m.world.Objects()); n != 0 {
				t.Fatalf("%d credentials outlived their process", n)
			}
			m.tooSlow("alice", "admin") // a new one
			m.clk.Advance(slowness - patience)
			m.issued("alice", "admin")
			m.clean()
		})
	}
}

func TestWhatIsPreparedIsNeverDeliveredAfterTheEnd(t *testing.T) {
	ends := map[string]func(m *mount){
		"grant revoked": func(m *mount) { m.must(onlyErr(m.a.RevokeGrant(m.Context(), who("bob"), firstOpen(m), ""))) },
		"kill switch": func(m *mount) {
			m.must(onlyErr(m.a.Kill(m.Context(), access.Caller{}, access.Kill{Kind: domain.HoldPerson, Value: id("alice")})))
			m.a.Idle()
		},
		"requester disabled": func(m *mount) { m.people.change("alice", func(e *domain.Entity) { e.Disabled = true }) },
		"hold":               func(m *mount) { m.hold(domain.HoldTarget, "site") },
		"approver gone":      func(m *mount) { m.people.remove("bob") },
	}
	for name, end := range ends {
		t.Run(name, func(t *testing.T) {
			m := slowMount(t)
			m.tooSlow("alice", "admin")
			m.clk.Advance(slowness - patience)
			m.a.Idle()
			end(m)
			if ans, err := m.creds("alice", "admin"); err == nil {
				t.Fatalf("delivered with a lease of %s", ans.TTL)
			}
			m.pass(6 * time.Minute)
			if n := len(m.world.Usable()); n != 0 {
				t.Fatalf("%d credentials are left", n)
			}
		})
	}
}

func (m *mount) hold(kind domain.HoldKind, value string) domain.Hold {
	m.Helper()
	h, err := m.a.SetHold(m.Context(), access.Caller{}, access.Kill{Kind: kind, Value: value, Reason: "test"})
	m.must(err)
	return h
}

// Two reads at the same moment share one preparation.
func TestReadsAtTheSameMomentPrepareOnce(t *testing.T) {
	m := slowMount(t)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var second <-chan outcome
	m.host.planning = func() { // the first one has looked and found nothing being prepared
		before := m.clk.waited(patience)
		second = m.reading(ctx, "alice", "admin")
		m.eventually("the second read is preparing", func() bool { return m.clk.waited(patience) > before })
	}
	before := m.clk.waited(patience)
	first := m.reading(ctx, "alice", "admin")
	m.eventually("both wait", func() bool { return m.clk.waited(patience) > before+1 })
	m.clk.Advance(patience)
	m.refused((<-first).err, fault.CodePreparing)
	m.refused((<-second).err, fault.CodePreparing)
	m.clk.Advance(slowness)
	m.issued("alice", "admin")
	if n := len(m.world.Objects()); n != 1 || m.world.Count(fake.OpDelete) > 1 {
		t.Fatalf("%d credentials for one reader", n)
	}
	m.clean()
}

// A reader who gives up leaves the preparation to the next one.
func TestReaderWhoGivesUpLosesNothing(t *testing.T) {
	m := slowMount(t)
	ctx, cancel := context.WithCancel(t.Context())
	before := m.clk.waited(slowness)
	out := m.reading(ctx, "alice", "admin")
	m.eventually("it is being made", func() bool { return m.clk.waited(slowness) > before })
	cancel()
	if o := <-out; !errors.Is(o.err, context.Canceled) {
		t.Fatalf("answered %v", o.err)
	}
	m.clk.Advance(slowness)
	m.issued("alice", "admin")
	m.clean()
}

// What fails in the background is told to the next read, and leaves nothing.
func TestPreparationThatFails(t *testing.T) {
	m := newMount(t)
	m.role("admin", nil, contract.Values{"slow": true})
	m.granted("alice", "admin")
	remove := m.world.Inject(fake.Fault{On: fake.OpCreate, Mode: fake.FailAfter})
	m.refused(onlyErr(m.creds("alice", "admin")), fault.CodeUpstream)
	remove()
	if n := len(m.world.Usable()); n != 0 {
		t.Fatalf("%d credentials are left", n)
	}
	m.issued("alice", "admin")
	m.clean()
}

// A role that approves by itself delivers under the request that it was
// prepared for.
func TestAutoApprovedReadsWaitForOnePreparation(t *testing.T) {
	m := newMount(t)
	m.world.SetReadyAfter(slowness)
	m.role("ci", auto, contract.Values{"slow": true})
	m.tooSlow("robot", "ci")
	m.clk.Advance(slowness - patience)
	m.a.Idle()
	m.issued("robot", "ci")
	if n := m.filed(); n != 1 {
		t.Fatalf("%d requests for one read", n)
	}
	m.clean()
}
