package bench

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"github.com/vault-pim/vault-plugin-secrets-pim/tests/harness"
)

// What is issued beside other engines.
const (
	rowSession   = "assumed role"
	rowFar       = "assumed role, 50 ms away"
	rowUser      = "IAM user"
	rowUntried   = "IAM user, key_probes=0"
	rowToken     = "token of an account"
	rowGenerated = "generated role"
)

// besideRow is a row of that table.
func besideRow(what string, clients int) string { return fmt.Sprintf("%s, %d clients", what, clients) }

// endpoint is a target that several engines speak to.
type endpoint struct {
	pids  []int          // of its processes
	calls func() float64 // that it has answered so far
}

// peer is one of the engines that are compared at an endpoint.
type peer struct {
	name    string
	command string                 // of its plugin's process; empty: it runs inside the host
	next    func(clients int) Next // its load
	end     func()                 // ends everything that it has issued
}

// beside compares engines at one endpoint, round by round.
func (b *run) beside(w *world, row string, at endpoint, clients []int, peers []peer) {
	w.t.Helper()
	if b.full { // connections, caches and a token bucket that is still full belong to nobody
		for _, p := range peers {
			b.visit(w, "warm-up", row, at, p, 8, 0)
		}
	}
	for round := range b.rounds {
		for _, n := range clients {
			for i := range peers {
				p := peers[(i+round)%len(peers)] // nobody is always first
				b.visit(w, "peers", besideRow(row, n), at, p, n, round)
			}
		}
	}
}

// visit measures one engine once, with what host, plugin and target spend on a
// credential and how often the target is called for it, and cleans up.
func (b *run) visit(w *world, table, row string, at endpoint, p peer, clients, round int) {
	w.t.Helper()
	before := at.calls()
	target := w.spent(at.pids...)
	sample := b.timed(w, point{table, row, p.name, round}, clients, w.processes(p.command), p.next(clients))
	target = w.spent(at.pids...) - target
	issued := at.calls()
	if sample.Errors > 0 {
		w.t.Fatalf("%s, %s: %d calls failed: %v", row, p.name, sample.Errors, sample.First)
	}
	calls := float64(len(sample.Latencies))
	b.results.Add(table, row, p.name, "target CPU ms/op", round, target/calls)
	b.results.Add(table, row, p.name, "target busy %", round, 100*target/float64(sample.Wall.Milliseconds()))
	b.results.Add(table, row, p.name, "target calls/op", round, (issued-before)/calls)
	p.end()
	w.quiet(at)
	b.results.Add(table, row, p.name, "target calls/end", round, (at.calls()-issued)/calls)
}

// quiet waits until nobody calls a target any more: what one engine still has to
// end would be counted as the work of the next one.
func (w *world) quiet(at endpoint) {
	w.t.Helper()
	const lasts = 300 * time.Millisecond
	last, since := at.calls(), now()
	w.until("the target is left alone", func() error {
		if calls := at.calls(); calls != last {
			last, since = calls, now()
		}
		if now().Sub(since) < lasts {
			return errors.New("it is still called")
		}
		return nil
	})
}

// processes are the plugin processes of the host that run a file of its plugin
// directory.
func (w *world) processes(command string) []int {
	w.t.Helper()
	if command == "" {
		return nil
	}
	links, err := filepath.Glob("/proc/[0-9]*/exe")
	if err != nil {
		w.t.Fatal(err)
	}
	var out []int
	for _, link := range links {
		// A process that has just ended, or is somebody else's, has no link.
		if file, err := os.Readlink(link); err != nil || file != filepath.Join(w.host.PluginDirectory(), command) {
			continue
		}
		pid, err := strconv.Atoi(filepath.Base(filepath.Dir(link)))
		if err != nil {
			w.t.Fatal(err)
		}
		out = append(out, pid)
	}
	if len(out) == 0 {
		w.t.Fatalf("no process runs %s", command)
	}
	return out
}

// released is a mount of the plugin as it is released, with one target.
func (w *world) released(target map[string]any) *mount {
	w.t.Helper()
	m := &mount{world: w, mode: "pim", path: w.host.Mount(w.t, harness.Plugin{Variant: harness.Plain, Keep: true}).Path}
	m.write(w.host.Root(), m.path+"/config", map[string]any{"issue_rate": 100_000})
	m.write(w.host.Root(), m.path+"/targets/local", target)
	return m
}

// peer is pim with a role that everybody has a grant of. What only ends by itself
// counts until then, and is not waited for.
func (m *mount) peer(role string, ends bool, fields map[string]any) peer {
	m.t.Helper()
	m.offer(role, "local", fields, m.people...)
	return peer{
		name: "pim", command: string(harness.Plain),
		next: func(clients int) Next { return m.read("creds/"+role, clients, m.most(clients)) },
		end: func() {
			if ends {
				m.clear()
			} else {
				m.revoke()
			}
			m.renew(role, m.people...)
		},
	}
}

// peer is an engine of somebody else at some mounts, which take turns; of each of
// them the path below its mount is read, or written to where it wants that.
func (w *world) peer(name, command, method, path string, mounts ...string) peer {
	return peer{
		name: name, command: command,
		next: func(clients int) Next {
			return func(c, n int) (Call, bool) {
				k := c + n*clients
				return Call{
					Method: method, Token: w.people[k%len(w.people)].Token,
					URL: w.host.Addr + "/v1/" + mounts[k%len(mounts)] + "/" + path,
				}, n < w.most(clients)
			}
		},
		end: func() {
			for _, at := range mounts {
				(&mount{world: w, path: at}).revoke()
			}
		},
	}
}

// most is how many credentials one of so many clients may read before they are
// cleared away.
func (w *world) most(clients int) int {
	return max(1, len(w.people)*perGrant/max(clients, len(w.people))) * max(1, len(w.people)/clients)
}

// install gives the host an engine that scripts/engines.sh built, as a plugin.
func (w *world) install(name string) {
	w.t.Helper()
	raw, err := os.ReadFile(filepath.Join(script(w.t, "engines.sh"), name))
	if err != nil {
		w.t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(w.host.PluginDirectory(), name), raw, 0o700); err != nil {
		w.t.Fatal(err)
	}
	sum := sha256.Sum256(raw)
	w.write(w.host.Root(), "sys/plugins/catalog/secret/"+name, map[string]any{
		"sha256": hex.EncodeToString(sum[:]), "command": name,
	})
}

// mountEngine mounts an engine that is not pim.
func (w *world) mountEngine(path, kind string) string {
	w.t.Helper()
	w.do(w.host.Root(), http.MethodPut, "sys/mounts/"+path, map[string]any{"type": kind})
	return path
}
