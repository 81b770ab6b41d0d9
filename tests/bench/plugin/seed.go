package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/hashicorp/vault/sdk/logical"

	"github.com/vault-pim/vault-plugin-secrets-pim/internal/clock"
	"github.com/vault-pim/vault-plugin-secrets-pim/internal/domain"
	"github.com/vault-pim/vault-plugin-secrets-pim/internal/store"
)

// seedWorkers write at the same time, so that the host's storage batches.
const seedWorkers = 64

// sown is what to write: so many requests, made by the domain's own moves and
// written by the store, as if people had asked and decided. Only the way through
// the API is left out, which would take hours.
type sown struct {
	kind        string // archived, pending or active
	count       int
	credentials int // of each request
	role        domain.Role
	target      domain.Target
	requesters  []domain.Party
	approver    domain.Party
	at          time.Time // when it was asked for
	ttl         domain.Seconds
}

// seed writes requests into the storage of a mount. Its index does not know of
// them before the plugin is loaded again.
func seed(ctx context.Context, s logical.Storage, in map[string]any) (map[string]any, error) {
	st := store.New(s)
	what, err := read(ctx, st, in)
	if err != nil {
		return nil, err
	}
	jobs, errs := make(chan int), make(chan error, seedWorkers)
	var wg sync.WaitGroup
	for range seedWorkers {
		wg.Go(func() {
			for n := range jobs {
				if err := what.write(ctx, st, n); err != nil {
					select {
					case errs <- err:
					default:
					}
				}
			}
		})
	}
	for n := range what.count {
		jobs <- n
	}
	close(jobs)
	wg.Wait()
	close(errs)
	return map[string]any{"seeded": what.count}, <-errs
}

func read(ctx context.Context, st *store.Store, in map[string]any) (sown, error) {
	now := clock.System{}.Now().Truncate(time.Millisecond)
	w := sown{
		kind: fmt.Sprint(in["kind"]), count: number(in["count"]), credentials: number(in["credentials"]),
		at: now.Add(-time.Duration(number(in["age"])) * time.Second), ttl: domain.Seconds(number(in["ttl"])),
		approver: party(in["approver"]),
	}
	role, err := st.Role(ctx, fmt.Sprint(in["role"]))
	if err != nil || role == nil {
		return w, fmt.Errorf("no such role: %w", err)
	}
	target, err := st.Target(ctx, role.Target)
	if err != nil || target == nil {
		return w, fmt.Errorf("no such target: %w", err)
	}
	w.role, w.target = *role, *target
	list, _ := in["requesters"].([]any)
	for _, x := range list {
		w.requesters = append(w.requesters, party(x))
	}
	if len(w.requesters) == 0 || w.approver.Entity == "" || w.ttl <= 0 {
		return w, errors.New("requesters, approver and ttl are needed")
	}
	return w, nil
}

// number reads what JSON made of a number.
func number(v any) int {
	var n int
	if _, err := fmt.Sscan(fmt.Sprint(v), &n); err != nil {
		return 0
	}
	return n
}

func party(v any) domain.Party {
	entity := fmt.Sprint(v)
	return domain.Party{Entity: entity, Person: domain.Person("entity:" + entity), Name: "alice"}
}

func (w sown) write(ctx context.Context, st *store.Store, n int) error {
	r, err := w.request(n)
	if err != nil {
		return err
	}
	return st.WithRequest(r.ID, func(tx *store.RequestTx) error {
		if w.kind == "archived" {
			return tx.Archive(ctx, r)
		}
		return tx.Put(ctx, r)
	})
}

func (w sown) request(n int) (domain.Request, error) {
	at := w.at.Add(time.Duration(n) * time.Microsecond).Truncate(time.Millisecond)
	id, err := domain.NewID(at, rand.Reader)
	if err != nil {
		return domain.Request{}, err
	}
	r := domain.File(domain.Request{
		ID: domain.RequestID(id), Role: w.role.Name, RoleRevision: w.role.Revision(), Target: w.target.Name,
		TargetRevision: w.target.Revision(), Requester: w.requesters[n%len(w.requesters)],
		Justification: "order 4711 is stuck", Ticket: fmt.Sprintf("OPS-%d", n), TTL: w.ttl, Digest: id,
	}, domain.DefaultRequestTTL, at)
	if w.kind == "pending" {
		return r, nil
	}
	if r, err = r.Decide(domain.Decision{By: w.approver, Verdict: domain.Approve, Digest: r.Digest}, at); err != nil {
		return r, err
	}
	granted := r.Grant(domain.Outcome{Met: true, Have: 1, Need: 1}, at)
	if r, err = r.Apply(granted, at); err != nil {
		return r, err
	}
	for range w.credentials {
		if r, err = w.credential(r, at); err != nil {
			return r, err
		}
	}
	if w.kind == "archived" {
		return over(r)
	}
	return r, nil
}

// credential adds one that was issued.
func (w sown) credential(r domain.Request, at time.Time) (domain.Request, error) {
	var ids [4]string
	for i := range ids {
		id, err := domain.NewID(at, rand.Reader)
		if err != nil {
			return r, err
		}
		ids[i] = id
	}
	c := domain.Credential{
		ID: domain.CredentialID(ids[0]), Boot: ids[1], Call: ids[2], Expires: r.WindowEnd, Until: r.WindowEnd,
		Handle: domain.Handle{Provider: nullType, V: 1, Target: w.target.Name, Place: w.target.Place, Credential: domain.CredentialID(ids[0])},
		Nonces: []domain.Nonce{{ID: ids[3], Until: r.WindowEnd}},
	}
	return r.Plan(c, at).ApplyCredential(c.ID, domain.CredIssued, "", at)
}

// over ends a request and confirms the end of its credentials.
func over(r domain.Request) (domain.Request, error) {
	end := r.WindowEnd
	r, err := r.Apply(domain.Event{Kind: domain.WindowOver}, end)
	for _, c := range r.Credentials {
		if err == nil {
			r, err = r.ApplyCredential(c.ID, domain.CredConfirmed, "", end)
		}
	}
	return r, err
}
