package store

import (
	"context"
	"strings"

	"github.com/vault-pim/vault-plugin-secrets-pim/internal/domain"
)

// Proposal is a proposed edit with the values of the secrets that it brings.
// It is one record, below a prefix that is seal-wrapped like root credentials.
type Proposal struct {
	domain.Proposal
	// Given are the secret fields of the edit; an empty value clears one.
	Given map[string]string `json:"given,omitempty"`
}

func keyProposal(kind domain.EditKind, name string) string {
	return prefixProposal + string(kind) + "." + name
}

// Proposal reads the proposed edit of a role, a target or the settings; nil =
// none.
func (st *Store) Proposal(ctx context.Context, kind domain.EditKind, name string) (*Proposal, error) {
	return get[Proposal](ctx, st.s, keyProposal(kind, name))
}

// PutProposal writes a proposed edit in place of an older one. Callers hold
// the lock of what is edited.
func (st *Store) PutProposal(ctx context.Context, p Proposal) error {
	return put(ctx, st.s, keyProposal(p.Kind, p.Name), p)
}

// DropProposal removes a proposed edit. Callers hold the lock of what is
// edited.
func (st *Store) DropProposal(ctx context.Context, kind domain.EditKind, name string) error {
	return del(ctx, st.s, keyProposal(kind, name))
}

// Proposals lists the names with a proposed edit of a kind, in order.
func (st *Store) Proposals(ctx context.Context, kind domain.EditKind) ([]string, error) {
	keys, err := st.list(ctx, prefixProposal, "", 0)
	if err != nil {
		return nil, err
	}
	var out []string
	for _, k := range keys {
		if name, ok := strings.CutPrefix(k, string(kind)+"."); ok {
			out = append(out, name)
		}
	}
	return out, nil
}

// WithConfig locks the settings against other writers, without changing them.
func (st *Store) WithConfig(f func() error) error {
	defer st.locks.single.lock(keyConfig)()
	return f()
}
