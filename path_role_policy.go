package pim

import (
	"time"

	"github.com/vault-pim/vault-plugin-secrets-pim/internal/domain"
	"github.com/vault-pim/vault-plugin-secrets-pim/internal/provider/contract"
)

// policyFields are the core fields of a role that say who decides and when it
// may be used, beyond the short form of approvals and approver_*.
func policyFields() []roleField {
	return []roleField{
		{
			field{name: "stages", typ: typeList, members: stageMembers(), desc: "Steps of the approval, one after the other, as a JSON list; instead of approvals and approver_*."},
			func(r *domain.Role) any { return stagesOut(r.Stages) },
			func(r *domain.Role, c *call, n string) { r.Stages = stagesIn(c.List(n)) },
		},
		roleList("deny_groups", "Groups whose members may never request, by id or by name; wins over eligible_*.", func(r *domain.Role) *[]string { return &r.DenyGroups }),
		roleList("deny_entities", "Entities that may never request; wins over eligible_*.", func(r *domain.Role) *[]string { return &r.DenyEntities }),
		{
			field{name: "eligible_until", typ: contract.TypeMap, desc: "Until when somebody is eligible: an item of eligible_groups or eligible_entities to a time (RFC 3339).", checkMap: checkTimes},
			func(r *domain.Role) any { return timesOut(r.EligibleUntil) },
			func(r *domain.Role, c *call, n string) { r.EligibleUntil = timesIn(c.Map(n)) },
		},
		roleString("auto_approve_when", "Condition under which the role approves by itself; else people decide.", func(r *domain.Role) *string { return &r.AutoApproveWhen }),
		roleString("deny_when", "Condition under which nothing is requested, approved or issued.", func(r *domain.Role) *string { return &r.DenyWhen }),
		{
			field{name: "require", typ: typeList, members: requireMembers(), desc: "Rules that must all hold, as a JSON list of name, when and message."},
			func(r *domain.Role) any { return requireOut(r.Require) },
			func(r *domain.Role, c *call, n string) { r.Require = requireIn(c.List(n)) },
		},
		{
			field{name: "allowed_windows", typ: typeList, members: windowMembers(), desc: "Hours in which the role may be used, as a JSON list; none = always."},
			func(r *domain.Role) any { return windowsOut(r.AllowedWindows) },
			func(r *domain.Role, c *call, n string) { r.AllowedWindows = windowsIn(c.List(n)) },
		},
		{
			field{name: "freeze_windows", typ: typeList, members: freezeMembers(), desc: "Times in which the role may not be used, as a JSON list of from, until and reason."},
			func(r *domain.Role) any { return freezesOut(r.FreezeWindows) },
			func(r *domain.Role, c *call, n string) { r.FreezeWindows = freezesIn(c.List(n)) },
		},
		roleString("enforce", "always, or observe: eligible people pass, and what the policy would have said is written down.", func(r *domain.Role) *string { return &r.Enforce }),
		{
			field{name: "observe_until", typ: typeTime, desc: "With enforce=observe: until when, at most 90 days ahead."},
			func(r *domain.Role) any {
				if r.ObserveUntil.IsZero() {
					return nil
				}
				return stampOf(r.ObserveUntil)
			},
			func(r *domain.Role, c *call, n string) { r.ObserveUntil = c.Time(n) },
		},
	}
}

func stageMembers() []field {
	return []field{
		{name: "name", typ: contract.TypeString, desc: "For people."},
		{name: "all_of", typ: typeList, members: thresholdMembers(), desc: "Thresholds that must all be met."},
		{name: "any_of", typ: typeList, members: thresholdMembers(), desc: "Thresholds of which one must be met."},
		{name: "denials", typ: contract.TypeInt, def: 1, least: 1, most: domain.LimitApprovals, desc: "Denials that end the request."},
		{name: "require_comment", typ: contract.TypeBool, desc: "An approval needs a comment."},
		{name: "timeout", typ: contract.TypeSeconds, desc: "Age of the request from which on_timeout acts."},
		{name: "on_timeout", typ: contract.TypeString, allowed: []string{domain.OnTimeoutDeny, domain.OnTimeoutEscalate, domain.OnTimeoutApprove}, desc: "What happens when nobody answered: deny, escalate or approve."},
		{name: "fallback", typ: typeList, members: thresholdMembers(), desc: "With escalate: thresholds of which one is enough then."},
		{name: "on_call_when", typ: contract.TypeString, desc: "With approve: condition under which the requester passes."},
	}
}

func thresholdMembers() []field {
	return []field{
		{name: "approvals", typ: contract.TypeInt, def: 1, least: 1, most: domain.LimitApprovals, desc: "Approvals needed, each by another person."},
		{name: "groups", typ: contract.TypeStrings, desc: "Groups whose members may decide."},
		{name: "entities", typ: contract.TypeStrings, desc: "Entities that may decide."},
		{name: "when", typ: contract.TypeString, desc: "Condition under which the threshold is asked."},
		{name: "after", typ: contract.TypeSeconds, desc: "Of any_of: opens once the request is this old."},
	}
}

func requireMembers() []field {
	return []field{
		{name: "name", typ: contract.TypeString, required: true, desc: "Name of the rule."},
		{name: "when", typ: contract.TypeString, required: true, desc: "Condition that must hold."},
		{name: "message", typ: contract.TypeString, desc: "What people read when it does not."},
	}
}

func windowMembers() []field {
	return []field{
		{name: "days", typ: contract.TypeStrings, desc: "mon to sun; none = every day."},
		{name: "from", typ: contract.TypeString, required: true, desc: "Time of day, HH:MM."},
		{name: "to", typ: contract.TypeString, required: true, desc: "Time of day, HH:MM; not after from = on the next day."},
		{name: "zone", typ: contract.TypeString, desc: "IANA time zone; empty = UTC."},
	}
}

func freezeMembers() []field {
	return []field{
		{name: "from", typ: typeTime, required: true, desc: "When it begins."},
		{name: "until", typ: typeTime, required: true, desc: "When it is over."},
		{name: "reason", typ: contract.TypeString, required: true, desc: "What people read meanwhile."},
	}
}

func stagesIn(in []*input) []domain.Stage {
	var out []domain.Stage
	for _, s := range in {
		denials := s.Int("denials")
		if denials == 1 {
			denials = 0 // the default is not stored
		}
		out = append(out, domain.Stage{
			Name: s.String("name"), AllOf: thresholdsIn(s.List("all_of")), AnyOf: thresholdsIn(s.List("any_of")),
			Denials: denials, RequireComment: s.Bool("require_comment"), Timeout: s.Seconds("timeout"),
			OnTimeout: s.String("on_timeout"), Fallback: thresholdsIn(s.List("fallback")), OnCallWhen: s.String("on_call_when"),
		})
	}
	return out
}

func thresholdsIn(in []*input) []domain.Threshold {
	var out []domain.Threshold
	for _, t := range in {
		out = append(out, domain.Threshold{
			Approvals: t.Int("approvals"), Groups: t.Strings("groups"), Entities: t.Strings("entities"),
			When: t.String("when"), After: t.Seconds("after"),
		})
	}
	return out
}

func stagesOut(in []domain.Stage) []any {
	out := []any{}
	for _, s := range in {
		m := map[string]any{"denials": s.DenialsNeeded()}
		put(m, "name", s.Name)
		putList(m, "all_of", thresholdsOut(s.AllOf))
		putList(m, "any_of", thresholdsOut(s.AnyOf))
		if s.RequireComment {
			m["require_comment"] = true
		}
		if s.Timeout > 0 {
			m["timeout"] = int(s.Timeout)
		}
		put(m, "on_timeout", s.OnTimeout)
		putList(m, "fallback", thresholdsOut(s.Fallback))
		put(m, "on_call_when", s.OnCallWhen)
		out = append(out, m)
	}
	return out
}

func thresholdsOut(in []domain.Threshold) []any {
	out := []any{}
	for _, t := range in {
		m := map[string]any{"approvals": t.Approvals}
		if len(t.Groups) > 0 {
			m["groups"] = t.Groups
		}
		if len(t.Entities) > 0 {
			m["entities"] = t.Entities
		}
		put(m, "when", t.When)
		if t.After > 0 {
			m["after"] = int(t.After)
		}
		out = append(out, m)
	}
	return out
}

func requireIn(in []*input) []domain.Requirement {
	var out []domain.Requirement
	for _, q := range in {
		out = append(out, domain.Requirement{Name: q.String("name"), When: q.String("when"), Message: q.String("message")})
	}
	return out
}

func requireOut(in []domain.Requirement) []any {
	out := []any{}
	for _, q := range in {
		m := map[string]any{"name": q.Name, "when": q.When}
		put(m, "message", q.Message)
		out = append(out, m)
	}
	return out
}

func windowsIn(in []*input) []domain.Window {
	var out []domain.Window
	for _, w := range in {
		out = append(out, domain.Window{Days: w.Strings("days"), From: w.String("from"), To: w.String("to"), Zone: w.String("zone")})
	}
	return out
}

func windowsOut(in []domain.Window) []any {
	out := []any{}
	for _, w := range in {
		m := map[string]any{"from": w.From, "to": w.To}
		if len(w.Days) > 0 {
			m["days"] = w.Days
		}
		put(m, "zone", w.Zone)
		out = append(out, m)
	}
	return out
}

func freezesIn(in []*input) []domain.Freeze {
	var out []domain.Freeze
	for _, f := range in {
		out = append(out, domain.Freeze{From: f.Time("from"), Until: f.Time("until"), Reason: f.String("reason")})
	}
	return out
}

func freezesOut(in []domain.Freeze) []any {
	out := []any{}
	for _, f := range in {
		out = append(out, map[string]any{"from": stampOf(f.From), "until": stampOf(f.Until), "reason": f.Reason})
	}
	return out
}

func put(m map[string]any, key, value string) {
	if value != "" {
		m[key] = value
	}
}

func putList(m map[string]any, key string, list []any) {
	if len(list) > 0 {
		m[key] = list
	}
}

// checkTimes says what is wrong with a map of times, or "".
func checkTimes(m map[string]string) string {
	for _, v := range m {
		if _, err := time.Parse(time.RFC3339, v); err != nil {
			return "must hold times like 2026-03-02T09:00:00Z"
		}
	}
	return ""
}

func timesIn(in map[string]string) map[string]time.Time {
	var out map[string]time.Time
	for k, v := range in {
		t, err := time.Parse(time.RFC3339, v)
		if err != nil {
			continue // checked when it was read
		}
		if out == nil {
			out = map[string]time.Time{}
		}
		out[k] = t.UTC()
	}
	return out
}

func timesOut(in map[string]time.Time) map[string]string {
	out := make(map[string]string, len(in))
	for k, t := range in {
		out[k] = stampOf(t)
	}
	return out
}
