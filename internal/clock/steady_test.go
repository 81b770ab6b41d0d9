package clock_test

import (
	"testing"
	"time"

	"github.com/vault-pim/vault-plugin-secrets-pim/internal/clock"
)

func TestSteadyClock(t *testing.T) {
	noon := time.Date(2030, 6, 1, 12, 0, 0, 0, time.UTC)
	rows := []struct {
		name   string
		passed time.Time
		behind time.Duration
		later  time.Time // ten minutes later
	}{
		{"that is ahead of what has passed shows its own time", noon.Add(-time.Hour), 0, noon.Add(10 * time.Minute)},
		{"that is behind goes on from what has passed", noon.Add(7 * time.Minute), 7 * time.Minute, noon.Add(17 * time.Minute)},
		{"that is right is left alone", noon, 0, noon.Add(10 * time.Minute)},
	}
	for _, row := range rows {
		t.Run(row.name, func(t *testing.T) {
			beneath := clock.NewManual(noon)
			steady := clock.NewSteady(beneath)
			if got := steady.Now(); !got.Equal(noon) {
				t.Errorf("at first it shows %s", got)
			}
			if got := steady.NotBefore(row.passed); got != row.behind {
				t.Errorf("behind by %s, want %s", got, row.behind)
			}
			beneath.Advance(10 * time.Minute)
			if got := steady.Now(); !got.Equal(row.later) {
				t.Errorf("later it shows %s, want %s", got, row.later)
			}
		})
	}
}
