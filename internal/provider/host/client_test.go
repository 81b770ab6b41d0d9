package host_test

import (
	"context"
	"crypto/tls"
	"encoding/pem"
	"errors"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/vault-pim/vault-plugin-secrets-pim/internal/clock"
	"github.com/vault-pim/vault-plugin-secrets-pim/internal/domain"
	"github.com/vault-pim/vault-plugin-secrets-pim/internal/provider/contract"
	"github.com/vault-pim/vault-plugin-secrets-pim/internal/provider/host"
	"github.com/vault-pim/vault-plugin-secrets-pim/internal/secret"
)

func TestEncryption(t *testing.T) {
	t.Parallel()
	serve := func(t *testing.T, most uint16) (address, ca string) {
		t.Helper()
		s := httptest.NewUnstartedServer(respond(map[string]any{"initialized": true, "cluster_id": "c"}))
		s.TLS = &tls.Config{MinVersion: tls.VersionTLS10, MaxVersion: most}
		s.Config.ErrorLog = nil
		s.StartTLS()
		t.Cleanup(s.Close)
		return s.URL, string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.Certificate().Raw}))
	}
	for _, row := range []struct {
		name       string
		serverName string
		withCA     bool
		most       uint16
		ok         bool
	}{
		{name: "a certificate of the target's own authority", withCA: true, most: tls.VersionTLS13, ok: true},
		{name: "a certificate that nobody trusts", most: tls.VersionTLS13},
		{name: "the name that the target names", withCA: true, serverName: "example.com", most: tls.VersionTLS13, ok: true},
		{name: "another name than the target names", withCA: true, serverName: "bao.internal", most: tls.VersionTLS13},
		{name: "TLS 1.2", withCA: true, most: tls.VersionTLS12, ok: true},
		{name: "TLS 1.1", withCA: true, most: tls.VersionTLS11},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			address, ca := serve(t, row.most)
			target := contract.Target{
				Name:    "local",
				Fields:  contract.Values{"address": address, "token_role": "pim", "tls_server_name": row.serverName},
				Secrets: map[string]secret.String{"token": secret.New(rootToken)},
			}
			if row.withCA {
				target.Fields["ca_cert"] = ca
			}
			p, err := host.Descriptor().New(contract.Env{Clock: clock.System{}}, target)
			if err != nil {
				t.Fatal(err)
			}
			place, err := p.Place(t.Context())
			if (err == nil) != row.ok || (row.ok && place != "c") {
				t.Errorf("got %q, %v", place, err)
			}
		})
	}
}

func TestNamesThatResolveToLinkLocalAreNotDialled(t *testing.T) {
	t.Parallel()
	for _, row := range []struct {
		name, address string
		allow         bool
		refused       bool
	}{
		{"the metadata service of a cloud", "https://169.254.169.254", false, true},
		{"the same address written as IPv6", "https://[::ffff:169.254.169.254]", false, true},
		{"every address of this machine", "https://0.0.0.0:8200", false, true},
		{"link-local, allowed", "https://169.254.169.254", true, false},
		{"loopback is the advice", "https://127.0.0.1:8200", false, false},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			target := contract.Target{
				Fields:  contract.Values{"address": row.address, "token_role": "pim"},
				Secrets: map[string]secret.String{"token": secret.New(rootToken)},
			}
			report := host.Descriptor().CheckTarget(contract.Env{AllowLocal: row.allow}, target)
			if report.OK() == row.refused {
				t.Errorf("got %v", report.Problems)
			}
		})
	}
}

func TestCallsEndWithTheirContext(t *testing.T) {
	t.Parallel()
	b := newBench(t, appRoleTarget)
	reached, release := make(chan struct{}), make(chan struct{})
	b.f.on("POST auth/token/create/pim", func(http.ResponseWriter, *http.Request) {
		close(reached)
		<-release
	})
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() {
		_, _, err := b.issue(ctx, leaseRole())
		done <- err
	}()
	<-reached
	cancel()
	select {
	case err := <-done:
		if codeOf(err) != "cancelled" {
			t.Errorf("got %v", err)
		}
	case <-time.After(5 * time.Second):
		t.Error("the issue went on after its context ended")
	}
	close(release)
}

// A host that hangs in the middle of everything holds an issue or a revocation
// for ten seconds at most: during a step-down the failover waits for them.
func TestHostThatHangsCostsTenSecondsAtMost(t *testing.T) {
	t.Parallel()
	const most = 10*time.Second + 500*time.Millisecond
	for _, row := range []struct {
		name string
		at   []string // calls that hang, besides the revocation of the token
		run  func(b *bench, h domain.Handle) error
	}{
		{"an issue that hangs at the lookup", []string{"POST auth/token/lookup-accessor"}, func(b *bench, _ domain.Handle) error {
			_, _, err := b.issue(b.Context(), leaseRole())
			return err
		}},
		{"a revocation", nil, func(b *bench, h domain.Handle) error {
			_, err := b.p.Revoke(b.Context(), h)
			return err
		}},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			b := newBench(t, appRoleTarget)
			_, h, err := b.issue(t.Context(), leaseRole())
			if err != nil {
				t.Fatal(err)
			}
			release := make(chan struct{})
			defer close(release)
			hang := func(http.ResponseWriter, *http.Request) { <-release }
			for id := range b.f.leases {
				b.f.on("PUT sys/leases/revoke/"+id, hang)
			}
			for _, call := range append(row.at, "POST auth/token/revoke-accessor") {
				b.f.on(call, hang)
			}
			began := clock.System{}.Now()
			if err := row.run(b, h); err == nil {
				t.Error("a host that hangs was taken for one that answered")
			}
			took := clock.System{}.Now().Sub(began)
			if took > most {
				t.Errorf("it took %s", took)
			}
		})
	}
}

// A connection that dies in the middle of a GET makes the standard transport
// send it again; a credential must not be made twice by it.
func TestReadOfACredentialIsNeverRepeated(t *testing.T) {
	t.Parallel()
	b := newBench(t, appRoleTarget)
	var reads atomic.Int64
	b.f.on("GET database/creds/app", func(w http.ResponseWriter, _ *http.Request) {
		reads.Add(1)
		conn, _, err := http.NewResponseController(w).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		if tcp, ok := conn.(*net.TCPConn); ok {
			if err := tcp.SetLinger(0); err != nil { // a reset, as of a process that dies
				t.Error(err)
			}
		}
		if err := conn.Close(); err != nil {
			t.Error(err)
		}
	})
	if _, _, err := b.issue(t.Context(), leaseRole()); codeOf(err) != "no_answer" || strings.Contains(err.Error(), "database") {
		t.Errorf("got %v", err)
	}
	if n := reads.Load(); n != 1 || b.left() != 0 {
		t.Errorf("read %d times, %d things left", n, b.left())
	}
}

func TestPlaceOfAHostThatIsNotReady(t *testing.T) {
	t.Parallel()
	for name, answer := range map[string]http.HandlerFunc{
		"sealed":                 respond(map[string]any{"initialized": true, "sealed": true, "cluster_id": "c"}),
		"not initialized":        respond(map[string]any{"initialized": false, "cluster_id": "c"}),
		"without cluster id":     respond(map[string]any{"initialized": true}),
		"something else at all":  respond([]string{"x"}),
		"an error":               status(http.StatusServiceUnavailable),
		"too many calls":         status(http.StatusTooManyRequests),
		"behind on replication":  status(http.StatusPreconditionFailed),
		"an unauthorised client": status(http.StatusUnauthorized),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := newBench(t, appRoleTarget)
			b.f.on("GET sys/health", answer)
			if place, err := b.p.Place(t.Context()); err == nil {
				t.Errorf("it told the place %q", place)
			}
		})
	}
}

// What is over in a moment is no refusal, which nobody would try again.
func TestAHostThatIsNotReadyHasNotRefused(t *testing.T) {
	t.Parallel()
	for code, refused := range map[int]bool{
		http.StatusBadRequest: true, http.StatusForbidden: true, http.StatusPreconditionFailed: false, http.StatusServiceUnavailable: false,
		471: true, 472: false, 473: false, 474: false, 475: true, // of sys/health: a secondary, a standby, and one without a leader
	} {
		b := newBench(t, appRoleTarget)
		b.f.on("GET sys/health", status(code))
		_, err := b.p.Place(t.Context())
		var e *contract.Error
		if !errors.As(err, &e) || e.Refused != refused {
			t.Errorf("%d: %v", code, err)
		}
	}
}

func TestNamespaceIsPartOfThePlaceAndOfTheCalls(t *testing.T) {
	t.Parallel()
	b := newBench(t, tokenTarget)
	if b.target.Place != "cluster-one/team1" {
		t.Errorf("the place is %q", b.target.Place)
	}
	seen := make(chan string, 1)
	b.f.on("GET database/creds/app", func(w http.ResponseWriter, r *http.Request) {
		seen <- r.Header.Get("X-Vault-Namespace")
		fail(w, http.StatusNotFound)
	})
	if _, _, err := b.issue(t.Context(), leaseRole()); codeOf(err) != "http_404" {
		t.Errorf("got %v", err)
	}
	if ns := <-seen; ns != "team1" {
		t.Errorf("the call went to namespace %q", ns)
	}
}
