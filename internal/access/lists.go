package access

import (
	"context"
	"slices"

	"github.com/vault-pim/vault-plugin-secrets-pim/internal/domain"
	"github.com/vault-pim/vault-plugin-secrets-pim/internal/store"
)

// Page is one page of a list: keys in order, with what can be said of each
// without reading it.
type Page struct {
	Keys []string
	Info map[string]map[string]any
}

// MaxPage is the longest page of a list.
const MaxPage = 100

func pageSize(limit int) int {
	if limit <= 0 || limit > MaxPage {
		return MaxPage
	}
	return limit
}

func pageOf(rows []row, after string, limit int) Page {
	limit = pageSize(limit)
	p := Page{Info: map[string]map[string]any{}}
	for _, r := range rows {
		if len(p.Keys) == limit {
			break
		}
		if string(r.id) <= after {
			continue
		}
		p.Keys = append(p.Keys, string(r.id))
		p.Info[string(r.id)] = map[string]any{
			"role": r.role(), "who": domain.Printable(r.requester.Value().name), "state": string(r.state),
			"ttl": int(r.ttl), "requested": stamp(r.filed.time()), "expires_at": stamp(r.expires.time()), "until": stamp(r.until.time()),
			"have": int(r.approved), "break_glass": r.glass,
		}
	}
	return p
}

// MyRequests lists the caller's requests that are not archived.
func (a *Access) MyRequests(ctx context.Context, c Caller, after string, limit int) (Page, error) {
	return a.mine(ctx, c, after, limit, func(row) bool { return true })
}

// MyGrants lists the caller's grants that are not archived.
func (a *Access) MyGrants(ctx context.Context, c Caller, after string, limit int) (Page, error) {
	now := a.now()
	return a.mine(ctx, c, after, limit, func(r row) bool {
		return r.live > 0 || r.state == domain.Active && r.until.time().After(now)
	})
}

func (a *Access) mine(ctx context.Context, c Caller, after string, limit int, keep func(row) bool) (Page, error) {
	who, err := a.actor(ctx, c)
	if err != nil {
		return Page{}, err
	}
	if err := a.indexed(ctx); err != nil {
		return Page{}, err
	}
	rows := slices.DeleteFunc(a.index.ofPerson(who.person), func(r row) bool { return !keep(r) })
	return pageOf(rows, after, limit), nil
}

// Inbox lists the pending requests that the caller can decide on.
func (a *Access) Inbox(ctx context.Context, c Caller, after string, limit int) (Page, error) {
	who, err := a.actor(ctx, c)
	if err != nil {
		return Page{}, err
	}
	if err := a.indexed(ctx); err != nil {
		return Page{}, err
	}
	mine := slices.DeleteFunc(a.index.pendingAt(), func(w waiting) bool { return !a.couldApprove(ctx, who, w.role, w.stage) })
	now := a.now()
	rows := a.index.pendingOf(mine, domain.RequestID(after), pageSize(limit), func(w *row) bool {
		return !w.askedUntil().come(now) && w.person() != who.person && w.requester.Value().entity != who.ID && !w.decidedBy(who.person)
	})
	return pageOf(rows, after, limit), nil
}

// allIDs are the ids of all requests on record, the oldest first.
func (a *Access) allIDs(ctx context.Context) ([]string, error) {
	open, err := a.store.OpenIDs(ctx)
	if err != nil {
		return nil, err
	}
	old, err := a.store.ArchivedIDs(ctx, "", 0)
	if err != nil {
		return nil, err
	}
	ids := append(open, old...)
	slices.Sort(ids)
	return slices.Compact(ids), nil
}

// AuditList lists every request, archived ones included; grants only those
// that were ever granted.
func (a *Access) AuditList(ctx context.Context, grants bool, after string, limit int) ([]string, error) {
	if limit <= 0 || limit > 10*MaxPage {
		limit = 10 * MaxPage
	}
	ids, err := a.allIDs(ctx)
	if err != nil {
		return nil, err
	}
	if !grants {
		return store.Page(ids, after, limit), nil
	}
	var out []string
	for _, s := range store.Page(ids, after, 0) {
		id, err := domain.ParseRequestID(s)
		if err != nil {
			continue
		}
		r, err := a.store.Request(ctx, id)
		if err != nil {
			return nil, err
		}
		if r != nil && r.Granted > 0 {
			if out = append(out, s); len(out) == limit {
				break
			}
		}
	}
	return out, nil
}
