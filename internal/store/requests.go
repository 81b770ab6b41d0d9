package store

import (
	"bytes"
	"context"
	"errors"
	"sort"

	"github.com/vault-pim/vault-plugin-secrets-pim/internal/domain"
)

// Request reads a request wherever it is: open or archived. nil = none.
// Archive wins when both exist: a crash came between the two writes of an
// archiving.
func (st *Store) Request(ctx context.Context, id domain.RequestID) (*domain.Request, error) {
	r, err := st.openRequest(ctx, id)
	if err != nil {
		return nil, err
	}
	if r != nil && !r.Finished() {
		return r, nil
	}
	a, err := get[domain.Request](ctx, st.s, keyArchive(id))
	if err != nil {
		return nil, err
	}
	if a != nil {
		return a, nil
	}
	return r, nil
}

// OpenRequest reads a request that is not archived, in one read. nil = none.
func (st *Store) OpenRequest(ctx context.Context, id domain.RequestID) (*domain.Request, error) {
	return st.openRequest(ctx, id)
}

// RequestTx may write one request: it exists only while that request is
// locked.
type RequestTx struct {
	st *Store
	id domain.RequestID
}

// WithRequest locks one request.
func (st *Store) WithRequest(id domain.RequestID, f func(*RequestTx) error) error {
	defer st.locks.request.lock(string(id))()
	return f(&RequestTx{st: st, id: id})
}

// Get reads the request if it is not archived; nil = none.
func (tx *RequestTx) Get(ctx context.Context) (*domain.Request, error) {
	return tx.st.openRequest(ctx, tx.id)
}

// outline is a request without its history, which is most of a record.
type outline struct {
	domain.Request
	// Hides the other one from the decoder: only what the entries tell of, so
	// that the feed of events knows what it has not yet.
	History struct {
		Folded  int `json:"folded"`
		Entries []struct {
			What string `json:"what"`
		} `json:"entries"`
	} `json:"history"`
}

// Outline reads the request without the texts of its history, if it is not archived; nil =
// none. What it returns must never be written.
func (tx *RequestTx) Outline(ctx context.Context) (*domain.Request, error) {
	o, err := get[outline](ctx, tx.st.s, keyRequest(tx.id))
	if err != nil || o == nil {
		return nil, err
	}
	r := o.Request
	r.History.Folded = o.History.Folded
	for _, e := range o.History.Entries {
		r.History.Entries = append(r.History.Entries, domain.Entry{What: e.What})
	}
	return &r, nil
}

// Put writes the request. One that has outgrown a record first gives up old
// history, since nothing may stand in the way of a revocation.
func (tx *RequestTx) Put(ctx context.Context, r domain.Request) error {
	return tx.put(ctx, r, MaxRecord)
}

// Grow writes a request to which something was added that will have to be
// ended. It leaves room for that end: beyond three quarters of a record it is
// ErrTooLarge.
func (tx *RequestTx) Grow(ctx context.Context, r domain.Request) error {
	return tx.put(ctx, r, MaxRecord/4*3)
}

var errChangedInPlace = errors.New("a request was changed in place after it was read or written")

func (tx *RequestTx) put(ctx context.Context, r domain.Request, most int) error {
	key := keyRequest(tx.id)
	last := tx.st.parsed.rendering(key)
	out, err := render(r, last)
	if err == nil && len(out.Text) > most {
		r.History = r.History.Fold(20)
		out, err = render(r, last)
	}
	if err != nil {
		return err
	}
	if tx.st.recheck {
		if whole, err := render(r, nil); err != nil || !bytes.Equal(whole.Text, out.Text) {
			return errors.Join(errChangedInPlace, err)
		}
	}
	if err := write(ctx, tx.st.s, key, out.Text, most); err != nil {
		return err
	}
	tx.st.parsed.keep(&meaning{key: key, raw: out.Text, v: &out.Of, rendering: out})
	return nil
}

// Archive writes a finished request where it stays. It is the truth from then
// on. Drop follows, when everything that names the request knows of its end:
// until then the open record makes a crash start over.
func (tx *RequestTx) Archive(ctx context.Context, r domain.Request) error {
	return put(ctx, tx.st.s, keyArchive(tx.id), r)
}

// Drop removes an archived request from the open ones.
func (tx *RequestTx) Drop(ctx context.Context) error {
	defer tx.st.parsed.forget(keyRequest(tx.id))
	return del(ctx, tx.st.s, keyRequest(tx.id))
}

// OpenIDs lists the ids of all requests that are not archived, in order.
func (st *Store) OpenIDs(ctx context.Context) ([]string, error) {
	return st.list(ctx, prefixRequest, "", 0)
}

// ArchivedIDs lists archived ids after one, at most limit (0 = all).
func (st *Store) ArchivedIDs(ctx context.Context, after string, limit int) ([]string, error) {
	return st.list(ctx, prefixArchive, after, limit)
}

// DropArchived deletes an archived request whose retention is over.
func (st *Store) DropArchived(ctx context.Context, id domain.RequestID) error {
	return del(ctx, st.s, keyArchive(id))
}

// PersonTx may write one person's record: it exists only while that person is
// locked.
type PersonTx struct {
	st     *Store
	person domain.Person
}

// WithPerson locks one person: whoever files requests for them waits.
func (st *Store) WithPerson(p domain.Person, f func(*PersonTx) error) error {
	defer st.locks.person.lock(string(p))()
	return f(&PersonTx{st: st, person: p})
}

// Get reads the person's record; an empty one when there is none.
func (tx *PersonTx) Get(ctx context.Context) (domain.PersonRecord, error) {
	return tx.st.Person(ctx, tx.person)
}

// Put writes the person's record, or deletes an empty one.
func (tx *PersonTx) Put(ctx context.Context, r domain.PersonRecord) error {
	if len(r.Entries) == 0 && len(r.Usage) == 0 {
		return del(ctx, tx.st.s, keyPerson(tx.person))
	}
	return put(ctx, tx.st.s, keyPerson(tx.person), r)
}

// ClaimTx may write the claim on one shared object.
type ClaimTx struct {
	st  *Store
	key string
}

// WithClaim locks the claim on a shared object of a target.
func (st *Store) WithClaim(target, key string, f func(*ClaimTx) error) error {
	k := keyClaim(target, key)
	defer st.locks.claim.lock(k)()
	return f(&ClaimTx{st: st, key: k})
}

// Get reads the claim; an empty one when nobody holds the object.
func (tx *ClaimTx) Get(ctx context.Context) (domain.Claim, error) {
	c, err := get[domain.Claim](ctx, tx.st.s, tx.key)
	if err != nil || c == nil {
		return domain.Claim{}, err
	}
	return *c, nil
}

// Put writes the claim, or deletes one that nobody holds.
func (tx *ClaimTx) Put(ctx context.Context, c domain.Claim) error {
	if len(c.Holders) == 0 && c.Releasing == "" {
		return del(ctx, tx.st.s, tx.key)
	}
	return put(ctx, tx.st.s, tx.key, c)
}

// Holds reads every hold.
func (st *Store) Holds(ctx context.Context) ([]domain.Hold, error) {
	ids, err := st.list(ctx, prefixHold, "", 0)
	if err != nil {
		return nil, err
	}
	out := make([]domain.Hold, 0, len(ids))
	for _, id := range ids {
		h, err := get[domain.Hold](ctx, st.s, prefixHold+id)
		if err != nil {
			return nil, err
		}
		if h != nil {
			out = append(out, *h)
		}
	}
	sort.Slice(out, func(i, j int) bool { return out[i].ID < out[j].ID })
	return out, nil
}

// PutHold writes a hold.
func (st *Store) PutHold(ctx context.Context, h domain.Hold) error {
	return put(ctx, st.s, prefixHold+h.ID, h)
}

// DeleteHold removes a hold.
func (st *Store) DeleteHold(ctx context.Context, id string) error {
	return del(ctx, st.s, prefixHold+id)
}

// Job reads a pull of the kill switch; nil = none.
func (st *Store) Job(ctx context.Context, id string) (*domain.Job, error) {
	return get[domain.Job](ctx, st.s, prefixJob+id)
}

// Jobs lists the ids of all jobs.
func (st *Store) Jobs(ctx context.Context) ([]string, error) { return st.list(ctx, prefixJob, "", 0) }

// PutJob writes a job.
func (st *Store) PutJob(ctx context.Context, j domain.Job) error {
	return put(ctx, st.s, prefixJob+j.ID, j)
}

// DeleteJob removes a job whose retention is over.
func (st *Store) DeleteJob(ctx context.Context, id string) error {
	return del(ctx, st.s, prefixJob+id)
}

// State reads what the reaper remembers.
func (st *Store) State(ctx context.Context) (domain.State, error) {
	s, err := get[domain.State](ctx, st.s, keyState)
	if err != nil || s == nil {
		return domain.State{}, err
	}
	return *s, nil
}

// UpdateState changes what the reaper remembers, under its lock.
func (st *Store) UpdateState(ctx context.Context, f func(*domain.State)) (domain.State, error) {
	defer st.locks.single.lock(keyState)()
	s, err := st.State(ctx)
	if err != nil {
		return s, err
	}
	f(&s)
	return s, put(ctx, st.s, keyState, s)
}
