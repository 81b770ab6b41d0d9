package access_test

import (
	"errors"
	"strconv"
	"testing"
	"time"

	"github.com/vault-pim/vault-plugin-secrets-pim/internal/access"
	"github.com/vault-pim/vault-plugin-secrets-pim/internal/domain"
	"github.com/vault-pim/vault-plugin-secrets-pim/internal/provider/contract"
)

// crowded is a mount whose target ends many credentials at once, with n of them
// live under one role, and one under another.
func crowded(t *testing.T, n int, bulk *inBulk) (m *mount, all []*access.Answer, other *access.Answer) {
	t.Helper()
	m = newMount(t)
	m.bulk = bulk
	m.crash()
	m.config(func(c *domain.Config) { c.IssueRate = 10000 })
	many := func(r *domain.Role) { r.MaxActive, r.MaxCredentials = 100, 32 }
	m.role("admin", many, nil)
	m.role("other", many, nil)
	var id domain.RequestID
	for i := range n {
		if i%25 == 0 {
			s, err := m.ask("alice", "admin", access.Ask{Justification: "order " + strconv.Itoa(i), TTL: seconds(3600 + i)})
			m.must(err)
			id = s.View.Request.ID
			m.must(m.decide("bob", id, domain.Approve))
		}
		ans, err := m.a.Creds(t.Context(), who("alice"), "admin", access.CredsAsk{RequestID: string(id)})
		m.must(err)
		all = append(all, ans)
	}
	m.granted("dave", "other")
	return m, all, m.issued("dave", "other")
}

// A role, a target and everything are killed by one call to the target, before
// anything is ended alone; and nothing is ended alone that the call has ended.
func TestKillSwitchInBulk(t *testing.T) {
	for name, kill := range map[string]access.Kill{
		"a role":     {Kind: domain.HoldRole, Value: "admin"},
		"a target":   {Kind: domain.HoldTarget, Value: "site"},
		"everything": {Kind: domain.HoldAll},
	} {
		t.Run(name, func(t *testing.T) {
			bulk := &inBulk{}
			m, all, other := crowded(t, 100, bulk)
			want := bulkCall{handles: 100}
			if kill.Kind != domain.HoldRole {
				want.handles++
			}
			arm := m.at("kill switch marked", func() { m.a.Tick(m.Context()) }) // the reaper was nudged
			arm()
			job := m.kill(kill)
			for _, ans := range all {
				m.works(ans, false)
			}
			m.works(other, kill.Kind == domain.HoldRole)
			if calls := bulk.called(); len(calls) != 1 || calls[0] != want {
				t.Errorf("calls in bulk: %+v", calls)
			}
			if n := len(m.s.revokedHandles()); n != 0 {
				t.Errorf("%d were ended one by one as well", n)
			}
			v, err := m.a.KillJob(t.Context(), job.Job.ID)
			m.must(err)
			if v.Live != 0 || v.Gone != want.handles || !v.Job.Marked {
				t.Errorf("the job says %d live, %d gone", v.Live, v.Gone)
			}
			m.clean()
		})
	}
}

// What a call in bulk did not end is ended one by one at once.
func TestKillSwitchGoesOnOneByOne(t *testing.T) {
	for name, bulk := range map[string]*inBulk{
		"the call fails":          {fails: &contract.Error{Op: "deny sessions", Code: "throttled", Public: "too many calls", Cause: errors.New("x")}},
		"the call ends only some": {spare: 7},
		"the call ends nothing":   {spare: 1000},
	} {
		t.Run(name, func(t *testing.T) {
			m, all, other := crowded(t, 30, bulk)
			m.kill(access.Kill{Kind: domain.HoldRole, Value: "admin"})
			for _, ans := range all {
				m.works(ans, false)
			}
			m.works(other, true)
			if n, calls := len(m.s.revokedHandles()), bulk.called(); len(calls) != 1 || n != len(all) && n != bulk.spare {
				t.Errorf("%d one by one, calls in bulk %+v", n, calls)
			}
			m.clean()
		})
	}
}

// A call in bulk may end more than it was given: it is not made for one person
// or ticket.
func TestKillSwitchOfAPersonIsExact(t *testing.T) {
	bulk := &inBulk{}
	m, all, other := crowded(t, 5, bulk)
	m.kill(access.Kill{Kind: domain.HoldPerson, Value: id("alice")})
	for _, ans := range all {
		m.works(ans, false)
	}
	m.works(other, true)
	if calls := bulk.called(); len(calls) != 0 {
		t.Errorf("calls in bulk: %+v", calls)
	}
	m.clean()
}

// The process dies after the call and before anything of it is on record: the
// next one goes on one by one.
func TestKillSwitchInBulkIsCutOff(t *testing.T) {
	bulk := &inBulk{}
	m, all, _ := crowded(t, 10, bulk)
	arm := m.at("after provider revoke", m.s.kill)
	arm()
	m.kill(access.Kill{Kind: domain.HoldRole, Value: "admin"})
	m.crash()
	m.clk.Advance(time.Minute)
	m.tick()
	for _, ans := range all {
		if c := m.cred(ans); c.State.MayExist() {
			t.Errorf("%s is %s", c.ID, c.State)
		}
	}
	m.clean()
}
