package bench

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/vault-pim/vault-plugin-secrets-pim/tests/harness"
	"github.com/vault-pim/vault-plugin-secrets-pim/tests/harness/poll"
)

const (
	variant = harness.Variant("bench")
	inmem   = true
	raft    = false
	// perGrant is how many credentials one grant may have alive: as many as a
	// person reads between two clean-ups.
	perGrant = 32
	// crowd is how many people the requests belong to that are stored.
	crowd   = 256
	settles = 3 * time.Minute
)

// world is one host with people on it.
type world struct {
	t      *testing.T
	host   *harness.Host
	load   *client
	people []*harness.Person // they request and read
	others []*harness.Person // what is stored is theirs; they never log in
	bob    *harness.Person   // decides
	group  *harness.Group    // of the people and the others
	leads  *harness.Group    // of bob
	policy string
}

func newWorld(t *testing.T, memory bool, people, others int) *world {
	t.Helper()
	w := &world{t: t, load: newClient()}
	w.host = harness.StartNode(t, harness.Options{LogLevel: "error", InMemory: memory})
	w.policy = w.host.Policy(t, "bench", `path "*" { capabilities = ["create", "read", "update", "delete", "list"] }`)
	w.bob = w.host.Person(t, "bob", w.policy)
	for range people {
		w.people = append(w.people, w.host.Person(t, "alice", w.policy))
	}
	for i := range others {
		w.others = append(w.others, &harness.Person{EntityID: w.host.Entity(t, fmt.Sprint("other-", i), nil, nil)})
	}
	w.group, w.leads = w.host.Group(t, "engineers", slices.Concat(w.people, w.others)...), w.host.Group(t, "leads", w.bob)
	w.write(w.host.Root(), "secret/data/bench", map[string]any{"data": map[string]string{"password": "x"}})
	return w
}

// do is a call that must succeed, past the harness's comparison with the API.
func (w *world) do(a harness.Actor, method, path string, body any) harness.Answer {
	w.t.Helper()
	answer, err := a.Do(context.Background(), method, path, body, nil)
	if err != nil {
		w.t.Fatal(err)
	}
	if answer.Status/100 != 2 {
		w.t.Fatalf("%s: %d %s", answer.Request, answer.Status, answer.Body)
	}
	return answer
}

func (w *world) write(a harness.Actor, path string, body any) harness.Answer {
	w.t.Helper()
	return w.do(a, http.MethodPut, path, body)
}

// mount is one mount of the bench's plugin in a process of its own.
type mount struct {
	*world
	path, mode string
}

func (w *world) mount(mode, name string) *mount {
	w.t.Helper()
	env := []string{"PIM_BENCH_MODE=" + mode, "PIM_BENCH_PROCESS=" + name}
	if gogc := os.Getenv("PIM_BENCH_GOGC"); gogc != "" {
		env = append(env, "GOGC="+gogc)
	}
	if dir := os.Getenv("PIM_BENCH_PROFILES"); dir != "" {
		env = append(env, "PIM_BENCH_PROFILES="+dir)
	}
	m := &mount{world: w, mode: mode}
	m.path = w.host.Mount(w.t, harness.Plugin{Variant: variant, Env: env, Keep: true}).Path
	return m
}

// pim is a mount of pim with a target, and no role yet.
func (w *world) pim(name string) *mount {
	w.t.Helper()
	m := w.mount("pim", name)
	m.write(w.host.Root(), m.path+"/config", map[string]any{
		"issue_rate": 100_000, "person_max_open": 10_000, "max_open": 1_000_000,
	})
	m.target("local", 0)
	return m
}

func (m *mount) target(name string, delay time.Duration) {
	m.t.Helper()
	m.write(m.host.Root(), m.path+"/targets/"+name, map[string]any{"type": "null", "delay_ms": delay.Milliseconds()})
}

// role writes a role and has everybody named hold a grant of it.
func (m *mount) role(name, target string, people ...*harness.Person) {
	m.t.Helper()
	m.offer(name, target, nil, people...)
}

// offer is role with fields of the target's type.
func (m *mount) offer(name, target string, fields map[string]any, people ...*harness.Person) {
	m.t.Helper()
	all := map[string]any{
		"target": target, "eligible_groups": m.group.Name, "approver_groups": m.leads.Name, "max_credentials": perGrant,
		"ttl": "8h", "lease_ttl": "1h", "require_justification": false, "max_active": 100,
	}
	maps.Copy(all, fields)
	m.write(m.host.Root(), m.path+"/roles/"+name, all)
	for _, p := range people {
		m.grant(name, p)
	}
}

// renew gives every grant of a role back and has it granted again: records begin
// small, as those of people are.
func (m *mount) renew(role string, people ...*harness.Person) {
	m.t.Helper()
	for _, p := range people {
		old := m.do(p.Actor, "LIST", m.path+"/grants/mine/", nil).Keys(m.t)
		for _, id := range old {
			m.do(p.Actor, http.MethodDelete, m.path+"/requests/"+id, nil)
		}
		m.grant(role, p)
	}
}

func (m *mount) grant(role string, p *harness.Person) {
	m.t.Helper()
	asked := m.write(p.Actor, m.path+"/request/"+role, map[string]any{}).Data
	m.write(m.bob.Actor, fmt.Sprintf("%s/approvals/%v", m.path, asked["request_id"]),
		map[string]any{"decision": "approve", "digest": asked["digest"]})
}

// seed writes requests of the others past the API, and has the plugin learn of them.
func (m *mount) seed(kind, role string, count, credentials int, age, ttl time.Duration) {
	m.t.Helper()
	if count == 0 {
		return
	}
	var requesters []string
	for _, p := range m.others {
		requesters = append(requesters, p.EntityID)
	}
	const batch = 20_000 // each call ends well within the host's limit of 90 s
	for done := 0; done < count; done += batch {
		m.write(m.host.Root(), m.path+"/bench/seed", map[string]any{
			"kind": kind, "role": role, "count": min(batch, count-done), "credentials": credentials,
			"age": int(age.Seconds()), "ttl": int(ttl.Seconds()), "requesters": requesters, "approver": m.bob.EntityID,
		})
	}
}

// reload ends the plugin's process; the next call starts another one.
func (m *mount) reload() {
	m.t.Helper()
	m.write(m.host.Root(), "sys/plugins/reload/backend", map[string]any{"mounts": []string{m.path + "/"}})
}

// indexed waits until the plugin knows every request, and says how long that took.
func (m *mount) indexed() time.Duration {
	m.t.Helper()
	return m.until("the index is complete", func() error {
		answer, err := m.bob.Do(context.Background(), "LIST", m.path+"/approvals/", nil, nil)
		if err == nil && answer.Status != http.StatusOK && answer.Status != http.StatusNotFound {
			err = fmt.Errorf("%d %s", answer.Status, answer.Body)
		}
		return err
	})
}

// until waits for something, and says how long it took.
func (w *world) until(what string, try func() error) time.Duration {
	w.t.Helper()
	began := now()
	if err := poll.Within(settles, try); err != nil {
		w.t.Fatalf("%s: %v", what, err)
	}
	return now().Sub(began)
}

// counters are the calls back to the host since they were last asked for.
func (m *mount) counters() map[string]float64 {
	m.t.Helper()
	out := map[string]float64{}
	for k, v := range m.do(m.host.Root(), http.MethodGet, m.path+"/bench/counters", nil).Data {
		out[k], _ = v.(float64)
	}
	return out
}

// pid is the plugin's process of this mount. It forgets what was counted so far.
func (m *mount) pid() int { return int(m.counters()["pid"]) }

// profile starts a CPU profile of the plugin, or ends it, where
// PIM_BENCH_PROFILES names a directory.
func (m *mount) profile() {
	m.t.Helper()
	if os.Getenv("PIM_BENCH_PROFILES") != "" {
		m.write(m.host.Root(), m.path+"/bench/profile", nil)
	}
}

// resident is the memory of the plugin's process in MiB: now, and the most ever.
func (m *mount) resident() (now, most float64) {
	m.t.Helper()
	raw, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(m.pid()), "status"))
	if err != nil {
		m.t.Fatal(err)
	}
	of := func(field string) float64 {
		_, rest, _ := strings.Cut(string(raw), field+":")
		var kib float64
		if _, err := fmt.Sscan(rest, &kib); err != nil {
			m.t.Fatal(err)
		}
		return kib / 1024
	}
	return of("VmRSS"), of("VmHWM")
}

// spent is the processor time that processes have used so far, in milliseconds.
// Unlike the time that passes it does not depend on what else the machine does.
func (w *world) spent(pids ...int) float64 {
	w.t.Helper()
	ticks := 0.0
	for _, pid := range pids {
		raw, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "stat"))
		if err != nil {
			w.t.Fatal(err)
		}
		_, rest, _ := strings.Cut(string(raw), ") ") // behind the name, which may hold anything
		fields := strings.Fields(rest)
		for _, f := range fields[11:13] { // utime and stime, in hundredths of a second
			n, err := strconv.ParseFloat(f, 64)
			if err != nil {
				w.t.Fatal(err)
			}
			ticks += n
		}
	}
	return ticks * 10
}

// live is how many credentials of a target may give access.
func (m *mount) live(target string) float64 {
	m.t.Helper()
	n, ok := m.do(m.host.Root(), http.MethodGet, m.path+"/targets/"+target, nil).Data["live"].(float64)
	if !ok {
		m.t.Fatal("the target does not say how many credentials are alive")
	}
	return n
}

// read is a leased read by one of the people, chosen so that clients share
// nobody unless they have to.
func (m *mount) read(path string, clients, most int) Next {
	return func(c, n int) (Call, bool) {
		mine := max(1, len(m.people)/clients)
		p := m.people[(c+(n%mine)*clients)%len(m.people)]
		return Call{Method: http.MethodGet, URL: m.host.Addr + "/v1/" + m.path + "/" + path, Token: p.Token}, n < most
	}
}

// clear ends the leases of a mount. A mount without any answers with an error on
// one of the hosts, which is as good.
func (m *mount) clear() {
	m.t.Helper()
	_, err := m.host.Root().Do(context.Background(), http.MethodPut, "sys/leases/revoke-prefix/"+m.path+"/creds",
		map[string]any{"sync": true}, nil)
	if err != nil {
		m.t.Fatal(err)
	}
	if m.mode == "pim" {
		m.until("the credentials are gone", func() error {
			if n := m.live("local"); n > 0 && m.mode == "pim" {
				return fmt.Errorf("%v are alive", n)
			}
			return nil
		})
	}
}

// commits is the index of the last entry in the Raft log; 0 where there is none.
func (w *world) commits() float64 {
	w.t.Helper()
	answer, err := w.host.Root().Do(context.Background(), http.MethodGet, "sys/storage/raft/autopilot/state", nil, nil)
	if err != nil || answer.Status != http.StatusOK {
		return 0
	}
	var state struct {
		Data struct {
			Servers map[string]struct {
				LastIndex float64 `json:"last_index"`
			} `json:"servers"`
		} `json:"data"`
	}
	if err := json.Unmarshal(answer.Body, &state); err != nil {
		w.t.Fatal(err)
	}
	for _, s := range state.Data.Servers {
		return s.LastIndex
	}
	return 0
}
