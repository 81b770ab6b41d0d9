package store

import (
	"context"

	"github.com/vault-pim/vault-plugin-secrets-pim/internal/domain"
)

// The keys of what looks back: the feed of events and its consumers, the
// ledgers of emergencies, and access reviews.
const (
	prefixEvent    = "ev/"
	prefixConsumer = "consumer/"
	prefixLedger   = "glass/"
	prefixCampaign = "campaign/"
)

// EventIDs lists the ids of events after one, in order, at most limit (0 =
// all).
func (st *Store) EventIDs(ctx context.Context, after string, limit int) ([]string, error) {
	return st.list(ctx, prefixEvent, after, limit)
}

// Event reads one event; nil = none.
func (st *Store) Event(ctx context.Context, id string) (*domain.FeedEvent, error) {
	e, err := get[domain.FeedEvent](ctx, st.s, prefixEvent+id)
	if e != nil {
		e.ID = id
	}
	return e, err
}

// PutEvent writes an event under its id.
func (st *Store) PutEvent(ctx context.Context, e domain.FeedEvent) error {
	return put(ctx, st.s, prefixEvent+e.ID, e)
}

// DeleteEvent removes an event whose time is over.
func (st *Store) DeleteEvent(ctx context.Context, id string) error {
	return del(ctx, st.s, prefixEvent+id)
}

// Consumers reads every consumer of events, in order of their names.
func (st *Store) Consumers(ctx context.Context) ([]domain.Consumer, error) {
	return all[domain.Consumer](ctx, st, prefixConsumer)
}

// all reads every record below a prefix, in order of their keys.
func all[T any](ctx context.Context, st *Store, prefix string) ([]T, error) {
	keys, err := st.list(ctx, prefix, "", 0)
	if err != nil {
		return nil, err
	}
	out := make([]T, 0, len(keys))
	for _, k := range keys {
		v, err := get[T](ctx, st.s, prefix+k)
		if err != nil {
			return nil, err
		}
		if v != nil {
			out = append(out, *v)
		}
	}
	return out, nil
}

// PutConsumer writes a consumer.
func (st *Store) PutConsumer(ctx context.Context, c domain.Consumer) error {
	return put(ctx, st.s, prefixConsumer+c.Name, c)
}

// DeleteConsumer removes a consumer.
func (st *Store) DeleteConsumer(ctx context.Context, name string) error {
	return del(ctx, st.s, prefixConsumer+name)
}

// Ledgers reads the ledger of every role that has one.
func (st *Store) Ledgers(ctx context.Context) ([]domain.Ledger, error) {
	return all[domain.Ledger](ctx, st, prefixLedger)
}

// PutLedger writes a ledger, or deletes an empty one.
func (st *Store) PutLedger(ctx context.Context, l domain.Ledger) error {
	if len(l.Uses) == 0 {
		return del(ctx, st.s, prefixLedger+l.Role)
	}
	return put(ctx, st.s, prefixLedger+l.Role, l)
}

// Campaigns reads every access review, in order of their ids.
func (st *Store) Campaigns(ctx context.Context) ([]domain.Campaign, error) {
	return all[domain.Campaign](ctx, st, prefixCampaign)
}

// Campaign reads one access review; nil = none.
func (st *Store) Campaign(ctx context.Context, id string) (*domain.Campaign, error) {
	return get[domain.Campaign](ctx, st.s, prefixCampaign+id)
}

// WithCampaign changes one access review under its lock; f gets nil when there
// is none, and answers nil to write nothing.
func (st *Store) WithCampaign(ctx context.Context, id string, f func(*domain.Campaign) (*domain.Campaign, error)) error {
	defer st.locks.single.lock(prefixCampaign + id)()
	c, err := st.Campaign(ctx, id)
	if err != nil {
		return err
	}
	next, err := f(c)
	if err != nil || next == nil {
		return err
	}
	return put(ctx, st.s, prefixCampaign+id, *next)
}

// DeleteCampaign removes an access review whose retention is over.
func (st *Store) DeleteCampaign(ctx context.Context, id string) error {
	return del(ctx, st.s, prefixCampaign+id)
}

// Persons reads the record of every person and gives each to f, until f says
// stop.
func (st *Store) Persons(ctx context.Context, f func(domain.PersonRecord) error) error {
	keys, err := st.list(ctx, prefixPerson, "", 0)
	if err != nil {
		return err
	}
	for _, k := range keys {
		r, err := get[domain.PersonRecord](ctx, st.s, prefixPerson+k)
		if err != nil {
			return err
		}
		if r == nil {
			continue
		}
		if err := f(*r); err != nil {
			return err
		}
	}
	return nil
}
