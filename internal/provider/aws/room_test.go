package aws

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/vault-pim/vault-plugin-secrets-pim/internal/domain"
	"github.com/vault-pim/vault-plugin-secrets-pim/internal/provider/contract"
)

// crowd issues n sessions.
func (w *fakeAWS) crowd(t *testing.T, p *Provider, n int) []grant {
	t.Helper()
	out := make([]grant, n)
	for i := range out {
		out[i] = mustIssue(t, p, w.ask(t, 8*time.Hour, role()))
	}
	return out
}

func handles(list []grant) []domain.Handle {
	out := make([]domain.Handle, len(list))
	for i, g := range list {
		out[i] = g.h
	}
	return out
}

func TestDeniesOverflowIntoFurtherPolicies(t *testing.T) {
	t.Parallel()
	w := newFakeAWS()
	w.setInline(prodRole, "other", policyOfSize(t, 9000))
	p := w.open(t, nil)
	all := w.crowd(t, p, 60)
	var last contract.Ended
	for _, g := range all[:50] {
		last = mustRevoke(t, p, g.h)
	}
	w.mu.Lock()
	attached := len(w.accounts[homeAccount].roles[prodRole].attached)
	w.mu.Unlock()
	if attached == 0 {
		t.Fatal("the test needs more denies than the inline policy holds")
	}
	for i, g := range all {
		if works := w.ok(g); works == (i < 50) {
			t.Errorf("session %d works: %v", i, works)
		}
	}
	// When all has ended, a fresh instance clears it.
	w.clk.advance(12 * time.Hour)
	ended := mustRevoke(t, w.open(t, nil), last.Rest)
	for !ended.Done() {
		w.clk.advance(ended.Again.Sub(w.clk.Now()))
		ended = mustRevoke(t, p, ended.Rest)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	a := w.accounts[homeAccount]
	if r := a.roles[prodRole]; len(r.attached) > 0 || r.inline[revocationPolicy] != "" || len(a.policies) > 0 {
		t.Errorf("left: %v, %q, %d policies", r.attached, r.inline[revocationPolicy], len(a.policies))
	}
}

func TestAnOverflowPolicyOfACutAttemptIsUsed(t *testing.T) {
	t.Parallel()
	w := newFakeAWS()
	w.setInline(prodRole, "other", policyOfSize(t, 9600))
	p := w.open(t, nil)
	g := w.crowd(t, p, 1)[0]
	w.fail("Attach", "ServiceFailure", 99)
	if _, err := p.Revoke(noCancel, g.h); err == nil {
		t.Fatal("a policy that could not be attached denies nothing")
	}
	w.mu.Lock()
	w.faults = nil
	made := len(w.accounts[homeAccount].policies)
	w.mu.Unlock()
	mustRevoke(t, w.open(t, nil), g.h)
	w.mu.Lock()
	after := len(w.accounts[homeAccount].policies)
	w.mu.Unlock()
	if w.ok(g) || made != 1 || after != 1 {
		t.Errorf("works: %v; %d policies, then %d", w.ok(g), made, after)
	}
}

func TestNoSessionIsIssuedThatCouldNotBeDenied(t *testing.T) {
	t.Parallel()
	w := newFakeAWS()
	w.setInline(prodRole, "other", policyOfSize(t, 8000))
	for range attachedQuota {
		r := w.accounts[homeAccount].roles[prodRole]
		r.attached = append(r.attached, "arn:aws:iam::aws:policy/ReadOnlyAccess")
	}
	p := w.open(t, nil)
	var issued []grant
	for {
		g, err := issue(t, p, w.ask(t, 8*time.Hour, role()))
		if err != nil {
			wantCode(t, err, "revocations_full")
			break
		}
		if issued = append(issued, g); len(issued) > 200 {
			t.Fatal("no end")
		}
	}
	if len(issued) == 0 {
		t.Fatal("nothing was issued at all")
	}
	for _, g := range issued {
		mustRevoke(t, p, g.h)
	}
	for _, g := range issued {
		if w.ok(g) {
			t.Errorf("%s could not be denied", g.in.Credential)
		}
	}
	if strings.Contains(w.inline(roleHolder, prodRole, revocationPolicy), "Before") {
		t.Error("a wave was needed although issuing stopped in time")
	}
}

func TestWhenNamesHaveNoRoomAWaveEndsAll(t *testing.T) {
	t.Parallel()
	w := newFakeAWS()
	p := w.open(t, nil)
	all := w.crowd(t, p, 40)
	// Only then somebody fills the role with other policies.
	w.setInline(prodRole, "other", policyOfSize(t, 9600))
	for range attachedQuota {
		r := w.accounts[homeAccount].roles[prodRole]
		r.attached = append(r.attached, "arn:aws:iam::aws:policy/ReadOnlyAccess")
	}
	fresh := w.open(t, nil)
	ended := mustRevoke(t, fresh, all[0].h)
	if w.ok(all[0]) {
		t.Fatal("the revoked session works")
	}
	w.clk.advance(ended.Again.Sub(w.clk.Now()))
	puts := w.count("PutInline")
	mustRevoke(t, fresh, ended.Rest)
	if w.count("PutInline") != puts {
		t.Error("the recheck wrote another wave, which would end newer sessions")
	}
	log, ok := fresh.env.Log.(*memoryLog)
	if !ok || len(log.lines) == 0 {
		t.Error("nobody is told that others were ended too")
	}
}

func TestBulkRevocation(t *testing.T) {
	t.Parallel()
	for _, row := range []struct {
		n         int
		mostCalls int
	}{{50, 15}, {600, 15}} {
		t.Run(fmt.Sprintf("%d sessions of one role", row.n), func(t *testing.T) {
			t.Parallel()
			w := newFakeAWS()
			p := w.open(t, nil)
			all := w.crowd(t, p, row.n)
			before := len(w.calls)
			out, err := p.RevokeBulk(noCancel, handles(all))
			if err != nil || len(out) != row.n {
				t.Fatalf("%d outcomes, %v", len(out), err)
			}
			if calls := len(w.calls) - before; calls > row.mostCalls {
				t.Errorf("%d calls", calls)
			}
			for _, g := range all {
				if e := out[g.in.Credential]; w.ok(g) || !e.AccessGone || e.Done() {
					t.Fatalf("%s: works %v, %+v", g.in.Credential, w.ok(g), e)
				}
			}
			if later := mustIssue(t, p, w.ask(t, time.Hour, role())); !w.ok(later) {
				w.clk.advance(2 * time.Second)
				if later = mustIssue(t, p, w.ask(t, time.Hour, role())); !w.ok(later) {
					t.Error("a session that was issued afterwards does not work")
				}
			}
		})
	}
}

func TestBulkRevocationOfEveryKind(t *testing.T) {
	t.Parallel()
	w := newFakeAWS()
	p := w.open(t, nil)
	list := []grant{
		mustIssue(t, p, w.ask(t, time.Hour, role())),
		mustIssue(t, p, w.ask(t, time.Hour, contract.Values{"role_arns": []string{roleARN(homeAccount, "prod-reader")}})),
		mustIssue(t, p, w.ask(t, time.Hour, contract.Values{"user_path": "/pim/", "policy_document": allowAllPolicy})),
		mustIssue(t, p, w.ask(t, time.Hour, contract.Values{
			"credential_type": kindFederation, "policy_document": allowAllPolicy, "revocation": string(domain.Propagating),
		})),
	}
	broken := list[0].h
	broken.V = 9
	out, err := p.RevokeBulk(noCancel, append(handles(list), broken))
	if codeOf(err) != "bad_handle" || len(out) != len(list) {
		t.Fatalf("%d outcomes, %v", len(out), err)
	}
	for _, g := range list {
		if w.ok(g) {
			t.Errorf("%s works", g.in.Credential)
		}
	}
}

func TestBulkRevocationAtAnotherPlaceEndsNothing(t *testing.T) {
	t.Parallel()
	w := newFakeAWS()
	g := mustIssue(t, w.open(t, nil), w.ask(t, time.Hour, role()))
	moved := w.open(t, func(target *contract.Target) { *target = fakeTarget(otherKey); target.Place = homeAccount })
	if out, err := moved.RevokeBulk(noCancel, handles([]grant{g})); err == nil || len(out) != 0 {
		t.Fatalf("%v, %v", out, err)
	}
}
