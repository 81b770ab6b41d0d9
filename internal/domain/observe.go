package domain

import (
	"strings"
	"time"
)

// How a role's policy is enforced.
const (
	EnforceAlways  = "always"
	EnforceObserve = "observe"
)

// LimitObserve is the longest time that a policy may only be observed.
const LimitObserve = 90 * 24 * time.Hour

// Observing tells whether the role's policy is only written down now: eligible
// people pass whatever it says.
func (r Role) Observing(now time.Time) bool {
	return r.Enforce == EnforceObserve && now.Before(r.ObserveUntil)
}

func (r Role) checkObserve(p *problems) {
	switch r.Enforce {
	case "", EnforceAlways:
		if !r.ObserveUntil.IsZero() {
			p.add("observe_until", "goes with enforce=observe only")
		}
		return
	case EnforceObserve:
	default:
		p.add("enforce", "must be always or observe")
		return
	}
	if r.ObserveUntil.IsZero() {
		p.add("observe_until", "is required with enforce=observe")
	}
	switch {
	case r.AutoApprove:
		p.add("enforce", "a role that approves by itself has nothing to observe")
	case r.MinRevocation != "":
		p.add("enforce", "a role with min_revocation is never only observed")
	case len(r.BreakGlassGroups) > 0:
		p.add("enforce", "a role with break_glass_groups is never only observed")
	}
}

// Sentence is an outcome in one line, for records of what would have been.
func (o Outcome) Sentence() string {
	if o.Met {
		return "would have been approved"
	}
	var why []string
	for _, r := range o.Rules {
		if r.Status != Met {
			why = append(why, r.Rule+": "+r.Reason)
		}
	}
	text := "would have waited: "
	if o.Blocked || o.Denied {
		text = "would have been refused: "
	}
	return clip(text + strings.Join(why, "; "))
}

// clip bounds a text of ours, at a letter.
func clip(s string) string {
	const most = 1024
	if len(s) <= most {
		return s
	}
	return strings.ToValidUTF8(s[:most], "") + " …"
}

// Observe lets a request that is about to be filed pass, and keeps what the
// policy would have said.
func (r Request) Observe(o Outcome) (Request, Outcome) {
	r.Observed = o.Sentence()
	o.Met, o.Auto, o.Blocked = true, true, false
	return r, o
}
