package pim

import (
	"context"
	"fmt"
	"maps"
	"net/http"

	"github.com/hashicorp/vault/sdk/logical"

	"github.com/vault-pim/vault-plugin-secrets-pim/internal/access"
	"github.com/vault-pim/vault-plugin-secrets-pim/internal/domain"
	"github.com/vault-pim/vault-plugin-secrets-pim/internal/provider/contract"
)

// reportPaths say how access is used.
func (b *backend) reportPaths() []path {
	return []path{{
		pattern: "reports/eligibility/?", name: "eligibility", help: "Who is eligible for what, and whether it is used.",
		description: "A page of roles with their principals and their use. What was read of everybody's records is up to a minute old.",
		fields: append(pageFields(), field{
			name: "unused_days", typ: contract.TypeInt, query: true, desc: "Only roles that nobody used for so many days, or ever.", most: 4000,
		}),
		ops: []op{{verb: logical.ListOperation, summary: "List who is eligible for what.", ok: listFields("principals, last use and number of uses"), do: b.listEligibility}},
	}, {
		pattern: "reports/eligibility/" + segment("role"), name: "eligibility-of-role", help: "Who is eligible for one role, and who used it.",
		description: "Each principal with the end of its eligibility, and each person who used the role.",
		captures:    []field{nameCapture("role", "Name of the role.")},
		ops:         []op{{verb: logical.ReadOperation, summary: "See who is eligible for a role.", ok: eligibilityWire(), statuses: []int{http.StatusNotFound}, do: b.readEligibility}},
	}}
}

func eligibilityWire() []field {
	return []field{
		always(str("role", "The role.")),
		always(str("owner", "Who answers for it.")),
		always(texts("principals", "Who is eligible or may break the glass, as kind:reference.")),
		always(field{name: "eligible_until", typ: contract.TypeMap, desc: "End of the eligibility, by principal."}),
		always(field{name: "principal_last_used", typ: contract.TypeMap, desc: "Last use, by entity. Who is in a group is not known."}),
		always(str("last_used", "Last use by anybody; empty = never.")),
		always(str("last_used_by", "By whom.")),
		always(integer("uses", "Grants that were used.")),
		always(integer("people", "Different people who used it.")),
		always(integer("unused_days", "Days since the last use; -1 = never used.")),
		texts("people_uses", "Each person with last use, uses, denials and hours of the day, as sentences."),
	}
}

func eligibilityData(r access.EligibleRow) map[string]any {
	var principals []string
	until, last := map[string]string{}, map[string]string{}
	for _, p := range r.Principals {
		name := domain.Printable(string(p.Principal))
		principals = append(principals, name)
		if !p.Until.IsZero() {
			until[name] = stampOf(p.Until)
		}
		if !p.LastUsed.IsZero() {
			last[name] = stampOf(p.LastUsed)
		}
	}
	return map[string]any{
		"role": r.Role, "owner": domain.Printable(r.Owner), "principals": orEmpty(principals), "eligible_until": until,
		"principal_last_used": last, "last_used": stampOf(r.LastUsed), "last_used_by": domain.Printable(string(r.LastUsedBy)),
		"uses": r.Uses, "people": r.People, "unused_days": r.UnusedDays,
	}
}

func (b *backend) listEligibility(ctx context.Context, c *call) (*answer, error) {
	rows, err := b.access.EligibilityReport(ctx, c.String("after"), c.Int("limit"), c.Int("unused_days"))
	if err != nil {
		return nil, err
	}
	a := &answer{info: map[string]any{}}
	for _, r := range rows {
		a.keys = append(a.keys, r.Role)
		info := maps.Clone(eligibilityData(r))
		delete(info, "role")
		a.info[r.Role] = info
	}
	return a, nil
}

func (b *backend) readEligibility(ctx context.Context, c *call) (*answer, error) {
	row, people, err := b.access.RoleEligibility(ctx, c.Capture("role"))
	if err != nil || row == nil {
		return nil, err
	}
	data := eligibilityData(*row)
	data["people_uses"] = personSentences(people)
	return &answer{data: data}, nil
}

func personSentences(people []access.PersonUse) []string {
	out := make([]string, 0, len(people))
	for _, p := range people {
		s := domain.Printable(string(p.Person)) + ": "
		if p.Usage.Count > 0 {
			s += fmt.Sprintf("last used %s, %d time(s), in %d different hour(s) of the day", stampOf(p.Usage.Last), p.Usage.Count, p.Usage.DistinctHours())
		} else {
			s += "never used"
		}
		if p.Usage.Denials > 0 {
			s += fmt.Sprintf(", denied %d time(s), last %s", p.Usage.Denials, stampOf(p.Usage.Denied))
		}
		out = append(out, s)
	}
	return out
}
