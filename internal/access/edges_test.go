package access_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/vault-pim/vault-plugin-secrets-pim/internal/access"
	"github.com/vault-pim/vault-plugin-secrets-pim/internal/domain"
	"github.com/vault-pim/vault-plugin-secrets-pim/internal/fault"
	"github.com/vault-pim/vault-plugin-secrets-pim/internal/provider/contract"
	"github.com/vault-pim/vault-plugin-secrets-pim/internal/provider/providertest/fake"
	"github.com/vault-pim/vault-plugin-secrets-pim/internal/secret"
)

// Deciding on many ends in time: what is left is told to come again, and nothing
// of it is half done.
func TestDecideOnManyEndsInTime(t *testing.T) {
	m := newMount(t)
	m.role("admin", nil, nil)
	m.step = func(name string) {
		if name == "before put decision" {
			m.clk.Advance(10 * time.Second) // whatever it waits for is slow
		}
	}
	m.crash()
	m.people.add(person("erin", "engineers"))
	var ids []domain.RequestID
	digests := map[domain.RequestID]string{}
	for _, name := range []string{"alice", "dave", "erin"} {
		rid := m.pending(name, "admin")
		ids, digests[rid] = append(ids, rid), m.request(rid).Digest
	}
	decide := func(ids ...domain.RequestID) []access.Decided {
		done, err := m.a.DecideMany(t.Context(), who("bob"), access.BulkDecision{Decision: access.Decision{Verdict: domain.Approve}, Digests: digests}, ids)
		m.must(err)
		return done
	}
	done := decide(ids...)
	if done[0].Problem != nil || done[1].Problem != nil {
		t.Fatalf("%v, %v", done[0].Problem, done[1].Problem)
	}
	m.refused(done[2].Problem, fault.CodeBusy)
	m.state(ids[2], domain.Pending)
	if n := len(m.request(ids[2]).Decisions); n > 0 {
		t.Errorf("%d decisions on what there was no time for", n)
	}
	if done = decide(ids[2]); done[0].Problem != nil {
		t.Errorf("sent again: %v", done[0].Problem)
	}
}

// Who is held puts no edit in force either.
func TestWhoIsHeldConfirmsNothing(t *testing.T) {
	m := sod(t)
	_, err := m.editAs(who("alice"), func(r *domain.Role) { r.Approvals = 2 })
	m.must(err)
	h := m.hold(domain.HoldPerson, id("bob"))
	m.refused(m.confirm("bob", domain.EditRole, "admin"), fault.CodeHeld)
	m.must(m.a.LiftHold(t.Context(), who("carol"), h.ID))
	m.must(m.confirm("bob", domain.EditRole, "admin"))
}

// While an emergency is being written, another look at the ledger leaves it there:
// its limits and its review are owed all the same.
func TestLedgerKeepsWhatIsBeingWritten(t *testing.T) {
	m := newMount(t)
	emergency(m)
	seen, written := make(chan domain.RequestID, 1), make(chan struct{})
	settled := make(chan struct{})
	arm := m.at("break-glass of a person noted", func() {
		use := record[domain.Ledger](m, "glass/admin").Uses[0].ID
		m.s.afterGet("req/"+string(use), func() { seen <- use; <-written })
		go func() {
			defer close(settled)
			if _, err := m.glass("erin", "INC-2"); err != nil {
				t.Error(err)
			}
		}()
		select {
		case <-seen: // it has read that there is no such request
		case <-settled:
		}
		m.s.afterGet("", nil)
	})
	arm()
	rid := m.broken("alice", "INC-1")
	close(written)
	<-settled
	for _, u := range record[domain.Ledger](m, "glass/admin").Uses {
		if u.ID == rid {
			return
		}
	}
	t.Error("the ledger has lost an emergency")
}

// A consumer may say again what it has taken, when all of it was dropped since.
func TestCursorOutlivesItsEvents(t *testing.T) {
	m := newMount(t)
	emergency(m)
	m.broken("erin", "INC-1")
	list, err := m.a.Events(t.Context(), "", 0)
	m.must(err)
	last := list[len(list)-1].ID
	m.must(onlyErr(m.a.Acknowledge(t.Context(), who("carol"), "siem", last)))
	for _, k := range m.disk.keys("ev/") {
		m.disk.drop(k)
	}
	m.crash()
	m.must(onlyErr(m.a.Acknowledge(t.Context(), who("carol"), "siem", last)))
	m.clk.Advance(-time.Minute) // within what a node's clock is not corrected by
	m.broken("alice", "INC-1")
	if list, err = m.a.Events(t.Context(), last, 0); err != nil || len(list) == 0 {
		t.Errorf("new events come before the cursor: %v, %v", list, err)
	}
}

// What is said of a rotation that never came is not that it did.
func TestRotationOwedOfATargetThatIsGone(t *testing.T) {
	m := newMount(t)
	emergencyWith(m, func(r *domain.Role) { r.BreakGlassRotate = true })
	rid := m.broken("erin", "INC-1")
	m.issued("erin", "admin")
	remove := m.world.Inject(fake.Fault{On: fake.OpStage, Mode: fake.FailBefore})
	m.returned("erin", rid)
	m.must(onlyErr(m.a.DeleteRole(t.Context(), access.Caller{}, "admin", access.EditOptions{})))
	m.must(onlyErr(m.a.DeleteTarget(t.Context(), access.Caller{}, "site", access.EditOptions{})))
	remove()
	m.pass(time.Hour)
	r := m.request(rid)
	last := r.History.Entries[len(r.History.Entries)-1]
	if r.Glass.Rotate != domain.RotationDone || last.What != "root_rotated" || last.Text != "the target does not exist any more, and its root credential with it" {
		t.Errorf("%+v: %+v", r.Glass, last)
	}
}

var errIdentity = errors.New("the identity store does not answer")

// Nobody lifts or changes a hold of whom it is not known that they are somebody
// else.
func TestHoldsAreLiftedByOthersOnly(t *testing.T) {
	m := newMount(t)
	m.personKey("mail", "alice", "bob", "carol", "dave")
	second := person("erin")
	second.Metadata = map[string]string{"mail": "alice@example.com"}
	m.people.add(second)
	h := m.hold(domain.HoldPerson, id("alice"))
	lift := func(name string) error { return m.a.LiftHold(t.Context(), who(name), h.ID) }
	m.refused(lift("alice"), fault.CodeHeld)
	m.refused(lift("erin"), fault.CodeHeld)
	m.people.setFail(errIdentity)
	if err := lift("erin"); err == nil {
		t.Fatal("lifted by somebody whom nobody knew")
	}
	m.people.setFail(nil)
	m.people.change("erin", func(e *domain.Entity) { e.Metadata = nil })
	m.refused(lift("erin"), fault.CodeLogin)
	m.must(lift("bob"))
	h = m.hold(domain.HoldPerson, id("alice"))
	m.must(m.a.LiftHold(t.Context(), access.Caller{}, h.ID)) // an operator without identity
}

// Who may change a role's labels alone does not so change what its conditions
// decide.
func TestLabelsThatAConditionAsksFor(t *testing.T) {
	for name, row := range map[string]struct {
		deny  string
		waits bool
	}{
		"a condition over labels": {`has(role.labels.open)`, true},
		"a condition over others": {`request.ttl > duration("7h")`, false},
	} {
		t.Run(name, func(t *testing.T) {
			m := sod(t)
			m.unsod(func() { m.role("admin", func(r *domain.Role) { r.DenyWhen = row.deny }, nil) })
			for _, f := range []func(*domain.Role){
				func(r *domain.Role) { r.Labels = map[string]string{"team": "core"} },
				func(r *domain.Role) { r.Owner = "dave" },
			} {
				eff, err := m.editAs(who("alice"), f)
				m.must(err)
				if eff.Proposed.Waits != row.waits {
					t.Errorf("waits: %v", eff.Proposed.Waits)
				}
			}
			eff, err := m.editAs(who("alice"), func(r *domain.Role) { r.Description = "for people" })
			m.must(err)
			if eff.Proposed.Waits {
				t.Error("a description waits")
			}
		})
	}
}

// However long its comments, an access review comes to its end.
func TestAccessReviewHasRoomForItsEnd(t *testing.T) {
	m := newMount(t)
	m.role("admin", func(r *domain.Role) {
		for i := range 200 {
			r.EligibleEntities = append(r.EligibleEntities, id(fmt.Sprintf("somebody %d", i)))
		}
	}, nil)
	c := m.campaign("remove")
	refused := 0
	for i := range 200 {
		_, err := m.a.SignOff(t.Context(), who("bob"), c, access.Verdict{
			Principal: "entity:" + id(fmt.Sprintf("somebody %d", i)), Verdict: "keep", Comment: strings.Repeat("x", domain.MaxComment),
		})
		if err != nil {
			m.refused(err, fault.CodeLimit)
			refused++
		}
	}
	if refused == 0 || refused == 200 {
		t.Errorf("%d verdicts were refused", refused)
	}
	got, err := m.a.CloseCampaign(t.Context(), access.Caller{}, c)
	m.must(err)
	if got.State != domain.CampaignClosed || len(got.Removed) != refused+1 {
		t.Errorf("%s, %d removed", got.State, len(got.Removed))
	}
}

// Of several people who open a review of a role at once, one does.
func TestOneAccessReviewOfARole(t *testing.T) {
	m := newMount(t)
	m.role("admin", nil, nil)
	var opened atomic.Int32
	var wg sync.WaitGroup
	for range 16 {
		wg.Go(func() {
			_, err := m.a.OpenCampaign(t.Context(), access.Caller{}, access.CampaignAsk{
				Role: "admin", Groups: []string{"leads"}, Due: m.clk.Now().Add(time.Hour), Undecided: "keep",
			})
			if err == nil {
				opened.Add(1)
			}
		})
	}
	wg.Wait()
	if n := opened.Load(); n != 1 {
		t.Errorf("%d reviews of one role are open", n)
	}
}

// checkedProvider has its target look at parameters, which may fail.
type checkedProvider struct {
	*fake.Provider
	down *atomic.Bool
}

func (p checkedProvider) CheckParams(context.Context, contract.Values, map[string]string) error {
	if p.down.Load() {
		return errors.New("the target is down")
	}
	return nil
}

// A target that fails stops the decisions on its own requests, and no others.
func TestDecideOnManyWhileATargetFails(t *testing.T) {
	m := newMount(t)
	var down atomic.Bool
	d := m.world.Descriptor()
	open := d.New
	d.Type = "checked"
	d.New = func(env contract.Env, at contract.Target) (contract.Provider, error) {
		p, err := open(env, at)
		f, ok := p.(*fake.Provider)
		if err != nil || !ok {
			return p, err
		}
		return checkedProvider{f, &down}, nil
	}
	m.more = append(m.more, d)
	m.crash()
	_, err := m.a.WriteTarget(t.Context(), access.Caller{}, "other", access.TargetEdit{
		Type: &d.Type, Set: contract.Values{"address": "one"}, Secrets: map[string]secret.String{"password": secret.New("root-of-one")},
	}, access.EditOptions{})
	m.must(err)
	m.role("admin", nil, nil)
	m.role("second", func(r *domain.Role) { r.Target = "other" }, nil)
	ids := []domain.RequestID{m.pending("alice", "second"), m.pending("alice", "admin")}
	digests := map[domain.RequestID]string{}
	for _, rid := range ids {
		digests[rid] = m.request(rid).Digest
	}
	down.Store(true)
	done, err := m.a.DecideMany(t.Context(), who("bob"), access.BulkDecision{Decision: access.Decision{Verdict: domain.Approve}, Digests: digests}, ids)
	m.must(err)
	m.refused(done[0].Problem, fault.CodeUpstream)
	if done[1].Problem != nil {
		t.Errorf("the other one: %v", done[1].Problem)
	}
	m.state(ids[0], domain.Pending)
	m.state(ids[1], domain.Active)
}
