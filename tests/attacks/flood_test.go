package attacks

import (
	"errors"
	"fmt"
	"net/http"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/vault-pim/vault-plugin-secrets-pim/tests/harness"
)

// F: requests without end.

const (
	machines = 20
	perRole  = 10 // open requests of one machine for one role
	// fair is what share of one machine's turns somebody else gets at least while the
	// mount is filled: a tenth. Load slows both alike, and so tells nothing.
	fair = 10
	// usable is within what time a call has to be answered once the mount is full, on a
	// small and busy machine.
	usable = 60 * time.Second
)

func TestPersonFilesWithoutEnd(t *testing.T) {
	t.Parallel()
	a := begin(t, "F2", "one person files without end")
	const limit, tried = 20, 60
	w := newWorld(t, harness.Plugin{}, map[string]any{"person_max_open": limit})
	for i := range tried / 3 {
		w.role(t, fmt.Sprintf("role-%d", i), map[string]any{"max_active": 100}).OK(t)
	}
	var n atomic.Int64
	got, answers := atOnce(t, tried, func() (harness.Answer, error) {
		i := n.Add(1)
		return w.alice.Do(t.Context(), http.MethodPut, w.path(fmt.Sprintf("request/role-%d", i%(tried/3))), map[string]any{"justification": "why", "ttl": 600 + i}, nil)
	})
	a.seen(t, got[http.StatusOK] == limit, "%v", got)
	for _, answer := range answers {
		if answer.Status != http.StatusOK {
			a.refused(t, answer, badRequest, "limit reached: you have 20 open requests")
		}
	}
	id := w.alice.List(t, w.path("requests/mine/")).Keys(t)
	a.tried(t, len(id) == limit, "%d requests are open", len(id))
	a.control(t, w.alice.Delete(t, w.path("requests/"+id[0])))
	a.control(t, w.alice.Write(t, w.path("request/role-0"), map[string]any{"justification": "why", "ttl": "3h"}))
}

// flood is how many requests fill the mount: $ATTACKS_FLOOD, or what make test has
// the time for.
func flood(t *testing.T) int {
	t.Helper()
	text := os.Getenv("ATTACKS_FLOOD")
	if text == "" {
		return 2000
	}
	n, err := strconv.Atoi(text)
	if err != nil || n%(machines*perRole) != 0 {
		t.Fatalf("ATTACKS_FLOOD is %q, want a multiple of %d", text, machines*perRole)
	}
	return n
}

func TestMountFullOfRequests(t *testing.T) {
	t.Parallel()
	a := begin(t, "F1", "open requests without end fill the mount")
	flood := flood(t)
	w := newWorld(t, harness.Plugin{Variant: harness.Plain}, map[string]any{"max_open": flood, "machine_max_open": flood / machines})
	w.grant(t, "prod", nil) // one of the ten thousand
	roles := flood / machines / perRole
	for i := range roles {
		w.role(t, fmt.Sprintf("flood-%d", i), map[string]any{"max_active": perRole}).OK(t)
	}
	ids := []string{}
	for i := range machines {
		login := host.AppRole(t, fmt.Sprint("ci-", i), "20m", w.person)
		actor := login.LogIn(t)
		self := host.Root().Write(t, "auth/token/lookup", map[string]any{"token": actor.Token}).OK(t)
		ids = append(ids, self.String(t, "entity_id"))
		w.flooders = append(w.flooders, actor)
	}
	host.Root().Write(t, "identity/group/id/"+w.eligible.ID, map[string]any{"name": w.eligible.Name, "member_entity_ids": append(ids, w.alice.EntityID)}).OK(t)
	from := time.Now()
	stop := make(chan struct{})
	others := w.watch(t, stop)
	filed, refused, err := w.fill(t, flood, roles)
	close(stop)
	turns := <-others
	if err != nil {
		t.Fatal(err)
	}
	a.note("%d requests filed in %.0f s", filed, time.Since(from).Seconds())
	a.seen(t, filed == int64(flood-1), "%d requests were filed, want %d", filed, flood-1)
	for _, answer := range refused {
		a.tried(t, answer.Status == badRequest && strings.HasPrefix(fmt.Sprint(answer.Errors), "[limit reached: "), "%s: %d %s", answer.Request, answer.Status, answer.Body)
	}
	a.refused(t, w.alice.Write(t, w.path("request/prod"), map[string]any{"justification": "why", "ttl": "5m"}), badRequest, fmt.Sprintf("limit reached: this mount has %d open requests", flood))
	each := int(filed+int64(len(refused))) / machines
	a.tried(t, turns.calls >= each/fair, "somebody else got %d turns while each machine got %d", turns.calls, each)
	w.usableWhenFull(t, a)
	a.note("somebody else got %d turns beside %d of each machine, and waited %.1f s at most", turns.calls, each, turns.slowest.Seconds())
}

// fill has all machines file until the mount refuses.
func (w *world) fill(t *testing.T, flood, roles int) (filed int64, refused []harness.Answer, err error) {
	t.Helper()
	var count atomic.Int64
	var mu sync.Mutex
	var errs []error
	var wg sync.WaitGroup
	for m, who := range w.flooders {
		wg.Go(func() {
			for i := range flood/machines + 20 {
				path := w.path(fmt.Sprintf("request/flood-%d", i%roles))
				answer, err := who.Do(t.Context(), http.MethodPut, path, map[string]any{"justification": "why", "ttl": 600 + i}, nil)
				if err == nil && answer.Status == http.StatusOK {
					count.Add(1)
					continue
				}
				mu.Lock()
				if err != nil {
					errs = append(errs, fmt.Errorf("machine %d: %w", m, err))
				} else {
					refused = append(refused, answer)
				}
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	return count.Load(), refused, errors.Join(errs...)
}

// turns is how others fared while a mount was filled.
type turns struct {
	calls   int
	slowest time.Duration
}

// watch has alice and bob work on while others file, one call after the other.
func (w *world) watch(t *testing.T, stop <-chan struct{}) <-chan turns {
	t.Helper()
	out := make(chan turns, 1)
	go func() {
		var got turns
		defer func() { out <- got }()
		for {
			for path, who := range map[string]harness.Actor{"creds/prod": w.alice.Actor, "requests/mine/?list=true": w.alice.Actor, "approvals/?list=true": w.bob.Actor, "config": host.Root()} {
				select {
				case <-stop:
					return
				default:
				}
				from := time.Now()
				if _, err := who.Do(t.Context(), http.MethodGet, w.path(path), nil, nil); err != nil {
					t.Errorf("%s: %v", path, err)
				}
				got.calls++
				got.slowest = max(got.slowest, time.Since(from))
			}
		}
	}()
	return out
}

// usableWhenFull does everything that has to go on when nothing more can be asked for.
func (w *world) usableWhenFull(t *testing.T, a *attack) {
	t.Helper()
	within := func(name string, call func() harness.Answer) harness.Answer {
		from := time.Now()
		answer := a.control(t, call())
		if took := time.Since(from); took > usable {
			t.Errorf("%s takes %s when the mount is full", name, took)
		}
		return answer
	}
	page := within("the inbox", func() harness.Answer { return w.bob.List(t, w.path("approvals/")) }).Keys(t)
	if len(page) != 100 {
		t.Errorf("a page of the inbox has %d requests", len(page))
	}
	digest := within("a look", func() harness.Answer { return w.bob.Read(t, w.path("approvals/"+page[0])) }).String(t, "digest")
	within("a decision", func() harness.Answer { return w.decide(t, w.bob.Actor, page[0], yes(digest)) })
	within("the auditors' list", func() harness.Answer { return host.Root().List(t, w.path("audit/requests/")) })
	deny := within("a denial", func() harness.Answer {
		return w.decide(t, w.bob.Actor, page[1], map[string]any{"decision": "deny"})
	})
	if deny.Data["state"] != "denied" {
		t.Errorf("%s", deny.Body)
	}
	within("a request in the place of what was denied", func() harness.Answer {
		return w.alice.Write(t, w.path("request/prod"), map[string]any{"justification": "why", "ttl": "5m"})
	})
	mine := w.mine(t)
	token := w.creds(t, w.alice.Actor, "prod")
	within("a revocation", func() harness.Answer {
		return w.bob.Write(t, w.path("grants/"+mine[0]+"/revoke"), map[string]any{"reason": "done"})
	})
	if token.Status == http.StatusOK {
		dies(t, token.String(t, "token"))
	}
	within("a hold on everything", func() harness.Answer {
		return host.Root().Write(t, w.path("holds"), map[string]any{"target": "local", "reason": "flood"})
	})
}
