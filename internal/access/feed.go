package access

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/vault-pim/vault-plugin-secrets-pim/internal/domain"
	"github.com/vault-pim/vault-plugin-secrets-pim/internal/store"
)

// feedBatch bounds the requests that one round of the reaper feeds.
const feedBatch = 500

// events is the feed: what happened, in the order in which it was written
// there. The entries of a request's history are written with what they tell
// of; the feed is made from them, so nothing is lost, and after a crash an
// event may come twice: request and place in its history are the same then.
type events struct {
	store *store.Store

	mu        sync.Mutex
	last      string // newest id; "" = not known yet
	read      bool   // last and consumers are known
	consumers map[string]domain.Consumer
	version   int // counts what consumers said
	checked   int // version up to which emergencies are marked as heard
}

func newEvents(s *store.Store) *events {
	return &events{store: s, consumers: map[string]domain.Consumer{}, version: 1}
}

// load reads how far the feed and its consumers are. The caller holds mu.
func (e *events) load(ctx context.Context) error {
	if e.read {
		return nil
	}
	ids, err := e.store.EventIDs(ctx, "", 0)
	if err != nil {
		return err
	}
	list, err := e.store.Consumers(ctx)
	if err != nil {
		return err
	}
	if len(ids) > 0 {
		e.last = ids[len(ids)-1]
	}
	e.consumers = make(map[string]domain.Consumer, len(list))
	for _, c := range list {
		e.consumers[c.Name] = c
		// What they have taken may be dropped by now, and a clock may have gone back:
		// no new event comes before their cursor.
		e.last = max(e.last, c.Cursor)
	}
	e.read = true
	return nil
}

// news are kinds of events, one bit each in the order of their list.
type news uint16

func newsKind(k domain.EventKind) news {
	if k == "" {
		return 0 // most entries of a history make none
	}
	i := slices.Index(domain.EventKinds(), k)
	if i < 0 {
		return 0
	}
	return 1 << i
}

// newsOf are the kinds of events that a request's history has and the feed has
// not.
func newsOf(r domain.Request) news {
	var out news
	if r.MustOwe() {
		out = newsKind(domain.EventReviewOwed)
	}
	told := min(max(r.Fed-r.History.Folded, 0), len(r.History.Entries))
	for i := range r.History.Entries[told:] {
		out |= newsKind(domain.EventOf(r.History.Entries[told+i].What))
	}
	return out
}

func alwaysKept() news {
	var out news
	for _, k := range domain.EventKinds() {
		if k.AlwaysKept() {
			out |= newsKind(k)
		}
	}
	return out
}

// refeed notes whether a request has something for the feed. The caller holds
// mu.
func (x *index) refeed(w *row) {
	if w.news&x.wanted != 0 {
		x.unfed[w.id] = struct{}{}
	} else {
		delete(x.unfed, w.id)
	}
}

// toFeed are at most n requests that have something for the feed. When what is
// wanted changed, every row is looked at once.
func (x *index) toFeed(wanted news, n int) []domain.RequestID {
	x.mu.Lock()
	defer x.mu.Unlock()
	if wanted != x.wanted {
		x.wanted = wanted
		for _, w := range x.rows {
			x.refeed(w)
		}
	}
	out := make([]domain.RequestID, 0, min(n, len(x.unfed)))
	for id := range x.unfed {
		if len(out) == n {
			break
		}
		out = append(out, id)
	}
	slices.Sort(out)
	return out
}

// wanted tells which events are kept. Those that somebody must hear of always
// are, whether or not the settings can be read.
func (a *Access) wanted(ctx context.Context) func(domain.EventKind) bool {
	cfg, err := a.store.Config(ctx)
	if err != nil {
		a.log.Warn("the settings cannot be read; only events that are always kept go to the feed now", "error", err)
	}
	return func(k domain.EventKind) bool { return k.AlwaysKept() || slices.Contains(cfg.Events, string(k)) }
}

// write gives events their ids and writes them. Ids grow, whatever the clock
// does, so that a cursor never passes over one.
func (a *Access) writeEvents(ctx context.Context, list []domain.FeedEvent) ([]domain.FeedEvent, error) {
	e := a.events
	e.mu.Lock()
	defer e.mu.Unlock()
	if err := e.load(ctx); err != nil {
		return nil, err
	}
	for i := range list {
		id, err := a.idAfter(e.last)
		if err != nil {
			return nil, err
		}
		list[i].ID = id
		e.last = id // also when the write fails: it may be there
		if err := e.store.PutEvent(ctx, list[i]); err != nil {
			return nil, err
		}
	}
	return list, nil
}

func (a *Access) idAfter(last string) (string, error) {
	now := a.now()
	if t := domain.TimeOf(last); t.After(now) {
		now = t
	}
	for {
		id, err := domain.NewID(now, a.entropy)
		if err != nil {
			return "", fmt.Errorf("new id: %w", err)
		}
		if id > last {
			return id, nil
		}
		now = now.Add(time.Millisecond)
	}
}

// fed is a request after its news went to the feed, and after it owes the review
// that it has to. It writes events and the ledger, and not the request.
func (a *Access) fed(ctx context.Context, r domain.Request) (domain.Request, error) {
	if r.MustOwe() {
		role, err := a.store.Role(ctx, r.Role)
		if err != nil {
			return r, err
		}
		if role == nil {
			role = &domain.Role{Name: r.Role}
		}
		if r, err = a.oweReview(ctx, r, role, r.ReviewOwed); err != nil {
			return r, err
		}
	}
	news := r.Unfed(a.wanted(ctx))
	if len(news) == 0 {
		return r, nil
	}
	for _, e := range news {
		a.aloud(r, e)
	}
	news, err := a.writeEvents(ctx, news)
	if err != nil {
		return r, err
	}
	a.step("events written")
	return r.FedAll(news), nil
}

// aloud puts what nobody may miss into the log of the plugin.
func (a *Access) aloud(r domain.Request, e domain.FeedEvent) {
	fields := []any{"event", string(e.Kind), "request", string(r.ID), "role", r.Role, "target", r.Target, "entity", r.Requester.Entity}
	switch e.Kind {
	case domain.EventBreakGlass:
		a.log.Error("BREAK-GLASS: access without any approval", fields...)
	case domain.EventReviewOverdue:
		a.log.Error("the review of an emergency is overdue", fields...)
	case domain.EventRotateFailed:
		a.log.Error("the root credential could not be rotated after an emergency; it is tried again", fields...)
	case domain.EventFiled, domain.EventDecided, domain.EventGranted, domain.EventDenied, domain.EventCancelled, domain.EventExpired,
		domain.EventVoid, domain.EventEnded, domain.EventRevoked, domain.EventReviewOwed, domain.EventReviewed, domain.EventRevokeFailed,
		domain.EventEscalated:
	}
}

// feed brings a request's news to the feed, wherever the request is.
func (a *Access) feed(ctx context.Context, id domain.RequestID) error {
	_, err := a.amend(ctx, id, nil)
	return err
}

// amend changes a request that may be archived already, and feeds what that
// tells of. A nil change only feeds. nil = there is no such request.
func (a *Access) amend(ctx context.Context, id domain.RequestID, change func(domain.Request) (domain.Request, error)) (*domain.Request, error) {
	var out *domain.Request
	err := a.store.WithRequest(id, func(tx *store.RequestTx) error {
		r, err := a.load(ctx, tx, id, nil)
		if err != nil {
			return err
		}
		open := r != nil
		if !open {
			if r, err = a.store.Request(ctx, id); err != nil || r == nil {
				return err
			}
		}
		next := *r
		if change != nil {
			if next, err = change(next); err != nil {
				return err
			}
			// First what happened, then the feed: what a crash cuts off in
			// between is fed later.
			if next.Rev != r.Rev {
				if err := a.keep(ctx, tx, next, open); err != nil {
					return err
				}
			}
		}
		before := next.Rev
		if next, err = a.fed(ctx, next); err != nil {
			return err
		}
		out = &next
		if next.Rev == before {
			return nil
		}
		return a.keep(ctx, tx, next, open)
	})
	return out, err
}

// keep writes a request where it is. An open record that is finished is
// archived from what it says, so it wins.
func (a *Access) keep(ctx context.Context, tx *store.RequestTx, r domain.Request, open bool) error {
	if open {
		return a.save(ctx, tx, r, "amended")
	}
	a.step("before archive amended")
	if err := tx.Archive(ctx, r); err != nil {
		return err
	}
	a.step("after archive amended")
	return nil
}

// feedAll brings the news of open requests to the feed.
func (w *reaper) feedAll(ctx context.Context) {
	wanted, keep := news(0), w.a.wanted(ctx)
	for _, k := range domain.EventKinds() {
		if keep(k) {
			wanted |= newsKind(k)
		}
	}
	for _, id := range w.a.index.toFeed(wanted, feedBatch) {
		if ctx.Err() != nil {
			return
		}
		if err := w.a.feed(ctx, id); err != nil {
			w.a.log.Warn("events of a request could not be written; it is tried again", "request", string(id), "error", err)
		}
	}
}
