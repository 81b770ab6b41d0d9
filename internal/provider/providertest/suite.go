// Package providertest is the conformance suite that every provider passes. A
// provider's own test says how to open its world and which roles to run; the
// suite issues, cuts, repeats and revokes on it and looks at what exists.
//
//	providertest.Run(t, providertest.Suite{
//		Open:  openWorld,
//		Cases: []providertest.Case{{Name: "a user", Fields: contract.Values{"level": "admin"}}},
//	})
//
// Package fake below it is the in-memory provider that the suite itself is
// tested with and that the core's tests use.
package providertest

import (
	"testing"
	"time"

	"github.com/vault-pim/vault-plugin-secrets-pim/internal/domain"
	"github.com/vault-pim/vault-plugin-secrets-pim/internal/provider/contract"
)

// Suite is what a provider's test tells the conformance suite.
type Suite struct {
	// Open makes a fresh world: a target of its own, with nothing in it.
	Open func(t *testing.T) *World
	// Cases are the roles to run everything on.
	Cases []Case
	// InertRemainder, if not empty, is the documented reason why a cut in the
	// middle of Issue may leave something at the target that nobody knows,
	// that gives access to nobody, and that ends by itself with the
	// credential. Without it a cut may leave nothing at all.
	InertRemainder string
}

// Case is one role.
type Case struct {
	Name      string
	Fields    contract.Values
	Params    map[string]string
	Principal string // own principal, for roles that elevate one
	// OtherPrincipal belongs to somebody else; needed when the role's handles
	// are shared by principal.
	OtherPrincipal string
	// Unlisted, if not empty, is the documented reason why a Lister cannot
	// find credentials of this role: the target keeps no list of them.
	Unlisted string
}

// World is one target as the suite sees it, from outside of the provider.
type World struct {
	Descriptor contract.Descriptor
	// Env is given to every instance; its Log is replaced by a recorder.
	Env contract.Env
	// Target is configured well. The suite pins its Place.
	Target contract.Target
	// Elsewhere is configured well too, but speaks to another place.
	Elsewhere contract.Target
	// Exists looks at the place of Target and lists everything that exists for
	// a handle's credential or shared key.
	Exists func(t testing.TB, h domain.Handle) []Object
	// Works tries a credential. nil where nothing can be tried.
	Works func(t testing.TB, issued contract.Issued) bool
	// Published takes the list that the core would publish now. Needed when the
	// descriptor has one.
	Published func(list []byte)
	// Advance moves the world's clock. nil where time is real: roles with
	// remainders or slow roles need it.
	Advance func(d time.Duration)
	// Watch has see called for each call that reaches the target, before and
	// after it took effect, until stop is called.
	Watch func(see func(after bool)) (stop func())
	// Break makes the target answer every call with a failure until restored.
	Break func() (restore func())
	// Markers are texts that must never be in a handle, an error or a log
	// line: root secrets, and what the target says in its own error texts.
	Markers []string
	// Public names the answer's fields that are no secrets.
	Public []string
}

// Object is something at the target.
type Object struct {
	What   string
	Usable bool // whoever holds the credential has access now
	// Inert means that nothing was ever done with it and nobody was told of it.
	Inert bool
	Until time.Time // when the target itself ends it; zero = never
}

// Run runs the whole suite.
func Run(t *testing.T, s Suite) {
	t.Helper()
	if len(s.Cases) == 0 {
		t.Fatal("a suite without cases proves nothing")
	}
	t.Run("the descriptor is sane", func(t *testing.T) {
		w := s.Open(t)
		CheckDescriptor(t, w.Descriptor)
		checkClasses(t, w.Descriptor, s.Cases)
	})
	for _, c := range s.Cases {
		t.Run(c.Name, func(t *testing.T) {
			for _, row := range rows() {
				t.Run(row.name, func(t *testing.T) { row.test(newRun(t, s, c)) })
			}
		})
	}
}

type row struct {
	name string
	test func(r *run)
}

func rows() []row {
	return []row{
		{"the role's own fields are valid", validates},
		{"a plan is the same every time and changes nothing", planIsPure},
		{"an issued credential works, keeps to its end and matches its last checkpoint", issues},
		{"issuing twice with one handle gives one access", issuesOnce},
		{"a handle of another credential, version, target or provider is refused", refusesForeignHandles},
		{"revoking ends it, and revoking again changes nothing", revokesTwice},
		{"revoking before anything was issued is fine", revokesNothing},
		{"an instance made after a restart revokes with the handle alone", revokesAfterRestart},
		{"another place issues nothing, and absent there is not gone", refusesWrongPlace},
		{"a target that fails is never taken for gone", refusesDoubt},
		{"a cut at any call leaves nothing once the last checkpoint is revoked", survivesCuts},
		{"a checkpoint that fails stops the issue and leaves nothing", stopsAtCheckpoint},
		{"a crash at any checkpoint leaves nothing once it is revoked", survivesCrash},
		{"credentials that share an object name it with one key", sharesByKey},
		{"the list finds what was issued, and its handle revokes it", listFinds},
		{"twelve at a time do not disturb each other", runsInParallel},
	}
}
