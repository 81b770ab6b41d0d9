package access

import (
	"context"
	"slices"
	"strings"

	"github.com/vault-pim/vault-plugin-secrets-pim/internal/domain"
	"github.com/vault-pim/vault-plugin-secrets-pim/internal/fault"
)

// maxConsumers bounds the consumers of events.
const maxConsumers = 50

// Events reads the feed after an event, at most limit of them, in order.
func (a *Access) Events(ctx context.Context, after string, limit int) ([]domain.FeedEvent, error) {
	if limit <= 0 || limit > MaxPage {
		limit = MaxPage
	}
	ids, err := a.store.EventIDs(ctx, after, limit)
	if err != nil {
		return nil, err
	}
	out := make([]domain.FeedEvent, 0, len(ids))
	for _, id := range ids {
		e, err := a.store.Event(ctx, id)
		if err != nil {
			return nil, err
		}
		if e != nil { // its time was over meanwhile
			out = append(out, *e)
		}
	}
	return out, nil
}

// Consumers lists the consumers of events, in order of their names.
func (a *Access) Consumers(ctx context.Context) ([]domain.Consumer, error) {
	a.events.mu.Lock()
	defer a.events.mu.Unlock()
	if err := a.events.load(ctx); err != nil {
		return nil, err
	}
	out := make([]domain.Consumer, 0, len(a.events.consumers))
	for _, c := range a.events.consumers {
		out = append(out, c)
	}
	slices.SortFunc(out, func(a, b domain.Consumer) int { return strings.Compare(a.Name, b.Name) })
	return out, nil
}

// Consumer reads one consumer; nil = none.
func (a *Access) Consumer(ctx context.Context, name string) (*domain.Consumer, error) {
	a.events.mu.Lock()
	defer a.events.mu.Unlock()
	if err := a.events.load(ctx); err != nil {
		return nil, err
	}
	if c, ok := a.events.consumers[name]; ok {
		return &c, nil
	}
	return nil, nil //nolint:nilnil // unknown
}

// Acknowledge says that a consumer has taken everything up to an event. It
// never goes back. What it has read of emergencies counts as heard, unless it
// is who broke the glass.
func (a *Access) Acknowledge(ctx context.Context, c Caller, name, cursor string) (domain.Consumer, error) {
	by := a.namedCaller(ctx, c)
	next, err := a.acknowledge(ctx, by, name, cursor)
	if err != nil {
		return next, err
	}
	if err := a.hear(ctx); err != nil {
		a.log.Warn("what was heard of emergencies is written later", "error", err)
		a.reaper.nudge()
	}
	return next, nil
}

func (a *Access) acknowledge(ctx context.Context, by domain.Party, name, cursor string) (domain.Consumer, error) {
	e := a.events
	e.mu.Lock()
	defer e.mu.Unlock()
	if err := e.load(ctx); err != nil {
		return domain.Consumer{}, err
	}
	old, known := e.consumers[name]
	var p fault.Problems
	switch {
	case !domain.ValidName(name):
		p.Add("name", "is 1 to 63 of a-z, 0-9 and -, and neither starts nor ends with -")
	case !domain.ValidID(cursor):
		p.Add("cursor", "must be the id of an event")
	case cursor > e.last:
		p.Add("cursor", "is beyond the newest event")
	}
	if err := p.Err(); err != nil {
		return old, err
	}
	switch {
	case !known && len(e.consumers) >= maxConsumers:
		return old, fault.Newf(fault.Conflict, fault.CodeLimit, "limit reached: there are %d consumers of events; delete one that is gone", maxConsumers)
	case known && !old.RunBy(by):
		// Who broke a glass would else move the cursor of whoever is to hear of it.
		return old, fault.New(fault.Denied, fault.CodePolicy,
			"access denied: somebody else runs this consumer of events: take another name, or delete it first", nil)
	case known && cursor <= old.Cursor:
		return old, nil
	}
	next := domain.Consumer{Name: name, Cursor: cursor, At: a.now(), Entity: by.Entity, Person: by.Person}
	if err := e.store.PutConsumer(ctx, next); err != nil {
		e.read = false // it may have been written
		return old, err
	}
	a.step("events acknowledged")
	e.consumers[name] = next
	e.version++
	return next, nil
}

// ForgetConsumer removes a consumer. What it has heard stays heard.
func (a *Access) ForgetConsumer(ctx context.Context, name string) error {
	e := a.events
	e.mu.Lock()
	defer e.mu.Unlock()
	if err := e.load(ctx); err != nil {
		return err
	}
	if _, ok := e.consumers[name]; !ok {
		return nil
	}
	if err := e.store.DeleteConsumer(ctx, name); err != nil {
		e.read = false
		return err
	}
	delete(e.consumers, name)
	return nil
}

// tidyEvents drops the events whose time is over.
func (a *Access) tidyEvents(ctx context.Context) (int, error) {
	ids, err := a.store.EventIDs(ctx, "", 0)
	if err != nil {
		return 0, err
	}
	n, now := 0, a.now()
	for _, id := range ids {
		if now.Sub(domain.TimeOf(id)) < domain.EventKept {
			break // ids sort by time
		}
		if err := a.store.DeleteEvent(ctx, id); err != nil {
			return n, err
		}
		n++
	}
	return n, nil
}
