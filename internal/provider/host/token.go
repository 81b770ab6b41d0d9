package host

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/vault-pim/vault-plugin-secrets-pim/internal/domain"
	"github.com/vault-pim/vault-plugin-secrets-pim/internal/provider/contract"
	"github.com/vault-pim/vault-plugin-secrets-pim/internal/secret"
)

// ownToken is the orphan service token that each credential gets for itself.
// It makes the child lease, or it is what is handed out.
type ownToken struct {
	value    secret.String
	accessor string
	policies []string
	notAfter time.Time
}

// createToken makes a credential's token, of ttl whole seconds. Until the
// caller has recorded its accessor it must not be used for anything: then
// nobody knows it, and it ends by itself.
func (p *Provider) createToken(ctx context.Context, in contract.Input, role contract.Values, policies []string, ttl int64) (ownToken, error) {
	const op = "create token"
	life := fmt.Sprintf("%ds", ttl)
	meta := map[string]string{"pim_credential": string(in.Credential)}
	if in.Request != "" {
		meta["pim_request"] = string(in.Request)
	}
	body := map[string]any{
		"type": "service", "ttl": life, "explicit_max_ttl": life, "renewable": false, "no_default_policy": true,
		"display_name": "pim-" + string(in.Credential), "meta": meta,
	}
	if policies != nil {
		body["policies"] = policies
	}
	from := p.env.Clock.Now()
	a, err := p.asLogin(ctx, call{
		op: op, method: http.MethodPost, path: "auth/token/create/" + p.tokenRole(role), body: body,
	})
	if err != nil {
		return ownToken{}, err
	}
	switch {
	case a.wrapped() || a.Auth == nil:
		return ownToken{}, refuse(op, "no_token", "the host did not answer with a token but with something else in its place")
	case a.Auth.Accessor == "" || a.Auth.ClientToken == "":
		return ownToken{}, refuse(op, "no_accessor", "the token role yields tokens that cannot be revoked (batch); it must yield service tokens")
	}
	return ownToken{
		value: secret.New(a.Auth.ClientToken), accessor: a.Auth.Accessor, notAfter: from.Add(time.Duration(ttl) * time.Second),
	}, nil
}

func (p *Provider) tokenRole(role contract.Values) string {
	if own := role.String("token_role"); own != "" {
		return own
	}
	return p.target.Fields.String("token_role")
}

// approve looks a new token up and refuses whatever is not as it was approved:
// token roles can change what they yield at any time.
func (p *Provider) approve(ctx context.Context, t *ownToken, id domain.CredentialID, policies []string, ttl int64) error {
	const op = "approve token"
	a, err := p.asLogin(ctx, call{
		op: op, method: http.MethodPost, path: "auth/token/lookup-accessor", body: map[string]any{"accessor": t.accessor},
	})
	if err != nil {
		return err
	}
	got := a.Data
	maxTTL, left := number(got["explicit_max_ttl"]), number(got["ttl"])
	t.policies = texts(got["policies"])
	meta, _ := got["meta"].(map[string]any)
	faults := []struct {
		is   bool
		what string
	}{
		{got["type"] != "service", "is no service token"},
		{got["orphan"] != true, "is no orphan: it would end with the engine's login"},
		{got["renewable"] != false, "is renewable"},
		{number(got["period"]) != 0, "is periodic and would never end"},
		{maxTTL <= 0 || maxTTL > ttl, "may live longer than was approved"},
		{left <= 0 || left > ttl, "lives longer than was approved"},
		{number(got["num_uses"]) != 0, "has a limited number of uses"},
		{got["entity_id"] != "" && got["entity_id"] != nil, "belongs to an entity"},
		{notEmpty(got["identity_policies"]) || notEmpty(got["external_namespace_policies"]), "has policies of an entity"},
		// Hosts without namespaces ignore the header without a word.
		{trimmed(got["namespace_path"]) != trimmed(p.client.namespace), "is of another namespace than the target's"},
		{meta["pim_credential"] != string(id), "does not carry the credential's id"},
		{policyFault(t.policies, policies, p.logins.policies()), "has other policies than were approved"},
	}
	for _, f := range faults {
		if f.is {
			return refuse(op, "token_differs", "the token role yields a token that "+f.what+"; it was destroyed")
		}
	}
	if end := p.env.Clock.Now().Add(time.Duration(left) * time.Second); end.Before(t.notAfter) {
		t.notAfter = end
	}
	return nil
}

// policyFault tells whether a token's policies are not those that were
// approved. wanted nil leaves them to the token role. The policies of the
// engine's own login are never handed on.
func policyFault(got, wanted, login []string) bool {
	if len(got) == 0 || slices.Contains(got, "root") || slices.Contains(got, "default") {
		return true
	}
	if overlap(got, login) {
		return true
	}
	return wanted != nil && !slices.Equal(sortedSet(got), sortedSet(wanted))
}

// overlap tells whether a policy of the login, other than default, is among
// others.
func overlap(others, login []string) bool {
	return slices.ContainsFunc(login, func(name string) bool {
		return name != "default" && slices.Contains(others, name)
	})
}

// destroyToken revokes a token by its accessor. The host answers success for
// one that is gone already.
func (p *Provider) destroyToken(ctx context.Context, accessor string) error {
	_, err := p.asLogin(ctx, call{
		op: "revoke token", method: http.MethodPost, path: "auth/token/revoke-accessor", body: map[string]any{"accessor": accessor},
	})
	return err
}

// destroyLease revokes a child lease and waits until its engine has done so.
// The id is part of the path, so that the login's policy can be as narrow as
// one engine role.
func (p *Provider) destroyLease(ctx context.Context, id string) error {
	const op = "revoke lease"
	if !safeLease(id) {
		return refuse(op, "bad_handle", "the handle names no lease id that can be sent")
	}
	ctx, cancel := context.WithTimeout(ctx, leaseBudget)
	defer cancel()
	_, err := p.asLogin(ctx, call{
		op: op, method: http.MethodPut, path: "sys/leases/revoke/" + id, body: map[string]any{"sync": true},
	})
	if isAbsent(err) {
		return nil // the caller has proved the place
	}
	return err
}

// number reads a number of the host's answer; 0 if it is none.
func number(v any) int64 {
	n, ok := v.(json.Number)
	if !ok {
		return 0
	}
	i, err := n.Int64()
	if err != nil {
		return -1
	}
	return i
}

// texts reads a list of strings of the host's answer.
func texts(v any) []string {
	list, _ := v.([]any)
	var out []string
	for _, x := range list {
		if s, ok := x.(string); ok {
			out = append(out, s)
		}
	}
	return out
}

// trimmed is a namespace as the host's answers and our fields may write it.
func trimmed(v any) string {
	s, _ := v.(string)
	return strings.Trim(s, "/")
}

func notEmpty(v any) bool {
	switch x := v.(type) {
	case nil:
		return false
	case []any:
		return len(x) > 0
	case map[string]any:
		return len(x) > 0
	}
	return true
}

func sortedSet(list []string) []string {
	out := make([]string, 0, len(list))
	for _, s := range list {
		out = append(out, strings.ToLower(s))
	}
	slices.Sort(out)
	return slices.Compact(out)
}
