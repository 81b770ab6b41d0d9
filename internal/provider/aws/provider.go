package aws

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"maps"
	"math/big"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/oklog/ulid/v2"

	"github.com/vault-pim/vault-plugin-secrets-pim/internal/domain"
	"github.com/vault-pim/vault-plugin-secrets-pim/internal/provider/contract"
)

// identityAge is how long an instance trusts what it knows of its own identity
// when it issues. A revocation always asks.
const identityAge = 5 * time.Minute

// Provider is one AWS account.
type Provider struct {
	env    contract.Env
	target contract.Target
	set    settings
	cloud  *cloud
	pace   pace
	denier *denier
	batch  *batcher[order]
	rails  *batcher[railOrder]

	mu    sync.Mutex
	who   identity
	whoAt time.Time
	voids map[domain.CredentialID]time.Time            // AWS answered that it issued nothing for these
	live  map[holder]map[domain.CredentialID]time.Time // issued by this instance, until when
	roles map[string]rememberedRole
}

var _ contract.Provider = (*Provider)(nil)

func open(env contract.Env, target contract.Target, dial dialer, pace pace) (contract.Provider, error) {
	if report := checkTarget(env, target); !report.OK() {
		return nil, contract.Refused("open target", "bad_target", "%s %s", report.Problems[0].Field, report.Problems[0].Text)
	}
	set := readSettings(env, target)
	c, err := dial(env, set)
	if err != nil {
		return nil, failed("open target", err)
	}
	seed, err := rand.Int(rand.Reader, big.NewInt(1000))
	if err != nil {
		return nil, fmt.Errorf("open target: %w", err)
	}
	p := &Provider{
		env: env, target: target, set: set, cloud: c, pace: pace,
		voids: map[domain.CredentialID]time.Time{}, live: map[holder]map[domain.CredentialID]time.Time{},
		roles: map[string]rememberedRole{},
	}
	p.denier = &denier{
		api: c.Revoker, clk: env.Clock, log: env.Log, pace: pace, seed: int(seed.Int64()),
		policyARN: p.arnOf("policy" + policyPath), surveys: map[holder]survey{},
	}
	p.batch = newBatcher(pace.batch, p.denier.run, mergeOrders)
	p.rails = newBatcher(pace.batch, p.denyRail, mergeRailOrders)
	return p, nil
}

// arnOf is the ARN of something in IAM of the pinned account.
func (p *Provider) arnOf(resource string) string {
	return "arn:" + partitionOf(p.set.Region) + ":iam::" + p.target.Place + ":" + resource
}

// Place implements contract.Provider: the account of the identity that makes
// credentials.
func (p *Provider) Place(ctx context.Context) (string, error) {
	who, err := p.identify(ctx, 0)
	return who.Account, err
}

// identify asks STS who we are unless that is known for less than age.
func (p *Provider) identify(ctx context.Context, age time.Duration) (identity, error) {
	now := p.env.Clock.Now()
	p.mu.Lock()
	who, at := p.who, p.whoAt
	p.mu.Unlock()
	if who.Account != "" && now.Sub(at) < age {
		return who, nil
	}
	who, err := p.cloud.Issuer.Identify(ctx)
	if err != nil {
		return identity{}, failed("ask who we are", err)
	}
	if !accountForm.MatchString(who.Account) {
		return identity{}, &contract.Error{Op: "ask who we are", Code: codeUnknown, Public: strange}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.who, p.whoAt = who, now
	return who, nil
}

// prove refuses any place other than the one that is pinned and named in the
// handle.
func (p *Provider) prove(ctx context.Context, op, wanted string, age time.Duration) (identity, error) {
	who, err := p.identify(ctx, age)
	if err != nil {
		return identity{}, err
	}
	if who.Account != wanted || (p.target.Place != "" && p.target.Place != who.Account) {
		return identity{}, contract.PlaceError(op)
	}
	return who, nil
}

// Plan implements contract.Provider.
func (p *Provider) Plan(_ context.Context, in contract.Input) (domain.Handle, error) {
	if p.target.Place == "" {
		return domain.Handle{}, errors.New("plan: the target has no pinned place")
	}
	in.Fields = normalize(in.Fields)
	h := domain.Handle{
		Provider: Type, V: handleVersion, Target: p.target.Name, Place: p.target.Place, Credential: in.Credential,
	}
	d, err := p.planData(in)
	if err != nil {
		return domain.Handle{}, err
	}
	if d.Assignment != nil {
		a := d.Assignment
		h.Shared = strings.Join([]string{a.PermissionSet, a.Account, a.User}, "/")
	}
	return with(h, d)
}

func (p *Provider) planData(in contract.Input) (handleData, error) {
	d := handleData{Kind: in.Fields.String("credential_type"), End: in.NotAfter.Unix()}
	switch d.Kind {
	case kindRole:
		return p.planRole(in, d)
	case kindUser:
		d.Path = in.Fields.String("user_path")
		return d, nil
	case kindFederation:
		d.Unrevocable = !revocable(in.Fields)
		return d, nil
	case kindCenter:
		return p.planAssignment(in, d)
	}
	return d, contract.Refused("plan", "bad_role", "the role has no credential_type")
}

// Issue implements contract.Provider.
func (p *Provider) Issue(
	ctx context.Context, in contract.Input, h domain.Handle, checkpoint func(domain.Handle) error,
) (contract.Issued, error) {
	d, err := p.read(h)
	if err != nil {
		return contract.Issued{}, err
	}
	in.Fields = normalize(in.Fields)
	if err := p.matches(in, h, d); err != nil {
		return contract.Issued{}, err
	}
	who, err := p.prove(ctx, "issue", h.Place, identityAge)
	if err != nil {
		return contract.Issued{}, err
	}
	if !p.env.Clock.Now().Before(d.end()) {
		return contract.Issued{}, contract.Refused("issue", "window_over", "the access window is over")
	}
	job := &issuing{p: p, in: in, h: h, d: d, who: who, checkpoint: checkpoint}
	switch d.Kind {
	case kindRole:
		return job.assumeRole(ctx)
	case kindUser:
		return job.makeUser(ctx)
	case kindFederation:
		return job.federate(ctx)
	default:
		return job.assign(ctx)
	}
}

// issuing is one Issue under way.
type issuing struct {
	p          *Provider
	in         contract.Input
	h          domain.Handle
	d          handleData
	who        identity
	checkpoint func(domain.Handle) error
}

// save check-points what has become known.
func (j *issuing) save() error {
	h, err := with(j.h, j.d)
	if err != nil {
		return err
	}
	if err := j.checkpoint(h); err != nil {
		return fmt.Errorf("checkpoint: %w", err)
	}
	j.h = h
	return nil
}

// matches tells whether a handle is the plan of this input: what is made is
// what was approved.
func (p *Provider) matches(in contract.Input, h domain.Handle, d handleData) error {
	if in.Credential != h.Credential {
		return contract.Refused("issue", "bad_handle", "the handle is of another credential")
	}
	want, err := p.planData(in)
	if err != nil {
		return err
	}
	same := d.Kind == want.Kind && d.End == want.End && d.Stage == "" && d.Path == want.Path &&
		d.Unrevocable == want.Unrevocable && slices.Equal(d.Chain, want.Chain) &&
		(d.ARN == want.ARN || want.ARN == "") && sameAssignment(d.Assignment, want.Assignment)
	if !same {
		return contract.Refused("issue", "bad_handle", "the handle is not the plan of this request")
	}
	return nil
}

func sameAssignment(a, b *assignment) bool {
	if a == nil || b == nil {
		return a == b
	}
	return *a == *b
}

// Revoke implements contract.Provider.
func (p *Provider) Revoke(ctx context.Context, h domain.Handle) (contract.Ended, error) {
	d, err := p.read(h)
	if err != nil {
		return contract.Ended{}, err
	}
	if d.Stage != "" && p.env.Clock.Now().Before(d.again()) {
		return contract.Ended{AccessGone: true, Rest: h, Again: d.again()}, nil
	}
	if h.Place != p.target.Place && p.target.Place != "" {
		return contract.Ended{}, contract.PlaceError("revoke")
	}
	switch d.Kind {
	case kindUser:
		return p.revokeUser(ctx, h, d)
	case kindCenter:
		return p.revokeAssignment(ctx, h, d)
	default:
		return p.revokeSession(ctx, h, d)
	}
}

// later is an end with a remainder that is due at a time.
func later(h domain.Handle, d handleData, stage string, at time.Time) (contract.Ended, error) {
	if up := at.Truncate(time.Second); up.Before(at) {
		at = up.Add(time.Second)
	}
	d.Stage, d.Again = stage, at.Unix()
	rest, err := with(h, d)
	return contract.Ended{AccessGone: err == nil, Rest: rest, Again: at}, err
}

// void remembers that AWS made nothing for a credential: its revocation has
// nothing to deny.
func (p *Provider) void(id domain.CredentialID, until time.Time) {
	now := p.env.Clock.Now()
	p.mu.Lock()
	defer p.mu.Unlock()
	maps.DeleteFunc(p.voids, func(_ domain.CredentialID, end time.Time) bool { return !end.After(now) })
	p.voids[id] = until
}

func (p *Provider) isVoid(id domain.CredentialID) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	_, ok := p.voids[id]
	return ok
}

// plannedAt is when a credential was planned: its id starts with the time.
func plannedAt(id domain.CredentialID) (time.Time, error) {
	u, err := ulid.ParseStrict(strings.ToUpper(string(id)))
	if err != nil {
		return time.Time{}, fmt.Errorf("read credential id: %w", err)
	}
	return ulid.Time(u.Time()).UTC(), nil
}

// Close implements contract.Provider.
func (p *Provider) Close() error {
	p.batch.close()
	p.rails.close()
	if p.cloud.Close != nil {
		p.cloud.Close()
	}
	return nil
}
