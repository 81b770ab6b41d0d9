// Package contract is what a provider promises and all that the rest of the
// program knows of one. It imports the standard library, domain, secret and
// clock.
package contract

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"time"

	"github.com/vault-pim/vault-plugin-secrets-pim/internal/clock"
	"github.com/vault-pim/vault-plugin-secrets-pim/internal/domain"
	"github.com/vault-pim/vault-plugin-secrets-pim/internal/secret"
)

// Provider issues and ends access at one target. It is safe for concurrent
// use, honours ctx in every call, and holds no lock across the network.
type Provider interface {
	// Place is the target's own proof of which place it is (account id,
	// cluster id), read afresh from the target.
	Place(ctx context.Context) (string, error)
	// Validate reports every problem of a role's fields at once. Offline and
	// without side effects unless probe is set, when it may read the target.
	Validate(ctx context.Context, spec Spec, probe bool) Report
	// Plan names what can be named before it exists. It changes nothing, calls
	// nobody unless it must resolve a principal, and gives the same handle for
	// the same input.
	Plan(ctx context.Context, in Input) (domain.Handle, error)
	// Issue makes exactly what h names. Repeating it with one handle gives one
	// access. A name learnt on the way goes through checkpoint before it is
	// used for anything; when checkpoint fails, Issue stops with its error.
	// Whatever Issue returns, Revoke with the last checkpointed handle ends it.
	Issue(ctx context.Context, in Input, h domain.Handle, checkpoint func(domain.Handle) error) (Issued, error)
	// Revoke ends what h names, and only that. Absent is gone once the target
	// has proved to be the place in the handle; doubt is an error.
	Revoke(ctx context.Context, h domain.Handle) (Ended, error)
	// Close releases what the instance holds (logins, connections).
	Close() error
}

// Spec is what a role says about its target.
type Spec struct {
	Role   string
	Fields Values
	Params []string // names of the declared request parameters
	// LooksUp says that the role has calling tokens looked up through the
	// target. Fields is then empty unless it gets its credentials there too.
	LooksUp bool
}

// Input is everything that one issue may depend on.
type Input struct {
	Credential domain.CredentialID
	Request    domain.RequestID
	Role       string
	EntityID   string
	Person     string // for display at the target; never decided on
	Ticket     string
	Principal  string // resolved own principal, or ""
	// Joined says that another live credential holds the handle's shared key
	// already: what exists under it is ours, and is used and not made.
	Joined bool
	// Metadata is the caller's entity metadata, for display at the target;
	// never decided on.
	Metadata map[string]string
	Fields   Values // of the role; shared by all its calls, so nobody changes them
	Params   map[string]string
	NotAfter time.Time // end of the credential, at the target too wherever it can carry one
}

// Issued is a credential as the target gave it.
type Issued struct {
	Handle    domain.Handle
	Data      secret.Map               // flat scalars named as the official engines name them
	Composite map[string]secret.String // single-line composites (kubeconfig, aws_credential_process), answered only on demand
	NotAfter  time.Time                // when the target itself ends it; zero = it cannot carry an expiry
	// PollAfter > 0 says that the credential exists but is not usable yet:
	// the caller asks again after that time.
	PollAfter time.Duration
}

// Ended is the outcome of a revocation that did not fail.
type Ended struct {
	AccessGone bool          // access is over at the target
	Rest       domain.Handle // what is still to be cleared; zero = nothing, the credential is gone
	Again      time.Time     // when to call Revoke with Rest
	// RefusedAfter is how long until a probe was first refused, where the
	// provider can probe; 0 = not probed.
	RefusedAfter time.Duration
}

// Gone is the outcome "nothing is left".
func Gone() Ended { return Ended{AccessGone: true} }

// Done tells whether nothing is left to clear.
func (e Ended) Done() bool { return e.AccessGone && e.Rest.Provider == "" }

// Found is something at a target that carries our tag.
type Found struct {
	Credential domain.CredentialID
	Request    domain.RequestID // may be empty
	Handle     domain.Handle
	What       string // for people: kind and name
}

// Lister finds everything at the target that carries our tag.
type Lister interface {
	List(ctx context.Context, yield func(Found) error) error
}

// RootRotator replaces the target's root credential in two phases.
type RootRotator interface {
	// StageRoot makes a new root credential beside the old one and returns
	// the secret fields that changed.
	StageRoot(ctx context.Context, id string) (map[string]secret.String, error)
	// CommitRoot runs on an instance made with the new secrets: it proves
	// that they work, then retires the old ones. Idempotent.
	CommitRoot(ctx context.Context, id string, old map[string]secret.String) error
	// AbandonRoot removes what StageRoot made. Absent is success.
	AbandonRoot(ctx context.Context, id string, staged map[string]secret.String) error
}

// CheckReport is what targets/:name/check says.
type CheckReport struct {
	Identity       string         // who we are there
	Entities       []string       // entity ids of our own login at the host; they never request, approve or read
	Missing        []string       // permissions that the roles in use need and we lack
	Unknown        []string       // what could not be found out
	Quotas         map[string]int // used, by name
	RequiredPolicy string         // the minimal policy for the roles in use, ready to paste
	Warnings       []string
	Direct         []string // what else opens what the roles hand out, past us
	DirectUnknown  []string // of that, what could not be found out
}

// Checker says who we are at the target and what is missing there.
type Checker interface {
	Check(ctx context.Context, roles []Spec) (CheckReport, error)
}

// BulkRevoker ends many credentials of one target in fewer calls.
type BulkRevoker interface {
	RevokeBulk(ctx context.Context, hs []domain.Handle) (map[domain.CredentialID]Ended, error)
}

// Maintainer does periodic work at the target.
type Maintainer interface {
	Maintain(ctx context.Context, now time.Time) error
}

// PrincipalResolver resolves the caller's own principal from one pinned
// source; exactly one match, else an error with a public text.
type PrincipalResolver interface {
	ResolvePrincipal(ctx context.Context, who domain.Entity, fields Values) (string, error)
}

// SelfIdentifier names the entities of the engine's own login at the host. They never
// request, approve or read credentials.
type SelfIdentifier interface {
	SelfEntities() []string
}

// SelfGuard finds out at the target whether a role would hand out the engine's
// own identity, elevate it, or let its holder become it. It is asked when a role
// is written, and reads the target alone; Issue refuses the same.
type SelfGuard interface {
	// GuardSelf reports a problem for each way in which the role reaches the
	// engine's own identity, and a warning for what could not be found out.
	GuardSelf(ctx context.Context, spec Spec) Report
}

// Limits bound a role's credentials.
type Limits struct {
	MinTTL       time.Duration // shortest life the target can make; 0 = none
	MaxTTL       time.Duration // longest; 0 = none
	IssueTimeout time.Duration // a whole Issue; at most 25 s unless Slow
	// Slow marks a kind whose Issue may take longer than a call: the answer
	// is then "credential preparing" and work goes on in the background.
	Slow bool
}

// Env is what a provider may use of its surroundings.
type Env struct {
	Clock        clock.Clock
	Log          Logger
	AllowLocal   bool     // endpoints on loopback and link-local addresses
	FileRoot     string   // root of file fields; "" = file fields are refused
	AllowAmbient []string // target types that may use the environment's own identity
}

// Logger is the part of a structured logger that providers use. Arguments are
// pairs of name and value; values are never secret and never upstream text.
type Logger interface {
	Debug(msg string, args ...any)
	Warn(msg string, args ...any)
	Error(msg string, args ...any)
}

// Target is a configured target as a provider sees it.
type Target struct {
	Name    string
	Fields  Values
	Secrets map[string]secret.String
	Place   string // pinned place; "" while the target is first written
	Mount   string // uuid of the mount
}

// Tag is what things made at the target carry, so that a sweep knows its own:
// the target's name, and a part of the mount's uuid, since two mounts may name
// one place alike. At most 63 of a-z, 0-9 and -.
func (t Target) Tag() string {
	if t.Mount == "" {
		return t.Name
	}
	sum := sha256.Sum256([]byte(t.Mount))
	return t.Name[:min(len(t.Name), 54)] + "-" + hex.EncodeToString(sum[:4])
}

// ParamChecker refuses request parameters that an issue would refuse now. It
// may read the target, and is asked when a request is filed, when somebody
// looks at it to decide, and before an approval counts.
type ParamChecker interface {
	CheckParams(ctx context.Context, fields Values, params map[string]string) error
}

// Descriptor is all that the rest of the program knows of a provider.
type Descriptor struct {
	Type         string // stored for ever
	Summary      string // one line for help and docs
	TargetFields []Field
	RoleFields   []Field
	// Normalize fills what other fields imply (credential_type). Pure.
	Normalize func(role Values) Values
	// CheckParams, if not nil, reports what is wrong with a request's parameters
	// before anybody is asked to approve them; a problem's field is the
	// parameter's name. Issue checks again. Pure.
	CheckParams func(role Values, params map[string]string) Report
	// CheckTarget reports every problem of a target's fields, offline. Pure.
	CheckTarget func(Env, Target) Report
	Limits      func(role Values) Limits
	Revocation  func(role Values) domain.Revocation
	// List, if not nil, is the list that targets of this type publish.
	List *RevocationList
	// New opens an instance. It does no I/O.
	New func(Env, Target) (Provider, error)
}

// Error is a failure at a target with a text of our own for people, and the
// target's own code. The cause is logged, never shown.
type Error struct {
	Op        string // what was tried: "create token"
	Code      string // the target's code, from a closed form: [A-Za-z0-9_.-]{1,64}
	Public    string // our words, one sentence, no upstream text
	Refused   bool   // the target refused for good: repeating will not help (400 instead of 502)
	Throttled bool
	Cause     error
}

// Error implements error.
func (e *Error) Error() string {
	if e.Code == "" {
		return fmt.Sprintf("%s: %s", e.Op, e.Public)
	}
	return fmt.Sprintf("%s: %s (%s)", e.Op, e.Public, e.Code)
}

// Unwrap gives the cause to errors.Is and errors.As.
func (e *Error) Unwrap() error { return e.Cause }
