package access_test

import (
	"strings"
	"testing"
	"time"

	"github.com/vault-pim/vault-plugin-secrets-pim/internal/domain"
)

// The next node's clock is behind. What was granted under the right one ends all the
// same, nothing more is given out then, and somebody is told.
func TestClockThatIsBehindGivesNoTimeBack(t *testing.T) {
	rows := []struct {
		name   string
		before time.Duration // that passed under the right clock
		behind bool
	}{
		{"by most of the window", 55 * time.Minute, true},
		{"by nothing", 0, false},
	}
	for _, row := range rows {
		t.Run(row.name, func(t *testing.T) {
			m, ans := ready(t, func(r *domain.Role) { r.TTL = domain.Seconds(3600) }, nil)
			m.pass(row.before)
			m.clk = newAlarm()
			m.crash()
			told := strings.Contains(strings.Join(m.log.all(), "\n"), "this node's clock is behind")
			if told != row.behind {
				t.Errorf("told of a clock that is behind: %v", told)
			}
			m.pass(time.Hour - row.before + time.Minute)
			m.works(ans, false)
			if _, err := m.creds("alice", "admin"); err == nil {
				t.Error("a credential was given out after the window")
			}
			m.clean()
		})
	}
}
