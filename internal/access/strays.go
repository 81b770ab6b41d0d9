package access

import (
	"context"
	"errors"
	"time"

	"github.com/vault-pim/vault-plugin-secrets-pim/internal/domain"
	"github.com/vault-pim/vault-plugin-secrets-pim/internal/fault"
	"github.com/vault-pim/vault-plugin-secrets-pim/internal/provider/contract"
)

const (
	// listBudget bounds one listing of a target.
	listBudget = 5 * time.Minute
	// maxStrays is where one listing stops: what follows is found by the next.
	maxStrays = 1000
)

// errEnough stops a listing that has found enough.
var errEnough = errors.New("enough was found")

// lister is the target's power to list; nil = it has none.
func (o *opened) lister() contract.Lister {
	l, ok := o.Provider.(contract.Lister)
	if !ok {
		return nil
	}
	return l
}

// strays lists what carries our tag at a target and is on no record, without
// what is younger than grace. What is on record is read before the target is
// listed, and what is left is looked up again after it: so that neither what
// ends nor what is issued meanwhile is taken for a stray.
func (a *Access) strays(ctx context.Context, name string, l contract.Lister, grace time.Duration) ([]contract.Found, error) {
	ctx, cancel := context.WithTimeout(ctx, listBudget)
	defer cancel()
	began := a.now()
	known, err := a.knownAt(ctx, name)
	if err != nil {
		return nil, err
	}
	var found []contract.Found
	err = l.List(ctx, func(f contract.Found) error {
		if known[f.Credential] || a.young(f.Credential, grace) {
			return nil
		}
		if found = append(found, f); len(found) >= maxStrays {
			return errEnough
		}
		return nil
	})
	if err != nil && !errors.Is(err, errEnough) {
		return nil, providerFault(err)
	}
	var strays []contract.Found
	for _, f := range found {
		ours, err := a.onRecord(ctx, f, began)
		if err != nil {
			return nil, err
		}
		if !ours {
			strays = append(strays, f)
		}
	}
	return strays, nil
}

// young tells whether a credential was planned so lately that its record may
// not be seen yet, or by a clock that is ahead of ours.
func (a *Access) young(id domain.CredentialID, grace time.Duration) bool {
	age := a.now().Sub(domain.TimeOf(string(id)))
	return age < grace && age > -grace
}

// knownAt are the credentials of a target that are on record and not gone. A
// record that cannot be read might name any: then nothing is known.
func (a *Access) knownAt(ctx context.Context, target string) (map[domain.CredentialID]bool, error) {
	known := map[domain.CredentialID]bool{}
	for _, id := range a.index.unsettledAt(target) {
		r, err := a.store.OpenRequest(ctx, id)
		if err != nil {
			return nil, fault.From(err)
		}
		if r == nil {
			continue // archived meanwhile: everything of it is gone
		}
		for _, c := range r.Credentials {
			if c.State != domain.CredGone {
				known[c.ID] = true
			}
		}
	}
	return known, nil
}

// onRecord tells whether something that was found is on a record, or was when
// the listing began, or belongs to others today.
func (a *Access) onRecord(ctx context.Context, f contract.Found, began time.Time) (bool, error) {
	if f.Request != "" {
		r, err := a.store.Request(ctx, f.Request)
		if err != nil {
			return false, err
		}
		if r != nil {
			if c, ok := r.Credential(f.Credential); ok && (c.State != domain.CredGone || c.GoneAt.After(began)) {
				return true, nil
			}
		}
	}
	return a.usedByOthers(ctx, f.Handle)
}
