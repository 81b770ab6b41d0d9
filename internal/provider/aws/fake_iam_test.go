package aws

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/vault-pim/vault-plugin-secrets-pim/internal/secret"
)

// with runs an effect on one role or user.
func (c *fakeCaller) with(ctx context.Context, op string, h holder, effect func(p *fakePrincipal) error) error {
	return c.in(ctx, op, func(a *fakeAccount) error {
		p, err := c.w.find(a, h)
		if err != nil {
			return err
		}
		return effect(p)
	})
}

// ListInline implements policyAPI.
func (c *fakeCaller) ListInline(ctx context.Context, h holder) ([]string, error) {
	var out []string
	err := c.with(ctx, "ListInline", h, func(p *fakePrincipal) error {
		out = sortedKeys(p.inline)
		return nil
	})
	return out, err
}

// GetInline implements policyAPI.
func (c *fakeCaller) GetInline(ctx context.Context, h holder, name string) (string, error) {
	var out string
	err := c.with(ctx, "GetInline", h, func(p *fakePrincipal) error {
		text, ok := p.inline[name]
		if c.w.stale != nil && c.w.stale() {
			if old, was := c.w.before[h.String()+name]; was {
				text, ok = old, old != ""
			}
		}
		if !ok {
			return awsError("NoSuchEntity")
		}
		out = text
		return nil
	})
	return out, err
}

// PutInline implements policyAPI.
func (c *fakeCaller) PutInline(ctx context.Context, h holder, name, text string) error {
	return c.with(ctx, "PutInline", h, func(p *fakePrincipal) error {
		if _, err := readDocument(text); err != nil {
			return awsError("MalformedPolicyDocument")
		}
		sum := policySize(text)
		for n, other := range p.inline {
			if n != name {
				sum += policySize(other)
			}
		}
		if sum > inlineQuota(h) {
			return awsError("LimitExceeded")
		}
		c.w.before[h.String()+name] = p.inline[name]
		p.inline[name] = text
		return nil
	})
}

// DeleteInline implements policyAPI.
func (c *fakeCaller) DeleteInline(ctx context.Context, h holder, name string) error {
	return c.with(ctx, "DeleteInline", h, func(p *fakePrincipal) error {
		if _, ok := p.inline[name]; !ok {
			return awsError("NoSuchEntity")
		}
		c.w.before[h.String()+name] = p.inline[name]
		delete(p.inline, name)
		return nil
	})
}

// ListAttached implements policyAPI.
func (c *fakeCaller) ListAttached(ctx context.Context, h holder) ([]managed, error) {
	var out []managed
	err := c.with(ctx, "ListAttached", h, func(p *fakePrincipal) error {
		for _, arn := range p.attached {
			out = append(out, managed{Name: lastPart(arn), ARN: arn})
		}
		return nil
	})
	return out, err
}

// Attach implements policyAPI.
func (c *fakeCaller) Attach(ctx context.Context, h holder, arn string) error {
	return c.in(ctx, "Attach", func(a *fakeAccount) error {
		p, err := c.w.find(a, h)
		if err != nil {
			return err
		}
		if a.policies[arn] == nil && !strings.HasPrefix(arn, "arn:aws:iam::aws:") {
			return awsError("NoSuchEntity")
		}
		if slices.Contains(p.attached, arn) {
			return nil
		}
		if len(p.attached) >= attachedQuota {
			return awsError("LimitExceeded")
		}
		p.attached = append(p.attached, arn)
		return nil
	})
}

// Detach implements policyAPI.
func (c *fakeCaller) Detach(ctx context.Context, h holder, arn string) error {
	return c.with(ctx, "Detach", h, func(p *fakePrincipal) error {
		if !slices.Contains(p.attached, arn) {
			return awsError("NoSuchEntity")
		}
		p.attached = without(p.attached, arn)
		return nil
	})
}

// CreatePolicy implements policyAPI.
func (c *fakeCaller) CreatePolicy(ctx context.Context, in newPolicy) (string, error) {
	var arn string
	err := c.in(ctx, "CreatePolicy", func(a *fakeAccount) error {
		arn = "arn:aws:iam::" + a.id + ":policy" + in.Path + in.Name
		if a.policies[arn] != nil {
			return awsError("EntityAlreadyExists")
		}
		if policySize(in.Document) > maxManagedPolicy {
			return awsError("LimitExceeded")
		}
		a.policies[arn] = []string{in.Document}
		return nil
	})
	return arn, err
}

// ReadPolicy implements policyAPI.
func (c *fakeCaller) ReadPolicy(ctx context.Context, arn string) (string, error) {
	var out string
	err := c.in(ctx, "ReadPolicy", func(a *fakeAccount) error {
		v := a.policies[arn]
		if v == nil {
			return awsError("NoSuchEntity")
		}
		out = v[len(v)-1]
		return nil
	})
	return out, err
}

// WritePolicy implements policyAPI.
func (c *fakeCaller) WritePolicy(ctx context.Context, arn, text string) error {
	return c.in(ctx, "WritePolicy", func(a *fakeAccount) error {
		switch {
		case a.policies[arn] == nil:
			return awsError("NoSuchEntity")
		case policySize(text) > maxManagedPolicy:
			return awsError("LimitExceeded")
		}
		a.policies[arn] = append(a.policies[arn], text)
		return nil
	})
}

// DeletePolicy implements policyAPI.
func (c *fakeCaller) DeletePolicy(ctx context.Context, arn string) error {
	return c.in(ctx, "DeletePolicy", func(a *fakeAccount) error {
		if a.policies[arn] == nil {
			return awsError("NoSuchEntity")
		}
		for _, p := range a.roles {
			if slices.Contains(p.attached, arn) {
				return awsError("DeleteConflict")
			}
		}
		delete(a.policies, arn)
		return nil
	})
}

// GetRole implements policyAPI.
func (c *fakeCaller) GetRole(ctx context.Context, name string) (roleInfo, error) {
	var out roleInfo
	err := c.in(ctx, "GetRole", func(a *fakeAccount) error {
		p, err := c.w.find(a, holder{roleHolder, name})
		if err != nil {
			return err
		}
		out = roleInfo{ARN: p.arn, MaxSession: a.maxSession}
		return nil
	})
	return out, err
}

// CreateUser implements userAPI.
func (c *fakeCaller) CreateUser(ctx context.Context, in newUser) error {
	return c.in(ctx, "CreateUser", func(a *fakeAccount) error {
		if a.users[in.Name] != nil {
			return awsError("EntityAlreadyExists")
		}
		arn := "arn:aws:iam::" + a.id + ":user" + in.Path + in.Name
		a.users[in.Name] = &fakePrincipal{
			info: userInfo{Name: in.Name, Path: in.Path, ARN: arn, Tags: in.Tags}, arn: arn,
			inline: map[string]string{}, visible: c.w.clk.Now().Add(c.w.lag),
		}
		return nil
	})
}

// user runs an effect on one user.
func (c *fakeCaller) user(ctx context.Context, op, name string, effect func(p *fakePrincipal) error) error {
	return c.with(ctx, op, holder{userHolder, name}, effect)
}

// GetUser implements userAPI.
func (c *fakeCaller) GetUser(ctx context.Context, name string) (userInfo, error) {
	var out userInfo
	err := c.user(ctx, "GetUser", name, func(p *fakePrincipal) error {
		out = p.info
		return nil
	})
	return out, err
}

// DeleteUser implements userAPI.
func (c *fakeCaller) DeleteUser(ctx context.Context, name string) error {
	return c.in(ctx, "DeleteUser", func(a *fakeAccount) error {
		p, err := c.w.find(a, holder{userHolder, name})
		if err != nil {
			return err
		}
		if len(p.inline)+len(p.attached)+len(p.groups)+len(p.keys)+len(p.extras) > 0 {
			return awsError("DeleteConflict")
		}
		delete(a.users, name)
		return nil
	})
}

// ListUsers implements userAPI.
func (c *fakeCaller) ListUsers(ctx context.Context, prefix string) ([]userInfo, error) {
	var out []userInfo
	err := c.in(ctx, "ListUsers", func(a *fakeAccount) error {
		for _, name := range sortedKeys(a.users) {
			if u := a.users[name].info; strings.HasPrefix(u.Path, prefix) {
				out = append(out, userInfo{Name: u.Name, Path: u.Path, ARN: u.ARN})
			}
		}
		return nil
	})
	return out, err
}

// TagUser implements userAPI.
func (c *fakeCaller) TagUser(ctx context.Context, name string, tags map[string]string) error {
	return c.user(ctx, "TagUser", name, func(p *fakePrincipal) error {
		maps.Copy(p.info.Tags, tags)
		return nil
	})
}

// UntagUser implements userAPI.
func (c *fakeCaller) UntagUser(ctx context.Context, name string, keys ...string) error {
	return c.user(ctx, "UntagUser", name, func(p *fakePrincipal) error {
		for _, k := range keys {
			delete(p.info.Tags, k)
		}
		return nil
	})
}

// AddToGroup implements userAPI.
func (c *fakeCaller) AddToGroup(ctx context.Context, user, group string) error {
	return c.user(ctx, "AddToGroup", user, func(p *fakePrincipal) error {
		p.groups = append(without(p.groups, group), group)
		return nil
	})
}

// RemoveFromGroup implements userAPI.
func (c *fakeCaller) RemoveFromGroup(ctx context.Context, user, group string) error {
	return c.user(ctx, "RemoveFromGroup", user, func(p *fakePrincipal) error {
		p.groups = without(p.groups, group)
		return nil
	})
}

// ListGroups implements userAPI.
func (c *fakeCaller) ListGroups(ctx context.Context, user string) ([]string, error) {
	var out []string
	err := c.user(ctx, "ListGroups", user, func(p *fakePrincipal) error {
		out = slices.Clone(p.groups)
		return nil
	})
	return out, err
}

// CreateKey implements userAPI.
func (c *fakeCaller) CreateKey(ctx context.Context, user string) (keyPair, error) {
	var out keyPair
	err := c.user(ctx, "CreateKey", user, func(p *fakePrincipal) error {
		if len(p.keys) >= 2 {
			return awsError("LimitExceeded")
		}
		c.w.serial++
		out = keyPair{ID: fmt.Sprintf("AKIA%016d", c.w.serial), Secret: secret.New(fmt.Sprintf("user-secret-%d", c.w.serial))}
		p.keys = append(p.keys, fakeKey{pair: out, created: c.w.clk.Now(), probes: c.w.keyProbes})
		return nil
	})
	return out, err
}

// ListKeys implements userAPI.
func (c *fakeCaller) ListKeys(ctx context.Context, user string) ([]keyInfo, error) {
	var out []keyInfo
	err := c.user(ctx, "ListKeys", user, func(p *fakePrincipal) error {
		for _, k := range p.keys {
			out = append(out, keyInfo{ID: k.pair.ID, Created: k.created.Truncate(time.Second)})
		}
		return nil
	})
	return out, err
}

// DeleteKey implements userAPI.
func (c *fakeCaller) DeleteKey(ctx context.Context, user, id string) error {
	return c.user(ctx, "DeleteKey", user, func(p *fakePrincipal) error {
		n := len(p.keys)
		p.keys = slices.DeleteFunc(p.keys, func(k fakeKey) bool { return k.pair.ID == id })
		if len(p.keys) == n {
			return awsError("NoSuchEntity")
		}
		return nil
	})
}

// ListExtras implements userAPI.
func (c *fakeCaller) ListExtras(ctx context.Context, user string) ([]extra, error) {
	var out []extra
	err := c.user(ctx, "ListExtras", user, func(p *fakePrincipal) error {
		out = slices.Clone(p.extras)
		return nil
	})
	return out, err
}

// DeleteExtra implements userAPI.
func (c *fakeCaller) DeleteExtra(ctx context.Context, user string, x extra) error {
	return c.user(ctx, "DeleteExtra", user, func(p *fakePrincipal) error {
		p.extras = slices.DeleteFunc(p.extras, func(y extra) bool { return x == y })
		return nil
	})
}

// Simulate implements inspectAPI: the fake's identities are allowed everything
// but what a test denied in their policies.
func (c *fakeCaller) Simulate(ctx context.Context, source string, actions []string, resource string) ([]string, error) {
	var out []string
	err := c.in(ctx, "SimulatePrincipalPolicy", func(a *fakeAccount) error {
		p := a.roles[lastPart(source)]
		if strings.Contains(source, ":user/") {
			p = a.users[lastPart(source)]
		}
		if p == nil {
			return awsError("NoSuchEntity")
		}
		for _, action := range actions {
			if !judge(action, resource, map[string]string{}, policiesOf(a, p)) {
				out = append(out, action)
			}
		}
		return nil
	})
	return out, err
}

// AccountSummary implements inspectAPI.
func (c *fakeCaller) AccountSummary(ctx context.Context) (map[string]int, error) {
	var out map[string]int
	err := c.in(ctx, "GetAccountSummary", func(a *fakeAccount) error {
		out = map[string]int{"Users": len(a.users), "UsersQuota": 5000, "Policies": len(a.policies), "PoliciesQuota": 1500}
		return nil
	})
	return out, err
}
