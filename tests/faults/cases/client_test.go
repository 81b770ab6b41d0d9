package cases

import (
	"context"
	"math/rand/v2"
	"net/http"
	"testing"
	"time"

	"github.com/vault-pim/vault-plugin-secrets-pim/tests/faults/journal"
	"github.com/vault-pim/vault-plugin-secrets-pim/tests/faults/report"
)

// Clients hang up at moments that nobody chose, while the target takes its time and
// carries out what it was asked to although the caller has gone.
func TestR16ClientsDisconnect(t *testing.T) {
	t.Parallel()
	s := newStage(t, shared)
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	chance := rand.New(rand.NewPCG(seed, 0))
	s.target.Before(func(journal.Call) int {
		<-time.After(time.Duration(rand.N(40)) * time.Millisecond)
		return 0
	})
	role := s.role(t, nil)
	id, runs := s.grant(t, role), 50*scale()
	for i := range runs {
		ctx, cancel := context.WithTimeout(t.Context(), time.Duration(chance.IntN(90_000))*time.Microsecond)
		began := time.Now()
		answer, err := s.alice.Do(ctx, http.MethodGet, s.path("creds/"+role), nil, nil)
		cancel()
		if err == nil && answer.Status == http.StatusOK {
			s.ledger.answered(answer, began)
		}
		if i%10 == 9 {
			s.end(t, id)
			id = s.grant(t, role)
		}
	}
	s.target.Before(nil)
	s.end(t, id)
	s.alive(t, 0)
	s.close(t, report.Row{Case: "R16", What: "client hangs up at a random moment of a read", Runs: runs})
}
