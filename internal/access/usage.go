package access

import (
	"context"

	"github.com/vault-pim/vault-plugin-secrets-pim/internal/domain"
)

// usage is one person's use of one role up to now: what closed requests left
// in their record, and the open grants that were used already. It costs one
// read.
func (a *Access) usage(ctx context.Context, p domain.Person, role string) (domain.Usage, error) {
	rec, err := a.store.Person(ctx, p)
	if err != nil {
		return domain.Usage{}, err
	}
	return a.usageIn(rec, role), nil
}

// usageIn is usage for who has read the person's record already.
func (a *Access) usageIn(rec domain.PersonRecord, role string) domain.Usage {
	counted := map[domain.RequestID]bool{}
	for _, e := range rec.Entries {
		counted[e.ID] = e.Closed == ""
	}
	u := rec.Usage[role]
	for _, r := range a.index.ofPerson(rec.Person) {
		if r.role() == role && counted[r.id] { // a closed entry is in the record's own count
			u = u.Used(r.used.time())
		}
	}
	return u
}
