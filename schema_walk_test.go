package pim

import (
	"context"
	"errors"
	"net/http"
	"testing"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/vault/sdk/helper/consts"
	"github.com/hashicorp/vault/sdk/logical"

	"github.com/vault-pim/vault-plugin-secrets-pim/internal/clock"
	"github.com/vault-pim/vault-plugin-secrets-pim/internal/provider/all"
	"github.com/vault-pim/vault-plugin-secrets-pim/internal/provider/contract"
)

// wholeBackend is the plugin as it is built, with its log.
func wholeBackend(t *testing.T) (*backend, *logBuffer) {
	t.Helper()
	return wholeBackendAt(t, logical.TestSystemView())
}

// wholeBackendAt is wholeBackend on a certain host.
func wholeBackendAt(t *testing.T, view logical.SystemView) (*backend, *logBuffer) {
	t.Helper()
	log := &logBuffer{}
	logger := hclog.New(&hclog.LoggerOptions{Output: log, Level: hclog.Trace})
	conf := &logical.BackendConfig{
		Logger: logger, System: view, StorageView: &logical.InmemStorage{}, BackendUUID: "mount-1",
	}
	b, err := newBackend(context.Background(), conf, contract.Env{Clock: clock.System{}, Log: logger}, all.Descriptors(), func(string) {})
	if err != nil {
		t.Fatal(err)
	}
	return b, log
}

// The plugin as it is built hands on what another node has to answer.
func TestAStandbyAnswersNothing(t *testing.T) {
	view := logical.TestSystemView()
	view.ReplicationStateVal = consts.ReplicationPerformanceStandby
	b, _ := wholeBackendAt(t, view)
	for _, path := range []string{"config", "creds/x", "requests/01kjpwd6msjbwvsgt0acf3tbmj"} {
		req := &logical.Request{ID: "r", Operation: logical.ReadOperation, Path: path, Storage: &logical.InmemStorage{}}
		if resp, err := b.HandleRequest(context.Background(), req); !errors.Is(err, logical.ErrReadOnly) || resp != nil {
			t.Errorf("%s on a standby: %+v, %v", path, resp, err)
		}
	}
}

func TestEveryPathIsDeclaredWhole(t *testing.T) {
	b, _ := wholeBackend(t)
	if len(b.Paths) < 25 {
		t.Fatalf("only %d paths", len(b.Paths))
	}
	checkPaths(t, b.Paths)
}

// Secrets that are sent in a wrong place or of a wrong type never come back,
// whatever the path and the operation.
func TestNoPathRepeatsWhatWasSent(t *testing.T) {
	b, log := wholeBackend(t)
	sent := 0
	for _, r := range b.handler.routes {
		for _, o := range r.ops {
			for _, data := range canaries(r, o) {
				sent++
				req := &logical.Request{ID: "req-1", Operation: o.verb, Path: samplePath(r), Data: data, Storage: &logical.InmemStorage{}}
				resp, err := b.HandleRequest(context.Background(), req)
				if code := status(t, o.verb, resp, err); code != http.StatusBadRequest {
					t.Errorf("%s of %s answers %d: %v", o.verb, r.name, code, err)
					continue
				}
				(&bench{log: log}).wantNowhere(t, canary, resp, err)
				checkAnswer(t, b.Backend, req, resp, err)
			}
		}
	}
	t.Logf("%d wrong inputs were refused", sent)
}

// canaries are inputs that are wrong in every way, for one operation.
func canaries(r *route, o op) []map[string]any {
	nested := map[string]any{"password": []any{canary, map[string]any{canary: canary}}}
	out := []map[string]any{{canary: canary}, {"no_such_field": canary}}
	for _, f := range r.path.captures {
		out = append(out, map[string]any{f.name: canary})
	}
	everything := map[string]any{}
	for _, f := range r.fields {
		everything[f.name] = nested
		if o.takesField(f) {
			out = append(out, map[string]any{f.name: []any{nested}})
		} else {
			out = append(out, map[string]any{f.name: canary})
		}
	}
	if len(everything) > 0 {
		everything[canary] = canary
		out = append(out, everything)
	}
	return out
}

func samplePath(r *route) string {
	for _, sample := range []string{"x", "01jnb000000000000000000001"} {
		path := segmentPattern.ReplaceAllString(r.pattern, sample)
		path = trailingSlash.ReplaceAllString(path, "/")
		good := true
		for _, f := range r.path.captures {
			good = good && (f.check == nil || f.check(r.captures(path)[f.name]) == "")
		}
		if good {
			return path
		}
	}
	return segmentPattern.ReplaceAllString(trailingSlash.ReplaceAllString(r.pattern, "/"), "x")
}
