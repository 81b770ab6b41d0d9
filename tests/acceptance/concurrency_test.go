package acceptance

import (
	"fmt"
	"math/rand/v2"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/anishathalye/porcupine"

	"github.com/vault-pim/vault-plugin-secrets-pim/tests/harness"
	"github.com/vault-pim/vault-plugin-secrets-pim/tests/harness/poll"
)

// at once is how many calls go to one request at the same time.
const (
	atOnce = 20
	rounds = 12
	quorum = 2
)

// deed is one call to one request.
type deed struct {
	verb  string // approve, deny, cancel, revoke, look or creds
	by    string
	after int // starts when so many calls have been answered
}

// told is what the caller was told.
type told struct {
	status int
	code   string // of a refusal
	state  string // of the request, as the answer has it
	have   int    // approvals, as the answer has them; -1 = it does not say
}

// model is one request as if its calls came one after the other.
type model struct {
	granted bool // it was active once
	state   string
	decided string // who has decided, by comma, in alphabetical order
	have    int
}

func (m model) hasDecided(who string) bool {
	return slices.Contains(strings.Split(m.decided, ","), who)
}

// step tells whether a call can be answered like this in this state, and what
// state follows.
func (m model) step(d deed, a told) (bool, model) {
	switch d.verb {
	case "approve", "deny":
		return m.decide(d, a)
	case "cancel":
		return m.end(a, map[string]string{"pending": "cancelled", "active": "ended"})
	case "revoke":
		if !m.granted { // there is no grant of that id
			return a.status == http.StatusNotFound, m
		}
		return m.end(a, map[string]string{"active": "revoked"})
	case "look":
		return a.status == http.StatusOK && a.state == m.state && a.have == m.have, m
	}
	return m.creds(a), m
}

func (m model) decide(d deed, a told) (bool, model) {
	switch {
	case a.code == "busy":
		return m.state == "pending", m // somebody else's decision came at the same moment
	case m.state != "pending":
		return a.code == "not_pending" && a.state == m.state, m
	case m.hasDecided(d.by):
		return a.code == "already_decided", m
	}
	next := m
	who := append(strings.Split(m.decided, ","), d.by)
	slices.Sort(who)
	next.decided = strings.Join(who, ",")
	if d.verb == "approve" {
		next.have++
	}
	switch {
	case d.verb == "deny":
		next.state = "denied"
	case next.have == quorum:
		next.state, next.granted = "active", true
	}
	return a.status == http.StatusOK && a.state == next.state && a.have == next.have, next
}

func (m model) end(a told, moves map[string]string) (bool, model) {
	next := m
	if to, open := moves[m.state]; open {
		next.state = to
	}
	return a.status == http.StatusOK && a.state == next.state, next
}

// creds never changes the request. It may say that the request changed at this
// moment; everything else it says is true of one state.
func (m model) creds(a told) bool {
	if a.code == "not_active" {
		return true
	}
	want := map[string]told{
		"pending":   {status: badRequest, code: "approval_pending", have: m.have},
		"active":    {status: http.StatusOK, have: -1},
		"ended":     {status: badRequest, code: "request_ended", have: -1},
		"cancelled": {status: badRequest, code: "request_cancelled", have: -1},
		"denied":    {status: forbidden, code: "request_denied", have: -1},
		"revoked":   {status: forbidden, code: "request_revoked", have: -1},
	}[m.state]
	return a.status == want.status && a.code == want.code && a.have == want.have
}

func sequential() porcupine.Model {
	return porcupine.Model{
		Init: func() any { return model{state: "pending"} },
		Step: func(state, input, output any) (bool, any) {
			m, known := state.(model)
			d, given := input.(deed)
			a, answered := output.(told)
			possible, next := m.step(d, a)
			return known && given && answered && possible, next
		},
		DescribeOperation: func(input, output any) string { return fmt.Sprintf("%+v → %+v", input, output) },
		DescribeState:     func(state any) string { return fmt.Sprintf("%+v", state) },
	}
}

// history is what happened in one round, in real time.
type history struct {
	o       *office
	request string
	role    string
	digest  string
	start   time.Time

	mu     sync.Mutex
	passed []chan struct{} // closed when as many calls have been answered
	calls  []porcupine.Operation
	tokens []string
	odd    []string
}

// do carries one deed out and notes it. It tells whether the answer was busy, after
// which people try again.
func (h *history) do(t *testing.T, client int, d deed) (busy bool) {
	t.Helper()
	who := map[string]*harness.Person{"alice": h.o.alice, "bob": h.o.bob, "carol": h.o.carol, "dave": h.o.dave}[d.by]
	method, path, body := http.MethodPut, "", map[string]any{}
	switch d.verb {
	case "approve", "deny":
		path, body = "approvals/"+h.request, map[string]any{"decision": d.verb, "digest": h.digest}
	case "cancel":
		method, path, body = http.MethodDelete, "requests/"+h.request, nil
	case "revoke":
		path = "grants/" + h.request + "/revoke"
	case "look":
		method, path, body = http.MethodGet, "requests/"+h.request, nil
	case "creds":
		path, body = "creds/"+h.role, map[string]any{"request_id": h.request}
	}
	called := time.Since(h.start)
	answer, err := who.Do(t.Context(), method, h.o.path(path), body, nil)
	returned := time.Since(h.start)
	h.mu.Lock()
	defer h.mu.Unlock()
	if n := len(h.calls) + len(h.odd) + 1; n < len(h.passed) {
		close(h.passed[n])
	}
	if err != nil || answer.Status >= http.StatusInternalServerError || answer.Status == http.StatusNotFound && d.verb != "revoke" {
		h.odd = append(h.odd, fmt.Sprintf("%+v: %d %s %v", d, answer.Status, answer.Body, err))
		return false
	}
	if token, ok := answer.Data["token"].(string); ok {
		h.tokens = append(h.tokens, token)
	}
	h.calls = append(h.calls, porcupine.Operation{
		ClientId: client, Input: d, Output: tell(answer), Call: called.Nanoseconds(), Return: returned.Nanoseconds(),
	})
	return answer.Data["code"] == "busy"
}

func tell(a harness.Answer) told {
	out := told{status: a.Status, have: -1}
	out.code, _ = a.Data["code"].(string)
	out.state, _ = a.Data["state"].(string)
	have, found := a.Data["have"].(float64)
	if approvals, ok := a.Data["approvals"].(map[string]any); ok {
		have, found = approvals["have"].(float64)
	}
	if found {
		out.have = int(have)
	}
	return out
}

// deeds are drawn so that each round meets other orders: decisions of three people
// twice each, and reads, twenty at once; then some that end the request, and reads
// again, which join while those are still going on.
func deeds(chance *rand.Rand) []deed {
	out := []deed{}
	for _, who := range []string{"bob", "carol", "dave"} {
		out = append(out, deed{verb: "approve", by: who}, deed{verb: "approve", by: who})
	}
	ends := []deed{{verb: "deny", by: "bob"}, {verb: "cancel", by: "alice"}, {verb: "revoke", by: "carol"}, {verb: "revoke", by: "alice"}}
	reads := []deed{{verb: "creds", by: "alice"}, {verb: "look", by: "alice"}, {verb: "look", by: "bob"}}
	for range chance.IntN(2) {
		out = append(out, ends[chance.IntN(len(ends))])
	}
	for len(out) < atOnce {
		out = append(out, reads[chance.IntN(len(reads))])
	}
	chance.Shuffle(len(out), func(i, j int) { out[i], out[j] = out[j], out[i] })
	for range chance.IntN(3) {
		d := ends[chance.IntN(len(ends))]
		d.after = 1 + chance.IntN(atOnce-1)
		out = append(out, d)
	}
	for range atOnce / 2 {
		d := reads[0]
		d.after = 1 + chance.IntN(atOnce-1)
		out = append(out, d)
	}
	return out
}

// Twenty calls at once to one request are answered as if they had come one after the
// other, in some order that agrees with what each caller saw happen before.
func TestConcurrentCallsHaveAnOrder(t *testing.T) {
	t.Parallel()
	o := newOffice(t)
	host.SetMembers(t, o.leads, o.bob, o.carol, o.dave)
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	chance := rand.New(rand.NewPCG(seed, 0))
	outcomes := map[string]int{}
	for round := range rounds {
		role := fmt.Sprintf("role-%d", round)
		o.role(t, role, map[string]any{"approvals": quorum, "max_credentials": 32})
		asked := o.alice.Write(t, o.path("request/"+role), map[string]any{"justification": "order 4711"}).OK(t)
		h := &history{
			o: o, request: asked.String(t, "request_id"), role: role, digest: asked.String(t, "digest"), start: time.Now(),
		}
		h.run(t, deeds(chance))
		outcomes[h.judge(t)]++
	}
	t.Logf("outcomes: %v", outcomes)
}

// run starts all deeds at once, then looks once more.
func (h *history) run(t *testing.T, all []deed) {
	t.Helper()
	var running sync.WaitGroup
	for range atOnce {
		h.passed = append(h.passed, make(chan struct{}))
	}
	for i, d := range all {
		running.Go(func() {
			<-h.passed[d.after]
			for h.do(t, i, d) {
				t.Logf("%s is told that it is busy, and tries again", d.by)
			}
		})
	}
	close(h.passed[0])
	running.Wait()
	h.do(t, len(all), deed{verb: "look", by: "alice"})
	h.do(t, len(all), deed{verb: "creds", by: "alice"})
}

func (h *history) show(t *testing.T) {
	t.Helper()
	slices.SortFunc(h.calls, func(a, b porcupine.Operation) int { return int(a.Call - b.Call) })
	for _, c := range h.calls {
		t.Logf("%7d–%7d µs  %+v → %+v", c.Call/1000, c.Return/1000, c.Input, c.Output)
	}
}

// judge compares with the model, and the target with the outcome. It returns the
// outcome.
func (h *history) judge(t *testing.T) string {
	t.Helper()
	for _, odd := range h.odd {
		t.Errorf("an answer that is none of any state: %s", odd)
	}
	if len(h.odd) > 0 {
		h.show(t)
	}
	if result := porcupine.CheckOperationsTimeout(sequential(), h.calls, 2*time.Minute); result != porcupine.Ok {
		h.show(t)
		t.Fatalf("no order of these calls explains the answers (%s)", result)
	}
	final := h.o.state(t, h.request)
	poll.Until(t, promised, func() error {
		for _, token := range h.tokens {
			works := h.o.alice.With("credential", token).Read(t, "secret/data/prod/none").Status == http.StatusNotFound
			if works != (final == "active") {
				return fmt.Errorf("the request is %s, and a credential of it works: %v", final, works)
			}
		}
		return nil
	})
	return fmt.Sprintf("%s after %d credentials", final, min(len(h.tokens), 1))
}

// The judge is no yes-man: histories that no order explains are refused.
func TestJudgeOfOrders(t *testing.T) {
	t.Parallel()
	yes := func(state string, have int) told { return told{status: http.StatusOK, state: state, have: have} }
	cancelled := told{status: badRequest, code: "not_pending", state: "cancelled", have: -1}
	approve, carol := deed{verb: "approve", by: "bob"}, deed{verb: "approve", by: "carol"}
	cancel, creds := deed{verb: "cancel", by: "alice"}, deed{verb: "creds", by: "alice"}
	type call struct {
		deed     deed
		told     told
		from, to int64
	}
	for _, row := range []struct {
		name  string
		calls []call
		want  porcupine.CheckResult
	}{
		{"two approvals, then a credential", []call{{approve, yes("pending", 1), 0, 1}, {carol, yes("active", 2), 2, 3}, {creds, told{status: 200, have: -1}, 4, 5}}, porcupine.Ok},
		{"a credential after one approval", []call{{approve, yes("pending", 1), 0, 1}, {creds, told{status: 200, have: -1}, 2, 3}}, porcupine.Illegal},
		{"one person counts twice", []call{{approve, yes("pending", 1), 0, 1}, {approve, yes("active", 2), 2, 3}}, porcupine.Illegal},
		{"an approval counts after the withdrawal", []call{{cancel, yes("cancelled", 0), 0, 1}, {approve, yes("pending", 1), 2, 3}}, porcupine.Illegal},
		{"an approval beside the withdrawal comes first", []call{{cancel, yes("cancelled", -1), 0, 3}, {approve, yes("pending", 1), 1, 2}}, porcupine.Ok},
		{"an approval knows of a withdrawal that comes later", []call{{approve, cancelled, 0, 1}, {cancel, yes("cancelled", 0), 2, 3}}, porcupine.Illegal},
		{"both approvals are the first", []call{{approve, yes("pending", 1), 0, 3}, {carol, yes("pending", 1), 1, 2}}, porcupine.Illegal},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			var calls []porcupine.Operation
			for i, c := range row.calls {
				calls = append(calls, porcupine.Operation{ClientId: i, Input: c.deed, Output: c.told, Call: c.from, Return: c.to})
			}
			if got := porcupine.CheckOperationsTimeout(sequential(), calls, time.Second); got != row.want {
				t.Errorf("the judge says %s, want %s", got, row.want)
			}
		})
	}
}
