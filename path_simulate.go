package pim

import (
	"context"
	"maps"
	"net/http"
	"regexp"
	"strconv"
	"strings"

	"github.com/hashicorp/vault/sdk/logical"

	"github.com/vault-pim/vault-plugin-secrets-pim/internal/access"
	"github.com/vault-pim/vault-plugin-secrets-pim/internal/domain"
	"github.com/vault-pim/vault-plugin-secrets-pim/internal/provider/contract"
)

// simulatePaths try a role's policy without filing anything.
func (b *backend) simulatePaths(provider []field) []path {
	var writable []field
	for _, f := range roleFields() {
		writable = append(writable, f.field)
	}
	return []path{{
		pattern: "audit/simulate/" + segment("role"), name: "simulation", help: "What would be decided, without asking.",
		description: "For security officers: the whole decision for any entity, parameters, time and supposed decisions; and which stored requests would come out otherwise, also under an edit of the role that nobody has made. Nothing is changed.",
		captures:    []field{nameCapture("role", "Name of the role.")},
		fields: []field{
			{name: "entity_id", typ: contract.TypeString, desc: "Who would ask.", check: domain.CheckEntityID},
			{name: "justification", typ: contract.TypeString, desc: "As in a request."},
			{name: "ticket", typ: contract.TypeString, desc: "As in a request."},
			{name: "ttl", typ: contract.TypeSeconds, desc: "As in a request.", least: 1, most: int(domain.LimitTTL)},
			{name: "start_time", typ: typeTime, desc: "As in a request."},
			{name: "params", typ: contract.TypeMap, desc: "As in a request."},
			{name: "at", typ: typeTime, desc: "When it would be asked and decided; empty = now."},
			{name: "decisions", typ: typeList, desc: "Supposed decisions in their order, as a JSON list of entity_id, decision and ttl.", members: []field{
				{name: "entity_id", typ: contract.TypeString, required: true, desc: "Who would decide.", check: domain.CheckEntityID},
				{name: "decision", typ: contract.TypeString, def: string(domain.Approve), allowed: []string{string(domain.Approve), string(domain.Deny)}, desc: "approve or deny."},
				{name: "ttl", typ: contract.TypeSeconds, desc: "Shortens the window."},
			}},
			{name: "change", typ: typeList, desc: "Fields of the role to try, as a JSON object in the form in which roles are written.", members: append(writable, provider...)},
			{name: "against", typ: contract.TypeString, desc: "last-N: tell which of the role's last N requests, at most 100, would come out otherwise.", check: checkAgainst},
		},
		ops: []op{{
			verb: logical.UpdateOperation, name: "simulate", summary: "See what would be decided.", ok: simulationWire(),
			statuses: []int{http.StatusNotFound}, do: b.simulate,
		}},
	}}
}

func simulationWire() []field {
	return append([]field{
		boolean("eligible", "The entity may request the role."),
		boolean("met", "The policy is met."),
		boolean("denied", "It is denied."),
		boolean("blocked", "The role's rules refuse it, whoever approves."),
		str("state", "State that the request would have; empty = it would not be filed."),
		texts("rules", "The role's rules, as sentences."),
		str("waiting_for", "Who could decide next."),
		integer("have", "Approvals that count."),
		integer("need", "Approvals needed."),
		boolean("open_now", "The role may be used at that time."),
		str("hours", "Why it is closed, or when that changes."),
		str("digest", "Digest of the ask without an id."),
		texts("problems", "What else stands in the way, at the target too."),
		texts("ignored", "Supposed decisions that could not be made, and why."),
		integer("looked_at", "Stored requests that were looked at."),
		texts("differ", "Stored requests that would come out otherwise, as sentences."),
	}, revocationWire()...)
}

var against = regexp.MustCompile(`^last-([1-9][0-9]?|100)$`)

func checkAgainst(s string) string {
	if !against.MatchString(s) {
		return "must be last-1 to last-100"
	}
	return ""
}

func (b *backend) simulate(ctx context.Context, c *call) (*answer, error) {
	ask := access.SimulateAsk{Ask: askOf(c), Entity: c.String("entity_id"), At: c.Time("at")}
	ask.Start = c.Time("start_time")
	for _, d := range c.List("decisions") {
		ask.Decisions = append(ask.Decisions, access.SupposedDecision{
			Entity: d.String("entity_id"), Verdict: domain.Verdict(d.String("decision")), TTL: d.Seconds("ttl"),
		})
	}
	if change := c.List("change"); len(change) > 1 {
		return nil, errInput("change", "must be one object")
	} else if len(change) == 1 {
		e := b.roleEdit(&call{input: *change[0]})
		ask.Change = &e
	}
	if n := strings.TrimPrefix(c.String("against"), "last-"); n != "" {
		ask.Against, _ = strconv.Atoi(n) // its form was checked when it was read
	}
	if ask.Entity == "" && ask.Against == 0 {
		return nil, errInput("entity_id", "is required, unless against is given")
	}
	s, err := b.access.Simulate(ctx, c.Capture("role"), ask)
	if err != nil {
		return nil, err
	}
	return &answer{data: simulationData(s, ask.Entity != "")}, nil
}

func simulationData(s access.Simulated, asked bool) map[string]any {
	data := map[string]any{"looked_at": s.Looked, "differ": differences(s.Differ)}
	if !asked {
		return data
	}
	hours := s.Hours.Why
	if !s.Hours.Change.IsZero() {
		hours = strings.TrimSpace(hours + " until " + stampOf(s.Hours.Change))
	}
	maps.Copy(data, map[string]any{
		"eligible": s.Eligible, "met": s.Outcome.Met, "denied": s.Outcome.Denied, "blocked": s.Outcome.Blocked,
		"state": string(s.State), "rules": ruleSentences(s.Outcome.Rules), "waiting_for": s.Outcome.WaitingFor(),
		"have": s.Outcome.Have, "need": s.Outcome.Need, "open_now": s.Hours.Open, "hours": hours,
		"digest": s.Digest, "problems": orEmpty(s.Problems), "ignored": printables(s.Ignored),
	})
	maps.Copy(data, access.RevocationFields(s.Revocation))
	return data
}

func differences(list []access.Difference) []string {
	out := make([]string, 0, len(list))
	for _, d := range list {
		s := string(d.Request) + " was " + d.Was + " and would be " + d.Would
		if why := strings.TrimSuffix(d.Why, "; "); why != "" {
			s += ": " + why
		}
		out = append(out, s)
	}
	return out
}
