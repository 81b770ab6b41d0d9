package pim

import (
	"context"
	"net/http"

	"github.com/hashicorp/vault/sdk/logical"

	"github.com/vault-pim/vault-plugin-secrets-pim/internal/access"
	"github.com/vault-pim/vault-plugin-secrets-pim/internal/domain"
)

func (b *backend) breakGlassPaths() []path {
	return []path{{
		pattern: "break-glass/" + segment("role"), name: "emergency", help: "Access at once, without any approval, in an emergency.",
		description: "For members of the role's break_glass_groups alone. Justification and ticket are mandatory. It is loud and short, and a review is owed. The same ask while one is active answers with that one (existing=true). Holds stop it.",
		captures:    []field{nameCapture("role", "Name of the role.")},
		fields:      askFields(),
		ops: []op{{
			verb: logical.UpdateOperation, name: "break-glass", summary: "Get access at once in an emergency.", statuses: []int{http.StatusForbidden},
			ok: append(requestWire(), always(boolean("existing", "The same ask was active already."))),
			do: b.breakGlass,
		}},
	}}
}

func (b *backend) breakGlass(ctx context.Context, c *call) (*answer, error) {
	s, err := b.access.BreakGlass(ctx, caller(c), c.Capture("role"), askOf(c))
	if err != nil {
		return nil, err
	}
	data := requestData(s.View)
	data["existing"] = s.Existing
	return &answer{data: data, warnings: []string{
		"the glass is broken: this is on record and in the feed of events, and a review is owed",
	}}, nil
}

// breakGlassFields are the fields of a role for emergencies.
func breakGlassFields() []roleField {
	return []roleField{
		roleList("break_glass_groups", "Groups whose members may get access at once in an emergency; nobody when empty.", func(r *domain.Role) *[]string { return &r.BreakGlassGroups }),
		roleSeconds("break_glass_ttl", "Access window of an emergency, at most max_ttl; 0 = an hour.", func(r *domain.Role) *domain.Seconds { return &r.BreakGlassTTL }),
		roleInt("break_glass_max", "How often one ticket may be used before its review; 0 = 3.", func(r *domain.Role) *int { return &r.BreakGlassMax }),
		roleInt("break_glass_limit_person", "Emergencies of one person in a period; 0 = 5.", func(r *domain.Role) *int { return &r.BreakGlassLimitPerson }),
		roleInt("break_glass_limit_role", "Emergencies of everybody in a period; 0 = 20.", func(r *domain.Role) *int { return &r.BreakGlassLimitRole }),
		roleSeconds("break_glass_period", "That period; 0 = 7 days.", func(r *domain.Role) *domain.Seconds { return &r.BreakGlassPeriod }),
		roleBool("break_glass_rotate", "Rotate the target's root credential after a use, where its type can.", func(r *domain.Role) *bool { return &r.BreakGlassRotate }),
		roleSeconds("review_deadline", "How long a review may be owed before its person can no longer request the role; 0 = 72 hours.", func(r *domain.Role) *domain.Seconds { return &r.ReviewDeadline }),
		roleList("reviewer_groups", "Groups whose members sign off emergencies; the approvers when nobody is named.", func(r *domain.Role) *[]string { return &r.ReviewerGroups }),
		roleList("reviewer_entities", "Entities that sign off emergencies.", func(r *domain.Role) *[]string { return &r.ReviewerEntities }),
	}
}

// emergencyWire is what eligible/:role says of emergencies.
func emergencyWire() []field {
	return []field{
		always(boolean("break_glass", "You may get access at once in an emergency.")),
		command("break_glass_command", "The command for that."),
		integer("break_glass_ttl", "Its window in seconds."),
		integer("break_glass_left", "Your uses that are left in this period."),
		str("break_glass_limits", "Its limits in words."),
		str("break_glass_barred", "Why not now; empty = nothing stands in the way."),
	}
}

func emergencyData(data map[string]any, e *access.EmergencyView) {
	data["break_glass"] = e != nil
	if e == nil {
		return
	}
	data["break_glass_command"], data["break_glass_ttl"], data["break_glass_left"] = e.Command, int(e.TTL), e.Left
	data["break_glass_limits"], data["break_glass_barred"] = e.Limits, e.Barred
}

// lookBackWire is what a request says of emergencies and reviews.
func lookBackWire() []field {
	return []field{
		always(boolean("break_glass", "Access was given at once, without any approval.")),
		always(boolean("heard", "A consumer of events has read of it; of an emergency alone.")),
		str("review", "What the review says: owed, justified or unjustified; empty = none."),
		str("review_due", "When the review is due."),
		str("reviewed_by", "Who reviewed it."),
		str("review_comment", "What they say."),
	}
}

func lookBackData(data map[string]any, r domain.Request) {
	data["break_glass"], data["heard"] = r.BreaksGlass(), r.Heard()
	if r.Review == nil {
		return
	}
	data["review"], data["review_due"] = "owed", stampOf(r.Review.Deadline)
	if !r.OwesReview() {
		data["review"] = string(r.Review.Verdict)
		data["reviewed_by"], data["review_comment"] = domain.Printable(r.Review.By.Name), domain.Printable(r.Review.Comment)
	}
}
