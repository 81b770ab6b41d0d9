package faults

import (
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/vault-pim/vault-plugin-secrets-pim/tests/harness"
	"github.com/vault-pim/vault-plugin-secrets-pim/tests/harness/poll"
)

// made is one token at the host that carries the id of one of our credentials.
type made struct {
	accessor, credential string
	ttl                  int // seconds left
}

// tokensOf lists what exists at the host under a request.
func (w *world) tokensOf(t *testing.T, request string) ([]made, error) {
	t.Helper()
	list, err := do(t, host.Root(), "LIST", "auth/token/accessors", nil)
	if err != nil {
		return nil, err
	}
	var out []made
	for _, accessor := range list.Keys(t) {
		found, err := lookUp(t, accessor)
		if err != nil {
			return nil, err
		}
		meta, _ := found["meta"].(map[string]any)
		if meta["pim_request"] != request {
			continue
		}
		ttl, _ := found["ttl"].(float64)
		out = append(out, made{accessor: accessor, credential: fmt.Sprint(meta["pim_credential"]), ttl: int(ttl)})
	}
	return out, nil
}

// others are accessors that are known to be none of ours: a token's metadata never
// changes.
var others sync.Map

// lookUp is what the host says of a token; nil when it is gone or none of pim's.
func lookUp(t *testing.T, accessor string) (map[string]any, error) {
	t.Helper()
	if _, known := others.Load(accessor); known {
		return nil, nil
	}
	answer, err := do(t, host.Root(), http.MethodPut, "auth/token/lookup-accessor", map[string]any{"accessor": accessor})
	if err != nil {
		return nil, err
	}
	if meta, ok := answer.Data["meta"].(map[string]any); answer.Status == http.StatusOK && (!ok || meta["pim_request"] == nil) {
		others.Store(accessor, true)
		return nil, nil
	}
	return answer.Data, nil
}

// childLeases lists the leases at the brokered engine.
func (w *world) childLeases(t *testing.T) []string {
	t.Helper()
	if w.kind != leases {
		return nil
	}
	return host.Root().List(t, "sys/leases/lookup/"+w.database+"/creds/reader").Keys(t)
}

// accounted waits until everything at the target is on record as something that
// will be ended, and nothing on record is on its way any more. lost is how many
// tokens may be left whose accessor was lost in the crash, before anybody knew it.
func (w *world) accounted(t *testing.T, request string, lost int) {
	t.Helper()
	poll.Until(t, settles, func() error {
		_, creds, err := w.audit(t, request)
		if err != nil {
			return err
		}
		active := map[string]bool{}
		for _, c := range creds {
			switch c.state {
			case "active":
				active[c.id] = true
			case "ended", "gone":
			default:
				return fmt.Errorf("credential %s is still %s", c.id, c.state)
			}
		}
		return w.nothingElse(t, request, active, lost)
	})
}

// nothingElse compares what exists at the target with what is on record as active.
func (w *world) nothingElse(t *testing.T, request string, active map[string]bool, lost int) error {
	t.Helper()
	all, err := w.tokensOf(t, request)
	if err != nil {
		return err
	}
	var unknown []made
	for _, m := range all {
		if !active[m.credential] {
			unknown = append(unknown, m)
		}
	}
	if len(unknown) > lost {
		return fmt.Errorf("%d tokens at the target that nobody will end, %d may be: %v", len(unknown), lost, unknown)
	}
	if n := len(w.childLeases(t)); w.kind == leases && n > len(active) {
		return fmt.Errorf("%d leases at the engine for %d active credentials", n, len(active))
	}
	for _, m := range unknown {
		w.harmless(t, m)
	}
	return nil
}

// harmless shows that a token whose accessor was lost is the allowed remainder:
// nobody was given it, nobody has used it, and it ends by itself.
func (w *world) harmless(t *testing.T, m made) {
	t.Helper()
	w.remainder[m.accessor] = true
	if slices.Contains(w.handed, m.accessor) {
		t.Errorf("a token that nobody will end was handed out: %+v", m)
	}
	if m.ttl <= 0 || m.ttl > 3600 {
		t.Errorf("a token that nobody will end lives longer than the window: %+v", m)
	}
	if used(t, m.accessor) {
		t.Errorf("a token that nobody will end was used: %+v", m)
	}
}

// used tells whether any request came with a token, as the host's audit file has it.
func used(t *testing.T, accessor string) bool {
	t.Helper()
	hash := host.Root().Write(t, "sys/audit-hash/file", map[string]any{"input": accessor}).OK(t).String(t, "hash")
	text, err := host.Audit()
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(text) {
		if !strings.Contains(line, hash) {
			continue
		}
		var entry struct {
			Auth struct {
				Accessor string `json:"accessor"`
			} `json:"auth"`
		}
		if err := json.Unmarshal([]byte(line), &entry); err != nil {
			continue // the last line may be half written
		}
		if entry.Auth.Accessor == hash {
			return true
		}
	}
	return false
}

// over ends a grant and shows that nothing of it is left, and that the next
// request leads to a credential again.
func (w *world) over(t *testing.T, role, request string) {
	t.Helper()
	state, _, err := w.audit(t, request)
	if err != nil {
		t.Fatal(err)
	}
	if state == "active" {
		again(t, func() (harness.Answer, error) {
			return do(t, w.bob.Actor, http.MethodPut, w.path("grants/"+request+"/revoke"), nil)
		})
	}
	w.accountedAsOver(t, request)
	next := w.grant(t, role)
	w.works(t, again(t, func() (harness.Answer, error) { return w.read(t, role) }))
	again(t, func() (harness.Answer, error) {
		return do(t, w.alice.Actor, http.MethodDelete, w.path("requests/"+next), nil)
	})
	w.accountedAsOver(t, next)
}

// accountedAsOver waits until a request is closed and nothing of it gives access.
func (w *world) accountedAsOver(t *testing.T, request string) {
	t.Helper()
	poll.Until(t, settles, func() error {
		state, creds, err := w.audit(t, request)
		if err != nil {
			return err
		}
		if state == "active" || state == "pending" || state == "scheduled" {
			return fmt.Errorf("the request is %s", state)
		}
		for _, c := range creds {
			if c.state != "ended" && c.state != "gone" {
				return fmt.Errorf("credential %s of a closed request is %s", c.id, c.state)
			}
		}
		return w.nothingElse(t, request, nil, len(w.remainder))
	})
}
