package access

import (
	"testing"
	"time"

	"github.com/vault-pim/vault-plugin-secrets-pim/internal/domain"
	"github.com/vault-pim/vault-plugin-secrets-pim/internal/provider/contract"
)

// TestAccessThatNothingCanEndStaysInSight: a kind that only expires says so,
// and its credential is not taken for ended before its time.
func TestAccessThatNothingCanEndStaysInSight(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)
	const id = domain.CredentialID("01kjmekwdgzzc4c9a8hspwjptx")
	rest := domain.Handle{Provider: "fake", Target: "prod", Credential: id}
	revoking := domain.Request{ID: "01kjmekwdgzzc4c9a8hspwjpty"}.Plan(domain.Credential{ID: id, Handle: rest}, now)
	for _, ev := range []domain.CredentialEvent{domain.CredIssued, domain.CredEndAsked} {
		var err error
		if revoking, err = revoking.ApplyCredential(id, ev, "", now); err != nil {
			t.Fatal(err)
		}
	}
	for _, row := range []struct {
		name  string
		ended contract.Ended
		state domain.CredentialState
		live  int
	}{
		{"access that lasts until its own end", contract.Ended{Rest: rest, Again: now.Add(time.Hour)}, domain.CredRevoking, 1},
		{"access that is over, with a remainder", contract.Ended{AccessGone: true, Rest: rest, Again: now.Add(time.Hour)}, domain.CredEnded, 0},
		{"access that is over", contract.Gone(), domain.CredGone, 0},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			after, err := afterEnd(revoking, id, row.ended, nil, now)
			if err != nil {
				t.Fatal(err)
			}
			c, _ := after.Credential(id)
			if c.State != row.state || after.Live() != row.live || !c.Due.Equal(row.ended.Again) {
				t.Errorf("%s, %d live, due %s; want %s, %d live, due %s", c.State, after.Live(), c.Due, row.state, row.live, row.ended.Again)
			}
		})
	}
}
