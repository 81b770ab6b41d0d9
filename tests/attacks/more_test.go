package attacks

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/vault-pim/vault-plugin-secrets-pim/tests/harness"
)

// M: more than one approval was given for: time, runs, requests.

func (w *world) extend(t *testing.T, who harness.Actor, id string, ttl any, why string) harness.Answer {
	t.Helper()
	return who.Write(t, w.path("requests/"+id+"/extend"), map[string]any{"ttl": ttl, "justification": why})
}

// extended is by how many seconds a window ends later than when it was approved.
func (w *world) extended(t *testing.T, id string, granted float64) float64 {
	t.Helper()
	r := host.Root().Read(t, w.path("audit/requests/"+id)).OK(t)
	return seconds(t, r.String(t, "window_starts_at"), r.String(t, "window_ends_at")) - granted
}

func TestMoreTimeThanTheRoleGives(t *testing.T) {
	t.Parallel()
	a := begin(t, "M1", "a grant is stretched beyond max_extension, or by who may not")
	w := plain(t)
	second, dave := host.Person(t, "alice-admin", w.person), host.Person(t, "dave", w.person)
	host.SetMembers(t, w.approver, w.bob, second)
	host.SetMembers(t, w.eligible, w.alice, dave)
	w.persons(t, map[*harness.Person]string{w.alice: "alice", second: "Alice", w.bob: "bob", dave: "dave"})
	w.role(t, "prod", map[string]any{"max_extension": "30m", "ttl": "1h"}).OK(t)
	w.role(t, "fixed", nil).OK(t)
	id, digest := w.ask(t, "prod", map[string]any{"ttl": 3600})
	a.refused(t, w.extend(t, w.alice.Actor, id, 600, "why"), badRequest, "no active grant: only an active grant can be extended")
	w.decide(t, w.bob.Actor, id, yes(digest)).OK(t)
	fixed := w.grant(t, "fixed", nil)
	a.refused(t, w.extend(t, w.alice.Actor, fixed, 600, "why"), forbidden, "access denied: this role does not extend grants")
	for _, ttl := range []any{1801, "31m", "9223372036s", "-1h", 0, "0s", "1e9", []string{"1m"}} {
		answer := w.extend(t, w.alice.Actor, id, ttl, "why")
		a.tried(t, answer.Status == badRequest, "%v more: %d %s", ttl, answer.Status, answer.Body)
	}
	for name, who := range map[string]harness.Actor{"who is eligible too": dave.Actor, "the approver": w.bob.Actor} {
		known, unknown := w.extend(t, who, id, 600, "why"), w.extend(t, who, "01jnb000000000000000000001", 600, "why")
		a.tried(t, known.Status/100 == 4 && told(known, id) == told(unknown, "01jnb000000000000000000001"), "%s: %s", name, known.Body)
	}
	a.refused(t, w.extend(t, host.Root(), id, 600, "why"), forbidden, "access denied: log in again")
	for _, ttl := range []int{1000, 800} { // twice many at once; never two that wait
		w.race(t, a, id, ttl, digest, second)
	}
	if got := w.extended(t, id, 3600); got != 1800 {
		t.Errorf("the window was stretched by %v s, want 1800", got)
	}
	a.refused(t, w.extend(t, w.alice.Actor, id, 1, "why"), badRequest, "invalid input: ttl: goes beyond the role's max_extension")
	w.noMoreTime(t, a)
}

// race has alice ask twenty times at once, and decides on what came of it.
func (w *world) race(t *testing.T, a *attack, id string, ttl int, digest string, second *harness.Person) {
	t.Helper()
	var n atomic.Int64
	got, _ := atOnce(t, 20, func() (harness.Answer, error) {
		why := fmt.Sprint("still stuck, take ", n.Add(1))
		return w.alice.Do(t.Context(), http.MethodPut, w.path("requests/"+id+"/extend"), map[string]any{"ttl": ttl, "justification": why}, nil)
	})
	a.tried(t, got[http.StatusOK] == 1 && got[badRequest] == 19, "extensions by status: %v", got)
	const own = "access denied: nobody decides on their own request"
	seen := w.bob.Read(t, w.path("approvals/"+id)).OK(t).String(t, "digest")
	a.tried(t, seen != digest, "more time has the digest of the request")
	a.refused(t, w.decide(t, w.alice.Actor, id, yes(seen)), forbidden, own)
	a.refused(t, w.decide(t, second.Actor, id, yes(seen)), forbidden, own)
	a.refused(t, w.decide(t, w.bob.Actor, id, yes(digest)), badRequest, "the digest is not that of this request")
	longer := map[string]any{"decision": "approve", "digest": seen, "ttl": ttl + 1}
	a.refused(t, w.decide(t, w.bob.Actor, id, longer), badRequest, "invalid input: ttl: can only shorten")
	before := w.extended(t, id, 3600)
	got, _ = atOnce(t, 20, func() (harness.Answer, error) {
		return w.bob.Do(t.Context(), http.MethodPut, w.path("approvals/"+id), yes(seen), nil)
	})
	a.seen(t, got[http.StatusOK] == 1, "decisions by status: %v", got)
	after := w.extended(t, id, 3600)
	a.tried(t, after-before == float64(ttl), "%d more seconds are %v", ttl, after-before)
	a.refused(t, w.decide(t, w.bob.Actor, id, yes(seen)), badRequest, "the request is not pending")
}

// noMoreTime: who lost the role, is held, or whose grant is over.
func (w *world) noMoreTime(t *testing.T, a *attack) {
	t.Helper()
	id := w.grant(t, "prod", map[string]any{"ttl": 1200})
	a.control(t, w.extend(t, w.alice.Actor, id, 60, "why"))
	digest := w.bob.Read(t, w.path("approvals/"+id)).OK(t).String(t, "digest")
	hold := host.Root().Write(t, w.path("holds"), map[string]any{"role": "prod", "reason": "stop"}).OK(t).String(t, "hold_id")
	a.refused(t, w.extend(t, w.alice.Actor, id, 90, "why"), forbidden, "access denied: a hold is in force")
	a.refused(t, w.decide(t, w.bob.Actor, id, yes(digest)), forbidden, "access denied: a hold is in force")
	host.Root().Delete(t, w.path("holds/"+hold)).OK(t)
	host.SetMembers(t, w.eligible)
	a.refused(t, w.extend(t, w.alice.Actor, id, 90, "why"), forbidden, "access denied: no such role, or you are not eligible")
	host.SetMembers(t, w.eligible, w.alice)
	w.role(t, "prod", map[string]any{"max_extension": "10h", "live": "keep"}).OK(t)
	a.refused(t, w.decide(t, w.bob.Actor, id, yes(digest)), badRequest, "the request is void")
	a.control(t, w.alice.Delete(t, w.path("requests/"+id)))
	a.refused(t, w.extend(t, w.alice.Actor, id, 90, "why"), badRequest, "no active grant: only an active grant can be extended")
}

func TestSeriesOutlivesWhatItStoodOn(t *testing.T) {
	t.Parallel()
	a := begin(t, "M2", "a series gives more runs than were approved, other ones, or runs after its ground is gone")
	w := plain(t)
	env := map[string]any{
		"series_max": 3, "series_within": "2h", "max_credentials": 32,
		"params": map[string]any{"env": map[string]any{"allowed": []string{"dev", "test", "prod"}, "required": true}},
	}
	w.role(t, "prod", env).OK(t)
	runs := func(count int) (id, digest string) {
		return w.ask(t, "prod", map[string]any{"series_count": count, "series_params": []any{map[string]string{"env": "dev"}, map[string]string{"env": "test"}}})
	}
	read := func(id, env string) harness.Answer {
		return w.alice.Write(t, w.path("creds/prod"), map[string]any{"request_id": id, "params": map[string]string{"env": env}})
	}
	for _, body := range []map[string]any{{"series_count": 4}, {"series_count": 0}, {"series_count": -1}, {"series_count": 3, "ttl": "3h"}} {
		body["justification"], body["params"] = "why", map[string]string{"env": "dev"}
		a.refused(t, w.alice.Write(t, w.path("request/prod"), body), badRequest, "invalid input: ")
	}
	id, digest := runs(3)
	a.refused(t, read(id, "dev"), badRequest, "approval pending")
	w.decide(t, w.bob.Actor, id, yes(digest)).OK(t)
	a.refused(t, read(id, "prod"), badRequest, "invalid input: params: ")
	a.refused(t, w.alice.Write(t, w.path("creds/prod"), map[string]any{"request_id": id}), badRequest, "invalid input: ")
	got, _ := atOnce(t, 20, func() (harness.Answer, error) {
		return w.alice.Do(t.Context(), http.MethodPut, w.path("creds/prod"), map[string]any{"request_id": id, "params": map[string]string{"env": "dev"}}, nil)
	})
	a.seen(t, got[http.StatusOK] > 0, "no run at all: %v", got)
	a.tried(t, got[http.StatusOK] == 3 && w.live(t) == 3, "a series of 3 gave %v, and %d tokens live", got, w.live(t))
	a.refused(t, read(id, "test"), badRequest, "limit reached: all 3 runs of the series")
	w.alice.Delete(t, w.path("requests/"+id)).OK(t)
	a.refused(t, read(id, "test"), badRequest, "no active grant")
	for name, row := range map[string]struct {
		lose, regain func()
	}{
		"the eligibility": {func() { host.SetMembers(t, w.eligible) }, func() { host.SetMembers(t, w.eligible, w.alice) }},
		"the approver":    {func() { host.SetMembers(t, w.approver) }, func() { host.SetMembers(t, w.approver, w.bob) }},
	} {
		id, digest = runs(3)
		w.decide(t, w.bob.Actor, id, yes(digest)).OK(t)
		a.control(t, read(id, "dev"))
		row.lose()
		answer := read(id, "dev")
		a.tried(t, answer.Status == forbidden, "a run without %s: %d %s", name, answer.Status, answer.Body)
		row.regain()
		w.alice.Delete(t, w.path("requests/"+id)).OK(t)
	}
}

func TestManyDecisionsInOne(t *testing.T) {
	t.Parallel()
	a := begin(t, "M3", "one write decides on what a single decision could not")
	w := plain(t)
	w.role(t, "prod", map[string]any{"max_active": 20}).OK(t)
	host.SetMembers(t, w.eligible, w.alice, w.bob)
	bulk := func(who harness.Actor, requests any) harness.Answer {
		return do(t, who, http.MethodPut, w.path("approvals/bulk"), map[string]any{"decision": "approve", "requests": requests})
	}
	asked := func(ttl int) (id, digest string) { return w.ask(t, "prod", map[string]any{"ttl": ttl}) }
	first, one := asked(600)
	second, two := asked(601)
	mine := w.bob.Write(t, w.path("request/prod"), map[string]any{"justification": "why"}).OK(t)
	own := mine.String(t, "request_id")
	const unknown = "01jnb000000000000000000001"
	foreign := w.foreign(t)
	// Digests of each other, one's own among others, somebody else's and nobody's.
	answer := bulk(w.bob.Actor, map[string]string{
		first: two, second: one, own: mine.String(t, "digest"), foreign: one, unknown: one,
	}).OK(t)
	a.tried(t, answer.Data["decided"] == 0.0 && answer.Data["refused"] == 5.0, "%s", answer.Body)
	outcome := strings.ReplaceAll(fmt.Sprint(answer.Data["outcome"]), foreign, unknown)
	a.tried(t, strings.Count(outcome, unknown+" refused: no such request") == 2, "a foreign request is not as an unknown one: %s", outcome)
	a.tried(t, strings.Contains(outcome, own+" refused: access denied: nobody decides on their own request"), "%s", outcome)
	for name, requests := range map[string]any{
		"an id in capitals": map[string]string{strings.ToUpper(first): one}, "a list of ids": []string{first, second}, "all": map[string]string{"*": one},
		"no digest at all": map[string]any{first: nil}, "a digest that is a list": map[string]any{first: []string{one}}, "nothing": map[string]string{},
		"too many": tooMany(one), "an id with a path": map[string]string{first + "/..": one}, "an id with blanks": map[string]string{" " + first: one},
	} {
		answer := bulk(w.bob.Actor, requests)
		a.tried(t, answer.Status == badRequest, "%s: %d %s", name, answer.Status, answer.Body)
	}
	// The same id twice is one decision, and the digest that counts is the one that is right or none.
	doubled := json.RawMessage(fmt.Sprintf(`{"decision":"approve","requests":{%q:%q,%q:%q}}`, first, one, first, two))
	answer = do(t, w.bob.Actor, http.MethodPut, w.path("approvals/bulk"), doubled)
	a.tried(t, answer.Status != http.StatusOK || answer.Data["decided"] == 0.0, "an id with two digests: %d %s", answer.Status, answer.Body)
	for _, who := range []harness.Actor{host.Root(), w.machine(t, w.person, w.approver)} {
		answer := bulk(who, map[string]string{first: one})
		a.tried(t, answer.Status == forbidden || answer.Data["decided"] == 0.0, "%s: %d %s", who.Name, answer.Status, answer.Body)
	}
	for id, want := range map[string]string{first: "pending", second: "pending", own: "pending", foreign: "pending"} {
		if got := w.state(t, id); got != want {
			t.Errorf("%s is %s", id, got)
		}
	}
	done := a.control(t, bulk(w.bob.Actor, map[string]string{first: one, second: two, own: mine.String(t, "digest")}))
	a.seen(t, done.Data["decided"] == 2.0 && w.state(t, own) == "pending", "%s", done.Body)
	again := bulk(w.bob.Actor, map[string]string{first: one, second: two}).OK(t)
	a.tried(t, again.Data["decided"] == 0.0, "decided twice: %s", again.Body)
}

// foreign is a request that bob cannot decide on.
func (w *world) foreign(t *testing.T) string {
	t.Helper()
	w.role(t, "other", map[string]any{"approver_groups": host.Group(t, "others", host.Person(t, "carol", w.person)).Name}).OK(t)
	id, _ := w.ask(t, "other", nil)
	return id
}

func tooMany(digest string) map[string]string {
	out := map[string]string{}
	for i := range 51 {
		out[fmt.Sprintf("01jnb0000000000000000000%02d", i)] = digest
	}
	return out
}
