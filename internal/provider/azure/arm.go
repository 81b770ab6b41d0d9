package azure

import (
	"context"
	"net/http"
	"strings"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/arm"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/Azure/azure-sdk-for-go/sdk/resourcemanager/authorization/armauthorization/v2"

	"github.com/vault-pim/vault-plugin-secrets-pim/internal/domain"
	"github.com/vault-pim/vault-plugin-secrets-pim/internal/provider/contract"
	"github.com/vault-pim/vault-plugin-secrets-pim/internal/provider/remote"
)

// armClient speaks to Azure Resource Manager.
type armClient struct {
	assignments *armauthorization.RoleAssignmentsClient
	definitions *armauthorization.RoleDefinitionsClient
	requests    *armauthorization.RoleAssignmentScheduleRequestsClient
	schedules   *armauthorization.RoleAssignmentSchedulesClient
}

func newARM(c targetConfig, cred azcore.TokenCredential, options policy.ClientOptions) (*armClient, error) {
	options.Cloud = c.configuration()
	o := &arm.ClientOptions{ClientOptions: options, DisableRPRegistration: true}
	assignments, err := armauthorization.NewRoleAssignmentsClient(c.subscription, cred, o)
	if err != nil {
		return nil, err
	}
	definitions, err := armauthorization.NewRoleDefinitionsClient(cred, o)
	if err != nil {
		return nil, err
	}
	requests, err := armauthorization.NewRoleAssignmentScheduleRequestsClient(cred, o)
	if err != nil {
		return nil, err
	}
	schedules, err := armauthorization.NewRoleAssignmentSchedulesClient(cred, o)
	if err != nil {
		return nil, err
	}
	return &armClient{assignments: assignments, definitions: definitions, requests: requests, schedules: schedules}, nil
}

// assignment is one role assignment that a credential has.
type assignment struct {
	Scope string `json:"s"`
	Role  string `json:"r"` // id of the role definition
	Name  string `json:"n"` // of the assignment, planned beforehand
}

// definition is a role definition's full id, as seen from a scope.
func (a assignment) definition() string {
	const tail = "/providers/Microsoft.Authorization/roleDefinitions/"
	if parts := strings.Split(a.Scope, "/"); len(parts) > 2 && strings.EqualFold(parts[1], "subscriptions") {
		return "/subscriptions/" + parts[2] + tail + a.Role
	}
	return tail + a.Role
}

// is tells whether an assignment at the cloud is a for who.
func (a assignment) is(p *armauthorization.RoleAssignmentProperties, who string) bool {
	return p != nil && p.PrincipalID != nil && p.RoleDefinitionID != nil &&
		strings.EqualFold(*p.PrincipalID, who) && strings.EqualFold(last(*p.RoleDefinitionID), a.Role)
}

func last(id string) string { return id[strings.LastIndexByte(id, '/')+1:] }

// bare is a scope as the SDK puts it into a path.
func bare(scope string) string { return strings.TrimPrefix(scope, "/") }

// define reads a role definition.
func (c *armClient) define(ctx context.Context, scope, role string) (*armauthorization.RoleDefinitionProperties, error) {
	resp, err := c.definitions.Get(ctx, bare(scope), role, nil)
	if err == nil && resp.Properties == nil {
		err = remote.ErrAnswer
	}
	return resp.Properties, err
}

// assign makes a role assignment. Doing it again changes nothing.
func (c *armClient) assign(ctx context.Context, a assignment, who, kind, description string) error {
	const op = "assign role"
	resp, err := c.assignments.Create(ctx, bare(a.Scope), a.Name, armauthorization.RoleAssignmentCreateParameters{
		Properties: &armauthorization.RoleAssignmentProperties{
			PrincipalID: new(who), RoleDefinitionID: new(a.definition()),
			PrincipalType: new(armauthorization.PrincipalType(kind)), Description: new(description),
		},
	}, nil)
	if err != nil {
		return err
	}
	if !a.is(resp.Properties, who) {
		return contract.Refused(op, "other_assignment", "what Azure made is not what was approved")
	}
	return nil
}

// find reads one of our assignments; nil = it is not there.
func (c *armClient) find(ctx context.Context, a assignment) (*armauthorization.RoleAssignmentProperties, error) {
	resp, err := c.assignments.Get(ctx, bare(a.Scope), a.Name, nil)
	if noAssignment(err) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	if resp.Properties == nil {
		return nil, remote.ErrAnswer
	}
	return resp.Properties, nil
}

// unassign deletes a role assignment and tells whether it was there. One whose
// resource is no more is not; a subscription that is not found is doubt.
func (c *armClient) unassign(ctx context.Context, a assignment) (bool, error) {
	resp, err := c.assignments.Delete(ctx, bare(a.Scope), a.Name, nil)
	if noAssignment(err) {
		return false, nil
	}
	return err == nil && resp.Name != nil, err // Azure answers with what it deleted, or with nothing
}

func noAssignment(err error) bool {
	if statusOf(err) != http.StatusNotFound {
		return false
	}
	switch codeOf(err) {
	case "RoleAssignmentNotFound", "ResourceGroupNotFound", "ResourceNotFound":
		return true
	}
	return false
}

// each reads the role assignments at a scope and below.
func (c *armClient) each(ctx context.Context, scope, filter string, yield func(*armauthorization.RoleAssignment) error) error {
	options := &armauthorization.RoleAssignmentsClientListForScopeOptions{}
	if filter != "" {
		options.Filter = new(filter)
	}
	pager := c.assignments.NewListForScopePager(bare(scope), options)
	for pages := 0; pager.More(); pages++ {
		if pages == maxPages {
			return remote.ErrAnswer
		}
		got, err := pager.NextPage(ctx)
		if err != nil {
			return err
		}
		for _, a := range got.Value {
			if a == nil || a.Properties == nil || a.Name == nil {
				continue
			}
			if err := yield(a); err != nil {
				return err
			}
		}
	}
	return nil
}

// describeFor is what assignments and tags say about what they are for; List
// reads it.
func describeFor(target string, cred domain.CredentialID, req domain.RequestID) string {
	return "pim target " + target + " credential " + string(cred) + " request " + string(req)
}

// readDescription reads what describeFor wrote.
func readDescription(text, target string) (cred domain.CredentialID, req domain.RequestID, ok bool) {
	words := strings.Fields(text)
	if len(words) < 6 || words[0] != "pim" || words[1] != "target" || words[2] != target || words[3] != "credential" || words[5] != "request" {
		return "", "", false
	}
	if !domain.ValidID(words[4]) {
		return "", "", false
	}
	if len(words) > 6 && domain.ValidID(words[6]) {
		req = domain.RequestID(words[6])
	}
	return domain.CredentialID(words[4]), req, true
}
