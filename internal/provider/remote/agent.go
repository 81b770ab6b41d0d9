package remote

import (
	"context"

	"github.com/vault-pim/vault-plugin-secrets-pim/internal/domain"
)

// product begins every user agent.
const product = "vault-plugin-secrets-pim"

// agentKey is the context key of what a call is for.
type agentKey struct{}

// Marked has every call below ctx say, as its user agent, which credential and
// request it is for: the target's audit log has it on each line, also where it
// leaves bodies out. request may be empty.
func Marked(ctx context.Context, credential domain.CredentialID, request domain.RequestID) context.Context {
	text := product + " credential/" + string(credential)
	if request != "" {
		text += " request/" + string(request)
	}
	return context.WithValue(ctx, agentKey{}, text)
}

// Unmarked has the calls below ctx name no credential: they serve them all.
func Unmarked(ctx context.Context) context.Context {
	return context.WithValue(ctx, agentKey{}, product)
}

// UserAgent is what a call says of itself.
func UserAgent(ctx context.Context) string {
	if text, ok := ctx.Value(agentKey{}).(string); ok {
		return text
	}
	return product
}
