package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/hashicorp/vault/sdk/framework"
	"github.com/hashicorp/vault/sdk/logical"
)

// leaseTTL is that of every series that is compared.
const leaseTTL = time.Hour

// leased is a mount with one leased path, creds/<name>, declared as pim's is.
func leased(read framework.OperationFunc, extra ...*framework.Path) *framework.Backend {
	revoke := func(context.Context, *logical.Request, *framework.FieldData) (*logical.Response, error) {
		return nil, nil
	}
	return &framework.Backend{
		BackendType: logical.TypeLogical,
		Secrets:     []*framework.Secret{{Type: "bench", Fields: map[string]*framework.FieldSchema{}, Revoke: revoke}},
		Paths: append(extra, &framework.Path{
			Pattern: "creds/" + framework.GenericNameRegex("name"),
			Fields:  map[string]*framework.FieldSchema{"name": {Type: framework.TypeString}},
			Operations: map[logical.Operation]framework.OperationHandler{
				logical.ReadOperation: &framework.PathOperation{
					Callback: read, ForwardPerformanceStandby: true, ForwardPerformanceSecondary: true,
				},
			},
		}),
	}
}

// answer is of the size of pim's.
func answer(b *framework.Backend) *logical.Response {
	resp := b.Secret("bench").Response(map[string]any{
		"password": "01hzzzzzzzzzzzzzzzzzzzzzzz", "pim_request_id": "01hzzzzzzzzzzzzzzzzzzzzzzz",
		"pim_credential_id": "01hzzzzzzzzzzzzzzzzzzzzzzz", "pim_expires_at": "2026-03-02T09:00:00Z",
		"pim_window_ends_at": "2026-03-02T09:00:00Z", "pim_shared": false, "pim_revocation": "immediate",
		"pim_history_head":       "0000000000000000000000000000000000000000000000000000000000000000",
		"pim_revocation_seconds": 1, "pim_revocation_survives": "",
	}, map[string]any{
		"v": "1", "request_id": "01hzzzzzzzzzzzzzzzzzzzzzzz", "credential_id": "01hzzzzzzzzzzzzzzzzzzzzzzz",
		"nonce":  "01hzzzzzzzzzzzzzzzzzzzzzzz",
		"handle": `{"p":"null","v":1,"t":"local","l":"nowhere","c":"01hzzzzzzzzzzzzzzzzzzzzzzz"}`,
	})
	resp.Secret.TTL, resp.Secret.MaxTTL, resp.Secret.Renewable = leaseTTL, leaseTTL, false
	return resp
}

// noopFactory makes the floor: a leased answer that asks the host for nothing
// beyond what the SDK does for each such call.
func noopFactory(ctx context.Context, conf *logical.BackendConfig) (logical.Backend, error) {
	var b *framework.Backend
	b = leased(func(context.Context, *logical.Request, *framework.FieldData) (*logical.Response, error) {
		return answer(b), nil
	})
	return b, b.Setup(ctx, conf)
}

// probe makes the calls of pim's creds read under a grant with one approver, and
// nothing else: what remains of pim's cost beside it is pim's own. It makes them
// one after the other; at once, as pim does, where its setup says so.
type probe struct {
	*framework.Backend
	storage logical.Storage
	system  logical.SystemView

	mu     sync.Mutex
	setups map[string]setup // by reader
}

// setup is what is known of a reader without a call.
type setup struct {
	approver string
	atOnce   bool
}

func probeFactory(ctx context.Context, conf *logical.BackendConfig) (logical.Backend, error) {
	p := &probe{storage: conf.StorageView, system: conf.System, setups: map[string]setup{}}
	p.Backend = leased(func(ctx context.Context, req *logical.Request, _ *framework.FieldData) (*logical.Response, error) {
		return p.read(ctx, req)
	}, &framework.Path{
		Pattern: "setup/" + framework.GenericNameRegex("name"),
		Fields: map[string]*framework.FieldSchema{
			"name":          {Type: framework.TypeString, Description: "Entity id of the reader."},
			"approver":      {Type: framework.TypeString, Description: "Entity id of the approver."},
			"request_bytes": {Type: framework.TypeInt}, "at_once": {Type: framework.TypeBool},
		},
		Operations: map[logical.Operation]framework.OperationHandler{
			logical.UpdateOperation: &framework.PathOperation{Callback: p.prepare},
		},
	})
	return p, p.Setup(ctx, conf)
}

// prepare writes the record of a request, which a read will read.
func (p *probe) prepare(ctx context.Context, _ *logical.Request, d *framework.FieldData) (*logical.Response, error) {
	name := fmt.Sprint(d.Get("name"))
	size, _ := d.Get("request_bytes").(int)
	atOnce, _ := d.Get("at_once").(bool)
	p.mu.Lock()
	p.setups[name] = setup{fmt.Sprint(d.Get("approver")), atOnce}
	p.mu.Unlock()
	return nil, p.storage.Put(ctx, &logical.StorageEntry{Key: "req/" + name, Value: bytes.Repeat([]byte("x"), size)})
}

// HandleRequest carries reads out past the framework, which asks the host about
// its replication each time; pim does so once a second.
func (p *probe) HandleRequest(ctx context.Context, req *logical.Request) (*logical.Response, error) {
	if req.Operation == logical.ReadOperation {
		return p.read(ctx, req)
	}
	return p.Backend.HandleRequest(ctx, req)
}

func (p *probe) read(ctx context.Context, req *logical.Request) (*logical.Response, error) {
	p.mu.Lock()
	s := p.setups[req.EntityID]
	p.mu.Unlock()
	var request *logical.StorageEntry
	err := ask(s.atOnce,
		func() (err error) { _, err = p.system.EntityInfo(req.EntityID); return err },
		func() (err error) { _, err = p.system.GroupsForEntity(req.EntityID); return err },
		func() (err error) { request, err = p.storage.Get(ctx, "req/"+req.EntityID); return err },
		func() (err error) { _, err = p.system.EntityInfo(s.approver); return err },
		func() (err error) { _, err = p.system.GroupsForEntity(s.approver); return err },
	)
	if err != nil || request == nil {
		return nil, fmt.Errorf("no setup for this reader: %w", err)
	}
	for range 2 { // intend and settle
		if err := p.storage.Put(ctx, request); err != nil {
			return nil, err
		}
	}
	return answer(p.Backend), nil
}

// ask makes calls, one after the other or at once.
func ask(atOnce bool, calls ...func() error) error {
	if !atOnce {
		for _, call := range calls {
			if err := call(); err != nil {
				return err
			}
		}
		return nil
	}
	errs := make(chan error, len(calls))
	for _, call := range calls[1:] {
		go func() { errs <- call() }()
	}
	errs <- calls[0]()
	var err error
	for range calls {
		err = errors.Join(err, <-errs)
	}
	return err
}
