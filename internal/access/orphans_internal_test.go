package access

import (
	"fmt"
	"slices"
	"testing"

	"github.com/vault-pim/vault-plugin-secrets-pim/internal/domain"
)

// Of more orphans than are listed, none is forgotten that has a remainder to be
// cleared away: no target lists that again.
func TestRemaindersOfOrphansStayListed(t *testing.T) {
	var list []domain.Orphan
	for i := range domain.MaxOrphans + 50 {
		list = append(list, domain.Orphan{Credential: domain.CredentialID(fmt.Sprintf("%05d", i)), Target: "site"})
	}
	last := &list[len(list)-1]
	last.Rest = &domain.Handle{Provider: "fake"}
	kept := bounded(slices.Clone(list))
	if len(kept) != domain.MaxOrphans || kept[len(kept)-1].Rest == nil || !slices.IsSortedFunc(kept, byOrphan) {
		t.Errorf("%d are listed, the last one is %+v", len(kept), kept[len(kept)-1])
	}
}
