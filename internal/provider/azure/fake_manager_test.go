package azure

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	azfake "github.com/Azure/azure-sdk-for-go/sdk/azcore/fake"
	"github.com/Azure/azure-sdk-for-go/sdk/resourcemanager/authorization/armauthorization/v2"
	armfake "github.com/Azure/azure-sdk-for-go/sdk/resourcemanager/authorization/armauthorization/v2/fake"
)

// fakeManager is Azure Resource Manager for one tenant. Every call goes through
// the vendor's own fake server, which takes it apart by the vendor's own
// description: a path, a parameter or a body that is none of that API's fails.
type fakeManager struct {
	cloud         *fakeCloud
	tenant        *fakeTenant
	subscriptions []string
	assignments   map[string]*fakeAssignment // by name
	actions       map[string][]string        // of role definitions
	limit         int                        // assignments of the subscription; 0 = none
	lagging       bool                       // deletions do not see at once what was made
	server        *armfake.RoleAssignmentsServerTransport
	definitions   *armfake.RoleDefinitionsServerTransport
}

type fakeAssignment struct {
	name, scope string
	props       armauthorization.RoleAssignmentProperties
	born        time.Time
}

func (c *fakeCloud) manager(t *fakeTenant, subscriptions ...string) *fakeManager {
	m := &fakeManager{
		cloud: c, tenant: t, subscriptions: subscriptions, assignments: map[string]*fakeAssignment{}, actions: map[string][]string{},
	}
	for _, id := range builtIn() {
		m.actions[id] = []string{"*/read"}
	}
	for _, id := range grantsRoles() {
		m.actions[id] = []string{"Microsoft.Authorization/*", "*/read"}
	}
	m.server = armfake.NewRoleAssignmentsServerTransport(&armfake.RoleAssignmentsServer{
		Create: m.create, Get: m.get, Delete: m.delete, NewListForScopePager: m.list,
	})
	m.definitions = armfake.NewRoleDefinitionsServerTransport(&armfake.RoleDefinitionsServer{Get: m.define})
	c.managers[t.id] = m
	return m
}

// manage is Azure Resource Manager.
func (c *fakeCloud) manage(req *http.Request, body []byte) (*http.Response, error) {
	who, ok := bearer(req)
	c.mu.Lock()
	m := c.managers[who.Tenant]
	c.mu.Unlock()
	if !ok || m == nil {
		return answer(req, http.StatusUnauthorized, nil, errorBody("InvalidAuthenticationToken")), nil
	}
	req = req.Clone(req.Context())
	req.Body = http.NoBody
	if len(body) > 0 {
		req.Body = readerOf(body)
	}
	var resp *http.Response
	var err error
	switch {
	case strings.Contains(req.URL.Path, "/providers/Microsoft.Authorization/roleAssignments"):
		resp, err = m.server.Do(req)
	case strings.Contains(req.URL.Path, "/providers/Microsoft.Authorization/roleDefinitions/"):
		resp, err = m.definitions.Do(req)
	default:
		return m.subscription(req), nil
	}
	if failed, ok := errors.AsType[*azcore.ResponseError](err); ok {
		return answer(req, failed.StatusCode, nil, errorBody(failed.ErrorCode)), nil
	}
	return resp, err
}

func (m *fakeManager) subscription(req *http.Request) *http.Response {
	id, ok := strings.CutPrefix(req.URL.Path, "/subscriptions/")
	if !ok || req.URL.Query().Get("api-version") == "" || !slices.Contains(m.subscriptions, id) {
		return answer(req, http.StatusNotFound, nil, errorBody("SubscriptionNotFound"))
	}
	return answer(req, http.StatusOK, nil, map[string]string{"subscriptionId": id, "tenantId": m.tenant.id})
}

func (m *fakeManager) create(
	_ context.Context, scope, name string, in armauthorization.RoleAssignmentCreateParameters, _ *armauthorization.RoleAssignmentsClientCreateOptions,
) (resp azfake.Responder[armauthorization.RoleAssignmentsClientCreateResponse], failed azfake.ErrorResponder) {
	m.cloud.mu.Lock()
	defer m.cloud.mu.Unlock()
	p := in.Properties
	if p == nil || p.PrincipalID == nil || p.RoleDefinitionID == nil || p.PrincipalType == nil {
		failed.SetResponseError(http.StatusBadRequest, "InvalidCreateRoleAssignmentRequest")
		return resp, failed
	}
	scope = "/" + scope
	if sp := m.tenant.principals[*p.PrincipalID]; sp != nil && (!sp.deleted.IsZero() || !m.cloud.visible(sp.born)) {
		failed.SetResponseError(http.StatusBadRequest, "PrincipalNotFound")
		return resp, failed
	}
	if m.actions[last(*p.RoleDefinitionID)] == nil {
		failed.SetResponseError(http.StatusBadRequest, "RoleDefinitionDoesNotExist")
		return resp, failed
	}
	for _, a := range m.assignments {
		same := a.scope == scope && *a.props.PrincipalID == *p.PrincipalID && *a.props.RoleDefinitionID == *p.RoleDefinitionID
		if same && a.name != name {
			failed.SetResponseError(http.StatusConflict, "RoleAssignmentExists")
			return resp, failed
		}
		if !same && a.name == name {
			failed.SetResponseError(http.StatusBadRequest, "RoleAssignmentUpdateNotPermitted")
			return resp, failed
		}
	}
	if m.limit > 0 && len(m.assignments) >= m.limit {
		failed.SetResponseError(http.StatusBadRequest, "RoleAssignmentLimitExceeded")
		return resp, failed
	}
	status := http.StatusOK
	if m.assignments[name] == nil {
		status = http.StatusCreated
	}
	kept := *p
	kept.Scope = new(scope)
	m.assignments[name] = &fakeAssignment{name: name, scope: scope, props: kept, born: m.cloud.clk.Now()}
	resp.SetResponse(status, armauthorization.RoleAssignmentsClientCreateResponse{RoleAssignment: m.assignments[name].shown()}, nil)
	return resp, failed
}

func (a *fakeAssignment) shown() armauthorization.RoleAssignment {
	props := a.props
	return armauthorization.RoleAssignment{
		Properties: &props, Name: new(a.name), ID: new(a.scope + "/providers/Microsoft.Authorization/roleAssignments/" + a.name),
	}
}

func (m *fakeManager) get(
	_ context.Context, _, name string, _ *armauthorization.RoleAssignmentsClientGetOptions,
) (resp azfake.Responder[armauthorization.RoleAssignmentsClientGetResponse], failed azfake.ErrorResponder) {
	m.cloud.mu.Lock()
	defer m.cloud.mu.Unlock()
	a := m.assignments[name]
	if a == nil {
		failed.SetResponseError(http.StatusNotFound, "RoleAssignmentNotFound")
		return resp, failed
	}
	resp.SetResponse(http.StatusOK, armauthorization.RoleAssignmentsClientGetResponse{RoleAssignment: a.shown()}, nil)
	return resp, failed
}

func (m *fakeManager) delete(
	_ context.Context, _, name string, _ *armauthorization.RoleAssignmentsClientDeleteOptions,
) (resp azfake.Responder[armauthorization.RoleAssignmentsClientDeleteResponse], failed azfake.ErrorResponder) {
	m.cloud.mu.Lock()
	defer m.cloud.mu.Unlock()
	a := m.assignments[name]
	if a == nil || (m.lagging && !m.cloud.visible(a.born)) {
		resp.SetResponse(http.StatusNoContent, armauthorization.RoleAssignmentsClientDeleteResponse{}, nil)
		return resp, failed
	}
	delete(m.assignments, name)
	resp.SetResponse(http.StatusOK, armauthorization.RoleAssignmentsClientDeleteResponse{RoleAssignment: a.shown()}, nil)
	return resp, failed
}

// list gives what is at a scope, above it and below it, in pages.
func (m *fakeManager) list(
	scope string, options *armauthorization.RoleAssignmentsClientListForScopeOptions,
) (resp azfake.PagerResponder[armauthorization.RoleAssignmentsClientListForScopeResponse]) {
	m.cloud.mu.Lock()
	defer m.cloud.mu.Unlock()
	scope = "/" + scope
	filter := ""
	if options != nil && options.Filter != nil {
		filter = *options.Filter
	}
	var names []string
	for name, a := range m.assignments {
		above, below := strings.HasPrefix(scope, a.scope), strings.HasPrefix(a.scope, scope)
		if strings.Contains(filter, "atScope()") {
			below = false
		}
		if _, who, ok := strings.Cut(filter, "assignedTo('"); ok && !strings.HasPrefix(who, *a.props.PrincipalID) {
			continue
		}
		if above || below {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	for chunk := range slices.Chunk(append(names, ""), m.cloud.pageSize) {
		var page armauthorization.RoleAssignmentsClientListForScopeResponse
		for _, name := range chunk {
			if name != "" {
				page.Value = append(page.Value, new(m.assignments[name].shown()))
			}
		}
		resp.AddPage(http.StatusOK, page, nil)
	}
	return resp
}

func (m *fakeManager) define(
	_ context.Context, _, id string, _ *armauthorization.RoleDefinitionsClientGetOptions,
) (resp azfake.Responder[armauthorization.RoleDefinitionsClientGetResponse], failed azfake.ErrorResponder) {
	m.cloud.mu.Lock()
	defer m.cloud.mu.Unlock()
	actions := m.actions[id]
	if actions == nil {
		failed.SetResponseError(http.StatusNotFound, "RoleDefinitionDoesNotExist")
		return resp, failed
	}
	permission := &armauthorization.Permission{}
	for _, a := range actions {
		permission.Actions = append(permission.Actions, new(a))
	}
	resp.SetResponse(http.StatusOK, armauthorization.RoleDefinitionsClientGetResponse{RoleDefinition: armauthorization.RoleDefinition{
		Properties: &armauthorization.RoleDefinitionProperties{Permissions: []*armauthorization.Permission{permission}},
	}}, nil)
	return resp, failed
}
