package host

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/vault-pim/vault-plugin-secrets-pim/internal/provider/contract"
)

var _ contract.Checker = (*Provider)(nil)

// lowLife is the share of its life at which a secret_id is about to end.
const lowLife = 5 // a fifth

// grant is one line of a policy.
type grant struct {
	path     string
	need     []string // capabilities
	optional bool     // without it something is merely not seen
}

func (g grant) hcl() string {
	quoted := make([]string, len(g.need))
	for i, n := range g.need {
		quoted[i] = `"` + n + `"`
	}
	return fmt.Sprintf("path \"%s\" { capabilities = [%s] }", g.path, strings.Join(quoted, ", "))
}

// loginGrants are the lines that the login's policy needs for the roles.
func (p *Provider) loginGrants(roles []contract.Spec) []grant {
	update := []string{"update"}
	out := []grant{
		{path: "auth/token/lookup-accessor", need: update},
		{path: "auth/token/revoke-accessor", need: update},
		{path: "sys/capabilities-self", need: update, optional: true},
	}
	if !p.target.Secrets["token"].Empty() {
		out = append(out, grant{path: "auth/token/lookup-self", need: []string{"read"}})
	}
	if slices.ContainsFunc(roles, func(r contract.Spec) bool { return r.LooksUp }) {
		out = append(out, grant{path: "sys/auth", need: []string{"read"}})
	}
	for _, name := range p.tokenRoles(roles) {
		out = append(out,
			grant{path: "auth/token/create/" + name, need: update},
			grant{path: "auth/token/roles/" + name, need: []string{"read"}, optional: true})
	}
	if prefix := p.rolePath(); prefix != "" {
		out = append(out,
			grant{path: prefix + "/secret-id", need: []string{"update", "list"}, optional: true},
			grant{path: prefix + "/secret-id/lookup", need: update, optional: true},
			grant{path: prefix + "/secret-id/destroy", need: update, optional: true},
			grant{path: prefix + "/secret-id-accessor/lookup", need: update, optional: true},
			grant{path: prefix + "/secret-id-accessor/destroy", need: update, optional: true})
	}
	for _, spec := range roles {
		role := normalize(spec.Fields)
		if k, ok := kindOf(role.String("credential_type")); ok {
			out = append(out, k.grants(role)...)
		}
	}
	slices.SortStableFunc(out, func(a, b grant) int { return strings.Compare(a.path, b.path) })
	return slices.CompactFunc(out, func(a, b grant) bool { return a.path == b.path })
}

func (p *Provider) tokenRoles(roles []contract.Spec) []string {
	seen := map[string]bool{}
	for _, spec := range roles {
		if len(spec.Fields) > 0 || !spec.LooksUp {
			seen[p.tokenRole(spec.Fields)] = true
		}
	}
	if len(seen) == 0 {
		seen[p.target.Fields.String("token_role")] = true
	}
	return contract.SortedKeys(seen)
}

// requiredPolicy is the whole policy of the login, ready to paste, and as a
// comment what the policies of the token roles must hold.
func (p *Provider) requiredPolicy(roles []contract.Spec) string {
	var b strings.Builder
	for _, optional := range []bool{false, true} {
		if optional {
			b.WriteString("# To see more in targets/:name/check and at role writes, and to rotate the secret_id:\n")
		}
		for _, g := range p.loginGrants(roles) {
			if g.optional == optional {
				b.WriteString(g.hcl() + "\n")
			}
		}
	}
	children := map[string]bool{}
	for _, spec := range roles {
		role := normalize(spec.Fields)
		if k, ok := kindOf(role.String("credential_type")); ok {
			for _, g := range k.childGrants(role) {
				children["# "+p.tokenRole(role)+": "+g.hcl()] = true
			}
		}
	}
	if len(children) > 0 {
		b.WriteString("# The login itself never reads these. The allowed_policies of the token role must hold:\n")
		b.WriteString(strings.Join(contract.SortedKeys(children), "\n") + "\n")
	}
	return b.String()
}

// Check implements contract.Checker.
func (p *Provider) Check(ctx context.Context, roles []contract.Spec) (contract.CheckReport, error) {
	ctx, cancel := context.WithTimeout(ctx, revokeBudget)
	defer cancel()
	out := contract.CheckReport{Quotas: map[string]int{}, RequiredPolicy: p.requiredPolicy(roles)}
	place, err := p.Place(ctx)
	if err != nil {
		return out, err
	}
	if p.target.Place != "" && place != p.target.Place {
		return out, contract.PlaceError("check")
	}
	l, err := p.login(ctx)
	if err != nil {
		return out, err
	}
	out.Identity = p.identity(l)
	out.Entities = p.SelfEntities()
	if slices.Contains(l.policies, "root") {
		out.Warnings = append(out.Warnings, "the login is root; give it the required policy instead")
	}
	if !l.until.IsZero() {
		out.Quotas["login_seconds_left"] = int(l.until.Sub(p.env.Clock.Now()) / time.Second)
	}
	p.checkGrants(ctx, &out, roles)
	p.checkSecretID(ctx, &out)
	p.checkTokenRoles(ctx, &out, roles)
	p.checkEngineRoles(ctx, &out, roles)
	p.checkDirect(ctx, &out, roles)
	return out, nil
}

// checkEngineRoles compares roles with the engines that they write to.
func (p *Provider) checkEngineRoles(ctx context.Context, out *contract.CheckReport, roles []contract.Spec) {
	for _, spec := range roles {
		role := normalize(spec.Fields)
		k, ok := kindOf(role.String("credential_type"))
		if !ok || k.probe == nil {
			continue
		}
		var r contract.Report
		k.probe(ctx, p, &r, role)
		for _, problem := range r.Problems {
			out.Warnings = append(out.Warnings, "role "+spec.Role+": "+problem.Field+" "+problem.Text)
		}
		for _, text := range r.Warnings {
			out.Unknown = append(out.Unknown, "role "+spec.Role+": "+text)
		}
	}
}

func (p *Provider) identity(l *login) string {
	who := "AppRole login at auth/" + p.authMount()
	if !p.target.Secrets["token"].Empty() {
		who = "configured token"
	}
	if l.entity == "" {
		return who + ", without entity"
	}
	return who + ", entity " + l.entity
}

// checkGrants asks the host which lines the login's policies lack.
func (p *Provider) checkGrants(ctx context.Context, out *contract.CheckReport, roles []contract.Spec) {
	grants := p.loginGrants(roles)
	paths := make([]string, len(grants))
	for i, g := range grants {
		paths[i] = strings.TrimSuffix(g.path, "*")
		if paths[i] != g.path {
			paths[i] += "any"
		}
	}
	a, err := p.asLogin(ctx, call{
		op: "look up capabilities", method: http.MethodPost, path: "sys/capabilities-self", body: map[string]any{"paths": paths},
	})
	if err != nil {
		out.Unknown = append(out.Unknown, "missing permissions: "+publicText(err))
		return
	}
	for i, g := range grants {
		have := texts(a.Data[paths[i]])
		lacks := slices.ContainsFunc(g.need, func(n string) bool { return !slices.Contains(have, n) })
		if !lacks || slices.Contains(have, "root") {
			continue
		}
		if g.optional {
			out.Warnings = append(out.Warnings, "not needed for issuing, but useful: "+g.hcl())
			continue
		}
		out.Missing = append(out.Missing, g.hcl())
	}
}

// checkSecretID says how long the login's secret_id will do.
func (p *Provider) checkSecretID(ctx context.Context, out *contract.CheckReport) {
	secretID := p.target.Secrets["secret_id"]
	if secretID.Empty() {
		return
	}
	if p.rolePath() == "" {
		out.Unknown = append(out.Unknown, "life of the secret_id: set role_name")
		return
	}
	a, err := p.asLogin(ctx, call{
		op: "look up secret_id", method: http.MethodPost, path: p.rolePath() + "/secret-id/lookup",
		body: map[string]any{"secret_id": secretID.Reveal()},
	})
	if err != nil || a.Data == nil {
		out.Unknown = append(out.Unknown, "life of the secret_id: "+publicText(err))
		return
	}
	if uses := number(a.Data["secret_id_num_uses"]); uses > 0 {
		out.Quotas["secret_id_uses_left"] = int(uses)
		out.Warnings = append(out.Warnings, "the secret_id has a limited number of uses, and each login takes one; see quotas")
	}
	ends, made := moment(a.Data["expiration_time"]), moment(a.Data["creation_time"])
	if ends.IsZero() {
		return
	}
	left := ends.Sub(p.env.Clock.Now())
	out.Quotas["secret_id_seconds_left"] = int(left / time.Second)
	if left < ends.Sub(made)/lowLife {
		out.Warnings = append(out.Warnings, "less than 20 % of the secret_id's life is left; rotate it (targets/:name/rotate-root)")
	}
}

// moment reads a time of the host's answer; the host writes year 1 for none.
func moment(v any) time.Time {
	s, _ := v.(string)
	t, err := time.Parse(time.RFC3339Nano, s)
	if err != nil || t.Year() < 2000 {
		return time.Time{}
	}
	return t
}

// checkTokenRoles reports token roles that yield the wrong tokens.
func (p *Provider) checkTokenRoles(ctx context.Context, out *contract.CheckReport, roles []contract.Spec) {
	for _, name := range p.tokenRoles(roles) {
		var r contract.Report
		p.probeTokenRole(ctx, &r, contract.Values{"token_role": name}, leaseKind())
		for _, problem := range r.Problems {
			out.Warnings = append(out.Warnings, "token role "+name+" "+problem.Text)
		}
		out.Unknown = append(out.Unknown, r.Warnings...)
	}
}

// publicText is the part of an error that may be shown.
func publicText(err error) string {
	if e, ok := errors.AsType[*contract.Error](err); ok {
		return e.Public
	}
	return "the host did not say"
}
