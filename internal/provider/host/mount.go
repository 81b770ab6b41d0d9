package host

import (
	"context"
	"net/http"
	"slices"
	"strings"

	"github.com/vault-pim/vault-plugin-secrets-pim/internal/provider/contract"
	"github.com/vault-pim/vault-plugin-secrets-pim/internal/secret"
)

// mountType finds the type of the engine that serves path, as the holder of
// token may see it; "" when no mount of this namespace does.
//
// The list of mounts is asked, not the single look-up: it holds the mounts of
// the call's own namespace alone (vault/logical_system.go,
// pathInternalUIMountsRead, of both hosts), so a path that leads into another
// namespace matches nothing. Mounts never lie inside each other.
func (p *Provider) mountType(ctx context.Context, token secret.String, path string) (string, error) {
	a, err := p.client.do(ctx, call{op: "find mount", method: http.MethodGet, path: "sys/internal/ui/mounts", token: token})
	if err != nil {
		return "", err
	}
	mounts, _ := a.Data["secret"].(map[string]any)
	for at, raw := range mounts {
		if !strings.HasSuffix(at, "/") || !strings.HasPrefix(path, at) {
			continue
		}
		info, _ := raw.(map[string]any)
		found, _ := info["type"].(string)
		return found, nil
	}
	return "", nil
}

// checkMount refuses a lease role whose path is not served by an engine of an
// allowed type, or by another than the role says.
func (p *Provider) checkMount(ctx context.Context, token secret.String, role contract.Values) error {
	found, err := p.mountType(ctx, token, role.String("path"))
	if err != nil {
		return err
	}
	if problem := p.mountProblem(found, role); problem != "" {
		return refuse("find mount", "mount_refused", "the role's path "+problem)
	}
	return nil
}

// mountProblem says what speaks against reading the role's path at a mount of
// that type, or "".
func (p *Provider) mountProblem(found string, role contract.Values) string {
	_, known := engines()[found]
	allowed := known || slices.Contains(p.target.Fields.Strings("allowed_mount_types"), found)
	switch said := role.String("engine"); {
	case found == "":
		return "leads to no mount that the token role's policies can reach in this namespace"
	case neverAllowed(found) || !allowed:
		return "leads to an engine type that the target does not allow"
	case said != "" && said != found:
		return "leads to another engine type than the role says; set engine"
	case claimsTooMuch(role, found):
		return "leads to an engine type whose leases cannot keep the revocation class that the role declares"
	}
	return ""
}
