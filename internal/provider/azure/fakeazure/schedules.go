package fakeazure

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"slices"
	"strings"
	"time"

	azfake "github.com/Azure/azure-sdk-for-go/sdk/azcore/fake"
	"github.com/Azure/azure-sdk-for-go/sdk/resourcemanager/authorization/armauthorization/v2"
)

// shortest is the shortest time that a schedule can be active for.
const shortest = 5 * time.Minute

// ScheduleRequest is one request for a role assignment with an end, for
// another end of it, or for its removal. They are kept for the record.
type ScheduleRequest struct {
	Name, Scope string
	Props       armauthorization.RoleAssignmentScheduleRequestProperties
	Born        time.Time
}

// Schedule is a role assignment with an end.
type Schedule struct {
	Name, Scope, Principal, Role string
	Request                      string // name of the request that made it what it is
	Origin                       string // name of the role assignment that it makes
	Start, End                   time.Time
	Made                         time.Time // when it was asked for
}

func (s *Schedule) live(now time.Time) bool { return !now.Before(s.Start) && now.Before(s.End) }

func readerOf(raw []byte) io.ReadCloser { return io.NopCloser(bytes.NewReader(raw)) }

// schedule is the one of somebody for a role at a scope that has not ended.
func (m *Manager) schedule(scope, who, role string) *Schedule {
	for _, s := range m.Schedules {
		if strings.EqualFold(s.Scope, scope) && s.Principal == who && last(s.Role) == last(role) && m.cloud.clk.Now().Before(s.End) {
			return s
		}
	}
	return nil
}

func (m *Manager) createRequest(
	_ context.Context, scope, name string, in armauthorization.RoleAssignmentScheduleRequest,
	_ *armauthorization.RoleAssignmentScheduleRequestsClientCreateOptions,
) (resp azfake.Responder[armauthorization.RoleAssignmentScheduleRequestsClientCreateResponse], failed azfake.ErrorResponder) {
	m.cloud.mu.Lock()
	defer m.cloud.mu.Unlock()
	p := in.Properties
	if p == nil || p.PrincipalID == nil || p.RoleDefinitionID == nil || p.RequestType == nil || m.Requests[name] != nil {
		failed.SetResponseError(http.StatusBadRequest, "RoleAssignmentRequestInvalid")
		return resp, failed
	}
	r := &ScheduleRequest{Name: name, Scope: "/" + scope, Props: *p, Born: m.cloud.clk.Now()}
	r.Props.Scope = new(r.Scope)
	if code := m.apply(r); code != "" {
		failed.SetResponseError(http.StatusBadRequest, code)
		return resp, failed
	}
	m.Requests[name] = r
	resp.SetResponse(http.StatusCreated, armauthorization.RoleAssignmentScheduleRequestsClientCreateResponse{
		RoleAssignmentScheduleRequest: m.shownRequest(r),
	}, nil)
	return resp, failed
}

// apply does what a request asks for, or gives the code of its refusal.
func (m *Manager) apply(r *ScheduleRequest) (code string) {
	who, role := *r.Props.PrincipalID, *r.Props.RoleDefinitionID
	switch {
	case m.Unlicensed:
		return "AadPremiumLicenseRequired"
	case m.unknown(who):
		return "SubjectNotFound"
	case m.actions[last(role)] == nil:
		return "RoleDefinitionDoesNotExist"
	}
	now, has := m.cloud.clk.Now(), m.schedule(r.Scope, who, role)
	kind := *r.Props.RequestType
	if kind == armauthorization.RequestTypeAdminAssign {
		return m.assign(r, has)
	}
	if kind == armauthorization.RequestTypeAdminUpdate {
		end, code := r.end(now)
		switch {
		case code != "":
			return code
		case has == nil || !has.live(now):
			return "RoleAssignmentDoesNotExist"
		}
		has.End, has.Request = end, r.Name
		return ""
	}
	switch {
	case kind != armauthorization.RequestTypeAdminRemove:
		return "RoleAssignmentRequestInvalid"
	case has == nil:
		return "RoleAssignmentDoesNotExist"
	case !has.live(now):
		return "PendingRoleAssignmentRequest"
	case now.Before(has.Start.Add(m.Floor)):
		return "ActiveDurationTooShort"
	}
	has.End = now
	return ""
}

func (m *Manager) assign(r *ScheduleRequest, has *Schedule) (code string) {
	who, role, now := *r.Props.PrincipalID, *r.Props.RoleDefinitionID, m.cloud.clk.Now()
	end, code := r.end(now)
	switch {
	case code != "":
		return code
	case has != nil && !has.live(now):
		return "PendingRoleAssignmentRequest"
	case has != nil || slices.ContainsFunc(m.all(), func(a *Assignment) bool { return a.is(r.Scope, who, role) }):
		return "RoleAssignmentExists"
	case m.Outcome != "" && m.Outcome != armauthorization.StatusProvisioned:
		return ""
	}
	s := &Schedule{
		Name: m.tenant.newID(), Origin: m.tenant.newID(), Scope: r.Scope, Principal: who, Role: role, Request: r.Name,
		Start: now.Add(m.Settle), End: end, Made: now,
	}
	m.Schedules[s.Name] = s
	r.Props.TargetRoleAssignmentScheduleID = new(s.Name)
	return ""
}

// end reads when a request wants the assignment to end.
func (r *ScheduleRequest) end(now time.Time) (end time.Time, code string) {
	const policy = "RoleAssignmentRequestPolicyValidationFailed"
	if r.Props.ScheduleInfo == nil || r.Props.ScheduleInfo.Expiration == nil || r.Props.ScheduleInfo.Expiration.Type == nil {
		return end, policy
	}
	e := r.Props.ScheduleInfo.Expiration
	if *e.Type != armauthorization.TypeAfterDateTime || e.EndDateTime == nil {
		return end, policy
	}
	if e.EndDateTime.Before(now.Add(shortest)) {
		return end, "ActiveDurationTooShort"
	}
	return *e.EndDateTime, ""
}

func (m *Manager) status(r *ScheduleRequest) armauthorization.Status {
	switch {
	case *r.Props.RequestType == armauthorization.RequestTypeAdminRemove:
		return armauthorization.StatusRevoked
	case m.cloud.clk.Now().Before(r.Born.Add(m.Settle)):
		return armauthorization.StatusPendingProvisioning
	case m.Outcome != "":
		return m.Outcome
	}
	return armauthorization.StatusProvisioned
}

func (m *Manager) shownRequest(r *ScheduleRequest) armauthorization.RoleAssignmentScheduleRequest {
	props := r.Props
	props.Status = new(m.status(r))
	return armauthorization.RoleAssignmentScheduleRequest{
		Properties: &props, Name: new(r.Name), ID: new(r.Scope + "/providers/Microsoft.Authorization/roleAssignmentScheduleRequests/" + r.Name),
	}
}

func (m *Manager) getRequest(
	_ context.Context, _, name string, _ *armauthorization.RoleAssignmentScheduleRequestsClientGetOptions,
) (resp azfake.Responder[armauthorization.RoleAssignmentScheduleRequestsClientGetResponse], failed azfake.ErrorResponder) {
	m.cloud.mu.Lock()
	defer m.cloud.mu.Unlock()
	r := m.Requests[name]
	if r == nil || !m.cloud.visible(r.Born) {
		failed.SetResponseError(http.StatusNotFound, "RoleAssignmentScheduleRequestNotFound")
		return resp, failed
	}
	resp.SetResponse(http.StatusOK, armauthorization.RoleAssignmentScheduleRequestsClientGetResponse{
		RoleAssignmentScheduleRequest: m.shownRequest(r),
	}, nil)
	return resp, failed
}

// cancelRequest drops a request that has not become an assignment yet.
func (m *Manager) cancelRequest(
	_ context.Context, _, name string, _ *armauthorization.RoleAssignmentScheduleRequestsClientCancelOptions,
) (resp azfake.Responder[armauthorization.RoleAssignmentScheduleRequestsClientCancelResponse], failed azfake.ErrorResponder) {
	m.cloud.mu.Lock()
	defer m.cloud.mu.Unlock()
	r := m.Requests[name]
	if r == nil || m.status(r) != armauthorization.StatusPendingProvisioning {
		failed.SetResponseError(http.StatusBadRequest, "RoleAssignmentRequestNotPending")
		return resp, failed
	}
	for id, s := range m.Schedules {
		if s.Request == name {
			delete(m.Schedules, id)
		}
	}
	delete(m.Requests, name)
	resp.SetResponse(http.StatusOK, armauthorization.RoleAssignmentScheduleRequestsClientCancelResponse{}, nil)
	return resp, failed
}

func (m *Manager) listRequests(
	scope string, options *armauthorization.RoleAssignmentScheduleRequestsClientListForScopeOptions,
) (resp azfake.PagerResponder[armauthorization.RoleAssignmentScheduleRequestsClientListForScopeResponse]) {
	m.cloud.mu.Lock()
	defer m.cloud.mu.Unlock()
	filter := ""
	if options != nil {
		filter = filterIn(options.Filter)
	}
	if m.Unlicensed {
		resp.AddResponseError(http.StatusBadRequest, "AadPremiumLicenseRequired")
		return resp
	}
	var rows []*armauthorization.RoleAssignmentScheduleRequest
	for _, r := range m.Requests {
		if near(r.Scope, "/"+scope, filter) && m.cloud.visible(r.Born) {
			rows = append(rows, new(m.shownRequest(r)))
		}
	}
	slices.SortFunc(rows, func(a, b *armauthorization.RoleAssignmentScheduleRequest) int {
		return strings.Compare(*a.Name, *b.Name)
	})
	for _, chunk := range pages(rows, m.cloud.PageSize) {
		var page armauthorization.RoleAssignmentScheduleRequestsClientListForScopeResponse
		page.Value = chunk
		resp.AddPage(http.StatusOK, page, nil)
	}
	return resp
}

// listSchedules shows new schedules late, and those that were ended for a
// while.
func (m *Manager) listSchedules(
	scope string, options *armauthorization.RoleAssignmentSchedulesClientListForScopeOptions,
) (resp azfake.PagerResponder[armauthorization.RoleAssignmentSchedulesClientListForScopeResponse]) {
	m.cloud.mu.Lock()
	defer m.cloud.mu.Unlock()
	filter := ""
	if options != nil {
		filter = filterIn(options.Filter)
	}
	if m.Unlicensed {
		resp.AddResponseError(http.StatusBadRequest, "AadPremiumLicenseRequired")
		return resp
	}
	var rows []*armauthorization.RoleAssignmentSchedule
	for _, s := range m.Schedules {
		if _, who, ok := strings.Cut(filter, "principalId eq '"); ok && !strings.HasPrefix(who, s.Principal) {
			continue
		}
		if near(s.Scope, "/"+scope, filter) && m.cloud.visible(s.Made) && m.cloud.clk.Now().Before(s.End.Add(m.cloud.Lag)) {
			rows = append(rows, new(s.shown(m.cloud.clk.Now())))
		}
	}
	for _, a := range m.Assignments { // each is a schedule without an end
		if near(a.Scope, "/"+scope, filter) && m.cloud.visible(a.Born) {
			rows = append(rows, &armauthorization.RoleAssignmentSchedule{
				Name: new(a.Name), Properties: &armauthorization.RoleAssignmentScheduleProperties{
					PrincipalID: a.Props.PrincipalID, RoleDefinitionID: a.Props.RoleDefinitionID, Scope: new(a.Scope),
					MemberType: new(armauthorization.MemberTypeDirect), StartDateTime: new(a.Born),
					Status: new(armauthorization.StatusProvisioned), AssignmentType: new(armauthorization.AssignmentTypeAssigned),
				},
			})
		}
	}
	slices.SortFunc(rows, func(a, b *armauthorization.RoleAssignmentSchedule) int { return strings.Compare(*a.Name, *b.Name) })
	for _, chunk := range pages(rows, m.cloud.PageSize) {
		var page armauthorization.RoleAssignmentSchedulesClientListForScopeResponse
		page.Value = chunk
		resp.AddPage(http.StatusOK, page, nil)
	}
	return resp
}

func (s *Schedule) shown(now time.Time) armauthorization.RoleAssignmentSchedule {
	const base = "/providers/Microsoft.Authorization/"
	status := armauthorization.StatusPendingProvisioning
	if !now.Before(s.Start) {
		status = armauthorization.StatusProvisioned
	}
	return armauthorization.RoleAssignmentSchedule{
		Name: new(s.Name), ID: new(s.Scope + base + "roleAssignmentSchedules/" + s.Name),
		Properties: &armauthorization.RoleAssignmentScheduleProperties{
			PrincipalID: new(s.Principal), RoleDefinitionID: new(s.Role), Scope: new(s.Scope), Status: new(status),
			StartDateTime: new(s.Start), EndDateTime: new(s.End), MemberType: new(armauthorization.MemberTypeDirect),
			AssignmentType:                  new(armauthorization.AssignmentTypeAssigned),
			RoleAssignmentScheduleRequestID: new(s.Scope + base + "roleAssignmentScheduleRequests/" + s.Request),
		},
	}
}
