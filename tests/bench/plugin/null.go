package main

import (
	"context"
	"time"

	"github.com/vault-pim/vault-plugin-secrets-pim/internal/domain"
	"github.com/vault-pim/vault-plugin-secrets-pim/internal/provider/contract"
	"github.com/vault-pim/vault-plugin-secrets-pim/internal/secret"
)

// nullType is a target that costs nothing, or exactly what it is told to.
const nullType = "null"

func nullDescriptor() contract.Descriptor {
	return contract.Descriptor{
		Type: nullType, Summary: "A target for benchmarks.",
		TargetFields: []contract.Field{
			{Name: "delay_ms", Type: contract.TypeInt, Description: "How long every call takes, in milliseconds."},
		},
		Limits: func(contract.Values) contract.Limits { return contract.Limits{IssueTimeout: 20 * time.Second} },
		Revocation: func(contract.Values) domain.Revocation {
			return domain.Revocation{Class: domain.Immediate, Seconds: 1}
		},
		New: func(_ contract.Env, t contract.Target) (contract.Provider, error) {
			return &null{delay: time.Duration(t.Fields.Int("delay_ms")) * time.Millisecond, target: t.Name}, nil
		},
	}
}

type null struct {
	delay  time.Duration
	target string
}

func (n *null) wait(ctx context.Context) error {
	if n.delay == 0 {
		return nil
	}
	select {
	case <-time.After(n.delay):
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Place implements contract.Provider.
func (n *null) Place(context.Context) (string, error) { return "nowhere", nil }

// Validate implements contract.Provider.
func (n *null) Validate(context.Context, contract.Spec, bool) contract.Report {
	return contract.Report{}
}

// Plan implements contract.Provider.
func (n *null) Plan(_ context.Context, in contract.Input) (domain.Handle, error) {
	return domain.Handle{Provider: nullType, V: 1, Target: n.target, Credential: in.Credential}, nil
}

// Issue implements contract.Provider.
func (n *null) Issue(ctx context.Context, in contract.Input, h domain.Handle, _ func(domain.Handle) error) (contract.Issued, error) {
	if err := n.wait(ctx); err != nil {
		return contract.Issued{}, err
	}
	data := secret.NewMap(map[string]any{"password": string(in.Credential)})
	return contract.Issued{Handle: h, Data: data, NotAfter: in.NotAfter}, nil
}

// Revoke implements contract.Provider.
func (n *null) Revoke(ctx context.Context, _ domain.Handle) (contract.Ended, error) {
	return contract.Gone(), n.wait(ctx)
}

// Close implements contract.Provider.
func (n *null) Close() error { return nil }
