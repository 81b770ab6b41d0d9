package fakeazure

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	azfake "github.com/Azure/azure-sdk-for-go/sdk/azcore/fake"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/runtime"
	"github.com/Azure/azure-sdk-for-go/sdk/resourcemanager/authorization/armauthorization/v2"
	armfake "github.com/Azure/azure-sdk-for-go/sdk/resourcemanager/authorization/armauthorization/v2/fake"
)

// Manager is Azure Resource Manager for one tenant. Every call goes through
// the vendor's own fake servers, which take it apart by the vendor's own
// description: a path, a parameter or a body that is none of that API's fails.
type Manager struct {
	Subscriptions []string
	Assignments   map[string]*Assignment // by name, those of schedules not among them
	Limit         int                    // assignments of the subscription; 0 = none
	Lagging       bool                   // deletions do not see at once what was made

	// Requests and Schedules are those of role assignments with an end.
	Requests  map[string]*ScheduleRequest // by name
	Schedules map[string]*Schedule        // by name
	// Settle is how long a request takes until it is provisioned.
	Settle time.Duration
	// Floor is how long after its beginning a schedule cannot be removed.
	Floor time.Duration
	// Unlicensed refuses requests as a tenant without the licence does.
	Unlicensed bool
	// Outcome, if not "", is what becomes of the requests that are made.
	Outcome armauthorization.Status

	cloud   *Cloud
	tenant  *Tenant
	actions map[string][]string // of role definitions
	listing sync.Mutex          // the vendor's pagers are kept by address
	servers map[string]interface {
		Do(*http.Request) (*http.Response, error)
	}
}

// Assignment is a role assignment without an end.
type Assignment struct {
	Name, Scope string
	Props       armauthorization.RoleAssignmentProperties
	Born        time.Time
}

// AddManager makes the resource manager of a tenant.
func (c *Cloud) AddManager(t *Tenant, subscriptions ...string) *Manager {
	m := &Manager{
		cloud: c, tenant: t, Subscriptions: subscriptions, Assignments: map[string]*Assignment{}, actions: map[string][]string{},
		Requests: map[string]*ScheduleRequest{}, Schedules: map[string]*Schedule{}, Floor: shortest,
	}
	m.servers = map[string]interface {
		Do(*http.Request) (*http.Response, error)
	}{
		"roleAssignments": armfake.NewRoleAssignmentsServerTransport(&armfake.RoleAssignmentsServer{
			Create: m.create, Get: m.get, Delete: m.delete, NewListForScopePager: m.list,
		}),
		"roleDefinitions": armfake.NewRoleDefinitionsServerTransport(&armfake.RoleDefinitionsServer{Get: m.define}),
		"roleAssignmentScheduleRequests": armfake.NewRoleAssignmentScheduleRequestsServerTransport(
			&armfake.RoleAssignmentScheduleRequestsServer{
				Create: m.createRequest, Get: m.getRequest, Cancel: m.cancelRequest, NewListForScopePager: m.listRequests,
			}),
		"roleAssignmentSchedules": armfake.NewRoleAssignmentSchedulesServerTransport(
			&armfake.RoleAssignmentSchedulesServer{NewListForScopePager: m.listSchedules}),
	}
	c.managers[t.ID] = m
	return m
}

// Define makes a role definition.
func (m *Manager) Define(id string, actions ...string) { m.actions[id] = actions }

// operation is the name that the SDK has for a call, which the vendor's fake
// servers go by and which does not travel over a socket.
func operation(method, kind, name, verb string) string {
	client := strings.ToUpper(kind[:1]) + kind[1:] + "Client."
	switch {
	case verb == "cancel" && method == http.MethodPost:
		return client + "Cancel"
	case name == "" && method == http.MethodGet:
		return client + "NewListForScopePager"
	case strings.HasPrefix(name, "fake_page_"):
		return client + "NewListForScopePager"
	}
	return client + map[string]string{http.MethodGet: "Get", http.MethodPut: "Create", http.MethodDelete: "Delete"}[method]
}

// manage is Azure Resource Manager.
func (c *Cloud) manage(req *http.Request, body []byte) (*http.Response, error) {
	who, ok := bearer(req)
	c.mu.Lock()
	m := c.managers[who.Tenant]
	c.mu.Unlock()
	if !ok || m == nil {
		return answer(req, http.StatusUnauthorized, nil, errorBody("InvalidAuthenticationToken")), nil
	}
	_, rest, found := strings.Cut(req.URL.Path, "/providers/Microsoft.Authorization/")
	parts := append(strings.Split(rest, "/"), "", "")
	server := m.servers[parts[0]]
	if !found || server == nil {
		return m.subscription(req), nil
	}
	api := operation(req.Method, parts[0], parts[1], parts[2])
	req = req.Clone(context.WithValue(req.Context(), runtime.CtxAPINameKey{}, api))
	req.Body = http.NoBody
	if len(body) > 0 {
		req.Body = readerOf(body)
	}
	if strings.HasSuffix(api, "Pager") {
		m.listing.Lock()
		defer m.listing.Unlock()
	}
	resp, err := server.Do(req)
	if failed, ok := errors.AsType[*azcore.ResponseError](err); ok {
		return answer(req, failed.StatusCode, nil, errorBody(failed.ErrorCode)), nil
	}
	return resp, err
}

func (m *Manager) subscription(req *http.Request) *http.Response {
	id, ok := strings.CutPrefix(req.URL.Path, "/subscriptions/")
	if !ok || req.URL.Query().Get("api-version") == "" || !slices.Contains(m.Subscriptions, id) {
		return answer(req, http.StatusNotFound, nil, errorBody("SubscriptionNotFound"))
	}
	return answer(req, http.StatusOK, nil, map[string]string{"subscriptionId": id, "tenantId": m.tenant.ID})
}

// unknown tells whether a principal is not known to Azure yet, or no more.
func (m *Manager) unknown(who string) bool {
	sp := m.tenant.Principals[who]
	return sp != nil && (!sp.Deleted.IsZero() || !m.cloud.visible(sp.Born))
}

func (m *Manager) create(
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
	if status, code := m.refuseAssignment(scope, name, p); code != "" {
		failed.SetResponseError(status, code)
		return resp, failed
	}
	status := http.StatusOK
	if m.Assignments[name] == nil {
		status = http.StatusCreated
	}
	kept := *p
	kept.Scope = new(scope)
	m.Assignments[name] = &Assignment{Name: name, Scope: scope, Props: kept, Born: m.cloud.clk.Now()}
	resp.SetResponse(status, armauthorization.RoleAssignmentsClientCreateResponse{RoleAssignment: m.Assignments[name].shown()}, nil)
	return resp, failed
}

// refuseAssignment gives the reason why an assignment cannot be made, if any.
func (m *Manager) refuseAssignment(scope, name string, p *armauthorization.RoleAssignmentProperties) (status int, code string) {
	switch {
	case m.unknown(*p.PrincipalID):
		return http.StatusBadRequest, "PrincipalNotFound"
	case m.actions[last(*p.RoleDefinitionID)] == nil:
		return http.StatusBadRequest, "RoleDefinitionDoesNotExist"
	case m.schedule(scope, *p.PrincipalID, *p.RoleDefinitionID) != nil:
		return http.StatusConflict, "RoleAssignmentExists"
	}
	for _, a := range m.Assignments {
		same := a.is(scope, *p.PrincipalID, *p.RoleDefinitionID)
		if same && a.Name != name {
			return http.StatusConflict, "RoleAssignmentExists"
		}
		if !same && a.Name == name {
			return http.StatusBadRequest, "RoleAssignmentUpdateNotPermitted"
		}
	}
	if m.Limit > 0 && len(m.Assignments) >= m.Limit {
		return http.StatusBadRequest, "RoleAssignmentLimitExceeded"
	}
	return 0, ""
}

func (a *Assignment) is(scope, who, role string) bool {
	return strings.EqualFold(a.Scope, scope) && *a.Props.PrincipalID == who && last(*a.Props.RoleDefinitionID) == last(role)
}

func last(id string) string { return id[strings.LastIndexByte(id, '/')+1:] }

func (a *Assignment) shown() armauthorization.RoleAssignment {
	props := a.Props
	return armauthorization.RoleAssignment{
		Properties: &props, Name: new(a.Name), ID: new(a.Scope + "/providers/Microsoft.Authorization/roleAssignments/" + a.Name),
	}
}

func (m *Manager) get(
	_ context.Context, _, name string, _ *armauthorization.RoleAssignmentsClientGetOptions,
) (resp azfake.Responder[armauthorization.RoleAssignmentsClientGetResponse], failed azfake.ErrorResponder) {
	m.cloud.mu.Lock()
	defer m.cloud.mu.Unlock()
	a := m.Assignments[name]
	if a == nil {
		failed.SetResponseError(http.StatusNotFound, "RoleAssignmentNotFound")
		return resp, failed
	}
	resp.SetResponse(http.StatusOK, armauthorization.RoleAssignmentsClientGetResponse{RoleAssignment: a.shown()}, nil)
	return resp, failed
}

func (m *Manager) delete(
	_ context.Context, _, name string, _ *armauthorization.RoleAssignmentsClientDeleteOptions,
) (resp azfake.Responder[armauthorization.RoleAssignmentsClientDeleteResponse], failed azfake.ErrorResponder) {
	m.cloud.mu.Lock()
	defer m.cloud.mu.Unlock()
	a := m.Assignments[name]
	if a == nil || (m.Lagging && !m.cloud.visible(a.Born)) {
		resp.SetResponse(http.StatusNoContent, armauthorization.RoleAssignmentsClientDeleteResponse{}, nil)
		return resp, failed
	}
	delete(m.Assignments, name)
	resp.SetResponse(http.StatusOK, armauthorization.RoleAssignmentsClientDeleteResponse{RoleAssignment: a.shown()}, nil)
	return resp, failed
}

// near tells whether something at a scope is listed at another: what is above
// it and, unless the filter says otherwise, what is below.
func near(at, scope, filter string) bool {
	return strings.HasPrefix(scope, at) || (strings.HasPrefix(at, scope) && !strings.Contains(filter, "atScope()"))
}

func filterIn(filter *string) string {
	if filter == nil {
		return ""
	}
	return *filter
}

// list gives what is at a scope, above it and below it, in pages.
func (m *Manager) list(
	scope string, options *armauthorization.RoleAssignmentsClientListForScopeOptions,
) (resp azfake.PagerResponder[armauthorization.RoleAssignmentsClientListForScopeResponse]) {
	m.cloud.mu.Lock()
	defer m.cloud.mu.Unlock()
	scope = "/" + scope
	filter := ""
	if options != nil {
		filter = filterIn(options.Filter)
	}
	var rows []*armauthorization.RoleAssignment
	for _, a := range m.all() {
		if _, who, ok := strings.Cut(filter, "assignedTo('"); ok && !strings.HasPrefix(who, *a.Props.PrincipalID) {
			continue
		}
		if near(a.Scope, scope, filter) {
			rows = append(rows, new(a.shown()))
		}
	}
	slices.SortFunc(rows, func(a, b *armauthorization.RoleAssignment) int { return strings.Compare(*a.Name, *b.Name) })
	for _, chunk := range pages(rows, m.cloud.PageSize) {
		var page armauthorization.RoleAssignmentsClientListForScopeResponse
		page.Value = chunk
		resp.AddPage(http.StatusOK, page, nil)
	}
	return resp
}

// all are the assignments, those that schedules made among them.
func (m *Manager) all() []*Assignment {
	var out []*Assignment
	for _, a := range m.Assignments {
		out = append(out, a)
	}
	for _, s := range m.Schedules {
		if s.live(m.cloud.clk.Now()) {
			out = append(out, &Assignment{Name: s.Origin, Scope: s.Scope, Born: s.Start, Props: armauthorization.RoleAssignmentProperties{
				PrincipalID: new(s.Principal), RoleDefinitionID: new(s.Role), Scope: new(s.Scope),
			}})
		}
	}
	return out
}

// Gives counts the assignments that somebody has now. Call it under Lock.
func (m *Manager) Gives(who string) int {
	n := 0
	for _, a := range m.all() {
		if *a.Props.PrincipalID == who {
			n++
		}
	}
	return n
}

// pages cuts rows; there is one page at least.
func pages[T any](rows []T, size int) [][]T {
	out := slices.Collect(slices.Chunk(rows, size))
	if len(out) == 0 {
		out = [][]T{{}}
	}
	return out
}

func (m *Manager) define(
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
