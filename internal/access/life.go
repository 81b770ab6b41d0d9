package access

import (
	"time"

	"github.com/vault-pim/vault-plugin-secrets-pim/internal/domain"
	"github.com/vault-pim/vault-plugin-secrets-pim/internal/fault"
)

// life resolves the lease: whole seconds, never beyond what stands of the window
// nor beyond the hours in which the role may be used.
func (j *job) life(now time.Time, mountMax time.Duration) error {
	left := j.req.WindowEnd.Sub(now)
	if j.req.State == domain.Scheduled && j.req.FirstRead {
		left = j.req.Granted.Duration()
	}
	if j.req.Series != nil && j.role.LeaseTTL == 0 {
		left = min(left, j.role.TTL.Duration()) // a run has the window that one grant would have
	}
	for _, end := range []time.Time{j.until, j.closes(now)} {
		if !end.IsZero() {
			left = min(left, end.Sub(now))
		}
	}
	ttl, ok := domain.ResolveLease(*j.role, left, j.limits.MinTTL, j.limits.MaxTTL, mountMax)
	if !ok {
		return j.errWindowEnding()
	}
	j.ttl = ttl
	return nil
}

// closes is when the role's hours end, or the time in which they are only
// observed; zero = neither binds this credential.
func (j *job) closes(now time.Time) time.Time {
	if j.req.BreaksGlass() {
		return time.Time{}
	}
	if j.req.Observed != "" && j.role.Observing(now) {
		return j.role.ObserveUntil
	}
	if h := j.role.HoursAt(now); h.Open {
		return h.Change
	}
	return time.Time{}
}

func (j *job) errWindowEnding() error {
	return fault.Newf(fault.Conflict, fault.CodeWindowEnding,
		"no active grant: the access window of request %s is ending; run: %s", j.req.ID, requestCommand(j.role)).
		With("request_id", string(j.req.ID)).With("role", j.role.Name).With("state", string(j.req.State)).
		With("expires_at", stamp(j.req.WindowEnd)).With("next", requestCommand(j.role))
}
