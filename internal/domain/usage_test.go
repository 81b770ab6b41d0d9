package domain

import (
	"fmt"
	"testing"
	"time"
)

func TestUsageSaysWhatWasUsed(t *testing.T) {
	nine := time.Date(2026, 3, 2, 9, 30, 0, 0, time.UTC)
	used := func(at time.Time) Request { return Request{State: Ended, Times: Times{FirstIssue: at}} }
	denied := Request{State: Denied, Times: Times{Closed: nine}}
	rows := []struct {
		name   string
		closed []Request
		want   Usage
		hours  int
	}{
		{"nothing closed", nil, Usage{}, 0},
		{"a request that was withdrawn leaves nothing", []Request{{State: Cancelled}}, Usage{}, 0},
		{"a grant nobody read leaves nothing", []Request{{State: Ended}}, Usage{}, 0},
		{"one grant", []Request{used(nine)}, Usage{First: nine, Last: nine, Count: 1, Hours: 1 << 9}, 1},
		{
			"two grants in one hour of the day",
			[]Request{used(nine), used(nine.Add(24 * time.Hour))},
			Usage{First: nine, Last: nine.Add(24 * time.Hour), Count: 2, Hours: 1 << 9},
			1,
		},
		{
			"closed in another order than used",
			[]Request{used(nine.Add(3 * time.Hour)), used(nine)},
			Usage{First: nine, Last: nine.Add(3 * time.Hour), Count: 2, Hours: 1<<9 | 1<<12},
			2,
		},
		{"a denial", []Request{denied}, Usage{Denials: 1, Denied: nine}, 0},
	}
	for _, row := range rows {
		t.Run(row.name, func(t *testing.T) {
			var u Usage
			for _, r := range row.closed {
				u = u.Closed(r)
			}
			if u != row.want || u.DistinctHours() != row.hours {
				t.Errorf("%+v with %d hours, want %+v with %d", u, u.DistinctHours(), row.want, row.hours)
			}
		})
	}
}

func TestUsageIsBounded(t *testing.T) {
	at := time.Date(2026, 3, 2, 9, 0, 0, 0, time.UTC)
	var p PersonRecord
	for i := range MaxUsage + 10 {
		r := Request{Role: fmt.Sprintf("role-%03d", i), State: Ended, Times: Times{FirstIssue: at.Add(time.Duration(i) * time.Minute)}}
		p = p.Note(r, at)
	}
	if len(p.Usage) != MaxUsage || p.Usage["role-000"] != (Usage{}) || p.Usage["role-010"] == (Usage{}) {
		t.Errorf("%d roles are kept, the oldest: %+v", len(p.Usage), p.Usage["role-000"])
	}
	if later := p.Forget(at.Add(UsageKept + 24*time.Hour)); later.Usage != nil {
		t.Errorf("%d roles are kept for ever", len(later.Usage))
	}
	if len(p.Usage) != MaxUsage {
		t.Error("forgetting changed what somebody else holds")
	}
}
