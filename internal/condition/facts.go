package condition

import (
	"time"

	"github.com/vault-pim/vault-plugin-secrets-pim/internal/domain"
)

// Input is everything that a condition may depend on. It must not change while
// a judge made of it is in use.
type Input struct {
	Request   RequestFacts
	Requester RequesterFacts
	// Token is the calling token, or nil when it was not looked up. A condition
	// that mentions it then cannot be judged.
	Token  *TokenFacts
	Role   RoleFacts
	Now    time.Time
	Params map[string]string
	// History is the requester's recent use of the role, or nil when it was not
	// read. A condition that mentions it then cannot be judged.
	History *HistoryFacts
}

// RequestFacts are what was asked.
type RequestFacts struct {
	ID, Kind, Role, Target string
	Justification, Ticket  string
	TTL                    time.Duration // the window that was asked for
	Start                  time.Time     // zero = none was asked for
	RequestedAt            time.Time     // when it was filed; zero = it is being filed now
}

// RequestOf gives the facts of a stored request, or of one that is about to be
// filed.
func RequestOf(r domain.Request) RequestFacts {
	kind := r.Kind
	if kind == "" {
		kind = domain.KindNormal
	}
	return RequestFacts{
		ID: string(r.ID), Kind: kind, Role: r.Role, Target: r.Target,
		Justification: r.Justification, Ticket: r.Ticket,
		TTL: r.TTL.Duration(), Start: r.StartTime, RequestedAt: r.Times.Requested,
	}
}

// RequesterFacts are the requester as the host knows them now.
type RequesterFacts struct {
	ID, Person string
	Machine    bool
	Groups     []string            // ids and names of all groups, inherited ones included
	Metadata   map[string]string   // of the entity
	Aliases    map[string][]string // mount accessor to names of logins; never an alias's metadata
}

// RequesterOf gives the facts of an entity. A group whose name looks like an id
// is there by its id alone: anybody who may name a group could otherwise take
// another one's place.
func RequesterOf(e domain.Entity, p domain.Person, machine bool) RequesterFacts {
	out := RequesterFacts{
		ID: e.ID, Person: string(p), Machine: machine, Metadata: e.Metadata,
		Groups: make([]string, 0, 2*len(e.Groups)), Aliases: make(map[string][]string, len(e.Aliases)),
	}
	for _, g := range e.Groups {
		out.Groups = append(out.Groups, g.ID)
		if g.Name != "" && !domain.LooksLikeID(g.Name) {
			out.Groups = append(out.Groups, g.Name)
		}
	}
	for _, a := range e.Aliases {
		out.Aliases[a.MountAccessor] = append(out.Aliases[a.MountAccessor], a.Name)
	}
	return out
}

// TokenFacts are the calling token as the host knows it. Its accessor is not
// among them.
type TokenFacts struct {
	Meta    map[string]string
	Created time.Time // when it was made; a renewal does not change it
	Path    string    // the path that made it
	Mount   string    // accessor of the auth mount of that path; "" = none that exists
	Type    string    // service
}

// RoleFacts are the role.
type RoleFacts struct {
	Name, Owner, Target string
	Labels              map[string]string
}

// RoleOf gives the facts of a role.
func RoleOf(r domain.Role) RoleFacts {
	return RoleFacts{Name: r.Name, Owner: r.Owner, Target: r.Target, Labels: r.Labels}
}

// HistoryOf gives the facts of what is kept of a person's use of a role.
func HistoryOf(u domain.Usage) *HistoryFacts {
	out := &HistoryFacts{LastUsed: u.Last, Count: u.Count, Denials: u.Denials, Hours: make([]int, 0, u.DistinctHours())}
	for hour := range 24 {
		if u.Hours&(1<<hour) != 0 {
			out.Hours = append(out.Hours, hour)
		}
	}
	return out
}

// HistoryFacts are one person's recent use of one role.
type HistoryFacts struct {
	LastUsed time.Time // zero = never
	Count    int       // grants that were used
	Denials  int
	Hours    []int // distinct hours of day, UTC, 0 to 23, in which it was used
}
