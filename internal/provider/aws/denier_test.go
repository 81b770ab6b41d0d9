package aws

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/vault-pim/vault-plugin-secrets-pim/internal/clock"
	"github.com/vault-pim/vault-plugin-secrets-pim/internal/provider/contract"
	"github.com/vault-pim/vault-plugin-secrets-pim/internal/provider/providertest"
)

// noCancel is the context of calls that nothing cuts short.
var noCancel = context.Background()

// Time is real here: two processes that read, write and wait beside each other.
func TestFiftyRevocationsByTwoProcessesLoseNothing(t *testing.T) {
	t.Parallel()
	w := newFakeAWS()
	w.clk.runFreely()
	w.between = func() { <-clock.System{}.After(rand.N(3 * time.Millisecond)) }
	pace := usualPace()
	pace.settle = 300 * time.Millisecond
	hosts := []*Provider{w.paced(t, pace), w.paced(t, pace)}
	var revoked, live []grant
	for i := range 60 {
		g := mustIssue(t, hosts[i%2], w.ask(t, 8*time.Hour, role()))
		if i < 50 {
			revoked = append(revoked, g)
		} else {
			live = append(live, g)
		}
	}
	var wg sync.WaitGroup
	for i, g := range revoked {
		wg.Go(func() {
			if ended, err := hosts[i%2].Revoke(noCancel, g.h); err != nil || !ended.AccessGone {
				t.Errorf("revoke: %+v, %v", ended, err)
			}
		})
	}
	wg.Wait()
	for _, g := range revoked {
		if w.ok(g) {
			t.Errorf("%s was revoked and works", g.in.Credential)
		}
	}
	for _, g := range live {
		if !w.ok(g) {
			t.Errorf("%s was not revoked and does not work", g.in.Credential)
		}
	}
	if n := w.count("PutInline"); n > 30 {
		t.Errorf("50 revocations took %d writes", n)
	}
}

// Another host that read the policy before us and writes it after us takes our
// entry out again. That must not go unseen.
func TestAnOlderReaderThatWritesLateIsNoticed(t *testing.T) {
	t.Parallel()
	for _, row := range []struct {
		name string
		at   int // the n-th read after which the other host writes what it had read
	}{
		{"at once after our write", 1},
		{"after we read our write back", 2},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			w := newFakeAWS()
			p := w.open(t, nil)
			g := mustIssue(t, p, w.ask(t, time.Hour, role()))
			reads := w.count("GetInline")
			old, done := w.inline(roleHolder, prodRole, revocationPolicy), false
			w.mu.Lock()
			w.between = func() {
				if done || w.count("PutInline") == 0 || w.count("GetInline")-reads < row.at {
					return
				}
				done = true
				w.mu.Lock()
				defer w.mu.Unlock()
				w.accounts[homeAccount].roles[prodRole].inline[revocationPolicy] = old
				if old == "" {
					delete(w.accounts[homeAccount].roles[prodRole].inline, revocationPolicy)
				}
			}
			w.mu.Unlock()
			mustRevoke(t, p, g.h)
			if !done {
				t.Fatal("the other host never wrote")
			}
			if w.ok(g) {
				t.Error("the deny was lost")
			}
		})
	}
}

func TestADenyThatSomebodyTookOutComesBackAtTheRecheck(t *testing.T) {
	t.Parallel()
	w := newFakeAWS()
	p := w.open(t, nil)
	g := mustIssue(t, p, w.ask(t, 8*time.Hour, role()))
	ended := mustRevoke(t, p, g.h)
	w.mu.Lock()
	delete(w.accounts[homeAccount].roles[prodRole].inline, revocationPolicy)
	w.mu.Unlock()
	if !w.ok(g) {
		t.Fatal("the test took nothing out")
	}
	if wait := ended.Again.Sub(w.clk.Now()); wait > 2*time.Minute {
		t.Fatalf("the recheck is %s away", wait)
	}
	w.clk.advance(ended.Again.Sub(w.clk.Now()))
	again := mustRevoke(t, w.open(t, nil), ended.Rest)
	if w.ok(g) {
		t.Error("the recheck did not write the deny again")
	}
	if wait := again.Again.Sub(w.clk.Now()); wait > 2*time.Minute {
		t.Errorf("after a loss the next look is %s away", wait)
	}
	w.clk.advance(again.Again.Sub(w.clk.Now()))
	if wait := mustRevoke(t, p, again.Rest).Again.Sub(w.clk.Now()); wait < 8*time.Hour {
		t.Errorf("the deny is taken out after %s, while the session lives", wait)
	}
}

// Reads of IAM may be old. Two hosts that revoke under such reads may take
// entries of each other out, but after the rechecks all are denied.
func TestStaleReadsHealAtTheRecheck(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		w := newFakeAWS()
		hosts := []*Provider{w.instance(t, nil), w.instance(t, nil)}
		defer closeAll(t, hosts)
		stale := rapid.SliceOfN(rapid.Bool(), 5, 30).Draw(t, "stale reads")
		var mu sync.Mutex
		w.stale = func() bool {
			mu.Lock()
			defer mu.Unlock()
			if len(stale) == 0 {
				return false
			}
			out := stale[0]
			stale = stale[1:]
			return out
		}
		var grants []grant
		var rests []contract.Ended
		for i := range rapid.IntRange(2, 6).Draw(t, "sessions") {
			g := mustIssue(t, hosts[i%2], w.ask(t, 8*time.Hour, role()))
			ended, err := hosts[i%2].Revoke(noCancel, g.h)
			if err != nil {
				continue // an error is no promise: the core tries again
			}
			grants, rests = append(grants, g), append(rests, ended)
		}
		w.mu.Lock()
		w.stale = nil
		w.mu.Unlock()
		for i, ended := range rests {
			w.clk.advance(ended.Again.Sub(w.clk.Now()))
			mustRevoke(t, hosts[i%2], ended.Rest)
		}
		for _, g := range grants {
			if w.ok(g) {
				t.Fatalf("%s works after its recheck", g.in.Credential)
			}
		}
	})
}

func closeAll(t providertest.Fataler, list []*Provider) {
	for _, p := range list {
		if err := p.Close(); err != nil {
			t.Fatalf("close: %v", err)
		}
	}
}

// Random sequences of issue, revoke, prune and waiting on one role, against a
// fake that enforces the sizes of AWS: whatever was revoked and has not ended
// is denied, nothing else is.
func TestEveryRevokedSessionIsDeniedAndNoLiveOne(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		w := newFakeAWS()
		m := &model{w: w, hosts: []*Provider{w.instance(t, nil), w.instance(t, nil)}}
		defer closeAll(t, m.hosts)
		// The role has other policies, so that room runs out early.
		w.setInline(prodRole, "other", policyOfSize(t, rapid.IntRange(200, 9000).Draw(t, "others")))
		t.Repeat(map[string]func(*rapid.T){
			"issue":  m.issue,
			"revoke": m.revoke,
			"wait":   m.wait,
			"":       m.check,
		})
	})
}

func policyOfSize(t providertest.Fataler, n int) string {
	text := `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"s3:GetObject","Resource":"*","Sid":"%s"}]}`
	if n < len(text) {
		t.Fatalf("a policy of %d characters is too small", n)
	}
	return fmt.Sprintf(text, strings.Repeat("x", n-len(text)+2))
}

// model is what the sessions of one role ought to be.
type model struct {
	w       *fakeAWS
	hosts   []*Provider
	live    []grant
	revoked []grant
	rests   []contract.Ended
}

func (m *model) host(t *rapid.T) *Provider {
	return m.hosts[rapid.IntRange(0, len(m.hosts)-1).Draw(t, "host")]
}

func (m *model) issue(t *rapid.T) {
	life := time.Duration(rapid.IntRange(60, 12*3600).Draw(t, "life")) * time.Second
	for range rapid.IntRange(1, 8).Draw(t, "sessions") {
		g, err := issue(t, m.host(t), m.w.ask(t, life, role()))
		if codeOf(err) == "revocations_full" {
			return // refused before it was issued: that is the promise
		}
		if err != nil {
			t.Fatalf("issue: %v", err)
		}
		m.live = append(m.live, g)
	}
}

func (m *model) revoke(t *rapid.T) {
	if len(m.live) == 0 {
		return
	}
	n := rapid.IntRange(1, len(m.live)).Draw(t, "revoked")
	p := m.host(t)
	ends, errs := make([]contract.Ended, n), make([]error, n)
	var wg sync.WaitGroup
	for i, g := range m.live[:n] {
		wg.Go(func() { ends[i], errs[i] = p.Revoke(noCancel, g.h) })
	}
	wg.Wait()
	for i, ended := range ends {
		if errs[i] != nil {
			t.Fatalf("revoke: %v", errs[i])
		}
		if !ended.Done() {
			m.rests = append(m.rests, ended)
		}
	}
	m.revoked, m.live = append(m.revoked, m.live[:n]...), m.live[n:]
}

func (m *model) wait(t *rapid.T) {
	m.w.clk.advance(time.Duration(rapid.IntRange(1, 4*3600).Draw(t, "seconds")) * time.Second)
	var left []contract.Ended
	for _, e := range m.rests {
		for !e.Done() && !m.w.clk.Now().Before(e.Again) {
			e = mustRevoke(t, m.host(t), e.Rest)
		}
		if !e.Done() {
			left = append(left, e)
		}
	}
	m.rests = left
}

func (m *model) check(t *rapid.T) {
	now := m.w.clk.Now()
	for _, g := range m.revoked {
		if m.w.ok(g) {
			t.Fatalf("%s was revoked and works", g.in.Credential)
		}
	}
	for _, g := range m.live {
		if works := m.w.ok(g); works != now.Before(g.in.NotAfter) {
			t.Fatalf("%s is live until %s, works: %v at %s", g.in.Credential, g.in.NotAfter, works, now)
		}
	}
	m.w.mu.Lock()
	defer m.w.mu.Unlock()
	a := m.w.accounts[homeAccount]
	sum := 0
	for _, text := range a.roles[prodRole].inline {
		sum += policySize(text)
	}
	if sum > maxRolePolicies {
		t.Fatalf("the role has %d characters of inline policies", sum)
	}
	if len(m.rests) == 0 && a.roles[prodRole].inline[revocationPolicy] != "" {
		t.Fatalf("nothing is left to clear, and yet: %s", a.roles[prodRole].inline[revocationPolicy])
	}
}
