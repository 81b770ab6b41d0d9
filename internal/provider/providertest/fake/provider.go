package fake

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"time"

	"github.com/vault-pim/vault-plugin-secrets-pim/internal/domain"
	"github.com/vault-pim/vault-plugin-secrets-pim/internal/provider/contract"
	"github.com/vault-pim/vault-plugin-secrets-pim/internal/secret"
)

// Provider is one instance that acts on a World. It is a Lister, Checker,
// RootRotator, PrincipalResolver and SelfIdentifier.
type Provider struct {
	w      *World
	target contract.Target
}

var (
	_ contract.Provider          = (*Provider)(nil)
	_ contract.Lister            = (*Provider)(nil)
	_ contract.Checker           = (*Provider)(nil)
	_ contract.RootRotator       = (*Provider)(nil)
	_ contract.PrincipalResolver = (*Provider)(nil)
	_ contract.SelfIdentifier    = (*Provider)(nil)
)

// data is the provider's own part of a handle.
type data struct {
	Kind      string `json:"kind"`
	Name      string `json:"name,omitempty"`
	ID        string `json:"id,omitempty"`
	Remainder int    `json:"remainder,omitempty"` // seconds
	PruneAt   int64  `json:"prune_at,omitempty"`  // unix; set in a remainder
}

func bindingName(level, principal string) string { return level + "/" + principal }

// Place implements contract.Provider.
func (p *Provider) Place(ctx context.Context) (string, error) {
	var place string
	address := p.target.Fields.String("address")
	err := p.w.do(ctx, call{op: OpPlace, name: address}, func() (bool, error) {
		s := p.w.siteAt(address)
		if s.passwords != nil && !s.passwords[p.target.Secrets["password"].Reveal()] {
			return false, &contract.Error{Op: "log in", Code: "login_failed", Public: "the target does not accept the root password", Refused: true}
		}
		place = s.place
		return false, nil
	})
	return place, err
}

// prove asks the target which place it is and refuses any other than wanted.
func (p *Provider) prove(ctx context.Context, op, wanted string) error {
	place, err := p.Place(ctx)
	if err != nil {
		return err
	}
	if place != wanted || (p.target.Place != "" && p.target.Place != place) {
		return contract.PlaceError(op)
	}
	return nil
}

// Validate implements contract.Provider.
func (p *Provider) Validate(ctx context.Context, spec contract.Spec, probe bool) contract.Report {
	var r contract.Report
	f := normalize(spec.Fields)
	switch level := f.String("level"); level {
	case "":
		r.Addf("level", "is required")
	case "self":
		r.Addf("level", "is the engine's own identity, which no role may use")
	}
	if (f.String("credential_type") == kindBinding) != (f.String("principal_source") != "") {
		r.Addf("principal_source", "belongs to credential_type=binding, and only to it")
	}
	if probe {
		if _, err := p.Place(ctx); err != nil {
			r.Warnf("the target could not be asked")
		}
	}
	return r
}

// ResolvePrincipal implements contract.PrincipalResolver.
func (p *Provider) ResolvePrincipal(_ context.Context, who domain.Entity, fields contract.Values) (string, error) {
	source := fields.String("principal_source")
	if source == "" {
		return "", nil
	}
	principal := who.Metadata[source]
	if principal == "" {
		return "", &contract.Error{Op: "resolve principal", Code: "no_principal", Public: "the entity names no own principal", Refused: true}
	}
	return principal, nil
}

// Plan implements contract.Provider.
func (p *Provider) Plan(_ context.Context, in contract.Input) (domain.Handle, error) {
	if p.target.Place == "" {
		return domain.Handle{}, errors.New("plan: the target has no pinned place")
	}
	f := normalize(in.Fields)
	d := data{Kind: f.String("credential_type"), Remainder: f.Int("remainder")}
	h := domain.Handle{
		Provider: Type, V: version, Target: p.target.Name, Place: p.target.Place, Credential: in.Credential,
	}
	switch d.Kind {
	case kindAccount:
		d.Name = "pim-" + string(in.Credential)
	case kindBinding:
		if in.Principal == "" {
			return domain.Handle{}, &contract.Error{Op: "plan", Code: "no_principal", Public: "the request has no own principal", Refused: true}
		}
		d.Name = bindingName(f.String("level"), in.Principal)
		h.Shared = d.Name
	case kindLate:
	default:
		return domain.Handle{}, &contract.Error{Op: "plan", Code: "bad_role", Public: "the role has no known credential type", Refused: true}
	}
	return withData(h, d)
}

func withData(h domain.Handle, d data) (domain.Handle, error) {
	raw, err := json.Marshal(d)
	if err != nil {
		return domain.Handle{}, fmt.Errorf("encode handle data: %w", err)
	}
	h.Data = raw
	return h, nil
}

// read checks that a handle is one of ours and decodes its data.
func (p *Provider) read(h domain.Handle) (data, error) {
	var d data
	if h.Provider != Type || h.V != version || h.Target != p.target.Name {
		return d, &contract.Error{Op: "read handle", Code: "bad_handle", Public: "the handle is not of this target", Refused: true}
	}
	if err := json.Unmarshal(h.Data, &d); err != nil || d.Kind == "" {
		return d, &contract.Error{Op: "read handle", Code: "bad_handle", Public: "the handle is not readable", Refused: true, Cause: err}
	}
	return d, nil
}

// Issue implements contract.Provider.
func (p *Provider) Issue(
	ctx context.Context, in contract.Input, h domain.Handle, checkpoint func(domain.Handle) error,
) (contract.Issued, error) {
	d, err := p.read(h)
	if err != nil {
		return contract.Issued{}, err
	}
	if in.Credential != h.Credential {
		return contract.Issued{}, &contract.Error{Op: "issue", Code: "bad_handle", Public: "the handle is of another credential", Refused: true}
	}
	if err := p.prove(ctx, "issue", h.Place); err != nil {
		return contract.Issued{}, err
	}
	o, err := p.ensure(ctx, in, h, d)
	if err != nil {
		return contract.Issued{}, err
	}
	if d.Kind == kindLate {
		if h, err = p.enableLate(ctx, h, d, o, checkpoint); err != nil {
			return contract.Issued{}, err
		}
	}
	out := contract.Issued{Handle: h, NotAfter: o.NotAfter}
	if left := o.ReadyAt.Sub(p.w.clk.Now()); left > 0 {
		out.PollAfter = left
		return out, nil
	}
	out.Data = secret.NewMap(answer(o))
	return out, nil
}

func answer(o Object) map[string]any {
	if o.Kind == kindBinding {
		return map[string]any{"principal": o.Principal, "level": o.Level}
	}
	return map[string]any{"username": shownName(o), "password": o.Password}
}

func shownName(o Object) string {
	if o.Name != "" {
		return o.Name
	}
	return o.ID
}

// ensure makes what the handle names unless it is there already.
func (p *Provider) ensure(ctx context.Context, in contract.Input, h domain.Handle, d data) (Object, error) {
	var made Object
	f := normalize(in.Fields)
	c := call{op: OpCreate, place: h.Place, name: d.Name, credential: h.Credential}
	err := p.w.do(ctx, c, func() (bool, error) {
		if o := p.w.lookup(h, d); o != nil {
			if o.Standing {
				return false, &contract.Error{Op: "create", Code: "outside_pim", Public: "the principal already has this access outside pim", Refused: true}
			}
			made = *o
			return false, nil
		}
		o := Object{
			Name: d.Name, Place: h.Place, Kind: d.Kind, Level: f.String("level"), Principal: in.Principal,
			Credential: in.Credential, Request: in.Request, Role: in.Role, EntityID: in.EntityID,
			Person: in.Person, Ticket: in.Ticket, Params: maps.Clone(in.Params),
			Enabled: d.Kind != kindLate, NotAfter: in.NotAfter, ReadyAt: p.w.clk.Now(),
		}
		if f.Bool("slow") {
			o.ReadyAt = o.ReadyAt.Add(p.w.readyAfter)
		}
		if d.Kind != kindBinding {
			o.Password = fmt.Sprintf("fake-password-%d-of-%s", p.w.lastID+1, in.Credential)
		}
		made = p.w.insert(o)
		return true, nil
	})
	return made, err
}

// lookup finds what a handle names: by id, by name, or by our tag. The caller
// holds mu.
func (w *World) lookup(h domain.Handle, d data) *Object {
	for _, o := range w.objects {
		if o.Place != h.Place {
			continue
		}
		switch {
		case d.ID != "" && o.ID == d.ID,
			d.ID == "" && d.Name != "" && o.Name == d.Name,
			d.ID == "" && d.Name == "" && o.Credential == h.Credential:
			return o
		}
	}
	return nil
}

// enableLate records the id that the world gave, and only then lets the object
// give access.
func (p *Provider) enableLate(
	ctx context.Context, h domain.Handle, d data, o Object, checkpoint func(domain.Handle) error,
) (domain.Handle, error) {
	if d.ID == "" {
		d.ID = o.ID
		named, err := withData(h, d)
		if err != nil {
			return h, err
		}
		if err := checkpoint(named); err != nil {
			return h, fmt.Errorf("checkpoint: %w", err)
		}
		h = named
	}
	c := call{op: OpEnable, place: h.Place, name: d.ID, credential: h.Credential}
	return h, p.w.do(ctx, c, func() (bool, error) {
		found := p.w.objects[d.ID]
		if found == nil {
			return false, &contract.Error{Op: "enable", Code: "absent", Public: "the object is not there any more", Refused: true}
		}
		changed := !found.Enabled
		found.Enabled = true
		return changed, nil
	})
}

// Revoke implements contract.Provider.
func (p *Provider) Revoke(ctx context.Context, h domain.Handle) (contract.Ended, error) {
	d, err := p.read(h)
	if err != nil {
		return contract.Ended{}, err
	}
	if err := p.prove(ctx, "revoke", h.Place); err != nil {
		return contract.Ended{}, err
	}
	if d.Remainder > 0 {
		rest, again, err := p.disable(ctx, h, d)
		if err != nil || again.After(p.w.clk.Now()) {
			return contract.Ended{AccessGone: err == nil, Rest: rest, Again: again}, err
		}
	}
	return contract.Gone(), p.remove(ctx, h, d)
}

// disable ends access and names the remainder; again is zero when nothing is
// there.
func (p *Provider) disable(ctx context.Context, h domain.Handle, d data) (domain.Handle, time.Time, error) {
	if d.PruneAt != 0 {
		return h, time.Unix(d.PruneAt, 0).UTC(), nil
	}
	var id string
	c := call{op: OpDisable, place: h.Place, name: d.Name, credential: h.Credential}
	err := p.w.do(ctx, c, func() (bool, error) {
		o := p.w.lookup(h, d)
		if o == nil || o.Standing {
			return false, nil
		}
		id = o.ID
		changed := o.Enabled
		o.Enabled = false
		return changed, nil
	})
	if err != nil || id == "" {
		return domain.Handle{}, time.Time{}, err
	}
	again := p.w.clk.Now().Add(time.Duration(d.Remainder) * time.Second).Truncate(time.Second)
	d.ID, d.PruneAt = id, again.Unix()
	rest, err := withData(h, d)
	return rest, again, err
}

func (p *Provider) remove(ctx context.Context, h domain.Handle, d data) error {
	c := call{op: OpDelete, place: h.Place, name: d.Name, credential: h.Credential}
	return p.w.do(ctx, c, func() (bool, error) {
		o := p.w.lookup(h, d)
		if o == nil || o.Standing {
			return false, nil
		}
		delete(p.w.objects, o.ID)
		return true, nil
	})
}

// Close implements contract.Provider.
func (p *Provider) Close() error { return nil }
