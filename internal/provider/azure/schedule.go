package azure

import (
	"context"
	"net/http"
	"strings"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/resourcemanager/authorization/armauthorization/v2"

	"github.com/vault-pim/vault-plugin-secrets-pim/internal/provider/remote"
)

// Role assignments that Azure itself ends are asked for by requests, which are
// named beforehand like assignments and kept by Azure for the record. A request
// becomes a schedule, which Azure names, and that an assignment.

const (
	// shortestSchedule is the shortest time that Azure assigns a role for, and
	// until it takes a removal.
	shortestSchedule = 5 * time.Minute
	// minSchedule leaves room for the way there.
	minSchedule = shortestSchedule + time.Minute
	// removePause is until a removal that came too early is asked for again.
	removePause = 20 * time.Second
	// maxTimed is longer than any window.
	maxTimed = 366 * 24 * time.Hour
	// endTolerance is of times that Azure rounds.
	endTolerance = time.Second
)

// scheduleRequest is a request as Azure shows it.
type scheduleRequest = armauthorization.RoleAssignmentScheduleRequestProperties

// schedule is one that has not ended, as far as we read it.
type schedule struct {
	scope, role, who string
	request          string // name of the request that made it what it is
	end              time.Time
}

// request reads a request by its name; nil = it is not there.
func (c *armClient) request(ctx context.Context, scope, name string) (*scheduleRequest, error) {
	resp, err := c.requests.Get(ctx, bare(scope), name, nil)
	if statusOf(err) == http.StatusNotFound && codeOf(err) != "SubscriptionNotFound" {
		return nil, nil
	}
	if err == nil && (resp.Properties == nil || resp.Properties.Status == nil || resp.Properties.RequestType == nil) {
		err = remote.ErrAnswer
	}
	return resp.Properties, err
}

// ask makes a request. One name is one request.
func (c *armClient) ask(
	ctx context.Context, a assignment, who string, what armauthorization.RequestType, end time.Time, why string,
) (*scheduleRequest, error) {
	in := &scheduleRequest{
		PrincipalID: new(who), RoleDefinitionID: new(a.definition()), RequestType: new(what), Justification: new(why),
	}
	if what != armauthorization.RequestTypeAdminRemove {
		in.ScheduleInfo = &armauthorization.RoleAssignmentScheduleRequestPropertiesScheduleInfo{
			Expiration: &armauthorization.RoleAssignmentScheduleRequestPropertiesScheduleInfoExpiration{
				Type: new(armauthorization.TypeAfterDateTime), EndDateTime: new(end),
			},
		}
	}
	resp, err := c.requests.Create(ctx, bare(a.Scope), a.Name, armauthorization.RoleAssignmentScheduleRequest{Properties: in}, nil)
	if err == nil && (resp.Properties == nil || resp.Properties.Status == nil || resp.Properties.RequestType == nil) {
		err = remote.ErrAnswer
	}
	return resp.Properties, err
}

// cancel takes back a request that has not become an assignment. One that did
// in the meantime is no error.
func (c *armClient) cancel(ctx context.Context, scope, name string) error {
	_, err := c.requests.Cancel(ctx, bare(scope), name, nil)
	if status := statusOf(err); status == http.StatusBadRequest || status == http.StatusNotFound {
		return nil
	}
	return err
}

// eachRequest reads the requests at a scope and below.
func (c *armClient) eachRequest(ctx context.Context, scope string, yield func(name string, r *scheduleRequest)) error {
	pager := c.requests.NewListForScopePager(bare(scope), nil)
	for pages := 0; pager.More(); pages++ {
		if pages == maxPages {
			return remote.ErrAnswer
		}
		got, err := pager.NextPage(ctx)
		if err != nil {
			return err
		}
		for _, row := range got.Value {
			if row != nil && row.Name != nil && row.Properties != nil {
				yield(strings.ToLower(*row.Name), row.Properties)
			}
		}
	}
	return nil
}

// eachSchedule reads the schedules at a scope and below.
func (c *armClient) eachSchedule(ctx context.Context, scope, filter string, yield func(schedule)) error {
	options := &armauthorization.RoleAssignmentSchedulesClientListForScopeOptions{}
	if filter != "" {
		options.Filter = new(filter)
	}
	pager := c.schedules.NewListForScopePager(bare(scope), options)
	for pages := 0; pager.More(); pages++ {
		if pages == maxPages {
			return remote.ErrAnswer
		}
		got, err := pager.NextPage(ctx)
		if err != nil {
			return err
		}
		for _, row := range got.Value {
			if s, ok := readSchedule(row); ok {
				yield(s)
			}
		}
	}
	return nil
}

func readSchedule(row *armauthorization.RoleAssignmentSchedule) (s schedule, ok bool) {
	if row == nil || row.Properties == nil {
		return s, false
	}
	p := row.Properties
	if p.Scope == nil || p.RoleDefinitionID == nil || p.PrincipalID == nil || (p.MemberType != nil && *p.MemberType != armauthorization.MemberTypeDirect) {
		return s, false
	}
	s = schedule{scope: *p.Scope, role: strings.ToLower(last(*p.RoleDefinitionID)), who: strings.ToLower(*p.PrincipalID)}
	if p.RoleAssignmentScheduleRequestID != nil {
		s.request = strings.ToLower(last(*p.RoleAssignmentScheduleRequestID))
	}
	if p.EndDateTime != nil {
		s.end = *p.EndDateTime
	}
	return s, true
}

// scheduled finds the schedule of somebody for a role at a scope; nil = none
// is shown.
func (c *armClient) scheduled(ctx context.Context, a assignment, who string) (*schedule, error) {
	var found *schedule
	err := c.eachSchedule(ctx, a.Scope, "principalId eq '"+who+"'", func(s schedule) {
		if s.who == who && s.role == a.Role && strings.EqualFold(s.scope, a.Scope) {
			found = &s
		}
	})
	return found, err
}

// progress is how far a request is.
type progress int

const (
	underway progress = iota
	done
	failed
)

func progressOf(r *scheduleRequest) progress {
	switch *r.Status {
	case armauthorization.StatusProvisioned:
		return done
	case armauthorization.StatusAdminDenied, armauthorization.StatusCanceled, armauthorization.StatusDenied, armauthorization.StatusFailed,
		armauthorization.StatusFailedAsResourceIsLocked, armauthorization.StatusInvalid, armauthorization.StatusRevoked,
		armauthorization.StatusTimedOut:
		return failed
	default:
		return underway
	}
}

// asked tells whether a request is for a and who, and ends it no later than
// end.
func (a assignment) asked(r *scheduleRequest, who string, end time.Time) bool {
	if r.PrincipalID == nil || r.RoleDefinitionID == nil || r.ScheduleInfo == nil || r.ScheduleInfo.Expiration == nil {
		return false
	}
	e := r.ScheduleInfo.Expiration
	return strings.EqualFold(*r.PrincipalID, who) && strings.EqualFold(last(*r.RoleDefinitionID), a.Role) &&
		e.EndDateTime != nil && !e.EndDateTime.After(end.Add(endTolerance))
}

// ours tells whether a schedule was made what it is by one of our requests,
// which say so in their justification; all of ours have an end. seen is false
// while Azure does not show the request: it may be too new, or, for other
// people's, too old.
func (p *Provider) ours(ctx context.Context, s *schedule) (mine, seen bool, err error) {
	if s.end.IsZero() || !guidForm.MatchString(s.request) {
		return false, true, nil
	}
	r, err := p.arm.request(ctx, s.scope, s.request)
	if err != nil || r == nil {
		return false, false, err
	}
	if r.Justification != nil {
		_, _, mine = readDescription(*r.Justification, p.target.Tag())
	}
	return mine, true, nil
}
