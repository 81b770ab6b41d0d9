//go:build faults

package cases

import (
	"context"
	"io"
	"net"
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/vault-pim/vault-plugin-secrets-pim/tests/faults/report"
	"github.com/vault-pim/vault-plugin-secrets-pim/tests/harness"
)

// listener takes the host's audit entries, and can be taken away.
type listener struct {
	addr string

	mu    sync.Mutex
	l     net.Listener
	conns []net.Conn
}

func newListener(t *testing.T) *listener {
	t.Helper()
	a := &listener{addr: "127.0.0.1:0"}
	a.open(t)
	t.Cleanup(a.cut)
	return a
}

func (a *listener) open(t *testing.T) {
	t.Helper()
	l, err := (&net.ListenConfig{}).Listen(context.Background(), "tcp", a.addr)
	if err != nil {
		t.Fatal(err)
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.l, a.addr = l, l.Addr().String()
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return // it was cut
			}
			a.mu.Lock()
			a.conns = append(a.conns, c)
			a.mu.Unlock()
			go io.Copy(io.Discard, c) //nolint:errcheck // it ends when it is cut
		}
	}()
}

// cut closes everything at once, so that the next write fails and is not buffered.
func (a *listener) cut() {
	a.mu.Lock()
	defer a.mu.Unlock()
	_ = a.l.Close() // it may be closed already
	for _, c := range a.conns {
		if tcp, ok := c.(*net.TCPConn); ok {
			_ = tcp.SetLinger(0) // it may have been closed by the host
		}
		_ = c.Close()
	}
	a.conns = nil
}

// The only audit device fails between request and answer: the client gets an error and
// the credential exists. It is on record, can be ended, and ends by its own time.
func TestR5AnswerCannotBeAudited(t *testing.T) {
	t.Parallel()
	audit := newListener(t)
	node := harness.StartNode(t, harness.Options{AuditSocket: audit.addr})
	s := newStage(t, node)
	for range heavy() {
		for _, ttl := range []string{"1h", "8s"} {
			s.unaudited(t, node, audit, ttl)
		}
	}
	s.close(t, report.Row{Case: "R5", What: "answer of a read cannot be audited", Runs: 2 * heavy(), Note: "ended by the approver, and by its time"})
}

func (s *stage) unaudited(t *testing.T, node *harness.Host, audit *listener, ttl string) {
	t.Helper()
	role := s.role(t, map[string]any{"lease_ttl": ttl})
	id := s.grant(t, role)
	s.pim.PauseAt(t, "after put issue settled")
	var answer harness.Answer
	done := make(chan error)
	go func() {
		var err error
		answer, err = s.read(t, node, role)
		done <- err
	}()
	if err := s.paused(); err != nil {
		t.Fatal(err)
	}
	audit.cut()
	s.pim.Continue(t)
	if err := <-done; err != nil || answer.Status < http.StatusInternalServerError {
		t.Fatalf("the answer was not audited and came: %d %s, %v", answer.Status, answer.Body, err)
	}
	audit.open(t)
	s.call(t, node.Root(), http.MethodGet, "sys/mounts", nil).OK(t)
	live := s.target.Live()
	if len(live) != 1 {
		t.Fatalf("%d bindings exist, want the one that nobody was told of", len(live))
	}
	if got := s.states(t, id)[live[0].Credential]; got != "active" {
		t.Errorf("on record the credential is %s, want active", got)
	}
	if ttl == "1h" {
		s.end(t, id)
	} else {
		s.ledger.leaseDue(live[0].Credential, live[0].Made.Add(8*time.Second))
	}
	s.alive(t, 0)
}
