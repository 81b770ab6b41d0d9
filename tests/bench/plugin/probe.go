package main

import (
	"bytes"
	"context"
	"fmt"
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

// probe makes the calls of pim's creds read under a grant with one approver, in
// pim's order, and nothing else: what remains of pim's cost beside it is pim's
// own.
type probe struct {
	*framework.Backend
	storage logical.Storage
	system  logical.SystemView
}

func probeFactory(ctx context.Context, conf *logical.BackendConfig) (logical.Backend, error) {
	p := &probe{storage: conf.StorageView, system: conf.System}
	p.Backend = leased(p.read, &framework.Path{
		Pattern: "setup/" + framework.GenericNameRegex("name"),
		Fields: map[string]*framework.FieldSchema{
			"name":         {Type: framework.TypeString, Description: "Entity id of the reader."},
			"approver":     {Type: framework.TypeString, Description: "Entity id of the approver."},
			"person_bytes": {Type: framework.TypeInt}, "request_bytes": {Type: framework.TypeInt},
		},
		Operations: map[logical.Operation]framework.OperationHandler{
			logical.UpdateOperation: &framework.PathOperation{Callback: p.setup},
		},
	})
	return p, p.Setup(ctx, conf)
}

// setup writes what a read will read: a record of the person, which names the
// approver, and one of the request.
func (p *probe) setup(ctx context.Context, _ *logical.Request, d *framework.FieldData) (*logical.Response, error) {
	name, approver := fmt.Sprint(d.Get("name")), fmt.Sprint(d.Get("approver"))
	person, _ := d.Get("person_bytes").(int)
	request, _ := d.Get("request_bytes").(int)
	record := append([]byte(approver+"\n"), bytes.Repeat([]byte("x"), person)...)
	if err := p.storage.Put(ctx, &logical.StorageEntry{Key: "ent/" + name, Value: record}); err != nil {
		return nil, err
	}
	return nil, p.storage.Put(ctx, &logical.StorageEntry{Key: "req/" + name, Value: bytes.Repeat([]byte("x"), request)})
}

func (p *probe) read(ctx context.Context, req *logical.Request, _ *framework.FieldData) (*logical.Response, error) {
	if err := p.identity(req.EntityID); err != nil {
		return nil, err
	}
	person, err := p.storage.Get(ctx, "ent/"+req.EntityID)
	if err != nil || person == nil {
		return nil, fmt.Errorf("no setup for this reader: %w", err)
	}
	request, err := p.storage.Get(ctx, "req/"+req.EntityID)
	if err != nil || request == nil {
		return nil, fmt.Errorf("no setup for this reader: %w", err)
	}
	approver, _, _ := bytes.Cut(person.Value, []byte("\n"))
	if err := p.identity(string(approver)); err != nil {
		return nil, err
	}
	p.system.MaxLeaseTTL()
	for range 2 { // intend and settle
		if err := p.storage.Put(ctx, request); err != nil {
			return nil, err
		}
	}
	return answer(p.Backend), nil
}

func (p *probe) identity(entity string) error {
	if _, err := p.system.EntityInfo(entity); err != nil {
		return err
	}
	_, err := p.system.GroupsForEntity(entity)
	return err
}
