package contract

import (
	"time"

	"github.com/vault-pim/vault-plugin-secrets-pim/internal/domain"
)

// RevocationList is a list of what was ended before its time, for verifiers
// that ask nobody: a KRL for sshd. The records are its truth; the core hands
// over the handles of everything that is being ended or whose remainder is not
// cleared, stores what comes back as one value, and counts no access as gone
// before that is written. All functions are pure.
type RevocationList struct {
	// PublicField names the target's bool field that opens the list to callers
	// without a token.
	PublicField string
	// Until is how long a handle has to be on the list; zero = it has nothing
	// to do with it.
	Until func(h domain.Handle) time.Time
	// Render writes the list as it stands: number grows with every issue of it,
	// at is when it is written, in whole seconds. The same arguments, in any
	// order of handles, give the same bytes. Without handles it is a valid list
	// of nothing.
	Render func(hs []domain.Handle, number uint64, at time.Time) ([]byte, error)
}
