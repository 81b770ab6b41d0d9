package domain

import (
	"testing"
	"time"

	"pgregory.net/rapid"
)

func moment(t *testing.T, s string) time.Time {
	t.Helper()
	m, err := time.Parse(time.RFC3339, s)
	if err != nil {
		t.Fatal(err)
	}
	return m.UTC()
}

func TestHours(t *testing.T) {
	office := Window{Days: []string{"mon", "tue", "wed", "thu", "fri"}, From: "09:00", To: "17:00", Zone: "Europe/Vienna"}
	night := Window{Days: []string{"fri"}, From: "22:00", To: "06:00"}
	early := Window{From: "01:30", To: "02:30", Zone: "Europe/Vienna"}
	gap := Window{From: "02:30", To: "05:00", Zone: "Europe/Vienna"}
	allDay := Window{Days: []string{"sun"}, From: "00:00", To: "24:00", Zone: "Europe/Vienna"}
	rows := []struct {
		name    string
		windows []Window
		freeze  []string
		now     string
		open    bool
		change  string
	}{
		{"no windows: always", nil, nil, "2026-03-02T09:00:00Z", true, ""},
		{"a Monday morning before nine", []Window{office}, nil, "2026-03-02T07:59:59Z", false, "2026-03-02T08:00:00Z"},
		{"nine sharp", []Window{office}, nil, "2026-03-02T08:00:00Z", true, "2026-03-02T16:00:00Z"},
		{"five sharp is closed", []Window{office}, nil, "2026-03-02T16:00:00Z", false, "2026-03-03T08:00:00Z"},
		{"a Friday evening opens on Monday", []Window{office}, nil, "2026-03-06T20:00:00Z", false, "2026-03-09T08:00:00Z"},
		{"in summer the same wall clock is an hour earlier", []Window{office}, nil, "2026-07-06T07:00:00Z", true, "2026-07-06T15:00:00Z"},
		{"over midnight belongs to the day it began", []Window{night}, nil, "2026-03-07T03:00:00Z", true, "2026-03-07T06:00:00Z"},
		{"and not to the evening after", []Window{night}, nil, "2026-03-07T23:00:00Z", false, "2026-03-13T22:00:00Z"},
		{"windows that touch are one", []Window{{From: "08:00", To: "12:00"}, {From: "12:00", To: "18:00"}}, nil, "2026-03-02T09:00:00Z", true, "2026-03-02T18:00:00Z"},
		{"the end of a window in the hour that is skipped is when the clock goes on", []Window{early}, nil, "2026-03-29T00:45:00Z", true, "2026-03-29T01:00:00Z"},
		{"a window that begins in the skipped hour begins right after", []Window{gap}, nil, "2026-03-29T00:59:59Z", false, "2026-03-29T01:00:00Z"},
		{"of an hour that comes twice the first opens and the last closes", []Window{early}, nil, "2026-10-25T01:15:00Z", true, "2026-10-25T01:30:00Z"},
		{"it is open from the first of them on", []Window{early}, nil, "2026-10-24T23:30:00Z", true, "2026-10-25T01:30:00Z"},
		{"a day of 23 hours", []Window{allDay}, nil, "2026-03-28T23:00:00Z", true, "2026-03-29T22:00:00Z"},
		{"a day of 25 hours", []Window{allDay}, nil, "2026-10-24T22:00:00Z", true, "2026-10-25T23:00:00Z"},
		{"a freeze closes what is open", []Window{office}, []string{"2026-03-02T10:00:00Z", "2026-03-02T11:00:00Z"}, "2026-03-02T10:30:00Z", false, "2026-03-02T11:00:00Z"},
		{"a freeze to come ends the opening", []Window{office}, []string{"2026-03-02T10:00:00Z", "2026-03-02T11:00:00Z"}, "2026-03-02T09:00:00Z", true, "2026-03-02T10:00:00Z"},
		{"a freeze over the night opens with the day", []Window{office}, []string{"2026-03-02T10:00:00Z", "2026-03-03T02:00:00Z"}, "2026-03-02T12:00:00Z", false, "2026-03-03T08:00:00Z"},
		{"a freeze beyond the fortnight has no known end", []Window{office}, []string{"2026-03-02T10:00:00Z", "2026-03-02T10:00:01Z"}, "2026-03-02T09:59:59Z", true, "2026-03-02T10:00:00Z"},
		{"a freeze without windows", nil, []string{"2026-03-02T10:00:00Z", "2026-03-02T11:00:00Z"}, "2026-03-02T10:00:00Z", false, "2026-03-02T11:00:00Z"},
	}
	for _, row := range rows {
		t.Run(row.name, func(t *testing.T) {
			r := testRole()
			r.AllowedWindows = row.windows
			if row.freeze != nil {
				r.FreezeWindows = []Freeze{{From: moment(t, row.freeze[0]), Until: moment(t, row.freeze[1]), Reason: "release"}}
			}
			if p := r.Problems(); len(p) > 0 {
				t.Fatal("not a role that could be written:", p)
			}
			h := r.HoursAt(moment(t, row.now))
			change := ""
			if !h.Change.IsZero() {
				change = h.Change.UTC().Format(time.RFC3339)
			}
			if h.Open != row.open || change != row.change {
				t.Fatalf("open %v until %s (%s)", h.Open, change, h.Why)
			}
			if h.Open == (h.Why != "") {
				t.Fatalf("why: %q", h.Why)
			}
		})
	}
}

// Right before a change it is as it was, and right at it the other way.
func TestHoursChangeWhenTheySay(t *testing.T) {
	zones := []string{"", "Europe/Vienna", "America/New_York", "Australia/Lord_Howe", "Asia/Kathmandu", "Africa/Casablanca"}
	clock := rapid.Custom(func(t *rapid.T) string {
		return time.Date(2026, 1, 1, rapid.IntRange(0, 23).Draw(t, "h"), 15*rapid.IntRange(0, 3).Draw(t, "m"), 0, 0, time.UTC).Format("15:04")
	})
	rapid.Check(t, func(t *rapid.T) {
		r := testRole()
		for range rapid.IntRange(1, 3).Draw(t, "windows") {
			r.AllowedWindows = append(r.AllowedWindows, Window{
				Days: rapid.SliceOfNDistinct(rapid.SampledFrom(weekdays), 0, 3, func(s string) string { return s }).Draw(t, "days"),
				From: clock.Draw(t, "from"), To: clock.Draw(t, "to"), Zone: rapid.SampledFrom(zones).Draw(t, "zone"),
			})
		}
		if len(r.Problems()) > 0 {
			t.Fatal(r.Problems())
		}
		now := t0.Add(time.Duration(rapid.IntRange(0, 400*24*60).Draw(t, "minute")) * time.Minute)
		h := r.HoursAt(now)
		if h.Change.IsZero() {
			return
		}
		if !h.Change.After(now) {
			t.Fatalf("changes at %s, which is not after %s", h.Change, now)
		}
		if before := r.HoursAt(h.Change.Add(-time.Nanosecond)); before.Open != h.Open {
			t.Fatalf("from %s: %v until %s, but not right before", now, h.Open, h.Change)
		}
		if then := r.HoursAt(h.Change); then.Open == h.Open {
			t.Fatalf("from %s: %v until %s, but not changed then", now, h.Open, h.Change)
		}
	})
}

func TestHoursThatAreRefused(t *testing.T) {
	rows := []struct {
		name  string
		edit  func(*Role)
		field string
	}{
		{"no weekday", func(r *Role) { r.AllowedWindows = []Window{{Days: []string{"monday"}, From: "09:00", To: "10:00"}} }, "allowed_windows.1.days"},
		{"no time of day", func(r *Role) { r.AllowedWindows = []Window{{From: "9", To: "10:00"}} }, "allowed_windows.1.from"},
		{"past the day", func(r *Role) { r.AllowedWindows = []Window{{From: "09:00", To: "24:01"}} }, "allowed_windows.1.to"},
		{"no zone", func(r *Role) { r.AllowedWindows = []Window{{From: "09:00", To: "10:00", Zone: "Mars/Base"}} }, "allowed_windows.1.zone"},
		{"the zone of whatever host", func(r *Role) { r.AllowedWindows = []Window{{From: "09:00", To: "10:00", Zone: "Local"}} }, "allowed_windows.1.zone"},
		{"a freeze that ends before it begins", func(r *Role) { r.FreezeWindows = []Freeze{{From: at("1h"), Until: at("1h"), Reason: "x"}} }, "freeze_windows.1"},
		{"a freeze without a reason", func(r *Role) { r.FreezeWindows = []Freeze{{From: at("1h"), Until: at("2h")}} }, "freeze_windows.1.reason"},
	}
	for _, row := range rows {
		t.Run(row.name, func(t *testing.T) {
			r := testRole()
			row.edit(&r)
			if p := r.Problems(); len(p) != 1 || p[0].Field != row.field {
				t.Fatalf("%v, want %s", p, row.field)
			}
		})
	}
}

func TestEligibilityHasALife(t *testing.T) {
	role := testRole()
	role.EligibleGroups, role.EligibleEntities = []string{"engineers", "contractors"}, []string{uuid(int('d'))}
	role.EligibleUntil = map[string]time.Time{"contractors": at("24h"), uuid(int('d')): at("1h")}
	role.DenyGroups, role.DenyEntities = []string{"suspended"}, []string{uuid(int('e'))}
	rows := []struct {
		name string
		who  Entity
		at   string
		ok   bool
	}{
		{"without an end", entity("alice", "engineers"), "8000h", true},
		{"before the end", entity("bob", "contractors"), "23h", true},
		{"at the end", entity("bob", "contractors"), "24h", false},
		{"another group keeps it", entity("bob", "contractors", "engineers"), "25h", true},
		{"an entity before its end", entity("dave"), "59m", true},
		{"an entity after its end", entity("dave"), "1h", false},
		{"a denied group wins", entity("bob", "engineers", "suspended"), "0s", false},
		{"in whatever case", entity("bob", "engineers", "Suspended"), "0s", false},
		{"a denied entity wins", entity("erin", "engineers"), "0s", false},
	}
	for _, row := range rows {
		t.Run(row.name, func(t *testing.T) {
			if got := role.Eligible(row.who, at(row.at)).OK; got != row.ok {
				t.Fatalf("eligible %v", got)
			}
		})
	}
}
