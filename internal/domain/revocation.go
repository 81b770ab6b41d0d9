package domain

// Class says how hard the end of a credential bites.
type Class string

// The classes, strongest first. Immediate: the next new request is refused
// within 15 s, as measured by our tests on the real thing. Propagating: the
// target converges; the bound is its vendor's. ExpiryOnly: it lives until its
// own end.
const (
	Immediate   Class = "immediate"
	Propagating Class = "propagating"
	ExpiryOnly  Class = "expiry_only"
)

// Classes lists the classes, strongest first.
func Classes() []Class { return []Class{Immediate, Propagating, ExpiryOnly} }

func (c Class) rank() int {
	switch c {
	case Immediate:
		return 0
	case Propagating:
		return 1
	case ExpiryOnly:
		return 2
	}
	return 3
}

// Valid tells whether c is one of the classes.
func (c Class) Valid() bool { return c.rank() < 3 }

// WeakerThan tells whether c ends access less surely than other.
func (c Class) WeakerThan(other Class) bool { return c.rank() > other.rank() }

// Survivor is something that outlives a revocation.
type Survivor string

// What can outlive a revocation.
const (
	OpenSessions     Survivor = "open_sessions"
	ChainedRoles     Survivor = "chained_roles"
	IdentityProofs   Survivor = "identity_proofs"
	OfflineVerifiers Survivor = "offline_verifiers"
	CreatedObjects   Survivor = "created_objects"
)

// Survivors lists everything that can outlive a revocation, in print order.
func Survivors() []Survivor {
	return []Survivor{OpenSessions, ChainedRoles, IdentityProofs, OfflineVerifiers, CreatedObjects}
}

// Revocation is what a role promises about the end of its credentials.
type Revocation struct {
	Class    Class
	Seconds  int // bound in seconds; 0 = no published bound, or for expiry_only the credential's own end
	Survives []Survivor
}

// Worst joins the promises of several parts: the weakest class, the longest
// bound, everything that survives any part.
func Worst(parts ...Revocation) Revocation {
	out := Revocation{Class: Immediate}
	seen := map[Survivor]bool{}
	unbounded := false
	for _, p := range parts {
		switch {
		case p.Class.WeakerThan(out.Class):
			out.Class, out.Seconds, unbounded = p.Class, p.Seconds, p.Seconds == 0
		case p.Class == out.Class:
			unbounded = unbounded || p.Seconds == 0
			out.Seconds = max(out.Seconds, p.Seconds)
		}
		for _, s := range p.Survives {
			seen[s] = true
		}
	}
	if unbounded && out.Class != Immediate {
		out.Seconds = 0
	}
	for _, s := range Survivors() {
		if seen[s] {
			out.Survives = append(out.Survives, s)
		}
	}
	return out
}
