package aws

import (
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/vault-pim/vault-plugin-secrets-pim/internal/domain"
	"github.com/vault-pim/vault-plugin-secrets-pim/internal/provider/contract"
	"github.com/vault-pim/vault-plugin-secrets-pim/internal/provider/providertest"
)

// memoryLog keeps what was logged.
type memoryLog struct {
	mu    sync.Mutex
	lines []string
}

func (l *memoryLog) add(msg string, args ...any) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.lines = append(l.lines, msg+fmt.Sprint(args...))
}

func (l *memoryLog) Debug(msg string, args ...any) { l.add(msg, args...) }
func (l *memoryLog) Warn(msg string, args ...any)  { l.add(msg, args...) }
func (l *memoryLog) Error(msg string, args ...any) { l.add(msg, args...) }

// instance opens one provider process on the fake.
func (w *fakeAWS) instance(t providertest.Fataler, change func(*contract.Target)) *Provider {
	t.Helper()
	return w.instanceAt(t, usualPace(), change)
}

func (w *fakeAWS) instanceAt(t providertest.Fataler, pace pace, change func(*contract.Target)) *Provider {
	t.Helper()
	target := fakeTarget(rootKey)
	target.Place = homeAccount
	if change != nil {
		change(&target)
	}
	p, err := descriptor(w.dial, pace).New(contract.Env{Clock: w.clk, Log: &memoryLog{}, AllowAmbient: []string{Type}}, target)
	if err != nil {
		t.Fatalf("open: %v", err)
	}
	out, ok := p.(*Provider)
	if !ok {
		t.Fatalf("opened a %T", p)
	}
	return out
}

// open is instance for a test, closed at its end.
func (w *fakeAWS) open(t *testing.T, change func(*contract.Target)) *Provider {
	t.Helper()
	return closing(t, w.instance(t, change))
}

// paced is open with another pace.
func (w *fakeAWS) paced(t *testing.T, pace pace) *Provider {
	t.Helper()
	return closing(t, w.instanceAt(t, pace, nil))
}

func closing(t *testing.T, p *Provider) *Provider {
	t.Helper()
	t.Cleanup(func() {
		if err := p.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	})
	return p
}

// ask is a fresh credential's input for a role with these fields.
func (w *fakeAWS) ask(t providertest.Fataler, life time.Duration, fields contract.Values) contract.Input {
	t.Helper()
	now := w.clk.Now()
	return contract.Input{
		Credential: domain.CredentialID(providertest.NewID(t, now)), Request: domain.RequestID(providertest.NewID(t, now)), Role: "prod", Person: "alice", Ticket: "T-1",
		EntityID: "e-1", Fields: fields, NotAfter: now.Add(life),
	}
}

// grant is one issued credential of a test.
type grant struct {
	in     contract.Input
	h      domain.Handle // as a record would hold it
	issued contract.Issued
}

// issue plans and issues.
func issue(t providertest.Fataler, p *Provider, in contract.Input) (grant, error) {
	t.Helper()
	h, err := p.Plan(noCancel, in)
	if err != nil {
		return grant{in: in}, err
	}
	g := grant{in: in, h: h}
	g.issued, err = p.Issue(noCancel, in, h, func(h domain.Handle) error {
		g.h = h
		return nil
	})
	if err == nil {
		g.h = g.issued.Handle
	}
	return g, err
}

func mustIssue(t providertest.Fataler, p *Provider, in contract.Input) grant {
	t.Helper()
	g, err := issue(t, p, in)
	if err != nil {
		t.Fatalf("issue: %v", err)
	}
	return g
}

func mustRevoke(t providertest.Fataler, p *Provider, h domain.Handle) contract.Ended {
	t.Helper()
	ended, err := p.Revoke(noCancel, h)
	if err != nil {
		t.Fatalf("revoke: %v", err)
	}
	return ended
}

// role is the fields of a plain role on prod-admin.
func role(more ...any) contract.Values {
	v := contract.Values{"role_arns": []string{roleARN(homeAccount, prodRole)}}
	for i := 0; i+1 < len(more); i += 2 {
		name, _ := more[i].(string)
		v[name] = more[i+1]
	}
	return v
}

// ok tells whether an issued credential works.
func (w *fakeAWS) ok(g grant) bool { return w.works(nil, g.issued) }

// codeOf is the code of an error of ours.
func codeOf(err error) string {
	if e, ok := errors.AsType[*contract.Error](err); ok {
		return e.Code
	}
	return ""
}

func wantCode(t providertest.Fataler, err error, code string) {
	t.Helper()
	if codeOf(err) != code {
		t.Fatalf("got %v, want an error with code %s", err, code)
	}
	if err != nil && strings.Contains(err.Error(), upstreamWords) {
		t.Fatalf("the error has the target's own words: %v", err)
	}
}

// session finds what STS gave for a credential.
func (w *fakeAWS) session(t providertest.Fataler, g grant) *fakeSession {
	t.Helper()
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, s := range w.accounts[homeAccount].sessions {
		if s.AccessKey == g.issued.Data.Reveal()["access_key"] {
			return s
		}
	}
	t.Fatalf("no such session")
	return nil
}

// inline reads a policy as it is stored.
func (w *fakeAWS) inline(kind holderKind, who, name string) string {
	w.mu.Lock()
	defer w.mu.Unlock()
	a := w.accounts[homeAccount]
	if kind == userHolder {
		return a.users[who].inline[name]
	}
	return a.roles[who].inline[name]
}

// setInline stores a policy as somebody else would.
func (w *fakeAWS) setInline(who, name, text string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.accounts[homeAccount].roles[who].inline[name] = text
}
