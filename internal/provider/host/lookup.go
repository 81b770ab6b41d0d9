package host

import (
	"context"
	"net/http"
	"strings"
	"time"

	"github.com/vault-pim/vault-plugin-secrets-pim/internal/provider/contract"
)

// lookupBudget is of all calls of one look-up together, a login included. A
// look-up that fails ends the request; one that takes long comes on top of an
// issue in the same request.
const lookupBudget = 4 * time.Second

var _ contract.TokenLooker = (*Provider)(nil)

// LookupToken implements contract.TokenLooker. Nothing is remembered between
// calls: mounts and tokens may be replaced at any time.
func (p *Provider) LookupToken(ctx context.Context, accessor string) (contract.TokenFacts, error) {
	const op = "look up token"
	none := contract.TokenFacts{}
	if accessor == "" {
		return none, refuse(op, "no_accessor", "the token has no accessor, as batch tokens have none")
	}
	if p.target.Place == "" {
		return none, refuse(op, "no_place", "the target has no pinned place")
	}
	ctx, cancel := context.WithTimeout(ctx, lookupBudget)
	defer cancel()
	if err := p.prove(ctx, op, p.target.Place); err != nil {
		return none, err
	}
	a, err := p.asLogin(ctx, call{
		op: op, method: http.MethodPost, path: "auth/token/lookup-accessor", body: map[string]any{"accessor": accessor},
	})
	if err != nil {
		return none, err
	}
	out, err := p.tokenFacts(op, accessor, a.Data)
	if err != nil {
		return none, err
	}
	out.Mount, err = p.authMountOf(ctx, out.Path)
	return out, err
}

// tokenFacts reads the host's answer. What does not fit together is an error.
func (p *Provider) tokenFacts(op, accessor string, got map[string]any) (contract.TokenFacts, error) {
	out := contract.TokenFacts{Meta: map[string]string{}}
	out.Path, _ = got["path"].(string)
	out.Type, _ = got["type"].(string)
	out.Entity, _ = got["entity_id"].(string)
	created := number(got["creation_time"])
	switch {
	case got["accessor"] != accessor, created <= 0, out.Path == "":
		return out, &contract.Error{Op: op, Code: "bad_answer", Public: "the host's answer is not about this token"}
	case trimmed(got["namespace_path"]) != trimmed(p.client.namespace):
		return out, refuse(op, "other_namespace", "the token is of another namespace than the target")
	}
	out.Created = time.Unix(created, 0).UTC()
	meta, _ := got["meta"].(map[string]any)
	for key, v := range meta {
		if s, ok := v.(string); ok {
			out.Meta[key] = s
		}
	}
	return out, nil
}

// authMountOf finds the accessor of the auth mount that a path leads to; ""
// when there is none (any more). Mounts never lie inside each other.
func (p *Provider) authMountOf(ctx context.Context, path string) (string, error) {
	a, err := p.asLogin(ctx, call{op: "list auth mounts", method: http.MethodGet, path: "sys/auth"})
	if err != nil {
		return "", err
	}
	below, ok := strings.CutPrefix(path, "auth/")
	if !ok {
		return "", nil
	}
	for at, raw := range a.Data {
		info, isMount := raw.(map[string]any)
		if !isMount || !strings.HasSuffix(at, "/") || !strings.HasPrefix(below, at) {
			continue
		}
		accessor, _ := info["accessor"].(string)
		return accessor, nil
	}
	return "", nil
}
