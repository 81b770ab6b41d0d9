package azure

import (
	"errors"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/vault-pim/vault-plugin-secrets-pim/internal/domain"
	"github.com/vault-pim/vault-plugin-secrets-pim/internal/provider/azure/fakeazure"
	"github.com/vault-pim/vault-plugin-secrets-pim/internal/provider/contract"
	"github.com/vault-pim/vault-plugin-secrets-pim/internal/provider/remote"
)

func readerRole() contract.Values {
	return contract.Values{"azure_roles": []string{"Reader@" + scopeAll}, "azure_groups": []string{admins}}
}

func ownRole() contract.Values {
	return contract.Values{"principal_source": "metadata:oid", "azure_roles": []string{"Contributor@" + scopeGroup}}
}

func ownGroup() contract.Values {
	return contract.Values{"principal_source": "metadata:oid", "azure_groups": []string{admins}}
}

// changes are the calls that change something, in their order.
func (k *kit) changes() []string {
	var out []string
	for _, s := range k.cloud.Calls("") {
		if s.Method == http.MethodGet || strings.HasSuffix(s.Path, "/token") || strings.HasSuffix(s.Path, "checkMemberGroups") {
			continue
		}
		switch {
		case strings.Contains(s.Path, "roleAssignments"):
			out = append(out, s.Method+" assignment")
		case strings.Contains(s.Path, "/members/"):
			out = append(out, s.Method+" member")
		case strings.Contains(s.Path, "/servicePrincipals"):
			out = append(out, s.Method+" principal")
		case strings.HasSuffix(s.Path, "Password"):
			out = append(out, last(s.Path))
		case strings.Contains(s.Path, "deletedItems"):
			out = append(out, s.Method+" bin")
		default:
			out = append(out, s.Method+" application")
		}
	}
	return out
}

func TestRevocationTakesTheAssignmentFirstAndTheApplicationLast(t *testing.T) {
	t.Parallel()
	k := newKit(t)
	p := k.open(t, k.target(nil))
	_, h := k.mustIssue(t, p, readerRole())
	before := len(k.changes())
	k.mustEnd(t, p, h)
	want := []string{"DELETE assignment", "DELETE member", "PATCH principal", "removePassword", "DELETE application"}
	if got := k.changes()[before:]; !slices.Equal(got, want) {
		t.Errorf("the order was %v, not %v", got, want)
	}
}

func TestAnAssignmentThatCannotBeDeletedIsAnErrorAndTheSecretDiesAllTheSame(t *testing.T) {
	t.Parallel()
	k := newKit(t)
	p := k.open(t, k.target(nil))
	issued, h := k.mustIssue(t, p, readerRole())
	k.cloud.Plan(fakeazure.Rule{Match: "DELETE arm", N: 1, Status: http.StatusForbidden, Code: "AuthorizationFailed"})
	ended, err := p.Revoke(t.Context(), h)
	failed, ok := errors.AsType[*contract.Error](err)
	if !ok || ended.AccessGone || failed.Code != "AuthorizationFailed" {
		t.Fatalf("a refused deletion was taken for the end: %+v, %v", ended, err)
	}
	if k.works(t, issued) {
		t.Error("the secret still works although it could be removed")
	}
	if len(k.manager.Assignments) != 1 {
		t.Error("the assignment is gone although Azure refused")
	}
	k.mustEnd(t, p, h)
	if len(k.manager.Assignments) != 0 || len(k.exists(t, h)) != 0 {
		t.Error("something is left after the second try")
	}
}

func TestASubscriptionThatIsNotFoundIsDoubt(t *testing.T) {
	t.Parallel()
	for code, gone := range map[string]bool{
		"SubscriptionNotFound": false, "InvalidAuthenticationTokenTenant": false, "ResourceGroupNotFound": true, "RoleAssignmentNotFound": true,
	} {
		k := newKit(t)
		p := k.open(t, k.target(nil))
		_, h := k.mustIssue(t, p, ownRole())
		k.cloud.Plan(fakeazure.Rule{Match: "DELETE arm", N: 1, Status: http.StatusNotFound, Code: code})
		if ended, err := p.Revoke(t.Context(), h); ended.AccessGone != gone || (err == nil) != gone {
			t.Errorf("%s: gone is %v (%v)", code, ended.AccessGone, err)
		}
	}
}

func TestAPasswordWhoseAnswerWasLostIsRemovedAsSoonAsItIsShown(t *testing.T) {
	t.Parallel()
	k := newKit(t)
	p := k.open(t, k.target(nil))
	had := len(k.robot.Passwords)
	in := k.input(t, contract.Values{"application_object_id": k.robot.ID})
	k.cloud.Plan(fakeazure.Rule{Match: "addPassword", N: 1, Lost: true})
	_, h, err := k.issue(t, p, in)
	if err == nil || len(k.robot.Passwords) != had+1 {
		t.Fatalf("the answer should be lost, and the password be there: %v", err)
	}
	k.mustEnd(t, p, h)
	if len(k.robot.Passwords) != had {
		t.Error("the password is still there")
	}
	if k.robot.Passwords[0].Name != "by hand" {
		t.Error("somebody else's password was removed")
	}
}

func TestAPurgedCredentialLeavesNothingInTheBin(t *testing.T) {
	t.Parallel()
	for _, purge := range []bool{false, true} {
		k := newKit(t)
		p := k.open(t, k.target(nil))
		fields := readerRole()
		if purge {
			fields["permanently_delete"] = true
		}
		_, h := k.mustIssue(t, p, fields)
		k.mustEnd(t, p, h)
		left := 0
		for _, a := range k.home.Apps {
			if a.Unique != "" {
				left++
			}
		}
		if left != 0 && purge || left != 1 && !purge {
			t.Errorf("permanently_delete=%v left %d in the bin", purge, left)
		}
	}
}

func TestASecretDiesWithItsWindowWithoutUs(t *testing.T) {
	t.Parallel()
	k := newKit(t)
	p := k.open(t, k.target(nil))
	issued, _ := k.mustIssue(t, p, readerRole())
	if !k.works(t, issued) {
		t.Fatal("the credential does not work")
	}
	k.clk.Advance(issued.NotAfter.Sub(k.clk.Now()) + time.Second)
	if k.works(t, issued) {
		t.Error("the secret outlives its window")
	}
}

func TestAccessThatWasThereBeforeIsNeitherTakenOverNorEnded(t *testing.T) {
	t.Parallel()
	k := newKit(t)
	p := k.open(t, k.target(nil))
	// Somebody gave both by hand, the membership a moment ago.
	_, h := k.mustIssue(t, p, ownRole())
	for name, a := range k.manager.Assignments {
		delete(k.manager.Assignments, name)
		a.Name = guid("by hand")
		k.manager.Assignments[a.Name] = a
	}
	k.mustEnd(t, p, h)
	for lagging, fields := range map[string]contract.Values{"": ownRole(), "shown": ownGroup(), "not shown yet": ownGroup()} {
		k.home.Groups[admins][alice] = k.clk.Now()
		if lagging == "shown" {
			k.clk.Advance(time.Minute)
		}
		_, h, err := k.issue(t, p, k.input(t, fields))
		if failed, ok := errors.AsType[*contract.Error](err); !ok || failed.Code != "exists_outside_pim" {
			t.Errorf("access from outside was taken over: %v", err)
		}
		k.mustEnd(t, p, h)
		if len(k.manager.Assignments) != 1 || k.home.Groups[admins][alice].IsZero() {
			t.Fatal("access from outside was ended")
		}
	}
}

func TestAMembershipThatNobodyNotedIsDoubt(t *testing.T) {
	t.Parallel()
	k := newKit(t)
	p := k.open(t, k.target(nil))
	h, err := p.Plan(t.Context(), k.input(t, ownGroup()))
	if err != nil {
		t.Fatal(err)
	}
	k.home.Groups[admins][alice] = start.Add(-time.Hour)
	if ended, err := p.Revoke(t.Context(), h); err == nil || ended.AccessGone {
		t.Errorf("a membership of unknown origin was taken for gone: %+v, %v", ended, err)
	}
	if k.home.Groups[admins][alice].IsZero() {
		t.Error("a membership of unknown origin was ended")
	}
}

func TestAGrantThatJoinsTakesTheMembershipAlongWhenItIsTheLast(t *testing.T) {
	t.Parallel()
	k := newKit(t)
	p := k.open(t, k.target(nil))
	k.mustIssue(t, p, ownGroup())
	in := k.input(t, ownGroup())
	in.Joined = true
	_, h, err := k.issue(t, p, in)
	if err != nil {
		t.Fatal(err)
	}
	k.mustEnd(t, p, h)
	if len(k.home.Groups[admins]) != 0 {
		t.Error("the membership is still there")
	}
}

func TestAHandleIsBoundToItsForms(t *testing.T) {
	t.Parallel()
	k := newKit(t)
	p := k.open(t, k.target(nil))
	good, err := p.Plan(t.Context(), k.input(t, ownRole()))
	if err != nil {
		t.Fatal(err)
	}
	for name, change := range map[string]func(*names){
		"a kind that is none":    func(n *names) { n.Kind = "nonesuch" },
		"an object that is none": func(n *names) { n.Object = "../groups" },
		"a scope that is none":   func(n *names) { n.Roles[0].Scope = "/subscriptions/../x" },
		"a group that is none":   func(n *names) { n.Group = []string{"x/y"} },
		"a principal with parts": func(n *names) { n.Principal = "a/b" },
		"no end":                 func(n *names) { n.End = 0 },
	} {
		n, err := p.read("test", good)
		if err != nil {
			t.Fatal(err)
		}
		change(&n)
		bad, err := remote.WithData(domain.Handle{Provider: Type, V: version, Target: "prod", Place: homeTenant, Credential: good.Credential}, n)
		if err != nil {
			t.Fatal(err)
		}
		if ended, err := p.Revoke(t.Context(), bad); err == nil || ended.AccessGone {
			t.Errorf("%s was revoked", name)
		}
	}
}

func TestWhatIsNotShownYetIsLookedForAgain(t *testing.T) {
	t.Parallel()
	for name, fields := range map[string]contract.Values{"an assignment": ownRole(), "a membership": ownGroup(), "a principal": readerRole()} {
		k := newKit(t)
		k.manager.Lagging, k.home.Lagging = true, true
		p := k.open(t, k.target(nil))
		_, h := k.mustIssue(t, p, fields)
		k.mustEnd(t, p, h)
		if left := k.exists(t, h); len(left) != 0 {
			t.Errorf("%s is left: %v", name, left)
		}
	}
}

func TestADirectoryThatIsFullSaysSo(t *testing.T) {
	t.Parallel()
	k := newKit(t)
	k.home.Quota = k.home.Objects() + 1
	k.manager.Limit = 1
	p := k.open(t, k.target(nil))
	_, h, err := k.issue(t, p, k.input(t, readerRole()))
	if failed, ok := errors.AsType[*contract.Error](err); !ok || failed.Code != "Directory_QuotaExceeded" {
		t.Errorf("got %v", err)
	}
	k.mustEnd(t, p, h)
	k.home.Quota = 0
	_, h, err = k.issue(t, p, k.input(t, contract.Values{"azure_roles": []string{"Reader@" + scopeAll, "Contributor@" + scopeGroup}}))
	if failed, ok := errors.AsType[*contract.Error](err); !ok || failed.Code != "RoleAssignmentLimitExceeded" {
		t.Errorf("got %v", err)
	}
	k.mustEnd(t, p, h)
	if len(k.manager.Assignments) != 0 || len(k.exists(t, h)) != 0 {
		t.Error("half of a credential is left")
	}
}
