package pim

import (
	"fmt"
	"maps"
	"net/http"
	"strings"
	"time"

	"github.com/vault-pim/vault-plugin-secrets-pim/internal/access"
	"github.com/vault-pim/vault-plugin-secrets-pim/internal/domain"
	"github.com/vault-pim/vault-plugin-secrets-pim/internal/provider/contract"
)

// What requests, approvals and grants look like on the wire: flat scalars
// first, history as sentences.

func str(name, desc string) field {
	return field{name: name, typ: contract.TypeString, desc: desc}
}

func always(f field) field { f.required = true; return f }

func command(name, desc string) field { f := str(name, desc); f.command = true; return f }

func integer(name, desc string) field { return field{name: name, typ: contract.TypeInt, desc: desc} }

func boolean(name, desc string) field { return field{name: name, typ: contract.TypeBool, desc: desc} }

func texts(name, desc string) field { return field{name: name, typ: contract.TypeStrings, desc: desc} }

func stampOf(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.UTC().Format(time.RFC3339)
}

// revocationWire are the three fields that say how hard the end bites.
func revocationWire() []field {
	return []field{
		always(str("pim_revocation", "How surely access ends: immediate, propagating or expiry_only.")),
		always(integer("pim_revocation_seconds", "Bound of that in seconds; 0 where the vendor publishes none, or it is the credential's own end.")),
		always(str("pim_revocation_survives", "What outlives a revocation, by comma.")),
	}
}

func requestWire() []field {
	return append([]field{
		always(str("request_id", "The request's id; the grant has the same.")),
		always(str("role", "The role.")),
		always(str("target", "The target.")),
		always(str("state", "State as seen now.")),
		always(str("who", "Who asked.")),
		always(str("why", "Justification.")),
		str("ticket", "Ticket."),
		always(field{name: "params", typ: contract.TypeMap, desc: "Parameters; sensitive ones as hashes."}),
		always(integer("ttl", "Window that was asked for, in seconds.")),
		integer("granted_ttl", "Window that was approved, in seconds; 0 = not yet."),
		str("start_time", "Start that was asked for."),
		always(str("requested_at", "When it was filed.")),
		always(str("expires_at", "When it expires if nobody decides.")),
		str("window_starts_at", "Start of the access window."),
		str("window_ends_at", "End of the access window."),
		always(integer("have", "Approvals so far.")),
		always(integer("need", "Approvals needed.")),
		str("waiting_for", "Who can decide."),
		texts("rules", "The role's rules as they stand now, as sentences."),
		str("pim_observed", "What the policy would have said, where it is only observed."),
		str("principal", "Your own principal at the target, for kinds that elevate it."),
		always(str("digest", "Digest of exactly what was asked, under the role and target as they were.")),
		str("reason", "Why it ended early."),
		texts("decisions", "Decisions as sentences."),
		texts("credentials", "Credentials as sentences."),
		integer("live_credentials", "Credentials that may still give access."),
		texts("history", "What happened, as sentences."),
		integer("history_folded", "Older sentences that are no longer kept."),
		always(str("pim_history_head", "Head of the history's hash chain; copies of it prove tampering.")),
		command("next", "The command that comes next."),
	}, append(lookBackWire(), revocationWire()...)...)
}

func requestData(v access.RequestView) map[string]any {
	r := v.Request
	data := map[string]any{
		"request_id": string(r.ID), "role": r.Role, "target": r.Target, "state": string(v.State),
		"who": domain.Printable(r.Requester.Name), "why": domain.Printable(r.Justification), "ticket": domain.Printable(r.Ticket),
		"params": orEmptyMap(v.Params), "ttl": int(r.TTL), "granted_ttl": int(r.Granted), "start_time": stampOf(r.StartTime),
		"requested_at": stampOf(r.Times.Requested), "expires_at": stampOf(r.ExpiresAt),
		"window_starts_at": stampOf(r.WindowStart), "window_ends_at": stampOf(r.WindowEnd),
		"have": v.Have, "need": v.Need, "waiting_for": v.WaitingFor, "rules": ruleSentences(v.Rules), "principal": domain.Printable(r.Principal),
		"pim_observed": r.Observed, "digest": r.Digest, "reason": domain.Printable(r.Reason), "decisions": decisionSentences(r.Decisions),
		"credentials": credentialSentences(r.Credentials), "live_credentials": r.Live(),
		"history": historySentences(r.History), "history_folded": r.History.Folded,
		"pim_history_head": r.History.Head, "next": v.Next,
	}
	lookBackData(data, r)
	maps.Copy(data, access.RevocationFields(v.Revocation))
	return data
}

// ruleSentences shows how each rule of a role came out, the same way everywhere.
func ruleSentences(rules []domain.RuleResult) []string {
	out := make([]string, 0, len(rules))
	for _, r := range rules {
		out = append(out, string(r.Status)+": "+r.Rule+": "+r.Reason)
	}
	return out
}

func decisionSentences(ds []domain.Decision) []string {
	out := make([]string, 0, len(ds))
	for _, d := range ds {
		s := stampOf(d.At) + " " + domain.Printable(d.By.Name)
		if d.Verdict == domain.Deny {
			s += " denied"
		} else {
			s += " approved"
		}
		if d.TTL > 0 {
			s += " for at most " + d.TTL.Duration().String()
		}
		if d.Comment != "" {
			s += ": " + domain.Printable(d.Comment)
		}
		out = append(out, s)
	}
	return out
}

func credentialSentences(cs []domain.Credential) []string {
	out := make([]string, 0, len(cs))
	for _, c := range cs {
		s := string(c.ID) + " " + string(c.State) + ", planned " + stampOf(c.Planned) + ", expires " + stampOf(c.Expires)
		if c.Why != "" {
			s += ", ended because " + domain.Printable(c.Why)
		}
		if c.Problem != "" {
			s += ", last try failed: " + c.Problem
		}
		if !c.GoneAt.IsZero() {
			s += ", gone " + stampOf(c.GoneAt)
		}
		out = append(out, s)
	}
	return out
}

func historySentences(h domain.History) []string {
	out := make([]string, 0, len(h.Entries))
	for _, e := range h.Entries {
		by := e.By
		if by == "" {
			by = "pim"
		}
		out = append(out, stampOf(e.At)+" "+by+": "+e.Text)
	}
	return out
}

// approvalWire is what an approver sees first: flat, and enough to decide.
func approvalWire() []field {
	return append([]field{
		always(str("request_id", "The request's id.")),
		always(str("who", "Who asks.")),
		always(str("what", "For which role at which target, with which parameters.")),
		always(str("why", "Justification and ticket.")),
		always(integer("for_how_long", "Window in seconds, as it would be granted.")),
		always(str("until", "When the access would end if approved now.")),
		always(integer("have", "Approvals so far.")),
		always(integer("need", "Approvals needed.")),
		always(str("revocation", "How surely the access ends, and what survives.")),
		always(str("digest", "Pass it back to approve exactly this.")),
		always(str("state", "State as seen now.")),
		str("problem", "Why it could not be issued as things are; empty = nothing is known."),
		str("role", "The role."),
		str("ticket", "Ticket."),
		{name: "params", typ: contract.TypeMap, desc: "Parameters; sensitive ones as hashes."},
		str("principal", "The requester's own principal at the target, for kinds that elevate it."),
		str("start_time", "Start that was asked for."),
		str("expires_at", "When the request expires if nobody decides."),
		texts("rules", "The role's rules as they stand now, as sentences."),
		texts("decisions", "Decisions as sentences."),
		texts("history", "What happened, as sentences."),
		always(str("pim_history_head", "Head of the history's hash chain.")),
		command("next", "The command that approves."),
	}, revocationWire()...)
}

func approvalData(v access.RequestView, now time.Time) map[string]any {
	r := v.Request
	ttl := r.TTL
	for _, d := range r.Decisions {
		if d.Verdict == domain.Approve && d.TTL > 0 && d.TTL < ttl {
			ttl = d.TTL
		}
	}
	from := now
	if r.StartTime.After(now) {
		from = r.StartTime
	}
	until := r.WindowEnd
	if until.IsZero() {
		until = from.Add(ttl.Duration())
		if !r.StartTime.IsZero() {
			until = r.StartTime.Add(ttl.Duration())
		}
	}
	why := domain.Printable(r.Justification)
	if r.Ticket != "" {
		why = strings.TrimSpace(why + " [" + domain.Printable(r.Ticket) + "]")
	}
	revocation := string(v.Revocation.Class)
	if list, _ := access.RevocationFields(v.Revocation)["pim_revocation_survives"].(string); list != "" {
		revocation += "; survives: " + list
	}
	data := map[string]any{
		"request_id": string(r.ID), "who": domain.Printable(r.Requester.Name), "what": what(v), "why": why,
		"for_how_long": int(ttl), "until": stampOf(until), "have": v.Have, "need": v.Need, "rules": ruleSentences(v.Rules), "revocation": revocation,
		"digest": r.Digest, "state": string(v.State), "problem": v.Problem, "role": r.Role, "ticket": domain.Printable(r.Ticket), "params": orEmptyMap(v.Params),
		"principal": domain.Printable(r.Principal), "start_time": stampOf(r.StartTime), "expires_at": stampOf(r.ExpiresAt),
		"decisions": decisionSentences(r.Decisions), "history": historySentences(r.History),
		"pim_history_head": r.History.Head, "next": v.Next,
	}
	maps.Copy(data, access.RevocationFields(v.Revocation))
	return data
}

func what(v access.RequestView) string {
	parts := []string{"role " + v.Request.Role + " at target " + v.Request.Target}
	for _, k := range contract.SortedKeys(v.Params) {
		parts = append(parts, k+"="+domain.Printable(v.Params[k]))
	}
	if s := v.Request.Series; s != nil {
		parts = append(parts, fmt.Sprintf("a series of at most %d runs, each one of: %s", s.Count, strings.Join(v.Runs, "; ")))
	}
	if v.Request.Principal != "" {
		parts = append(parts, "for "+domain.Printable(v.Request.Principal))
	}
	return strings.Join(parts, ", ")
}

// pageAnswer renders one page of a list.
func pageAnswer(p access.Page) *answer {
	a := &answer{keys: p.Keys, info: map[string]any{}}
	for k, v := range p.Info {
		a.info[k] = v
	}
	return a
}

func caller(c *call) access.Caller {
	return access.Caller{EntityID: c.Request.EntityID, CallID: c.Request.ID, Accessor: c.Request.ClientTokenAccessor}
}

// asked are the statuses of paths with a rule of their own besides ACL.
func asked() []int { return []int{http.StatusForbidden, http.StatusNotFound} }
