package pim

import (
	"context"
	"net/http"
	"slices"

	"github.com/hashicorp/vault/sdk/logical"

	"github.com/vault-pim/vault-plugin-secrets-pim/internal/access"
	"github.com/vault-pim/vault-plugin-secrets-pim/internal/domain"
	"github.com/vault-pim/vault-plugin-secrets-pim/internal/provider/contract"
)

func (b *backend) reviewPaths() []path {
	return []path{{
		pattern: "reviews/?", name: "reviews", help: "What waits for your review.",
		description: "The inbox of a reviewer: emergencies that are to be signed off, and reviews of who may have a role.",
		fields:      pageFields(),
		ops: []op{{
			verb: logical.ListOperation, summary: "List what waits for your review.", ok: listFields("kind, role, who, ticket and times"),
			statuses: asked(), do: b.listMine(b.access.Reviews),
		}},
	}, {
		pattern: "reviews/" + segment("review_id"), name: "review", help: "Look back at one access.",
		description: "Reading shows what happened. Writing signs it off, or says of one principal of an access review whether it keeps the role. Nobody reviews what they were part of.",
		captures:    []field{idCapture("review_id", "Id of the request, or of the access review.")},
		fields: []field{
			{name: "verdict", typ: contract.TypeString, required: true, allowed: []string{string(domain.Justified), string(domain.Unjustified), domain.Keep, domain.Remove}, desc: "justified or unjustified of an emergency; keep or remove of a principal."},
			{name: "principal", typ: contract.TypeString, desc: "Of an access review: which principal, as it is listed there."},
			{name: "comment", typ: contract.TypeString, desc: "What was looked at; required, at most 2 KiB."},
		},
		ops: []op{
			{verb: logical.ReadOperation, summary: "See what is to be reviewed.", ok: reviewWire(), statuses: asked(), do: b.readReview},
			{verb: logical.UpdateOperation, name: "sign", summary: "Sign it off.", ok: reviewWire(), statuses: asked(), do: b.signOff},
		},
	}}
}

// reviewWire has the fields of a request, none of them sure, and those of an
// access review.
func reviewWire() []field {
	out := []field{always(str("kind", "break_glass, normal, or access_review."))}
	seen := map[string]bool{"kind": true}
	for _, f := range slices.Concat(requestWire(), campaignWire()) {
		if f.required = false; !seen[f.name] {
			seen[f.name] = true
			out = append(out, f)
		}
	}
	return out
}

func reviewData(v access.ReviewView) map[string]any {
	if v.Campaign != nil {
		data := campaignData(*v.Campaign)
		data["kind"], data["next"] = "access_review", v.Next
		return data
	}
	data := requestData(*v.Request)
	data["kind"], data["next"] = v.Request.Request.Kind, v.Next
	return data
}

func (b *backend) readReview(ctx context.Context, c *call) (*answer, error) {
	v, err := b.access.Review(ctx, caller(c), c.Capture("review_id"))
	if err != nil {
		return nil, err
	}
	return &answer{data: reviewData(v)}, nil
}

func (b *backend) signOff(ctx context.Context, c *call) (*answer, error) {
	v, err := b.access.SignOff(ctx, caller(c), c.Capture("review_id"), access.Verdict{
		Verdict: c.String("verdict"), Principal: c.String("principal"), Comment: c.String("comment"),
	})
	if err != nil {
		return nil, err
	}
	return &answer{data: reviewData(v)}, nil
}

// campaignPaths are for who runs access reviews; reviewers have reviews/.
func (b *backend) campaignPaths() []path {
	id := idCapture("campaign_id", "Id of the access review.")
	return []path{{
		pattern: "campaigns/?", name: "campaigns", help: "Reviews of who may have which role.",
		description: "Listing shows all; writing opens one for a role as it is now. When it closes, those whom it removed lose the role by an edit of it, and what nobody decided follows undecided.",
		fields: slices.Concat([]field{
			{name: "role", typ: contract.TypeString, required: true, desc: "The role.", check: checkName},
			{name: "reviewer_groups", typ: contract.TypeStrings, desc: "Groups whose members review."},
			{name: "reviewer_entities", typ: contract.TypeStrings, desc: "Entities that review."},
			{name: "due", typ: typeTime, required: true, desc: "When it closes, at most 180 days ahead."},
			{name: "undecided", typ: contract.TypeString, required: true, allowed: []string{domain.Keep, domain.Remove}, desc: "What happens to those whom nobody decided on: keep or remove."},
		}, pageFields()),
		ops: []op{
			{verb: logical.ListOperation, summary: "List access reviews.", ok: listFields("role, state and due date"), do: b.listCampaigns},
			{verb: logical.UpdateOperation, name: "open", summary: "Open an access review.", ok: campaignWire(), do: b.openCampaign, takes: []string{"role", "reviewer_groups", "reviewer_entities", "due", "undecided"}},
		},
	}, {
		pattern: "campaigns/" + segment("campaign_id") + "/close", name: "access-review", help: "Close an access review now.",
		description: "Closes it before it is due, and applies what came out of it.",
		captures:    []field{id},
		ops: []op{{
			verb: logical.UpdateOperation, name: "close", summary: "Close an access review now.", ok: campaignWire(), statuses: []int{http.StatusNotFound}, do: b.closeCampaign,
		}},
	}, {
		pattern: "campaigns/" + segment("campaign_id"), name: "campaign", help: "One access review.",
		description: "Who is under review and what was said of each. Deleting cancels it: nothing is changed.",
		captures:    []field{id},
		ops: []op{
			{verb: logical.ReadOperation, summary: "Read an access review.", ok: campaignWire(), statuses: []int{http.StatusNotFound}, do: b.readCampaign},
			{verb: logical.DeleteOperation, name: "cancel", summary: "Cancel an access review.", do: b.dropCampaign},
		},
	}}
}

func campaignWire() []field {
	return []field{
		always(str("campaign_id", "Id of the access review.")),
		always(str("role", "The role.")),
		always(str("state", "open, closing, closed or cancelled.")),
		always(str("due", "When it closes.")),
		always(str("undecided", "What happens to those whom nobody decided on.")),
		always(str("opened_by", "Who opened it.")),
		texts("reviewers", "Who reviews."),
		always(texts("principals", "Who is under review.")),
		always(texts("undecided_principals", "Those whom nobody has decided on.")),
		texts("verdicts", "What was said of each, as sentences."),
		texts("removed", "Who loses the role."),
		str("outcome", "What came of it."),
		texts("history", "What happened, as sentences."),
		always(str("pim_history_head", "Head of the history's hash chain.")),
		command("next", "The command that comes next."),
	}
}

func campaignData(c domain.Campaign) map[string]any {
	var all, undecided, verdicts, removed, reviewers []string
	for _, x := range c.Items {
		name := domain.Printable(string(x.Principal))
		all = append(all, name)
		if x.Verdict == "" {
			undecided = append(undecided, name)
			continue
		}
		verdicts = append(verdicts, stampOf(x.At)+" "+domain.Printable(x.By.Name)+": "+x.Verdict+" "+name+": "+domain.Printable(x.Comment))
	}
	for _, p := range c.Removed {
		removed = append(removed, domain.Printable(string(p)))
	}
	for _, g := range c.Groups {
		reviewers = append(reviewers, "group "+domain.Printable(g))
	}
	for _, e := range c.Entities {
		reviewers = append(reviewers, domain.Printable(e))
	}
	return map[string]any{
		"campaign_id": c.ID, "role": c.Role, "state": string(c.State), "due": stampOf(c.Due), "undecided": c.Undecided,
		"opened_by": domain.Printable(c.By.Name), "reviewers": orEmpty(reviewers), "principals": orEmpty(all),
		"undecided_principals": orEmpty(undecided), "verdicts": orEmpty(verdicts), "removed": orEmpty(removed),
		"outcome": c.Outcome, "history": historySentences(c.History), "pim_history_head": c.History.Head,
	}
}

func (b *backend) listCampaigns(ctx context.Context, c *call) (*answer, error) {
	list, err := b.access.Campaigns(ctx)
	if err != nil {
		return nil, err
	}
	a := &answer{info: map[string]any{}}
	for _, x := range list {
		if x.ID > c.String("after") && len(a.keys) < c.Int("limit") {
			a.keys = append(a.keys, x.ID)
			a.info[x.ID] = map[string]any{"role": x.Role, "state": string(x.State), "due": stampOf(x.Due), "undecided_principals": x.Undone(), "outcome": x.Outcome}
		}
	}
	return a, nil
}

func (b *backend) openCampaign(ctx context.Context, c *call) (*answer, error) {
	x, err := b.access.OpenCampaign(ctx, caller(c), access.CampaignAsk{
		Role: c.String("role"), Groups: c.Strings("reviewer_groups"), Entities: c.Strings("reviewer_entities"),
		Due: c.Time("due"), Undecided: c.String("undecided"),
	})
	if err != nil {
		return nil, err
	}
	return &answer{data: campaignData(x)}, nil
}

func (b *backend) readCampaign(ctx context.Context, c *call) (*answer, error) {
	x, err := b.access.Campaign(ctx, c.Capture("campaign_id"))
	if err != nil || x == nil {
		return nil, err
	}
	return &answer{data: campaignData(*x)}, nil
}

func (b *backend) closeCampaign(ctx context.Context, c *call) (*answer, error) {
	x, err := b.access.CloseCampaign(ctx, caller(c), c.Capture("campaign_id"))
	if err != nil || x == nil {
		return nil, err
	}
	return &answer{data: campaignData(*x)}, nil
}

func (b *backend) dropCampaign(ctx context.Context, c *call) (*answer, error) {
	return nil, b.access.DropCampaign(ctx, caller(c), c.Capture("campaign_id"))
}
