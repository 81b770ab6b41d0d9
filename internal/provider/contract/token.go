package contract

import (
	"context"
	"time"
)

// TokenLooker looks tokens of the host up. Only targets that are the host
// itself can.
type TokenLooker interface {
	// LookupToken says what the token with that accessor is, read afresh. A
	// token that does not exist (any more), or that is of another namespace
	// than the target, is an error.
	LookupToken(ctx context.Context, accessor string) (TokenFacts, error)
}

// TokenFacts are what the host knows of one of its tokens.
type TokenFacts struct {
	Meta    map[string]string // as the login that made it set it
	Created time.Time         // a renewal does not change it
	Path    string            // that made it: auth/userpass/login/alice
	Mount   string            // accessor of the auth mount that Path leads to
	Entity  string            // may be empty
	Type    string            // service or batch
}
