package attacks

import (
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"

	"github.com/vault-pim/vault-plugin-secrets-pim/tests/harness"
	"github.com/vault-pim/vault-plugin-secrets-pim/tests/harness/poll"
)

// A6: one grant ends, and takes another one with it or brings it back.

func TestTwoGrantsThenOneRevoke(t *testing.T) {
	t.Parallel()
	a := begin(t, "A6", "of two grants at one time one is revoked: the other keeps what it has, and the first gets nothing back")
	w := plain(t)
	w.role(t, "prod-too", nil).OK(t)
	first, second := w.grant(t, "prod", nil), w.grant(t, "prod-too", nil)
	one, two := w.creds(t, w.alice.Actor, "prod").OK(t).String(t, "token"), w.creds(t, w.alice.Actor, "prod-too").OK(t).String(t, "token")
	a.seen(t, works(t, one) && works(t, two), "both should work")
	a.control(t, w.bob.Write(t, w.path("grants/"+first+"/revoke"), map[string]any{"reason": "done"}))
	dies(t, one)
	a.tried(t, !works(t, one) && works(t, two), "after the first ended: first %v, second %v", works(t, one), works(t, two))
	a.control(t, w.creds(t, w.alice.Actor, "prod-too"))
	a.control(t, w.bob.Write(t, w.path("grants/"+second+"/revoke"), map[string]any{"reason": "done"}))
	dies(t, two)
	a.tried(t, !works(t, one) && !works(t, two), "after both ended: first %v, second %v", works(t, one), works(t, two))
	a.refused(t, w.creds(t, w.alice.Actor, "prod"), forbidden, "access denied: request "+first)
	a.refused(t, w.creds(t, w.alice.Actor, "prod-too"), forbidden, "access denied: request "+second)
}

// A7: the plugin is killed between the credential and its lease.

func TestKilledBetweenCredentialAndLease(t *testing.T) {
	t.Parallel()
	a := begin(t, "A7", "the process is killed after the credential exists and before its lease does")
	w := newWorld(t, harness.Plugin{Variant: harness.Faults}, nil)
	for _, step := range []string{"after provider issue", "before put issue settled", "after put issue settled"} {
		id := w.grant(t, "prod", nil)
		w.pim.CrashAt(t, step)
		lost := do(t, w.alice.Actor, http.MethodGet, w.path("creds/prod"), nil)
		if !w.pim.Crashed(t) {
			t.Fatalf("the process did not come to %s: %d %s", step, lost.Status, lost.Body)
		}
		// The host may send it again itself; then that answer is the credential.
		var creds harness.Answer
		poll.Until(t, promised, func() error {
			creds = do(t, w.alice.Actor, http.MethodGet, w.path("creds/prod"), nil)
			if creds.Status != http.StatusOK {
				return fmt.Errorf("%s: %d %s", creds.Request, creds.Status, creds.Body)
			}
			return nil
		})
		want := 1
		if lost.Status == http.StatusOK {
			want++
		}
		if step == "after put issue settled" {
			want++ // it is on record as handed out, and ends with the grant
		}
		a.seen(t, works(t, creds.String(t, "token")), "the retry's credential is refused")
		poll.Until(t, promised, func() error {
			if n := w.live(t); n != want {
				return fmt.Errorf("%d tokens live, want %d", n, want)
			}
			return nil
		})
		a.tried(t, w.live(t) == want, "a credential that nobody was given lives on")
		w.bob.Write(t, w.path("grants/"+id+"/revoke"), map[string]any{"reason": "done"}).OK(t)
		poll.Until(t, promised, func() error {
			if n := w.live(t); n != 0 {
				return fmt.Errorf("%d tokens outlive the grant", n)
			}
			return nil
		})
	}
}

// live counts the tokens that exist at the target.
func (w *world) live(t *testing.T) int {
	t.Helper()
	n := 0
	for _, accessor := range host.Root().List(t, "auth/token/accessors/").Keys(t) {
		seen := do(t, host.Root(), http.MethodPut, "auth/token/lookup-accessor", map[string]any{"accessor": accessor})
		if seen.Status == http.StatusOK && seen.Data["path"] == "auth/token/create/"+w.target.TokenRole {
			n++
		}
	}
	return n
}

// A10: many at once.

// atOnce starts the same call n times at the same moment and counts the statuses.
func atOnce(t *testing.T, n int, call func() (harness.Answer, error)) (map[int]int, []harness.Answer) {
	t.Helper()
	answers := make([]harness.Answer, n)
	errs := make([]error, n)
	start := make(chan struct{})
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() {
			<-start
			answers[i], errs[i] = call()
		})
	}
	close(start)
	wg.Wait()
	if err := errors.Join(errs...); err != nil {
		t.Fatal(err)
	}
	got := map[int]int{}
	for _, a := range answers {
		got[a.Status]++
	}
	return got, answers
}

func TestParallelClaims(t *testing.T) {
	t.Parallel()
	a := begin(t, "A10", "twenty reads at once of a grant that is good for one credential")
	w := plain(t)
	const readers = 20
	for name, fields := range map[string]map[string]any{
		"at-approval":   {"max_credentials": 1},
		"at-first-read": {"max_credentials": 1, "start": "first_read", "claim_within": "1h"},
	} {
		w.role(t, name, fields).OK(t)
		w.grant(t, name, nil)
		got, answers := atOnce(t, readers, func() (harness.Answer, error) {
			return w.alice.Do(t.Context(), http.MethodGet, w.path("creds/"+name), nil, nil)
		})
		a.seen(t, got[http.StatusOK] > 0, "nobody got the credential: %v", got)
		a.tried(t, got[http.StatusOK] == 1 && got[http.StatusOK]+got[badRequest] == readers, "%s: answers by status %v", name, got)
		for _, answer := range answers {
			if answer.Status != http.StatusOK {
				a.tried(t, answer.Data["token"] == nil, "a refusal with a token: %s", answer.Body)
			}
		}
		if n := w.live(t); n != 1 {
			t.Errorf("%s: %d tokens at the target, want 1", name, n)
		}
		w.alice.Delete(t, w.path("requests/"+w.mine(t)[0])).OK(t)
		poll.Until(t, promised, func() error {
			if n := w.live(t); n != 0 {
				return fmt.Errorf("%d tokens live", n)
			}
			return nil
		})
	}
}

// mine are alice's open grants.
func (w *world) mine(t *testing.T) []string {
	t.Helper()
	keys := w.alice.List(t, w.path("grants/mine/")).Keys(t)
	if len(keys) == 0 {
		t.Fatal("alice has no grant")
	}
	return keys
}

func TestParallelRequestsAndDecisions(t *testing.T) {
	t.Parallel()
	a := begin(t, "A10", "twenty requests, and twenty approvals by one approver, at once")
	w := plain(t)
	w.role(t, "prod", map[string]any{"approvals": 2, "max_active": 1}).OK(t)
	carol := host.Person(t, "carol", w.person)
	host.SetMembers(t, w.approver, w.bob, carol)
	n := 0
	var mu sync.Mutex
	got, answers := atOnce(t, 20, func() (harness.Answer, error) {
		mu.Lock()
		n++
		ttl := 600 + n%2 // two kinds of ask, of which the role takes one
		mu.Unlock()
		return w.alice.Do(t.Context(), http.MethodPut, w.path("request/prod"), map[string]any{"justification": "why", "ttl": ttl}, nil)
	})
	ids := map[string]bool{}
	for _, answer := range answers {
		if answer.Status == http.StatusOK {
			ids[answer.String(t, "request_id")] = true
		}
	}
	a.seen(t, got[http.StatusOK] > 0, "nobody could ask: %v", got)
	a.tried(t, len(ids) == 1 && got[http.StatusOK]+got[badRequest] == 20, "%d requests, answers by status %v", len(ids), got)
	for id := range ids {
		digest := w.bob.Read(t, w.path("approvals/"+id)).OK(t).String(t, "digest")
		got, _ = atOnce(t, 20, func() (harness.Answer, error) {
			return w.bob.Do(t.Context(), http.MethodPut, w.path("approvals/"+id), yes(digest), nil)
		})
		a.tried(t, got[http.StatusOK] == 1 && got[http.StatusOK]+got[badRequest] == 20, "decisions by status: %v", got)
		if have := w.bob.Read(t, w.path("approvals/"+id)).OK(t).Data["have"]; have != 1.0 {
			t.Errorf("%v approvals of one person", have)
		}
		refusal := a.refused(t, w.creds(t, w.alice.Actor, "prod"), badRequest, "approval pending: request "+id)
		if !strings.Contains(refusal.Errors[0], "1 of 2") {
			t.Errorf("%s", refusal.Body)
		}
		a.control(t, w.decide(t, carol.Actor, id, yes(digest)))
		a.control(t, w.creds(t, w.alice.Actor, "prod"))
	}
}
