package access_test

import (
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/vault-pim/vault-plugin-secrets-pim/internal/access"
	"github.com/vault-pim/vault-plugin-secrets-pim/internal/domain"
	"github.com/vault-pim/vault-plugin-secrets-pim/internal/fault"
	"github.com/vault-pim/vault-plugin-secrets-pim/internal/provider/contract"
	"github.com/vault-pim/vault-plugin-secrets-pim/internal/provider/providertest/fake"
)

// kill pulls the kill switch and waits until it has done its work.
func (m *mount) kill(k access.Kill) access.JobView {
	m.Helper()
	job, err := m.a.Kill(m.Context(), access.Caller{}, k)
	m.must(err)
	m.a.Idle()
	return job
}

// The kill switch ends what it is pulled for, holds it, and leaves the rest.
func TestKillSwitch(t *testing.T) {
	rows := []struct {
		name        string
		kill        access.Kill
		alice, dave bool // they keep their access
		mayAsk      bool // alice may ask anew
	}{
		{"a person", access.Kill{Kind: domain.HoldPerson, Value: id("alice")}, false, true, false},
		{"a person, without a hold", access.Kill{Kind: domain.HoldPerson, Value: id("alice"), Hold: seconds(0)}, false, true, true},
		{"a role", access.Kill{Kind: domain.HoldRole, Value: "admin"}, false, false, false},
		{"a target", access.Kill{Kind: domain.HoldTarget, Value: "site"}, false, false, false},
		{"a ticket", access.Kill{Kind: domain.HoldTicket, Value: "T-alice"}, false, true, false},
		{"everything", access.Kill{Kind: domain.HoldAll}, false, false, false},
		{"a role that nobody has", access.Kill{Kind: domain.HoldRole, Value: "none"}, true, true, true},
	}
	for _, row := range rows {
		t.Run(row.name, func(t *testing.T) {
			m := newMount(t)
			m.role("admin", func(r *domain.Role) { r.MaxActive = 5 }, nil)
			live := map[string]*access.Answer{}
			for _, n := range []string{"alice", "dave"} {
				m.grantedFor(n, "admin", access.Ask{Ticket: "T-" + n})
				live[n] = m.issued(n, "admin")
				m.must(onlyErr(m.ask(n, "admin", access.Ask{Ticket: "T-" + n, TTL: seconds(600)})))
				m.grantedFor(n, "admin", access.Ask{Ticket: "T-" + n, TTL: seconds(900), Start: m.clk.Now().Add(time.Hour)})
			}
			job := m.kill(row.kill)
			m.works(live["alice"], row.alice)
			m.works(live["dave"], row.dave)
			gone := 0
			for _, keeps := range []bool{row.alice, row.dave} {
				if !keeps {
					gone++
				}
			}
			v, err := m.a.KillJob(t.Context(), job.Job.ID)
			m.must(err)
			if v.Requests != 3*gone || v.Marked != 3*gone || v.Gone != gone || v.Live != 0 || len(v.Outcome) != gone || !v.Job.Marked {
				t.Errorf("the job says %+v", *v)
			}
			_, err = m.ask("alice", "admin", access.Ask{Ticket: "T-alice", TTL: seconds(700)})
			if fault.Is(err, fault.CodeHeld) == row.mayAsk {
				t.Errorf("alice asks anew: %v", err)
			}
			m.pass(time.Hour)
			if _, err = m.ask("alice", "admin", access.Ask{Ticket: "T-alice", TTL: seconds(800)}); fault.Is(err, fault.CodeHeld) {
				t.Error("the hold outlasts its default of an hour")
			}
			m.clean()
		})
	}
}

// What is in flight when the switch is pulled is never answered, and undone.
func TestKillSwitchCatchesWhatIsInFlight(t *testing.T) {
	pull := func(m *mount) {
		m.must(onlyErr(m.a.Kill(m.Context(), access.Caller{}, access.Kill{Kind: domain.HoldPerson, Value: id("alice")})))
	}
	revoke := func(m *mount) { // bob revokes by hand, which waits for the end
		go m.a.RevokeGrant(m.Context(), who("bob"), firstOpen(m), "") //nolint:errcheck // its effect is what is tested
	}
	cancel := func(m *mount) { m.must(onlyErr(m.a.Cancel(m.Context(), who("alice"), firstOpen(m)))) }
	hold := func(m *mount) { m.hold(domain.HoldAll, "") }
	marked := func(m *mount) func() bool {
		return func() bool { return record[domain.Request](m, "req/"+string(firstOpen(m))).State.Terminal() }
	}
	ends := map[string]struct {
		end   func(m *mount)
		marks bool
	}{
		"kill switch": {pull, true}, "revoked by hand": {revoke, true}, "given back": {cancel, true}, "held": {hold, false},
	}
	for name, e := range ends {
		for _, kind := range []string{"account", "late"} {
			for step, where := range map[string]string{
				"before put issue intended": "before it is on record",
				"before provider issue":     "before the target is called",
				"after provider issue":      "after the target was called",
				"before put issue settled":  "before it is settled",
				"before put checkpoint":     "before a name is noted",
			} {
				if kind == "account" && step == "before put checkpoint" {
					continue
				}
				if step == "before put issue settled" || step == "before put issue intended" || step == "before put checkpoint" {
					if e.marks {
						continue // the request is locked: whoever ends it comes before or after
					}
				}
				t.Run(name+"/"+kind+"/"+where, func(t *testing.T) {
					m := newMount(t)
					m.role("admin", nil, contract.Values{"credential_type": kind})
					m.granted("alice", "admin")
					arm := m.at(step, func() {
						e.end(m)
						if e.marks {
							m.eventually("the request is marked", marked(m))
						}
					})
					arm()
					ans, err := m.creds("alice", "admin")
					locked := step == "before put issue settled" && !e.marks
					if err == nil && !locked {
						t.Fatalf("answered with a lease of %s", ans.TTL)
					}
					m.a.Idle()
					m.tick()
					if e.marks {
						m.eventually("nothing is left", func() bool { return len(m.world.Usable()) == 0 })
					}
					m.clean()
				})
			}
		}
	}
}

// A call that hangs at the target is cut short by the switch.
func TestKillSwitchCutsAHangingIssueShort(t *testing.T) {
	m := newMount(t)
	admin(m)
	m.granted("alice", "admin")
	gate := m.world.Hold(fake.OpCreate, "")
	out := m.reading(t.Context(), "alice", "admin")
	<-gate.Reached()
	m.kill(access.Kill{Kind: domain.HoldAll})   // returns only when everything is ended
	m.refused((<-out).err, fault.CodeNotActive) // the target has done nothing wrong
	gate.Release()
	if n := len(m.world.Objects()); n != 0 {
		t.Fatalf("%d credentials are left", n)
	}
	m.clean()
}

// A name that is learnt while the switch is pulled is ended by that name.
func TestKillSwitchKnowsNamesLearntMeanwhile(t *testing.T) {
	m := newMount(t)
	m.role("admin", nil, contract.Values{"credential_type": "late"})
	rid := m.granted("alice", "admin")
	m.s.naming = func() {
		m.must(onlyErr(m.a.Kill(m.Context(), access.Caller{}, access.Kill{Kind: domain.HoldAll})))
		m.eventually("the end is on record", func() bool {
			r := record[domain.Request](m, "req/"+string(rid))
			return len(r.Credentials) == 1 && r.Credentials[0].State == domain.CredUndoing && len(m.s.revokedHandles()) == 0
		})
	}
	if err := onlyErr(m.creds("alice", "admin")); err == nil {
		t.Fatal("answered")
	}
	m.a.Idle()
	for _, h := range m.s.revokedHandles() {
		if !strings.Contains(string(h.Data), `"id":"srv-`) {
			t.Errorf("revoked by %s", h.Data)
		}
	}
	m.clean()
}

// What is filed at the moment of the pull does not survive it.
func TestKillSwitchCatchesWhatIsBeingFiled(t *testing.T) {
	for name, edit := range map[string]func(*domain.Role){"approved by people": nil, "approved by itself": auto} {
		for _, step := range []string{"before put person", "after put person", "before put request filed", "after put request filed"} {
			t.Run(name+"/"+step, func(t *testing.T) {
				m := newMount(t)
				m.role("admin", edit, nil)
				var done sync.WaitGroup
				arm := m.at(step, func() {
					done.Go(func() {
						m.must(onlyErr(m.a.Kill(m.Context(), access.Caller{}, access.Kill{Kind: domain.HoldPerson, Value: id("alice"), Hold: seconds(60)})))
					})
					if step != "before put request filed" && step != "after put request filed" { // the request is not locked yet
						done.Wait()
					} else {
						m.eventually("the hold is set", func() bool { return len(m.disk.keys("hold/")) > 0 })
					}
				})
				arm()
				_, err := m.ask("alice", "admin", access.Ask{})
				t.Logf("the ask: %v", err)
				done.Wait()
				m.a.Idle()
				m.tick()
				m.pass(2 * time.Minute) // the hold is over
				for _, k := range m.disk.keys("req/") {
					if r := record[domain.Request](m, k); !r.State.Terminal() {
						t.Errorf("a request from before the kill switch is still %s", r.State)
					}
				}
				m.clean()
			})
		}
	}
}

// A pull of the switch is finished by the next process.
func TestKillSwitchIsFinishedAfterACrash(t *testing.T) {
	m := newMount(t)
	admin(m)
	for _, n := range []string{"alice", "dave"} {
		m.granted(n, "admin")
		m.issued(n, "admin")
	}
	gate := m.world.Hold(fake.OpDelete, "")
	job, err := m.a.Kill(t.Context(), access.Caller{}, access.Kill{Kind: domain.HoldAll})
	m.must(err)
	<-gate.Reached()
	m.s.kill()
	gate.Release()
	m.crash()
	if n := len(m.world.Usable()); n > 0 {
		t.Fatalf("%d credentials survived", n)
	}
	v, err := m.a.KillJob(t.Context(), job.Job.ID)
	m.must(err)
	if v.Live != 0 || v.Marked != 2 || !v.Job.Marked {
		t.Errorf("%+v", *v)
	}
	m.clean()
}

// A request that could not be marked is marked by the reaper's next look, not
// when its window ends.
func TestKillSwitchMarksUntilAllAreMarked(t *testing.T) {
	for n := 3; n <= 6; n++ { // hold and job are written first
		m := newMount(t)
		admin(m)
		for _, name := range []string{"alice", "dave"} {
			m.granted(name, "admin")
			m.issued(name, "admin")
		}
		m.s.plan(cut{at: n})
		job := m.kill(access.Kill{Kind: domain.HoldRole, Value: "admin"})
		if !m.s.reached() {
			t.Fatalf("no write %d", n)
		}
		m.tick()
		m.look(time.Minute)
		m.usable(0)
		v, err := m.a.KillJob(t.Context(), job.Job.ID)
		m.must(err)
		if v.Marked != 2 || !v.Job.Marked {
			t.Errorf("write %d failed: %+v", n, *v)
		}
		m.clean()
	}
}
