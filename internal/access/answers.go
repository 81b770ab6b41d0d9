package access

import (
	"fmt"
	"regexp"
	"strings"
	"time"

	"github.com/vault-pim/vault-plugin-secrets-pim/internal/domain"
	"github.com/vault-pim/vault-plugin-secrets-pim/internal/fault"
	"github.com/vault-pim/vault-plugin-secrets-pim/internal/provider/contract"
)

// noGrant is the answer of a read without a grant: what stands in the way, and
// the exact command that comes next.
func (a *Access) noGrant(role *domain.Role, f finding) error {
	now := a.now()
	if r := f.request; r != nil {
		return pendingFault(role, *r, now)
	}
	next := requestCommand(role)
	if f.last == nil {
		return fault.New(fault.Conflict, fault.CodeNoGrant, "no active grant: run: "+next, nil).
			With("state", "none").With("role", role.Name).With("next", next)
	}
	var out *fault.Error
	fresh := now.Sub(f.last.At) < f.cool
	switch f.last.Closed {
	case domain.Denied:
		if fresh {
			out = fault.New(fault.Denied, fault.CodeRequestDenied, fmt.Sprintf("access denied: request %s was denied; ask again: %s", f.last.ID, next), nil)
		}
	case domain.Revoked:
		if fresh {
			out = fault.New(fault.Denied, fault.CodeRevoked, fmt.Sprintf("access denied: request %s was revoked; ask again: %s", f.last.ID, next), nil)
		}
	case domain.Expired:
		out = fault.New(fault.Conflict, fault.CodeExpired, fmt.Sprintf("no active grant: request %s expired undecided or unused; run: %s", f.last.ID, next), nil)
	case domain.Cancelled:
		out = fault.New(fault.Conflict, fault.CodeCancelled, fmt.Sprintf("no active grant: request %s was cancelled; run: %s", f.last.ID, next), nil)
	case domain.Void:
		out = fault.New(fault.Conflict, fault.CodeVoid, fmt.Sprintf("no active grant: request %s is void, since role, target or person changed; run: %s", f.last.ID, next), nil)
	case domain.Ended, domain.Pending, domain.Scheduled, domain.Active:
		out = fault.New(fault.Conflict, fault.CodeEnded, fmt.Sprintf("no active grant: the access of request %s has ended; run: %s", f.last.ID, next), nil)
	}
	if out == nil {
		out = fault.New(fault.Conflict, fault.CodeNoGrant, "no active grant: run: "+next, nil)
	}
	return out.With("state", string(f.last.Closed)).With("request_id", string(f.last.ID)).
		With("role", role.Name).With("next", next)
}

// pendingFault tells where an open request stands.
func pendingFault(role *domain.Role, r domain.Request, now time.Time) error {
	next := "vault read pim/requests/" + string(r.ID)
	if r.At(now) == domain.Scheduled {
		return fault.New(fault.Conflict, fault.CodeScheduled,
			fmt.Sprintf("no active grant: request %s is approved and starts at %s", r.ID, stamp(r.WindowStart)), nil).
			With("state", string(domain.Scheduled)).With("request_id", string(r.ID)).With("role", role.Name).
			With("expires_at", stamp(r.WindowEnd)).With("next", next).
			With("poll_after_seconds", pollAfter(r.WindowStart.Sub(now)))
	}
	have := 0
	for _, d := range r.Decisions {
		if d.Verdict == domain.Approve {
			have++
		}
	}
	return fault.New(fault.Conflict, fault.CodePending,
		fmt.Sprintf("approval pending: request %s has %d of %d approvals, waiting for %s until %s; see: %s",
			r.ID, have, role.Quorum(), waitingFor(role, r.Stage), stamp(r.ExpiresAt), next), nil).
		With("state", string(domain.Pending)).With("request_id", string(r.ID)).With("role", role.Name).
		With("approvals", map[string]any{"have": have, "need": role.Quorum()}).
		With("waiting_for", waitingFor(role, r.Stage)).With("expires_at", stamp(r.ExpiresAt)).
		With("poll_after_seconds", 10).With("next", next)
}

func pollAfter(d time.Duration) int {
	return int(min(max(d, time.Second), 10*time.Minute) / time.Second)
}

// waitingFor names who can decide at a stage: groups and entities as the role
// names them.
func waitingFor(role *domain.Role, stage int) string {
	stages := role.Staged()
	if len(stages) == 0 {
		return ""
	}
	return domain.NamesOf(stages[min(stage, len(stages)-1)].Thresholds())
}

// plainValue is what a shell takes as it stands: a line to paste must not run
// what somebody wrote into a role.
var plainValue = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9_.:/@+-]{0,63}$`)

// exampleOf is a value that a parameter takes, where one can be told.
func exampleOf(p domain.Param) string {
	if len(p.Allowed) > 0 && !p.Sensitive && plainValue.MatchString(p.Allowed[0]) {
		return p.Allowed[0]
	}
	return "value"
}

// requestCommand is the ready command with exactly the fields that the role
// requires.
func requestCommand(role *domain.Role) string {
	var b strings.Builder
	b.WriteString("vault write pim/request/" + role.Name)
	if role.RequireJustification {
		b.WriteString(` justification="why"`)
	}
	if role.RequireTicket {
		b.WriteString(` ticket="number"`)
	}
	for _, name := range contract.SortedKeys(role.Params) {
		if p := role.Params[name]; p.Required && p.Default == "" {
			b.WriteString(" params=" + name + `="` + exampleOf(p) + `"`)
		}
	}
	if !role.RequireJustification && !role.RequireTicket && !strings.Contains(b.String(), "params=") {
		return strings.Replace(b.String(), "vault write", "vault write -f", 1)
	}
	return b.String()
}

func stamp(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.UTC().Format(time.RFC3339)
}
