package attacks

import (
	"fmt"
	"maps"
	"math"
	"math/rand/v2"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/vault-pim/vault-plugin-secrets-pim/tests/harness"
)

// O: what somebody learns of what is not theirs.

// call is one call with an id or a name in it.
type call struct {
	method, path string // %s is the id or name
	body         map[string]any
}

func (c call) send(t *testing.T, w *world, who harness.Actor, name string) harness.Answer {
	t.Helper()
	path := strings.ReplaceAll(c.path, "%s", name)
	if c.body == nil {
		return do(t, who, c.method, w.path(path), nil)
	}
	body := maps.Clone(c.body)
	for k, v := range body {
		if v == "%s" {
			body[k] = name
		}
	}
	return do(t, who, c.method, w.path(path), body)
}

// told is an answer without what is the caller's own: the id that they sent, and the
// host's name of the call.
func told(a harness.Answer, name string) string {
	text := strings.ReplaceAll(string(a.Body), name, "ID")
	if _, rest, found := strings.Cut(text, `"request_id":"`); found && a.Status == http.StatusOK {
		_, text, _ = strings.Cut(rest, `"`)
	}
	return fmt.Sprint(a.Status, " ", text)
}

func idCalls() []call {
	return []call{
		{http.MethodGet, "requests/%s", nil},
		{http.MethodDelete, "requests/%s", nil},
		{http.MethodGet, "approvals/%s", nil},
		{http.MethodPut, "approvals/%s", yes("00")},
		{http.MethodPut, "approvals/%s", map[string]any{"decision": "deny"}},
		{http.MethodPut, "approvals/%s", map[string]any{"decision": "deny", "ttl": "1000h", "comment": strings.Repeat("x", 3000)}},
		{http.MethodGet, "grants/%s", nil},
		{http.MethodPut, "grants/%s/revoke", map[string]any{"reason": "mine"}},
		{http.MethodGet, "creds/prod?request_id=%s", nil},
		{http.MethodPut, "creds/prod", map[string]any{"request_id": "%s"}},
		{http.MethodGet, "requests/%s/wait", nil},
		{http.MethodPut, "requests/%s/extend", map[string]any{"ttl": 600, "justification": "why"}},
		{http.MethodGet, "reviews/%s", nil},
		{http.MethodPut, "reviews/%s", map[string]any{"verdict": "justified", "comment": "looked at it"}},
	}
}

func TestOtherPeoplesIDs(t *testing.T) {
	t.Parallel()
	a := begin(t, "O1", "somebody else's request id is used, or looked for, wherever one is taken")
	w := plain(t)
	pending, _ := w.ask(t, "prod", map[string]any{"ttl": "2h"})
	active, ended := w.grant(t, "prod", map[string]any{"ttl": "1h"}), w.grant(t, "prod", map[string]any{"ttl": "3h"})
	w.creds(t, w.alice.Actor, "prod").OK(t)
	w.bob.Write(t, w.path("grants/"+ended+"/revoke"), map[string]any{"reason": "done"}).OK(t)
	// dave is eligible like alice; carol is nobody here; mallory approves another role.
	dave, carol, mallory := host.Person(t, "dave", w.person), host.Person(t, "carol", w.person), host.Person(t, "mallory", w.person)
	host.SetMembers(t, w.eligible, w.alice, dave)
	w.role(t, "other", map[string]any{"approver_groups": host.Group(t, "others", mallory).Name}).OK(t)
	const unknown = "01jnb000000000000000000001"
	for _, id := range []string{pending, active, ended} {
		a.control(t, w.alice.Read(t, w.path("requests/"+id)))
		a.control(t, w.bob.Read(t, w.path("requests/"+id)))
		for _, c := range idCalls() {
			for _, who := range []*harness.Person{dave, carol, mallory} {
				known, other := c.send(t, w, who.Actor, id), c.send(t, w, who.Actor, unknown)
				a.tried(t, known.Status/100 == 4 && told(known, id) == told(other, unknown),
					"%s: %s\nof an unknown id: %s", known.Request, told(known, id), told(other, unknown))
			}
		}
	}
	for id, want := range map[string]string{pending: "pending", active: "active", ended: "revoked"} {
		if got := w.state(t, id); got != want {
			t.Errorf("a request that was %s is %s", want, got)
		}
	}
	for _, list := range []string{"requests/mine/", "grants/mine/", "approvals/"} {
		for _, who := range []*harness.Person{dave, carol, mallory} {
			seen := who.List(t, w.path(list))
			a.tried(t, len(seen.Keys(t)) == 0, "%s sees %s", who.Name, seen.Body)
		}
	}
}

func TestOtherPeoplesRoles(t *testing.T) {
	t.Parallel()
	a := begin(t, "O2", "the names of roles are guessed by somebody who is not eligible")
	w := plain(t)
	w.role(t, "strange", map[string]any{"require_ticket": true, "params": map[string]any{"env": map[string]any{"allowed": []string{"dev"}, "required": true}}}).OK(t)
	carol := host.Person(t, "carol", w.person)
	a.control(t, w.alice.Read(t, w.path("eligible/strange")))
	for _, c := range []call{
		{http.MethodGet, "eligible/%s", nil},
		{http.MethodGet, "creds/%s", nil},
		{http.MethodPut, "creds/%s", map[string]any{"params": map[string]string{"env": "dev"}}},
		{http.MethodPut, "request/%s", map[string]any{"justification": "why"}},
		{http.MethodPut, "request/%s", map[string]any{"justification": "why", "ttl": "1000h", "params": map[string]string{"x": "y"}}},
	} {
		for _, role := range []string{"prod", "strange"} {
			known, other := c.send(t, w, carol.Actor, role), c.send(t, w, carol.Actor, "nosuch")
			a.tried(t, known.Status/100 == 4 && told(known, role) == told(other, "nosuch"), "%s: %s\nof none: %s", known.Request, told(known, role), told(other, "nosuch"))
		}
	}
	if seen := carol.List(t, w.path("eligible/")).Keys(t); len(seen) != 0 {
		t.Errorf("carol sees %v", seen)
	}
}

// Times are compared as an attacker does: many calls of either kind in random order,
// and how often one of the one kind is slower than one of the other. 0.5 is no
// difference; the control is a difference that is there.
func TestTimes(t *testing.T) {
	t.Parallel()
	a := begin(t, "O3", "the time of a refusal tells whether the role or the request exists")
	w := newWorld(t, harness.Plugin{Variant: harness.Plain}, nil)
	id, _ := w.ask(t, "prod", nil)
	carol := host.Person(t, "carol", w.person)
	get := func(path string) func() {
		return func() {
			if answer := do(t, carol.Actor, http.MethodGet, w.path(path), nil); answer.Status/100 != 4 {
				t.Fatalf("%s: %d %s", answer.Request, answer.Status, answer.Body)
			}
		}
	}
	random := func() string { return "01jnb00000000000000000" + fmt.Sprintf("%04d", rand.IntN(9000)+1000) }
	for _, row := range []struct {
		name           string
		known, unknown func()
	}{
		{"role", get("creds/prod"), func() { get("creds/" + strings.ToLower(random()[20:]))() }},
		{"request", get("requests/" + id), func() { get("requests/" + random())() }},
	} {
		apart, twice := nearest(row.known, row.unknown)
		a.seen(t, twice > 0.1, "%s: doing it twice is slower in %.2f of pairs only", row.name, 0.5+twice)
		a.tried(t, apart < twice/2, "%s: apart by %.2f, where doing it twice is by %.2f", row.name, apart, twice)
		a.note("%s: %.2f from none, where doing it twice is %.2f", row.name, apart, twice)
	}
}

// nearest tells how far from none (0, of at most 0.5) the difference between two calls
// is, and how far that between doing one of them twice and once: what a refusal that does
// twice the work would show through the noise of this moment. Both are shares of pairs in
// random order, so that load moves both alike and tells nothing by itself. What is there
// is there each time; so the nearest of six counts.
func nearest(known, unknown func()) (apart, twice float64) {
	const pairs = 200
	double := func() { unknown(); unknown() }
	for range 6 {
		x, y := math.Abs(compareTimes(pairs, known, unknown)-0.5), compareTimes(pairs, double, unknown)-0.5
		if apart, twice = x, y; x < y/2 && y > 0.1 {
			break
		}
	}
	return apart, twice
}

// compareTimes is the share of pairs in which a call of the first kind took longer
// (the area under the ROC curve).
func compareTimes(pairs int, first, second func()) float64 {
	var times [2][]time.Duration
	for i := range 2 * pairs {
		kind := i % 2
		if rand.IntN(2) == 0 {
			kind = 1 - kind
		}
		from := time.Now()
		[]func(){first, second}[kind]()
		times[kind] = append(times[kind], time.Since(from))
	}
	slower := 0.0
	slices.Sort(times[1])
	for _, d := range times[0] {
		n, _ := slices.BinarySearch(times[1], d)
		slower += float64(n) / float64(len(times[1]))
	}
	return slower / float64(len(times[0]))
}
