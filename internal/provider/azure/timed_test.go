package azure

import (
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/resourcemanager/authorization/armauthorization/v2"

	"github.com/vault-pim/vault-plugin-secrets-pim/internal/domain"
	"github.com/vault-pim/vault-plugin-secrets-pim/internal/provider/azure/fakeazure"
	"github.com/vault-pim/vault-plugin-secrets-pim/internal/provider/contract"
)

func timedRole() contract.Values {
	fields := ownRole()
	fields["schedule"] = true
	return fields
}

// newTimedKit is a cloud whose requests take as long as everything else.
func newTimedKit(t *testing.T) (*kit, *Provider) {
	t.Helper()
	k := newKit(t)
	k.manager.Settle = usualLag
	return k, k.open(t, k.target(nil))
}

func TestATimedAssignmentEndsAtAzureWithoutUs(t *testing.T) {
	t.Parallel()
	k, p := newTimedKit(t)
	issued, h := k.mustIssue(t, p, timedRole())
	if !k.works(t, issued) || issued.NotAfter.IsZero() {
		t.Fatal("the assignment is not there, or has no end")
	}
	k.clk.Advance(issued.NotAfter.Sub(k.clk.Now()) + time.Second)
	if k.works(t, issued) {
		t.Error("the assignment outlives its window")
	}
	before := len(k.manager.Requests)
	k.mustEnd(t, p, h)
	if len(k.manager.Requests) != before {
		t.Error("an assignment that has ended was asked to be removed")
	}
}

func TestAzureTakesNoRemovalTooEarly(t *testing.T) {
	t.Parallel()
	k, p := newTimedKit(t)
	issued, h := k.mustIssue(t, p, timedRole())
	begun := k.clk.Now()
	ended, err := p.Revoke(t.Context(), h)
	if err != nil || ended.AccessGone || ended.Rest.Provider == "" || ended.Again.Sub(begun) > shortestSchedule {
		t.Fatalf("access that is still there was called gone, or nobody looks again in time: %+v, %v", ended, err)
	}
	if !k.works(t, issued) {
		t.Fatal("the cloud should have refused")
	}
	k.clk.Advance(ended.Again.Sub(k.clk.Now()))
	k.mustEnd(t, p, ended.Rest)
	if k.works(t, issued) {
		t.Error("the assignment is still there")
	}
	if total := k.clk.Now().Sub(begun); total > shortestSchedule+2*time.Minute {
		t.Errorf("it took %s", total)
	}
}

func TestTimedAssignmentsOfOneAccountEndWithTheLast(t *testing.T) {
	t.Parallel()
	k, p := newTimedKit(t)
	first := k.input(t, timedRole())
	if _, _, err := k.issue(t, p, first); err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	var last domain.Handle
	var mu sync.Mutex
	latest := k.clk.Now()
	for i := range 8 { // all at once, each with another end
		in := k.input(t, timedRole())
		in.Joined, in.NotAfter = true, first.NotAfter.Add(time.Duration(i)*time.Minute)
		latest = in.NotAfter
		h, err := p.Plan(t.Context(), in)
		if err != nil {
			t.Fatal(err)
		}
		wg.Go(func() {
			for range 40 {
				issued, err := p.Issue(t.Context(), in, h, func(n domain.Handle) error { h = n; return nil })
				if err != nil {
					t.Error(err)
					return
				}
				if issued.PollAfter == 0 {
					break
				}
				k.clk.Advance(time.Second)
			}
			mu.Lock()
			last = h
			mu.Unlock()
		})
	}
	wg.Wait()
	k.cloud.Lock()
	live := 0
	for _, s := range k.manager.Schedules {
		if live++; !s.End.Equal(latest.Truncate(time.Second)) && !s.End.Equal(latest) {
			t.Errorf("it ends at %s, not at the latest end %s", s.End, latest)
		}
	}
	k.cloud.Unlock()
	if live != 1 {
		t.Errorf("%d schedules, not one", live)
	}
	k.clk.Advance(shortestSchedule)
	k.mustEnd(t, p, last)
	if n := k.manager.Gives(alice); n != 0 {
		t.Errorf("%d assignments are left", n)
	}
}

func TestATimedAssignmentOfSomebodyElseIsLeftAlone(t *testing.T) {
	t.Parallel()
	for name, give := range map[string]func(k *kit){
		"with an end": func(k *kit) {
			k.manager.Requests["theirs"] = &fakeazure.ScheduleRequest{Name: "theirs", Scope: scopeGroup, Born: start}
			id := guid("theirs")
			k.manager.Schedules[id] = &fakeazure.Schedule{
				Name: id, Origin: guid("o"), Scope: scopeGroup, Principal: alice, Role: "/roleDefinitions/" + builtIn()["contributor"],
				Request: guid("request of an administrator"), Start: start.Add(-time.Hour), End: start.AddDate(0, 1, 0), Made: start.Add(-time.Hour),
			}
			delete(k.manager.Requests, "theirs")
		},
		"without an end": func(k *kit) {
			id := guid("by hand")
			k.manager.Assignments[id] = &fakeazure.Assignment{
				Name: id, Scope: scopeGroup, Born: start.Add(-time.Hour), Props: armauthorization.RoleAssignmentProperties{
					PrincipalID: new(alice), RoleDefinitionID: new("/roleDefinitions/" + builtIn()["contributor"]), Scope: new(scopeGroup),
				},
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			k, p := newTimedKit(t)
			give(k)
			_, h, err := k.issue(t, p, k.input(t, timedRole()))
			if failed, ok := errors.AsType[*contract.Error](err); !ok || failed.Code != "exists_outside_pim" {
				t.Errorf("got %v", err)
			}
			k.clk.Advance(shortestSchedule)
			k.mustEnd(t, p, h)
			if n := k.manager.Gives(alice); n != 1 {
				t.Errorf("somebody else's assignment was ended: %d are left", n)
			}
		})
	}
}

func TestWhatBecomesOfARequest(t *testing.T) {
	t.Parallel()
	for _, row := range []struct {
		name, code, text string
		set              func(m *fakeazure.Manager)
	}{
		{"a tenant without the licence", "AadPremiumLicenseRequired", "no licence", func(m *fakeazure.Manager) { m.Unlicensed = true }},
		{"a request that fails", "Failed", "did not make", func(m *fakeazure.Manager) { m.Outcome = armauthorization.StatusFailed }},
		{"a request that is denied", "AdminDenied", "did not make", func(m *fakeazure.Manager) { m.Outcome = armauthorization.StatusAdminDenied }},
		{"a request on a locked resource", "FailedAsResourceIsLocked", "did not make", func(m *fakeazure.Manager) {
			m.Outcome = armauthorization.StatusFailedAsResourceIsLocked
		}},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			k, p := newTimedKit(t)
			row.set(k.manager)
			_, h, err := k.issue(t, p, k.input(t, timedRole()))
			failed, ok := errors.AsType[*contract.Error](err)
			if !ok || failed.Code != row.code || !strings.Contains(failed.Public, row.text) || !failed.Refused {
				t.Errorf("got %v", err)
			}
			if row.code == "Failed" {
				k.mustEnd(t, p, h)
			}
		})
	}
	k, p := newTimedKit(t)
	in := k.input(t, timedRole())
	in.NotAfter = k.clk.Now().Add(4 * time.Minute)
	if _, _, err := k.issue(t, p, in); err == nil || !strings.Contains(err.Error(), "five minutes") {
		t.Errorf("a window that is too short: %v", err)
	}
}

func TestARequestThatIsOnItsWayIsTakenBack(t *testing.T) {
	t.Parallel()
	k, p := newTimedKit(t)
	k.cloud.Lag, k.manager.Settle = 0, time.Hour
	in := k.input(t, timedRole())
	in.NotAfter = k.clk.Now().Add(3 * time.Hour)
	h, err := p.Plan(t.Context(), in)
	if err != nil {
		t.Fatal(err)
	}
	issued, err := p.Issue(t.Context(), in, h, func(n domain.Handle) error { h = n; return nil })
	if err != nil || issued.PollAfter == 0 {
		t.Fatalf("%+v, %v", issued, err)
	}
	k.manager.Schedules = map[string]*fakeazure.Schedule{} // not shown as long as it is on its way
	ended, err := p.Revoke(t.Context(), h)
	if err != nil || ended.AccessGone {
		t.Fatalf("a request on its way was taken for gone: %+v, %v", ended, err)
	}
	k.mustEnd(t, p, ended.Rest)
	if len(k.manager.Requests) != 0 {
		t.Error("the request is still there")
	}
}
