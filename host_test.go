package pim

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/hashicorp/vault/sdk/helper/consts"
	"github.com/hashicorp/vault/sdk/logical"

	"github.com/vault-pim/vault-plugin-secrets-pim/internal/clock"
)

// askedView is a host that counts what it is asked.
type askedView struct {
	logical.StaticSystemView
	asked int
}

func (v *askedView) ReplicationState() consts.ReplicationState {
	v.asked++
	return v.StaticSystemView.ReplicationState()
}

func (v *askedView) LocalMount() bool {
	v.asked++
	return v.StaticSystemView.LocalMount()
}

func (v *askedView) MaxLeaseTTL() time.Duration {
	v.asked++
	return v.StaticSystemView.MaxLeaseTTL()
}

func newAsked() (*askedView, *clock.Manual, *host) {
	v, c := &askedView{}, clock.NewManual(time.Date(2026, 3, 2, 9, 0, 0, 0, time.UTC))
	return v, c, newHost(v, c)
}

func TestWhichNodeAnswers(t *testing.T) {
	rows := []struct {
		name    string
		state   consts.ReplicationState
		local   bool
		answers bool
	}{
		{"a node without replication", consts.ReplicationPerformanceDisabled, false, true},
		{"the primary", consts.ReplicationPerformancePrimary, false, true},
		{"a performance standby", consts.ReplicationPerformanceStandby, false, false},
		{"a performance standby, for a local mount too", consts.ReplicationPerformanceStandby, true, false},
		{"a secondary", consts.ReplicationPerformanceSecondary, false, false},
		{"a secondary, for a local mount", consts.ReplicationPerformanceSecondary, true, true},
	}
	for _, row := range rows {
		v, _, h := newAsked()
		v.ReplicationStateVal, v.LocalMountVal = row.state, row.local
		if h.Answers() != row.answers || h.Writable() != row.answers {
			t.Errorf("%s: answers %v, writable %v", row.name, h.Answers(), h.Writable())
		}
	}
}

func TestANodeThatAnswersIsAskedOnceASecond(t *testing.T) {
	v, c, h := newAsked()
	v.ReplicationStateVal = consts.ReplicationUnknown // a call that failed
	for range 2 {
		if !h.Answers() {
			t.Fatal("the SDK takes a call that failed for a yes")
		}
	}
	if v.asked != 2 {
		t.Fatalf("asked %d times where nothing was answered", v.asked)
	}
	v.asked, v.ReplicationStateVal = 0, consts.ReplicationPerformanceDisabled
	h.Answers()
	if h.Answers(); v.asked != 1 {
		t.Fatalf("asked %d times in one instant", v.asked)
	}
	v.ReplicationStateVal = consts.ReplicationPerformanceStandby
	c.Advance(hereFor)
	if h.Answers() {
		t.Fatal("what was true a second ago still counts")
	}
	v.ReplicationStateVal = consts.ReplicationPerformanceDisabled
	if !h.Answers() {
		t.Fatal("that the node did not answer was kept")
	}
}

func TestTheLongestLeaseIsAskedForEveryFewSeconds(t *testing.T) {
	v, c, h := newAsked()
	v.MaxLeaseTTLVal = 0 // a call that failed
	if h.MaxLeaseTTL() != 0 {
		t.Fatal("made up")
	}
	v.MaxLeaseTTLVal = time.Hour
	if h.MaxLeaseTTL() != time.Hour {
		t.Fatal("a failure was kept")
	}
	v.MaxLeaseTTLVal = time.Minute
	if h.MaxLeaseTTL() != time.Hour || v.asked != 2 {
		t.Fatalf("asked %d times", v.asked)
	}
	c.Advance(longestFor)
	if h.MaxLeaseTTL() != time.Minute {
		t.Fatal("what was true some seconds ago still counts")
	}
}

// knownView is a host that knows one entity, or fails.
type knownView struct {
	logical.StaticSystemView
	entity           *logical.Entity
	groups           []*logical.Group
	lookErr, groupOf error
	breaks           bool
}

func (v knownView) EntityInfo(string) (*logical.Entity, error) { return v.entity, v.lookErr }

func (v knownView) GroupsForEntity(string) ([]*logical.Group, error) {
	if v.breaks {
		panic("broken")
	}
	return v.groups, v.groupOf
}

func TestWhomTheHostKnows(t *testing.T) {
	alice := &logical.Entity{ID: "e1", Name: "alice", Aliases: []*logical.Alias{{Name: "alice", MountAccessor: "a", MountType: "userpass"}}}
	disabled := &logical.Entity{ID: "e1", Name: "alice", Disabled: true}
	ops := []*logical.Group{{ID: "g1", Name: "ops"}}
	down := errors.New("the host does not answer")
	rows := []struct {
		name   string
		view   knownView
		groups bool
		known  bool
		in     int
		err    error
	}{
		{"somebody in a group", knownView{entity: alice, groups: ops}, true, true, 1, nil},
		{"somebody whose groups nobody asked for", knownView{entity: alice, groups: ops, groupOf: down}, false, true, 0, nil},
		{"somebody disabled, whose groups the host does not tell", knownView{entity: disabled, groupOf: down}, true, true, 0, nil},
		{"nobody", knownView{}, true, false, 0, nil},
		{"nobody, in the host's words", knownView{lookErr: errors.New("rpc error: entity not found"), groupOf: down}, true, false, 0, nil},
		{"a host that fails", knownView{lookErr: down}, true, false, 0, down},
		{"a host that breaks for the groups", knownView{entity: alice, breaks: true}, true, false, 0, errGroups},
		{"a host that fails for the groups", knownView{entity: alice, groupOf: down}, true, false, 0, down},
	}
	for _, row := range rows {
		e, err := directory{row.view}.Entity(context.Background(), "e1", row.groups)
		if !errors.Is(err, row.err) || (e != nil) != row.known || e != nil && len(e.Groups) != row.in {
			t.Errorf("%s: %+v, %v", row.name, e, err)
		}
	}
}
