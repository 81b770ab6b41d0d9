package aws

import (
	"context"
	"fmt"
	"slices"
	"time"
)

// fakeCenter is Identity Center, its directory and Organizations.
type fakeCenter struct {
	assigned map[assignment]bool
	pending  map[string]*fakeChange
	users    map[string]string // attribute=value → id
	rails    map[string]string
	polls    int // how often a change is asked after before it is done
}

type fakeChange struct {
	a     assignment
	add   bool
	polls int
}

const (
	fakeInstance = "arn:aws:sso:::instance/ssoins-1111111111111111"
	fakeSet      = "arn:aws:sso:::permissionSet/ssoins-1111111111111111/ps-1111111111111111"
	fakeRail     = "p-examplepolicyid111"
	memberOfOrg  = "333333333333"
	aliceID      = "90677c608d-7b8d6f1e-4d7c-4a36-b5a5-a3a9b0f6d001"
	bobID        = "90677c608d-7b8d6f1e-4d7c-4a36-b5a5-a3a9b0f6d002"
)

const emptyRail = `{"Version":"2012-10-17","Statement":[{"Sid":"PimOpenSessions","Effect":"Deny","Action":"*","Resource":"*",` +
	`"Condition":{"StringEquals":{"identitystore:UserId":"nobody"}}}]}`

func newFakeCenter() *fakeCenter {
	return &fakeCenter{
		assigned: map[assignment]bool{}, pending: map[string]*fakeChange{}, polls: 2,
		users: map[string]string{"userName=alice": aliceID, "emails.value=alice@example.com": aliceID, "userName=bob": bobID},
		rails: map[string]string{fakeRail: emptyRail},
	}
}

// fakeCenterCaller is the view of it that pim has.
type fakeCenterCaller struct{ w *fakeAWS }

var (
	_ centerAPI    = fakeCenterCaller{}
	_ guardrailAPI = fakeCenterCaller{}
)

// Store implements centerAPI.
func (c fakeCenterCaller) Store(ctx context.Context, instance string) (string, error) {
	err := c.w.call(ctx, "ListInstances", func() error {
		if instance != fakeInstance {
			return awsError("ResourceNotFoundException")
		}
		return nil
	})
	return "d-1111111111", err
}

// UserID implements centerAPI.
func (c fakeCenterCaller) UserID(ctx context.Context, _, attribute, value string) (string, error) {
	var id string
	err := c.w.call(ctx, "GetUserId", func() error {
		id = c.w.center.users[attribute+"="+value]
		if id == "" {
			return awsError("ResourceNotFoundException")
		}
		return nil
	})
	return id, err
}

// DescribeSet implements centerAPI.
func (c fakeCenterCaller) DescribeSet(ctx context.Context, _, set string) (permissionSet, error) {
	err := c.w.call(ctx, "DescribePermissionSet", func() error {
		if set != fakeSet {
			return awsError("ResourceNotFoundException")
		}
		return nil
	})
	return permissionSet{Name: "Admin", Sessions: time.Hour}, err
}

// ListAssigned implements centerAPI.
func (c fakeCenterCaller) ListAssigned(ctx context.Context, a assignment) ([]string, error) {
	var out []string
	err := c.w.call(ctx, "ListAccountAssignments", func() error {
		for x := range c.w.center.assigned {
			if x.Account == a.Account && x.PermissionSet == a.PermissionSet {
				out = append(out, x.User)
			}
		}
		slices.Sort(out)
		return nil
	})
	return out, err
}

// change starts a change, which takes effect when it has been asked after
// often enough. The caller holds mu.
func (c fakeCenterCaller) change(a assignment, add bool) (progress, error) {
	f := c.w.center
	for _, p := range f.pending {
		if p.a == a {
			return progress{}, awsError("ConflictException")
		}
	}
	c.w.serial++
	id := fmt.Sprintf("change-%d", c.w.serial)
	f.pending[id] = &fakeChange{a: a, add: add, polls: f.polls}
	return progress{ID: id}, nil
}

// settle moves every change on. The caller holds mu.
func (c fakeCenterCaller) settle(id string) progress {
	f := c.w.center
	p := f.pending[id]
	if p == nil {
		return progress{ID: id, Done: true}
	}
	if p.polls--; p.polls > 0 {
		return progress{ID: id}
	}
	delete(f.pending, id)
	if p.add {
		f.assigned[p.a] = true
	} else {
		delete(f.assigned, p.a)
	}
	return progress{ID: id, Done: true}
}

// Assign implements centerAPI.
func (c fakeCenterCaller) Assign(ctx context.Context, a assignment) (progress, error) {
	var out progress
	err := c.w.call(ctx, "CreateAccountAssignment", func() (err error) {
		c.ripen(a)
		out, err = c.change(a, true)
		return err
	})
	return out, err
}

// ripen finishes what an abandoned caller started: AWS goes on without it. The
// caller holds mu.
func (c fakeCenterCaller) ripen(a assignment) {
	for id, p := range c.w.center.pending {
		if p.a == a {
			p.polls = 1
			c.settle(id)
		}
	}
}

// AssignStatus implements centerAPI.
func (c fakeCenterCaller) AssignStatus(ctx context.Context, _, id string) (progress, error) {
	var out progress
	err := c.w.call(ctx, "DescribeAccountAssignmentCreationStatus", func() error {
		out = c.settle(id)
		return nil
	})
	return out, err
}

// Unassign implements centerAPI.
func (c fakeCenterCaller) Unassign(ctx context.Context, a assignment) (progress, error) {
	var out progress
	err := c.w.call(ctx, "DeleteAccountAssignment", func() (err error) {
		c.ripen(a)
		if !c.w.center.assigned[a] {
			return awsError("ResourceNotFoundException")
		}
		out, err = c.change(a, false)
		return err
	})
	return out, err
}

// UnassignStatus implements centerAPI.
func (c fakeCenterCaller) UnassignStatus(ctx context.Context, _, id string) (progress, error) {
	var out progress
	err := c.w.call(ctx, "DescribeAccountAssignmentDeletionStatus", func() error {
		out = c.settle(id)
		return nil
	})
	return out, err
}

// ReadGuardrail implements guardrailAPI.
func (c fakeCenterCaller) ReadGuardrail(ctx context.Context, id string) (string, error) {
	var out string
	err := c.w.call(ctx, "DescribePolicy", func() error {
		out = c.w.center.rails[id]
		if out == "" {
			return awsError("PolicyNotFoundException")
		}
		return nil
	})
	return out, err
}

// WriteGuardrail implements guardrailAPI.
func (c fakeCenterCaller) WriteGuardrail(ctx context.Context, id, text string) error {
	return c.w.call(ctx, "UpdatePolicy", func() error {
		if policySize(text) > maxGuardrail {
			return awsError("ConstraintViolationException")
		}
		c.w.center.rails[id] = text
		return nil
	})
}
