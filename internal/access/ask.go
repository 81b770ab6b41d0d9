package access

import (
	"reflect"
	"slices"
	"time"

	"github.com/vault-pim/vault-plugin-secrets-pim/internal/domain"
	"github.com/vault-pim/vault-plugin-secrets-pim/internal/fault"
	"github.com/vault-pim/vault-plugin-secrets-pim/internal/provider/contract"
)

// Ask is what somebody asks for.
type Ask struct {
	Justification string
	Ticket        string
	TTL           *domain.Seconds // nil = the role's default
	Start         time.Time       // zero = as soon as approved
	Params        map[string]string
	Series        *SeriesAsk // nil = one grant
}

// checkAsk validates an ask against the role and fills in defaults.
func checkAsk(p *fault.Problems, role *domain.Role, ask *Ask, now time.Time) domain.Seconds {
	checkFree(p, "justification", ask.Justification, domain.MaxJustification, role.RequireJustification, role.JustificationPattern)
	checkFree(p, "ticket", ask.Ticket, domain.MaxTicket, role.RequireTicket, role.TicketPattern)
	var asked domain.Seconds
	if ask.TTL != nil {
		asked = *ask.TTL
	}
	ttl, problem := domain.ResolveTTL(*role, asked, ask.TTL != nil)
	if problem != "" {
		p.Add("ttl", problem)
	}
	if !ask.Start.IsZero() {
		switch {
		case role.Start == domain.StartFirstRead:
			p.Add("start_time", "the role's window starts at the first read")
		case ask.Start.Before(now.Add(-time.Minute)):
			p.Add("start_time", "is in the past")
		case ask.Start.After(now.Add(domain.LimitStartAhead)):
			p.Add("start_time", "is more than 30 days ahead")
		}
	}
	ask.Params = checkParams(p, role, ask.Params)
	return ttl
}

func checkFree(p *fault.Problems, field, text string, maxBytes int, required bool, pattern string) {
	if text == "" {
		if required {
			p.Add(field, "is required by the role")
		}
		return
	}
	if why := domain.CheckText(text, maxBytes); why != "" {
		p.Add(field, why)
		return
	}
	if pattern == "" {
		return
	}
	re, err := domain.CompilePattern(pattern)
	if err != nil || !re.MatchString(text) {
		p.Add(field, "does not match the role's pattern")
	}
}

// checkParams validates declared parameters; parameters nobody declared are
// counted, not repeated.
func checkParams(p *fault.Problems, role *domain.Role, given map[string]string) map[string]string {
	out := map[string]string{}
	unknown := 0
	for name := range given {
		if _, ok := role.Params[name]; !ok {
			unknown++
		}
	}
	if unknown > 0 {
		p.Addf("params", "%d not declared by the role", unknown)
	}
	for _, name := range contract.SortedKeys(role.Params) {
		decl := role.Params[name]
		value, ok := given[name]
		if !ok || value == "" {
			value = decl.Default
		}
		if why := paramProblem(decl, value); why != "" {
			p.Add("params."+name, why)
		} else if value != "" {
			out[name] = value
		}
	}
	if len(out) == 0 {
		return nil
	}
	return out
}

// paramProblem says what is wrong with a parameter's value, or "".
func paramProblem(decl domain.Param, value string) string {
	switch {
	case value == "" && decl.Required:
		return "is required by the role"
	case value == "":
		return ""
	case domain.CheckText(value, domain.MaxParam) != "":
		return domain.CheckText(value, domain.MaxParam)
	case !paramAllowed(decl, value) && decl.Pattern != "":
		return "does not match the role's pattern"
	case !paramAllowed(decl, value):
		return "is not among the allowed values"
	}
	return ""
}

func paramAllowed(decl domain.Param, value string) bool {
	if decl.Pattern != "" {
		re, err := domain.CompilePattern(decl.Pattern)
		return err == nil && re.MatchString(value)
	}
	return slices.Contains(decl.Allowed, value)
}

// sameAsk tells whether an open request asks for the same as a new one.
func sameAsk(open, r domain.Request, ask Ask) bool {
	return open.Kind == r.Kind && reflect.DeepEqual(open.Series, r.Series) && domain.ParamsHash(open.Params) == domain.ParamsHash(r.Params) &&
		(ask.TTL == nil || open.TTL == r.TTL) &&
		(ask.Start.IsZero() || open.StartTime.Equal(r.StartTime)) &&
		open.RoleRevision == r.RoleRevision
}
