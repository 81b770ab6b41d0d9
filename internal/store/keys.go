// Package store keeps records under the keys of DESIGN §5. One value is the
// truth of one request, so each step is one write. Where a step needs more
// than one, the order is written at the call and every cut between two writes
// heals itself: req/ is the truth of an open request, arch/ wins over req/
// when both exist, ent/ is an index that may dangle or lag and is repaired
// from the two.
package store

import (
	"crypto/sha256"
	"encoding/hex"

	"github.com/vault-pim/vault-plugin-secrets-pim/internal/domain"
)

// The key layout. Prefixes are flat: a host may walk every descendant of a
// prefix that is listed.
const (
	keyConfig          = "config"
	keyState           = "state"
	keyOrphans         = "orphans"
	prefixTarget       = "target/"
	prefixTargetSecret = "target-secret/"
	prefixRole         = "role/"
	prefixProposal     = "proposal/"
	prefixRequest      = "req/"
	prefixArchive      = "arch/"
	prefixPerson       = "ent/"
	prefixClaim        = "claim/"
	prefixHold         = "hold/"
	prefixJob          = "job/"
	prefixList         = "krl/"
)

// SealWrapped lists the prefixes that hold root credentials. Effective where
// the host implements it (Vault Enterprise); elsewhere the barrier encrypts
// them like everything else.
func SealWrapped() []string { return []string{prefixTargetSecret, prefixProposal} }

func keyRequest(id domain.RequestID) string { return prefixRequest + string(id) }
func keyArchive(id domain.RequestID) string { return prefixArchive + string(id) }
func keyPerson(p domain.Person) string      { return prefixPerson + hash(string(p)) }

func keyClaim(target, key string) string { return prefixClaim + target + "/" + hash(key) }

func hash(s string) string {
	sum := sha256.Sum256([]byte(s))
	return hex.EncodeToString(sum[:])
}
