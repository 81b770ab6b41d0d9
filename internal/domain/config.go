package domain

import "time"

// Config is the mount's own settings. Durations are in seconds.
type Config struct {
	PersonKey           string   `json:"person_key,omitempty"`   // entity metadata key under which entities are one person
	HumanMounts         []string `json:"human_mounts,omitempty"` // accessors of jwt and oidc mounts whose logins are people
	MinRevocation       Class    `json:"min_revocation,omitempty"`
	MaxOpen             int      `json:"max_open"` // open requests of the mount
	PersonMaxOpen       int      `json:"person_max_open"`
	MachineMaxOpen      int      `json:"machine_max_open"`
	IssueRate           int      `json:"issue_rate"` // credentials a minute and person
	MachineIssueRate    int      `json:"machine_issue_rate"`
	AutoRequestCooldown Seconds  `json:"auto_request_cooldown"`
	AutoRequestPerDay   int      `json:"auto_request_per_day"`
	HoldTTL             Seconds  `json:"hold_ttl"` // default life of a kill switch's hold
	RetentionHuman      Seconds  `json:"retention_human"`
	RetentionAuto       Seconds  `json:"retention_auto"`
	ReapInterval        Seconds  `json:"reap_interval"`
	EndOnIneligible     bool     `json:"end_on_ineligible"`
	EditSOD             bool     `json:"edit_sod,omitempty"` // security edits wait for another person
	Events              []string `json:"events,omitempty"`   // kinds that are in the feed beside those that always are
}

// DefaultConfig is what a new mount starts with.
func DefaultConfig() Config {
	return Config{
		MaxOpen: 5000, PersonMaxOpen: 20, MachineMaxOpen: 500, IssueRate: 30, MachineIssueRate: 600,
		AutoRequestCooldown: 4 * 3600, AutoRequestPerDay: 3, HoldTTL: 3600,
		RetentionHuman: 30 * 24 * 3600, RetentionAuto: 72 * 3600, ReapInterval: 10, EndOnIneligible: true,
	}
}

// Target is a place where credentials are made.
type Target struct {
	Name         string         `json:"name"`
	Incarnation  string         `json:"incarnation"`
	Type         string         `json:"type"`
	Description  string         `json:"description,omitempty"`
	Place        string         `json:"place"` // read from the target, pinned
	AllowedRoles []string       `json:"allowed_roles,omitempty"`
	MaxLive      int            `json:"max_live,omitempty"` // 0 = no bound
	Selves       []string       `json:"selves,omitempty"`   // entities of our own login; they never request, approve or read
	Fields       map[string]any `json:"fields,omitempty"`   // never secrets
	Free         map[string]any `json:"free,omitempty"`     // fields that are no security fields: outside the revision
	RotationID   string         `json:"rotation_id,omitempty"`
	RotatedAt    time.Time      `json:"rotated_at,omitzero"`
	Editors      []Editor       `json:"editors,omitempty"` // of the last 24 hours
}

// All is every field of the target's type, secrets aside.
func (t Target) All() map[string]any { return joined(t.Fields, t.Free) }

// Revision covers type, endpoints and place, never secrets: a rotated root
// voids nothing.
func (t Target) Revision() string {
	return t.Incarnation + ":" + canonicalHash(struct {
		Type   string         `json:"type"`
		Place  string         `json:"place"`
		Fields map[string]any `json:"fields"`
	}{t.Type, t.Place, t.Fields})
}

// HoldKind is what a hold is about.
type HoldKind string

// The kinds of hold.
const (
	HoldPerson HoldKind = "person"
	HoldRole   HoldKind = "role"
	HoldTarget HoldKind = "target"
	HoldTicket HoldKind = "ticket"
	HoldAll    HoldKind = "all"
)

// Hold is a block: nothing is requested, approved or issued through it.
type Hold struct {
	ID     string    `json:"id"`
	Kind   HoldKind  `json:"kind"`
	Value  string    `json:"value"` // entity id, role, target or ticket
	Person Person    `json:"person,omitempty"`
	Reason string    `json:"reason,omitempty"`
	By     string    `json:"by,omitempty"` // display name of who set it
	ByWho  string    `json:"by_who,omitempty"`
	Set    time.Time `json:"set"`
	Until  time.Time `json:"until,omitzero"` // zero = until lifted
}

// Scope is what a hold is compared with.
type Scope struct {
	Person Person
	Entity string
	Role   string
	Target string
	Ticket string
}

// Covers tells whether the hold blocks something at a moment.
func (h Hold) Covers(s Scope, now time.Time) bool {
	if !h.Until.IsZero() && !now.Before(h.Until) {
		return false
	}
	switch h.Kind {
	case HoldAll:
		return true
	case HoldPerson:
		return (s.Entity != "" && s.Entity == h.Value) || (h.Person != "" && h.Person == s.Person)
	case HoldRole:
		return s.Role != "" && s.Role == h.Value
	case HoldTarget:
		return s.Target != "" && s.Target == h.Value
	case HoldTicket:
		return s.Ticket != "" && s.Ticket == h.Value
	}
	return true // an unknown kind blocks: a newer version wrote it
}

// PersonEntry is one request in a person's record.
type PersonEntry struct {
	ID     RequestID    `json:"id"`
	Role   string       `json:"role"`
	Params string       `json:"params,omitempty"` // ParamsHash
	Closed RequestState `json:"closed,omitempty"` // hint: its terminal state once archived
	At     time.Time    `json:"at"`               // filed, or closed
	Auto   bool         `json:"auto,omitempty"`   // filed by a read (auto_request)
	NoBar  bool         `json:"no_bar,omitempty"` // auto-approved: outside max_active
	Until  time.Time    `json:"until,omitzero"`   // end of the window, where it is known when filed
}

// PersonRecord lists a person's requests: open ones, and the last closed ones;
// and how they used each role.
// The request's own record is the truth; this is how it is found.
type PersonRecord struct {
	Person  Person           `json:"person"`
	Entries []PersonEntry    `json:"entries"`
	Usage   map[string]Usage `json:"usage,omitempty"` // by role
}

// Claim is the set of credentials that use one shared object at a target. It
// is the serialisation, not a mutex.
type Claim struct {
	Key       string         `json:"key"`
	Holders   []CredentialID `json:"holders"`
	Releasing CredentialID   `json:"releasing,omitempty"` // the last holder, while the target has not confirmed
}

// Job is one pull of the kill switch.
type Job struct {
	ID       string      `json:"id"`
	Selector Hold        `json:"selector"`
	Reason   string      `json:"reason,omitempty"`
	HoldID   string      `json:"hold_id,omitempty"`
	At       time.Time   `json:"at"`
	Requests []RequestID `json:"requests"`
	Marked   bool        `json:"marked"`            // every request of this record has been revoked
	Live     int         `json:"live,omitempty"`    // credentials that might give access when it was pulled
	More     []string    `json:"more,omitempty"`    // records with further requests: one alone is bounded
	PartOf   string      `json:"part_of,omitempty"` // the record that names this one in More
}

// State is what the reaper remembers over restarts.
type State struct {
	Beat      time.Time       `json:"beat"` // last successful tick
	Epoch     int             `json:"epoch"`
	EpochAt   time.Time       `json:"epoch_at,omitzero"`
	Unswept   map[string]bool `json:"unswept,omitempty"` // targets that the epoch still has to sweep
	Draining  bool            `json:"draining,omitempty"`
	TidyAt    time.Time       `json:"tidy_at,omitzero"`
	TidyFreed int             `json:"tidy_freed,omitempty"`
}
