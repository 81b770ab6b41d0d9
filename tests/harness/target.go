package harness

import (
	"fmt"
	"maps"
	"strings"
	"testing"
)

// HostTarget is a target of type host, with all that it needs on the host.
type HostTarget struct {
	Name      string
	TokenRole string
	Login     *AppRole // the engine's own login
}

// HostTarget writes a target "local" whose credentials are tokens with any of
// allowedPolicies. paths are further rules of the engine's login, "path" →
// capabilities in HCL: roles that broker a lease need
// "sys/leases/revoke/<path>/*" → `"update"`. address overrides the host's own
// address (for a Recorder) unless it is empty.
func (m *Mount) HostTarget(t testing.TB, address string, paths map[string]string, allowedPolicies ...string) *HostTarget {
	t.Helper()
	h, root := m.Host, m.Host.Root()
	target := &HostTarget{Name: "local", TokenRole: "pim-" + short()}
	root.Write(t, "auth/token/roles/"+target.TokenRole, map[string]any{
		"orphan": true, "renewable": false, "token_no_default_policy": true, "token_type": "service",
		"allowed_policies": allowedPolicies,
	}).OK(t)
	rules := map[string]string{
		"auth/token/create/" + target.TokenRole: `"update"`,
		"auth/token/roles/" + target.TokenRole:  `"read"`,
		"auth/token/lookup-accessor":            `"update"`,
		"auth/token/revoke-accessor":            `"update"`,
		"sys/capabilities-self":                 `"update"`,
	}
	maps.Copy(rules, paths)
	target.Login = h.AppRole(t, "pim-engine", "20m", h.Policy(t, "pim-engine", policyText(rules)))
	if address == "" {
		address = h.Addr
	}
	root.Write(t, m.Path+"/targets/"+target.Name, map[string]any{
		"type": "host", "address": address, "token_role": target.TokenRole,
		"role_id": target.Login.RoleID, "secret_id": target.Login.SecretID,
	}).OK(t)
	return target
}

// policyText writes ACL rules ("path" → capabilities in HCL) as a policy.
func policyText(rules map[string]string) string {
	var text strings.Builder
	for path, capabilities := range rules {
		fmt.Fprintf(&text, "path %q { capabilities = [%s] }\n", path, capabilities)
	}
	return text.String()
}
