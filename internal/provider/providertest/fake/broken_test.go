package fake_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/vault-pim/vault-plugin-secrets-pim/internal/domain"
	"github.com/vault-pim/vault-plugin-secrets-pim/internal/provider/contract"
	"github.com/vault-pim/vault-plugin-secrets-pim/internal/secret"
)

// brokenEnv makes TestConformance run on a provider that breaks one promise.
const brokenEnv = "PIM_TEST_BROKEN"

// breaker is a provider with single methods replaced.
type breaker struct {
	contract.Provider
	plan   func(context.Context, contract.Input) (domain.Handle, error)
	issue  func(context.Context, contract.Input, domain.Handle, func(domain.Handle) error) (contract.Issued, error)
	revoke func(context.Context, domain.Handle) (contract.Ended, error)
}

func (b breaker) Plan(ctx context.Context, in contract.Input) (domain.Handle, error) {
	if b.plan != nil {
		return b.plan(ctx, in)
	}
	return b.Provider.Plan(ctx, in)
}

func (b breaker) Issue(ctx context.Context, in contract.Input, h domain.Handle, c func(domain.Handle) error) (contract.Issued, error) {
	if b.issue != nil {
		return b.issue(ctx, in, h, c)
	}
	return b.Provider.Issue(ctx, in, h, c)
}

func (b breaker) Revoke(ctx context.Context, h domain.Handle) (contract.Ended, error) {
	if b.revoke != nil {
		return b.revoke(ctx, h)
	}
	return b.Provider.Revoke(ctx, h)
}

// breakers break one promise each, and name the row that must see it.
var breakers = map[string]struct {
	row   string
	apply func(b *breaker, t contract.Target)
}{
	"takes every error of a revocation for gone": {"absent there is not gone", func(b *breaker, _ contract.Target) {
		b.revoke = func(ctx context.Context, h domain.Handle) (contract.Ended, error) {
			if _, err := b.Provider.Revoke(ctx, h); err != nil {
				return contract.Gone(), nil // this is the fault
			}
			return contract.Gone(), nil
		}
	}},
	"revokes nothing": {"revoking ends it", func(b *breaker, _ contract.Target) {
		b.revoke = func(context.Context, domain.Handle) (contract.Ended, error) { return contract.Gone(), nil }
	}},
	"ignores a checkpoint that fails": {"a checkpoint that fails stops the issue", func(b *breaker, _ contract.Target) {
		b.issue = func(ctx context.Context, in contract.Input, h domain.Handle, c func(domain.Handle) error) (contract.Issued, error) {
			return b.Provider.Issue(ctx, in, h, func(h domain.Handle) error {
				if err := c(h); errors.Is(err, context.Canceled) {
					return err
				}
				return nil
			})
		}
	}},
	"plans another name each time": {"a plan is the same every time", func(b *breaker, _ contract.Target) {
		n := 0
		b.plan = func(ctx context.Context, in contract.Input) (domain.Handle, error) {
			h, err := b.Provider.Plan(ctx, in)
			n++
			h.Data = fmt.Appendf(nil, `{"kind":"account","name":"pim-%d"}`, n)
			return h, err
		}
	}},
	"issues for any handle": {"a handle of another credential", func(b *breaker, _ contract.Target) {
		b.issue = func(ctx context.Context, in contract.Input, h domain.Handle, c func(domain.Handle) error) (contract.Issued, error) {
			in.Credential = h.Credential
			return b.Provider.Issue(ctx, in, h, c)
		}
	}},
	"prints the root password in its errors": {"a target that fails is never taken for gone", func(b *breaker, t contract.Target) {
		b.issue = func(ctx context.Context, in contract.Input, h domain.Handle, c func(domain.Handle) error) (contract.Issued, error) {
			out, err := b.Provider.Issue(ctx, in, h, c)
			if err != nil {
				err = fmt.Errorf("with %s: %w", t.Secrets["password"].Reveal(), err)
			}
			return out, err
		}
	}},
	"puts the password into the handle": {"an issued credential works", func(b *breaker, _ contract.Target) {
		b.issue = func(ctx context.Context, in contract.Input, h domain.Handle, c func(domain.Handle) error) (contract.Issued, error) {
			out, err := b.Provider.Issue(ctx, in, h, c)
			if password, ok := out.Data.Reveal()["password"].(string); ok {
				out.Handle.Data = append(out.Handle.Data[:len(out.Handle.Data)-1:len(out.Handle.Data)-1], fmt.Sprintf(`,"p":%q}`, password)...)
			}
			return out, err
		}
	}},
	"issues past the end that was asked for": {"an issued credential works", func(b *breaker, _ contract.Target) {
		b.issue = func(ctx context.Context, in contract.Input, h domain.Handle, c func(domain.Handle) error) (contract.Issued, error) {
			in.NotAfter = in.NotAfter.AddDate(0, 0, 1)
			return b.Provider.Issue(ctx, in, h, c)
		}
	}},
	"forgets where it was": {"another place issues nothing", func(b *breaker, t contract.Target) {
		forget := func(h domain.Handle) domain.Handle {
			h.Place = "place-of-" + t.Fields.String("address")
			return h
		}
		b.issue = func(ctx context.Context, in contract.Input, h domain.Handle, c func(domain.Handle) error) (contract.Issued, error) {
			return b.Provider.Issue(ctx, in, forget(h), c)
		}
		b.revoke = func(ctx context.Context, h domain.Handle) (contract.Ended, error) {
			return b.Provider.Revoke(ctx, forget(h))
		}
	}},
}

// broken returns d, with one promise broken if name says which.
func broken(name string, d contract.Descriptor) contract.Descriptor {
	if name == "" {
		return d
	}
	whole := d.New
	d.New = func(env contract.Env, t contract.Target) (contract.Provider, error) {
		p, err := whole(env, t)
		b := &breaker{Provider: p}
		breakers[name].apply(b, t)
		return b, err
	}
	return d
}

func TestSuiteSeesBrokenPromises(t *testing.T) {
	t.Parallel()
	for name, want := range breakers {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestConformance$", "-test.v")
			cmd.Env = append(os.Environ(), brokenEnv+"="+name)
			out, err := cmd.CombinedOutput()
			if _, failed := errors.AsType[*exec.ExitError](err); !failed {
				t.Fatalf("the suite is content with a provider that %s (%v)", name, err)
			}
			row := strings.ReplaceAll(want.row, " ", "_")
			for line := range strings.Lines(string(out)) {
				if strings.Contains(line, "--- FAIL: ") && strings.Contains(line, row) {
					return
				}
			}
			t.Errorf("the row %q does not see a provider that %s", want.row, name)
		})
	}
}

func TestPrincipalIsResolvedFromOneSource(t *testing.T) {
	t.Parallel()
	w := openWorld(t)
	p, err := w.Descriptor.New(w.Env, w.Target)
	if err != nil {
		t.Fatal(err)
	}
	b, ok := p.(contract.PrincipalResolver)
	if !ok {
		t.Fatal("the fake resolves principals")
	}
	fields := contract.Values{"principal_source": "login"}
	alice := domain.Entity{Metadata: map[string]string{"login": "alice"}}
	if got, err := b.ResolvePrincipal(t.Context(), alice, fields); err != nil || got != "alice" {
		t.Errorf("resolved %q, %v", got, err)
	}
	if _, err := b.ResolvePrincipal(t.Context(), domain.Entity{}, fields); err == nil {
		t.Error("an entity without the metadata has no principal")
	}
}

func TestRootIsRotatedInTwoPhases(t *testing.T) {
	t.Parallel()
	w := openWorld(t)
	open := func(password secret.String) contract.RootRotator {
		target := w.Target
		target.Secrets = map[string]secret.String{"password": password}
		p, err := w.Descriptor.New(w.Env, target)
		if err != nil {
			t.Fatal(err)
		}
		rotator, ok := p.(contract.RootRotator)
		if !ok {
			t.Fatal("the fake rotates its root")
		}
		return rotator
	}
	old := open(secret.New(rootPassword))
	staged, err := old.StageRoot(t.Context(), "one")
	if err != nil {
		t.Fatal(err)
	}
	if err := old.AbandonRoot(t.Context(), "one", staged); err != nil {
		t.Fatal(err)
	}
	fresh := open(staged["password"])
	before := map[string]secret.String{"password": secret.New(rootPassword)}
	if err := fresh.CommitRoot(t.Context(), "one", before); err == nil {
		t.Fatal("an abandoned password must not retire the old one")
	}
	if _, err := old.StageRoot(t.Context(), "one"); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := fresh.CommitRoot(t.Context(), "one", before); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := old.StageRoot(t.Context(), "two"); err == nil {
		t.Error("the old password still works")
	}
}
