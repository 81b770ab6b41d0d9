package aws

import (
	"context"
	"fmt"
	"maps"
	"time"

	"github.com/vault-pim/vault-plugin-secrets-pim/internal/secret"
)

// fakeCaller is one identity's view of the fake.
type fakeCaller struct {
	w    *fakeAWS
	key  keyPair
	role string // assumed with the key; "" = the key's own user
}

var _ account = (*fakeCaller)(nil)

// in runs an effect in the caller's account.
func (c *fakeCaller) in(ctx context.Context, op string, effect func(a *fakeAccount) error) error {
	return c.w.call(ctx, op, func() error {
		a, _, err := c.w.owner(c.key)
		if err != nil {
			return err
		}
		if c.role != "" {
			r, ok := parseARN(c.role)
			if !ok || c.w.accounts[r.account] == nil {
				return awsError("AccessDenied")
			}
			a = c.w.accounts[r.account]
		}
		return effect(a)
	})
}

// Identify implements stsAPI.
func (c *fakeCaller) Identify(ctx context.Context) (identity, error) {
	var out identity
	err := c.w.call(ctx, "GetCallerIdentity", func() error {
		a, u, err := c.w.owner(c.key)
		if err != nil {
			return err
		}
		out = identity{Account: a.id, ARN: u.arn, UserID: "AIDA" + u.info.Name}
		if r, ok := parseARN(c.role); ok {
			name, _ := r.roleName()
			out = identity{Account: r.account, ARN: "arn:aws:sts::" + r.account + ":assumed-role/" + name + "/pim-base"}
		}
		return nil
	})
	return out, err
}

// Assume implements stsAPI.
func (c *fakeCaller) Assume(ctx context.Context, in assumeInput) (session, error) {
	var out session
	err := c.in(ctx, "AssumeRole", func(a *fakeAccount) error {
		r, ok := parseARN(in.RoleARN)
		name, isRole := r.roleName()
		if !ok || !isRole || r.account != a.id || a.roles[name] == nil {
			return awsError("AccessDenied")
		}
		if in.Duration < minSession || in.Duration > a.maxSession || (c.role != "" && in.Duration > maxChained) {
			return awsError("ValidationError")
		}
		s, err := c.w.newSession(a, in.Policy, in.PolicyARNs, in.Tags, in.Duration)
		if err != nil {
			return err
		}
		s.name, s.kind, s.sourceIdentity = name, roleHolder, in.SourceIdentity
		s.userID = "AROA" + name + ":" + in.SessionName
		s.ARN = "arn:aws:sts::" + a.id + ":assumed-role/" + name + "/" + in.SessionName
		out = s.session
		return nil
	})
	return out, err
}

// Federate implements stsAPI.
func (c *fakeCaller) Federate(ctx context.Context, in federateInput) (session, error) {
	var out session
	err := c.in(ctx, "GetFederationToken", func(a *fakeAccount) error {
		if c.role != "" || len(in.Name) > 32 {
			return awsError("AccessDenied")
		}
		_, u, err := c.w.owner(c.key)
		if err != nil {
			return err
		}
		s, err := c.w.newSession(a, in.Policy, in.PolicyARNs, in.Tags, in.Duration)
		if err != nil {
			return err
		}
		s.name, s.kind, s.userID = u.info.Name, userHolder, a.id+":"+in.Name
		s.ARN = "arn:aws:sts::" + a.id + ":federated-user/" + in.Name
		out = s.session
		return nil
	})
	return out, err
}

// newSession makes a session within what STS takes. The caller holds mu.
func (w *fakeAWS) newSession(a *fakeAccount, policy string, arns []string, tags map[string]string, life time.Duration) (*fakeSession, error) {
	size := len([]rune(policy))
	for _, x := range arns {
		size += len(x)
	}
	if size > maxSessionPolicy || len(tags) > maxTags {
		return nil, awsError("PackedPolicyTooLarge")
	}
	if _, err := readDocument(policy); policy != "" && err != nil {
		return nil, awsError("MalformedPolicyDocument")
	}
	w.serial++
	now := w.clk.Now()
	s := &fakeSession{
		session: session{
			AccessKey: fmt.Sprintf("ASIA%016d", w.serial), SecretKey: secret.New(fmt.Sprintf("session-secret-%d", w.serial)),
			SessionToken: secret.New(fmt.Sprintf("session-token-%d", w.serial)), Expires: now.Add(life),
		},
		policy: policy, policyARNs: arns, tags: maps.Clone(tags), issued: now,
	}
	a.sessions = append(a.sessions, s)
	return s, nil
}
