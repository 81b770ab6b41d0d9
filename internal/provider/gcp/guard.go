package gcp

import (
	"context"
	"slices"
	"strings"

	"github.com/vault-pim/vault-plugin-secrets-pim/internal/provider/contract"
	"github.com/vault-pim/vault-plugin-secrets-pim/internal/provider/remote"
)

// maxAncestors bounds the walk up from a project: Google allows ten folders
// above each other.
const maxAncestors = 12

// impersonation are the permissions that let somebody act as a service
// account, or make it so.
func impersonation() []string {
	return []string{
		"iam.serviceAccountKeys.create", "iam.serviceAccounts.actAs", "iam.serviceAccounts.getAccessToken",
		"iam.serviceAccounts.getOpenIdToken", "iam.serviceAccounts.implicitDelegation", "iam.serviceAccounts.setIamPolicy",
		"iam.serviceAccounts.signBlob", "iam.serviceAccounts.signJwt",
		"resourcemanager.folders.setIamPolicy", "resourcemanager.organizations.setIamPolicy", "resourcemanager.projects.setIamPolicy",
	}
}

// knownDangerous are predefined roles of which everybody knows that they have
// such permissions. Others are read from Google at issue.
func knownDangerous() []string {
	return []string{
		"roles/iam.serviceAccountAdmin", "roles/iam.serviceAccountKeyAdmin", "roles/iam.serviceAccountOpenIdTokenCreator",
		"roles/iam.serviceAccountTokenCreator", "roles/iam.serviceAccountUser", "roles/iam.workloadIdentityUser",
		"roles/iam.securityAdmin", "roles/resourcemanager.projectIamAdmin", "roles/resourcemanager.folderIamAdmin",
		"roles/resourcemanager.organizationAdmin", "roles/resourcemanager.folderAdmin",
	}
}

// identities are the service accounts that the engine is or goes through. A
// federated identity without impersonation is none.
func (p *Provider) identities(ctx context.Context) ([]string, error) {
	base, err := p.api.tokens.identity(ctx, p.api)
	if err != nil {
		return nil, err
	}
	return slices.DeleteFunc(append(slices.Clone(p.config.chain), base...), func(s string) bool { return s == "" }), nil
}

// homes are the projects that service accounts live in, as their addresses say
// it: an id, or a number.
func homes(emails []string) []string {
	var out []string
	for _, email := range emails {
		name, host, _ := strings.Cut(email, "@")
		label, rest, _ := strings.Cut(host, ".")
		switch {
		case rest == "iam.gserviceaccount.com":
			out = append(out, label)
		case strings.HasSuffix(host, ".iam.gserviceaccount.com"): // project.organization
			out = append(out, strings.TrimPrefix(rest[:len(rest)-len(".iam.gserviceaccount.com")]+":"+label, ":"))
		case host == "developer.gserviceaccount.com":
			number, _, _ := strings.Cut(name, "-")
			out = append(out, number)
		case host == "appspot.gserviceaccount.com":
			out = append(out, name)
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// refuseSelf refuses to hand out the engine's own identity, or a role that lets
// its holder become it.
func (p *Provider) refuseSelf(ctx context.Context, op string, r role) error {
	selves, err := p.identities(ctx)
	if err != nil {
		return failure("read our own identity", err)
	}
	if slices.Contains(selves, r.existing) && r.existing != "" {
		return contract.Refused(op, remote.CodeOwnIdentity, "the role runs as the engine's own identity")
	}
	if len(r.resources) == 0 || len(selves) == 0 {
		return nil
	}
	return p.refuseReach(ctx, op, r, homes(selves))
}

// refuseReach refuses roles with which their holder could act as the engine's
// service account: granted where that lives, or above.
func (p *Provider) refuseReach(ctx context.Context, op string, r role, homes []string) error {
	reaching, err := p.above(ctx, r.resources, homes)
	if err != nil || !reaching {
		return err
	}
	for _, name := range r.roles {
		dangerous := slices.Contains(knownDangerous(), name)
		if !dangerous {
			list, err := p.api.rolePermissions(ctx, name)
			if err != nil {
				return failure("read role", err)
			}
			dangerous = slices.ContainsFunc(list, func(s string) bool { return slices.Contains(impersonation(), s) })
		}
		if dangerous {
			return contract.Refused(op, remote.CodeOwnIdentity,
				"a role of iam_roles would let its holder act as the engine's own identity, which lives in a project that it is granted on")
		}
	}
	return nil
}

// above tells whether one of the resources is, or contains, one of the
// projects.
func (p *Provider) above(ctx context.Context, resources []resource, homes []string) (bool, error) {
	var wide []string // folders and organizations
	for _, r := range resources {
		svc, name := r.parts()
		if svc != svcProjects {
			continue // service accounts are not below it
		}
		if !strings.HasPrefix(name, projectsPrefix) {
			wide = append(wide, name)
			continue
		}
		if same, err := p.sameProject(ctx, r.project(), homes); err != nil || same {
			return same, err
		}
	}
	if len(wide) == 0 {
		return false, nil
	}
	for _, home := range homes {
		line, err := p.ancestors(ctx, home)
		if err != nil {
			return false, err
		}
		if slices.ContainsFunc(wide, func(w string) bool { return slices.Contains(line, w) }) {
			return true, nil
		}
	}
	return false, nil
}

// sameProject compares projects that may be named by id or number.
func (p *Provider) sameProject(ctx context.Context, name string, homes []string) (bool, error) {
	if slices.Contains(homes, name) {
		return true, nil
	}
	otherForm := func(home string) bool { return numberForm.MatchString(home) != numberForm.MatchString(name) }
	if !slices.ContainsFunc(homes, otherForm) {
		return false, nil
	}
	found, err := p.api.project(ctx, name)
	if err != nil {
		return false, failure("read project", err)
	}
	return slices.Contains(homes, found.ID) || slices.Contains(homes, found.number()), nil
}

// ancestors lists the folders and the organization above a project.
func (p *Provider) ancestors(ctx context.Context, id string) ([]string, error) {
	found, err := p.api.project(ctx, id)
	if err != nil {
		return nil, failure("read the project of the engine's own identity", err)
	}
	var out []string
	for up := found.Parent; up != "" && len(out) < maxAncestors; {
		out = append(out, up)
		if !strings.HasPrefix(up, foldersPrefix) {
			break
		}
		if up, err = p.api.parent(ctx, up); err != nil {
			return nil, failure("read the folders above the engine's own identity", err)
		}
	}
	return out, nil
}

// checkSelf is refuseSelf without a call, as far as that goes.
func (p *Provider) checkSelf(r role, report *contract.Report) {
	selves := append(slices.Clone(p.config.chain), p.config.keyIdentity())
	if r.existing != "" && slices.Contains(selves, r.existing) {
		report.Addf("service_account_email", "is the engine's own identity, which no role may use")
	}
	lives := homes(selves)
	for _, res := range r.resources {
		if svc, _ := res.parts(); svc != svcProjects || !slices.Contains(lives, res.project()) {
			continue
		}
		if slices.ContainsFunc(r.roles, func(name string) bool { return slices.Contains(knownDangerous(), name) }) {
			report.Addf("iam_roles", "has a role that would let its holder act as the engine's own identity, which lives in that project")
			return
		}
	}
}
