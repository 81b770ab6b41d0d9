package access_test

import (
	"slices"
	"time"

	"pgregory.net/rapid"

	"github.com/vault-pim/vault-plugin-secrets-pim/internal/access"
	"github.com/vault-pim/vault-plugin-secrets-pim/internal/domain"
)

// check is what must hold after every step.
func (l *life) check(*rapid.T) {
	l.Helper()
	l.covered()
	for _, prefix := range []string{"req/", "arch/"} {
		for _, k := range l.disk.keys(prefix) {
			r := record[domain.Request](l.mount, k)
			l.told(r)
			if prefix == "req/" {
				l.withinBounds(r)
			}
		}
	}
	for _, g := range l.given {
		if g.ended && g.role != "other" && len(l.usableOf(g.ans.Lease.Credential)) > 0 {
			l.Fatalf("credential %s works although the host was told that it is gone", g.ans.Lease.Credential)
		}
	}
}

func (l *life) usableOf(id domain.CredentialID) []string {
	var out []string
	for _, o := range l.world.Usable() {
		if o.Credential == id {
			out = append(out, o.Name)
		}
	}
	return out
}

// told insists that a history only ever grows, and is whole.
func (l *life) told(r domain.Request) {
	l.Helper()
	if !r.History.Intact() {
		l.Fatalf("the history of %s is broken", r.ID)
	}
	before := l.heads[string(r.ID)]
	now := r.History.Entries
	if r.History.Folded == 0 && (len(now) < len(before) || !slices.Equal(before, now[:len(before)])) {
		l.Fatalf("the history of %s was rewritten", r.ID)
	}
	l.heads[string(r.ID)] = now
}

// withinBounds insists that no grant has more credentials than it may have, and
// that one which is over has none that nobody is ending.
func (l *life) withinBounds(r domain.Request) {
	l.Helper()
	live := 0
	for _, c := range r.Credentials {
		if c.State.MayExist() && (c.State != domain.CredIssuing || c.Boot == l.a.Boot()) {
			live++
		}
		if r.State.Terminal() && (c.State == domain.CredIssuing || c.State == domain.CredActive) {
			l.Fatalf("request %s is %s and its credential is %s", r.ID, r.State, c.State)
		}
		if c.Expires.After(r.WindowEnd) {
			l.Fatalf("credential %s outlives its window", c.ID)
		}
	}
	if live > mostLive {
		l.Fatalf("request %s has %d live credentials", r.ID, live)
	}
	if r.Granted > 0 && !r.Auto && approvalsOf(r) < 2 {
		l.Fatalf("request %s was granted by %d", r.ID, approvalsOf(r))
	}
}

func approvalsOf(r domain.Request) int {
	people := map[domain.Person]bool{}
	for _, d := range r.Decisions {
		if d.Verdict == domain.Approve && d.By.Person != r.Requester.Person {
			people[d.By.Person] = true
		}
	}
	return len(people)
}

// justified insists, at the moment of an answer, that this person may have it.
func (l *life) justified(name, roleName string, ans *access.Answer) {
	l.Helper()
	now := l.clk.Now()
	r := record[domain.Request](l.mount, "req/"+string(ans.Lease.Request))
	role := record[domain.Role](l.mount, "role/"+roleName)
	requester, known := l.people.byID[id(name)]
	switch {
	case r.Requester.Entity != id(name) || r.Role != roleName:
		l.Fatalf("issued under the request of %s for %s", r.Requester.Name, r.Role)
	case !known || requester.Disabled || !role.Eligible(requester, now).OK:
		l.Fatalf("%s is not eligible", name)
	case r.State != domain.Active || !now.Before(r.WindowEnd) || now.Add(ans.TTL).After(r.WindowEnd) || ans.TTL < time.Minute:
		l.Fatalf("request is %s until %s, the lease is of %s", r.State, r.WindowEnd, ans.TTL)
	case role.Revision() != r.RoleRevision:
		l.Fatalf("issued under another role than was approved")
	}
	l.quorum(role, r)
	for _, k := range l.disk.keys("hold/") {
		h := record[domain.Hold](l.mount, k)
		if h.Covers(domain.Scope{Person: r.Requester.Person, Entity: r.Requester.Entity, Role: r.Role, Target: r.Target}, now) {
			l.Fatalf("issued through a hold on a %s", h.Kind)
		}
	}
	c, ok := r.Credential(ans.Lease.Credential)
	if !ok || c.State != domain.CredActive || !slices.ContainsFunc(c.Nonces, func(n domain.Nonce) bool { return n.ID == ans.Lease.Nonce }) {
		l.Fatalf("the answer's credential is not on record as active under its lease")
	}
}

// quorum counts by hand who stands behind a grant at this moment.
func (l *life) quorum(role domain.Role, r domain.Request) {
	l.Helper()
	if role.AutoApprove {
		return
	}
	voices := map[string]bool{}
	for _, d := range r.Decisions {
		e, known := l.people.byID[d.By.Entity]
		if d.Verdict == domain.Deny {
			l.Fatalf("issued against a denial")
		}
		if known && !e.Disabled && len(e.Groups) > 0 && d.Digest == r.Digest && e.ID != r.Requester.Entity {
			voices[e.ID] = true
		}
	}
	if len(voices) < role.Approvals {
		l.Fatalf("issued with %d of %d approvals", len(voices), role.Approvals)
	}
}
