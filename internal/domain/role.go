package domain

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"maps"
	"regexp"
	"strings"
	"time"
)

// Seconds is a duration in whole seconds, as it is stored and answered.
type Seconds int

// Duration converts to time.Duration.
func (s Seconds) Duration() time.Duration { return time.Duration(s) * time.Second }

// Bounds and defaults of roles, in seconds where they are durations.
const (
	DefaultTTL            Seconds = 3600
	DefaultMaxTTL         Seconds = 8 * 3600
	DefaultRequestTTL     Seconds = 24 * 3600
	DefaultMinTTL         Seconds = 60
	DefaultMaxActive              = 1
	DefaultMaxCredentials         = 10
	LimitMaxCredentials           = 32
	LimitReuseWindow      Seconds = 300
	LimitStartAhead               = 30 * 24 * time.Hour
	LimitTTL              Seconds = 366 * 24 * 3600
)

// When the access window of a role starts.
const (
	StartApproval  = "approval"
	StartFirstRead = "first_read"
)

// Param declares one request parameter of a role.
type Param struct {
	Pattern   string   `json:"pattern,omitempty"`
	Allowed   []string `json:"allowed,omitempty"`
	Required  bool     `json:"required,omitempty"`
	Default   string   `json:"default,omitempty"`
	Sensitive bool     `json:"sensitive,omitempty"` // shown as a hash
}

// Role is what can be had, who is eligible, who approves, and for how long.
type Role struct {
	Name        string            `json:"name"`
	Incarnation string            `json:"incarnation"` // random; a recreated role is another one
	Target      string            `json:"target"`
	Description string            `json:"description,omitempty"`
	Owner       string            `json:"owner,omitempty"`
	Labels      map[string]string `json:"labels,omitempty"`

	EligibleGroups   []string `json:"eligible_groups,omitempty"`
	EligibleEntities []string `json:"eligible_entities,omitempty"`
	Approvals        int      `json:"approvals"`
	AutoApprove      bool     `json:"auto_approve,omitempty"`
	ApproverGroups   []string `json:"approver_groups,omitempty"`
	ApproverEntities []string `json:"approver_entities,omitempty"`

	Stages          []Stage              `json:"stages,omitempty"` // instead of approvals and approver_*
	DenyGroups      []string             `json:"deny_groups,omitempty"`
	DenyEntities    []string             `json:"deny_entities,omitempty"`
	EligibleUntil   map[string]time.Time `json:"eligible_until,omitempty"` // by reference
	AutoApproveWhen string               `json:"auto_approve_when,omitempty"`
	DenyWhen        string               `json:"deny_when,omitempty"`
	Require         []Requirement        `json:"require,omitempty"`
	AllowedWindows  []Window             `json:"allowed_windows,omitempty"`
	FreezeWindows   []Freeze             `json:"freeze_windows,omitempty"`
	Enforce         string               `json:"enforce,omitempty"` // "" = always
	ObserveUntil    time.Time            `json:"observe_until,omitzero"`

	TTL            Seconds `json:"ttl"`
	MaxTTL         Seconds `json:"max_ttl"`
	LeaseTTL       Seconds `json:"lease_ttl,omitempty"` // 0 = the window
	RequestTTL     Seconds `json:"request_ttl"`
	MinTTL         Seconds `json:"min_ttl"`
	SeriesMax      int     `json:"series_max,omitempty"`    // runs that one approval may cover; 0 = no series
	SeriesWithin   Seconds `json:"series_within,omitempty"` // longest window of a series
	MaxExtension   Seconds `json:"max_extension,omitempty"` // time that extensions may add to a window; 0 = none
	ReuseWindow    Seconds `json:"reuse_window,omitempty"`
	WrapTTL        Seconds `json:"wrap_ttl,omitempty"`
	Start          string  `json:"start"`
	ClaimWithin    Seconds `json:"claim_within,omitempty"`
	MaxActive      int     `json:"max_active"`
	MaxCredentials int     `json:"max_credentials"`

	RequireJustification bool             `json:"require_justification"`
	JustificationPattern string           `json:"justification_pattern,omitempty"`
	RequireTicket        bool             `json:"require_ticket,omitempty"`
	TicketPattern        string           `json:"ticket_pattern,omitempty"`
	AutoRequest          bool             `json:"auto_request,omitempty"`
	AutoRequestAgain     bool             `json:"auto_request_again,omitempty"`
	Params               map[string]Param `json:"params,omitempty"`
	MinRevocation        Class            `json:"min_revocation,omitempty"`
	Composite            bool             `json:"composite,omitempty"`

	TokenTarget   string  `json:"token_target,omitempty"`   // target of type host that looks calling tokens up
	MaxLoginAge   Seconds `json:"max_login_age,omitempty"`  // of the calling token; 0 = any
	RequiredLogin string  `json:"required_login,omitempty"` // accessor of an auth mount

	Fields map[string]any `json:"fields,omitempty"` // the provider's flat fields
	Free   map[string]any `json:"free,omitempty"`   // those that are no security fields: outside the revision

	BreakGlass // flat among the others

	// Editors made security edits within 24 hours. They are outside the
	// revision.
	Editors []Editor `json:"editors,omitempty"`
	// Pins holds the id that each group name was first matched to. It is
	// learnt, not written, and outside the revision.
	Pins map[string]string `json:"pins,omitempty"`
}

// Revision is the role's incarnation and the hash of its security fields: the
// same content is the same revision, a recreated role is another one. Free
// text for people (description, owner, labels) is outside, but for the owner and
// labels that a condition may ask for.
func (r Role) Revision() string {
	if !r.JudgedByItself() {
		r.Owner, r.Labels = "", nil
	}
	r.Description, r.Free, r.Pins, r.Editors = "", nil, nil, nil
	return r.Incarnation + ":" + canonicalHash(r)
}

// All is every field of the target's type.
func (r Role) All() map[string]any { return joined(r.Fields, r.Free) }

func joined(a, b map[string]any) map[string]any {
	out := maps.Clone(a)
	if out == nil {
		out = map[string]any{}
	}
	maps.Copy(out, b)
	return out
}

// canonicalHash is the SHA-256 of the value's canonical JSON: fixed field
// order, sorted map keys, no HTML escaping, no white space.
func canonicalHash(v any) string {
	raw, err := canonicalJSON(v)
	return hashOf(raw, err)
}

func canonicalJSON(v any) ([]byte, error) {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		return nil, fmt.Errorf("canonical JSON: %w", err)
	}
	return bytes.TrimSuffix(b.Bytes(), []byte("\n")), nil
}

// hashOf is the hash of what was rendered. Only values of our own structs come
// here; an unencodable one is a bug that no input can cause.
func hashOf(raw []byte, err error) string {
	if err != nil {
		panic(err.Error())
	}
	sum := sha256.Sum256(raw)
	return hex.EncodeToString(sum[:])
}

// ParamsHash identifies a set of parameters.
func ParamsHash(params map[string]string) string {
	if len(params) == 0 {
		return ""
	}
	return canonicalHash(params)[:32]
}

// CheckEntityID says what is wrong with an entity's id, or "".
func CheckEntityID(id string) string {
	if !entityIDPattern.MatchString(id) {
		return "must be an entity id"
	}
	return ""
}

// EntityRef forms: an entity id, or alias:<mount accessor>/<alias name>.
const aliasPrefix = "alias:"

var (
	entityIDPattern = regexp.MustCompile(`^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$`)
	accessorPattern = regexp.MustCompile(`^[A-Za-z0-9_-]{1,128}$`)
)

// CheckEntityRef says what is wrong with a reference to an entity, or "".
// Entity names are refused: the host returns entities of other namespaces by
// name without saying so.
func CheckEntityRef(ref string) string {
	if entityIDPattern.MatchString(ref) {
		return ""
	}
	accessor, name, ok := cutAliasRef(ref)
	if !ok {
		return "must be an entity id or alias:<mount accessor>/<alias name>"
	}
	if !accessorPattern.MatchString(accessor) || name == "" || strings.ContainsAny(name, "*") {
		return "must name one alias exactly: alias:<mount accessor>/<alias name>, without wildcards"
	}
	return CheckText(name, 512)
}

// CheckGroupRef says what is wrong with a reference to a group by id or name,
// or "".
func CheckGroupRef(ref string) string {
	switch {
	case strings.TrimSpace(ref) == "":
		return "must not be empty"
	case strings.Contains(ref, "*"):
		return "must name one group exactly, without wildcards"
	}
	return CheckText(ref, 512)
}

func cutAliasRef(ref string) (accessor, name string, ok bool) {
	rest, ok := strings.CutPrefix(ref, aliasPrefix)
	if !ok {
		return "", "", false
	}
	return strings.Cut(rest, "/")
}

// Match is the outcome of looking for an entity in lists of references.
type Match struct {
	OK       bool
	By       string            // the reference that matched, for people
	Pin      map[string]string // group names matched for the first time, with their ids
	Mismatch []string          // group names whose group is now another one
}

// MatchEntity looks for an entity in a role's lists. A group name counts only
// for the id it was first matched to.
func MatchEntity(e Entity, groups, entities []string, pins map[string]string) Match {
	var m Match
	for _, ref := range entities {
		if entityMatches(e, ref) {
			m.OK, m.By = true, ref
			return m
		}
	}
	for _, ref := range groups {
		for _, g := range e.Groups {
			switch {
			case g.ID == ref:
				m.OK, m.By = true, "group "+ref
			case entityIDPattern.MatchString(ref), !strings.EqualFold(g.Name, ref):
				// An id never matches a name: anybody may name a group like an id.
			case pins[ref] == "":
				m.OK, m.By, m.Pin = true, "group "+ref, map[string]string{ref: g.ID}
			case pins[ref] == g.ID:
				m.OK, m.By = true, "group "+ref
			default:
				m.Mismatch = append(m.Mismatch, ref)
			}
			if m.OK {
				return m
			}
		}
	}
	return m
}

func entityMatches(e Entity, ref string) bool {
	if e.ID == ref {
		return true
	}
	accessor, name, ok := cutAliasRef(ref)
	if !ok {
		return false
	}
	for _, a := range e.Aliases {
		if a.MountAccessor == accessor && a.Name == name {
			return true
		}
	}
	return false
}
