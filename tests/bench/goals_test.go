package bench

import (
	"context"
	"fmt"
	"net/http"
	"strings"

	"github.com/vault-pim/vault-plugin-secrets-pim/tests/harness"
)

// cycle asks for a role, looks at it as its approver, approves it and gives it
// back.
func (m *mount) cycle(p harness.Actor) error {
	call := func(a harness.Actor, method, path string, body any) (map[string]any, error) {
		answer, err := a.Do(context.Background(), method, m.path+"/"+path, body, nil)
		if err == nil && answer.Status/100 != 2 {
			err = fmt.Errorf("%s: %d %s", answer.Request, answer.Status, answer.Body)
		}
		return answer.Data, err
	}
	asked, err := call(p, http.MethodPut, "request/one", map[string]any{})
	if err != nil {
		return err
	}
	id := fmt.Sprint(asked["request_id"])
	seen, err := call(m.bob.Actor, http.MethodGet, "approvals/"+id, nil)
	if err != nil {
		return err
	}
	if _, err := call(m.bob.Actor, http.MethodPut, "approvals/"+id, map[string]any{"decision": "approve", "digest": seen["digest"]}); err != nil {
		return err
	}
	_, err = call(p, http.MethodDelete, "requests/"+id, nil)
	return err
}

// table is one table of the page.
type table struct {
	name, title, what string
	plots             []string
}

func tables() []table {
	return []table{
		{"creds", "Reading a credential", "Closed loop. **noop** is a leased answer without any call of its own, the floor; **probe** makes exactly the storage and system-view calls of pim's read, with records of the same size, and nothing else, one after the other or **at once**; **pim** reads under a grant whose approver is read again live.", []string{"ops/s", "p50 ms"}},
		{"paced", "Latency at a fixed rate", "Measured from when each call was due.", []string{"p50 ms", "p99 ms"}},
		{"roles", "One role and many", "Eight people, eight clients.", []string{"ops/s"}},
		{"slow", "Beside a slow target", "Another role's target takes two seconds for every call; four clients wait for it all the time.", []string{"p99 ms"}},
		{"size", "Stored requests", "The same read on mounts that hold so many requests; one in ten is a grant with a live credential.", []string{"ops/s", "p50 ms"}},
		{"memory", "Memory of the plugin", "Resident memory of the plugin's process after the load above, and the processor time that it spends while nobody asks anything.", []string{"RSS MiB"}},
		{"cycles", "Approval cycles", "Ask, look as the approver, approve, give back: four calls.", []string{"ops/s"}},
		{"inbox", "The inbox", "A page of 100 of an approver's inbox.", []string{"p95 ms"}},
		{"kill", "Kill switch", "Over everything that is live, on a target that costs nothing.", []string{"drained after s"}},
		{"reaper", "Everything is due at once", "Requests with one credential each whose windows end at the same time.", []string{"revocations/s"}},
		{"start", "Start", "After seal and unseal of a node with Raft storage, which starts every plugin's process anew.", []string{"first answer ms"}},
		{"peers", "Beside the official engines", "AWS's calls at one moto server, Kubernetes' at one API server with its etcd. **target busy** is the processor time of the target by the time that passed, 100 being one core, which is all that moto can use. **target calls** are made for a credential, and for its end.", []string{"ops/s", "p50 ms"}},
	}
}

// goal is one number to reach.
type goal struct {
	text    string
	reached func(Spread) bool
	of      func(*Results) (Spread, bool)
}

func atLeast(n float64) func(Spread) bool { return func(s Spread) bool { return s.Median >= n } }
func atMost(n float64) func(Spread) bool  { return func(s Spread) bool { return s.Median <= n } }

func ratio(table, row, over, under, metric string) func(*Results) (Spread, bool) {
	return func(r *Results) (Spread, bool) { return r.Ratio(table, row, over, under, metric) }
}

func value(table, row, series, metric string) func(*Results) (Spread, bool) {
	return func(r *Results) (Spread, bool) { return r.Of(table, row, series, metric) }
}

func (b *run) wanted() []goal {
	var out []goal
	for _, storage := range []string{"in memory", "Raft"} {
		row := storage + ", 8 clients"
		out = append(out,
			goal{storage + ": pim's rate ≥ 0.9 × the probe's", atLeast(0.9), ratio("creds", row, "pim", "probe", "ops/s")},
			goal{storage + ": pim's p50 ≤ 1.2 × the probe's", atMost(1.2), ratio("creds", row, "pim", "probe", "p50 ms")},
			goal{storage + ": processor time of host and plugin ≤ 1.2 × the probe's", atMost(1.2), ratio("creds", row, "pim", "probe", "CPU ms/op")},
			goal{storage + ": pim's rate as a share of the floor (aim 0.5)", atLeast(0.5), ratio("creds", row, "pim", "noop", "ops/s")},
		)
	}
	large := fmt.Sprintf("%d stored", b.large)
	live := memoryRow(b.large)
	for _, n := range b.sizes[1:] {
		text := fmt.Sprintf("%d stored", n)
		out = append(out, goal{"rate with " + text + " ≥ 0.95 × that with none", atLeast(0.95), ratio("size", "8 clients", text, "0 stored", "ops/s")})
	}
	eight := fmt.Sprintf("%d people", min(8, b.people))
	inbox := fmt.Sprintf("page of 100 of 1000 pending, %d stored", b.large)
	out = append(out, b.besideGoals()...)
	return append(out,
		goal{"one role ≥ 0.9 × a role each", atLeast(0.9), ratio("roles", eight, "one role", "a role each", "ops/s")},
		goal{"p99 beside a slow target ≤ 1.1 × alone", atMost(1.1), ratio("slow", "another role", "beside a slow target", "alone", "p99 ms")},
		goal{"p95 of an inbox page ≤ 20 ms", atMost(20), value("inbox", "1 clients", inbox, "p95 ms")},
		goal{"RSS with " + live + " ≤ 96 MiB", atMost(96), value("memory", live, "plugin", "RSS MiB")},
		goal{"kill switch: held ≤ 5 s", atMost(5), b.only1("kill", "kill switch over all", "held after s")},
		goal{"kill switch: drained ≤ 60 s", atMost(60), b.only1("kill", "kill switch over all", "drained after s")},
		goal{"reaper: ≥ 200 revocations/s", atLeast(200), b.only1("reaper", "reaper", "revocations/s")},
		goal{"reaper: another target's ended ≤ 5 s", atMost(5), b.only1("reaper", "reaper", "another target's ended after s")},
		goal{"start with " + large + ": first answer ≤ 1 s after the floor's", atMost(1000), b.startOver(large)},
	)
}

// besideGoals are those beside other engines, at 8 clients.
func (b *run) besideGoals() []goal {
	var out []goal
	for _, x := range []struct{ row, what, engine string }{
		{rowSession, "AWS sessions", ownAWS},
		{rowSession, "AWS sessions", plugAWS},
		{rowFar, "AWS sessions, 50 ms away,", ownAWS},
		{rowFar, "AWS sessions, 50 ms away,", plugAWS},
		{rowUser, "AWS users, whose keys pim tries for 2 s,", ownAWS},
		{rowUntried, "AWS users whose keys nobody tries", ownAWS},
		{rowUntried, "AWS users whose keys nobody tries", plugAWS},
		{rowToken, "Kubernetes tokens", officialEngine},
		{rowToken, "Kubernetes tokens", spread(b.mounts)},
		{rowGenerated, "Kubernetes roles", officialEngine},
		{rowGenerated, "Kubernetes roles", spread(b.mounts)},
	} {
		row := besideRow(x.row, 8)
		out = append(out, goal{"rate of " + x.what + " ≥ 0.95 × " + x.engine, atLeast(0.95), ratio("peers", row, "pim", x.engine, "ops/s")})
	}
	return out
}

// only1 is a metric of a table whose only row is named after what was found.
func (b *run) only1(table, series, metric string) func(*Results) (Spread, bool) {
	return func(r *Results) (Spread, bool) {
		rows := unique(r.Points, func(p Point) (string, bool) { return p.Row, p.Table == table })
		if len(rows) != 1 {
			return Spread{}, false
		}
		return r.Of(table, rows[0], series, metric)
	}
}

// startOver is by how much pim's first answer after a start is later than the
// floor's, in milliseconds.
func (b *run) startOver(large string) func(*Results) (Spread, bool) {
	return func(r *Results) (Spread, bool) {
		mine, ok := r.Of("start", "after an unseal", "pim, "+large, "first answer ms")
		floor, has := r.Of("start", "after an unseal", "noop", "first answer ms")
		return Spread{mine.Median - floor.Median, mine.Low - floor.Low, mine.High - floor.High}, ok && has
	}
}

func (b *run) goals() string {
	var out strings.Builder
	out.WriteString("| goal | measured | met |\n|---|---|---|\n")
	for _, g := range b.wanted() {
		s, ok := g.of(&b.results)
		if !ok {
			continue
		}
		met := "no"
		if g.reached(s) {
			met = "yes"
		}
		fmt.Fprintf(&out, "| %s | %s | %s |\n", g.text, s, met)
	}
	return out.String()
}
