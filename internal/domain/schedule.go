package domain

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
	_ "time/tzdata" // zones are the same on every host
)

// Window is a stretch of each of some weekdays in which a role may be used.
type Window struct {
	Days []string `json:"days,omitempty"` // mon to sun; none = every day
	From string   `json:"from"`           // HH:MM, local
	To   string   `json:"to"`             // HH:MM, local; 24:00 = the day's end; not after From = the next day
	Zone string   `json:"zone,omitempty"` // IANA name; "" = UTC
}

// Freeze is a stretch of time in which a role may not be used.
type Freeze struct {
	From   time.Time `json:"from"`
	Until  time.Time `json:"until"`
	Reason string    `json:"reason"`
}

// Bounds of schedules.
const (
	LimitWindows = 32
	LimitFreezes = 64
)

// Hours is whether a role may be used at a moment, and until when that stays
// so. A zero Change means that it stays so for longer than a fortnight.
type Hours struct {
	Open   bool
	Change time.Time // when it closes, or opens next
	Why    string    // why it is closed
}

// horizon is how far ahead windows are looked at: two weeks and a day are
// written out, so that every weekly window is among them.
const horizon = 13 * 24 * time.Hour

// weekdays in the order of time.Weekday.
var weekdays = []string{"sun", "mon", "tue", "wed", "thu", "fri", "sat"}

// HoursAt tells whether the role's windows and freezes allow its use at a
// moment. Wall-clock times that a change of daylight saving skips count as the
// moment right after; of those that come twice, the first opens and the last
// closes.
func (r Role) HoursAt(now time.Time) Hours {
	open, until := true, time.Time{}
	if len(r.AllowedWindows) > 0 {
		open, until = inWindows(r.AllowedWindows, now)
		if open && until.Sub(now) > horizon {
			until = time.Time{} // as far as was looked, it stays open
		}
	}
	if !open {
		return Hours{Change: r.opensAfter(until), Why: "outside the hours in which the role may be used"}
	}
	for _, f := range r.FreezeWindows {
		switch {
		case !now.Before(f.From) && now.Before(f.Until):
			return Hours{Change: r.opensAfter(f.Until), Why: "frozen: " + Printable(f.Reason)}
		case now.Before(f.From) && (until.IsZero() || f.From.Before(until)):
			until = f.From
		}
	}
	return Hours{Open: true, Change: until}
}

// opensAfter is the first moment from t on at which the role is open; zero when
// that is not within the bound that is looked at.
func (r Role) opensAfter(t time.Time) time.Time {
	for range LimitWindows + LimitFreezes {
		if t.IsZero() {
			return t
		}
		moved := false
		for _, f := range r.FreezeWindows {
			if !t.Before(f.From) && t.Before(f.Until) {
				t, moved = f.Until, true
			}
		}
		if len(r.AllowedWindows) > 0 {
			if open, next := inWindows(r.AllowedWindows, t); !open {
				t, moved = next, true
			}
		}
		if !moved {
			return t
		}
	}
	return time.Time{}
}

// zones holds the time zones that were read: reading one takes longer than all
// that is worked out with it.
var zones sync.Map

func zoneOf(name string) (*time.Location, error) {
	if z, ok := zones.Load(name); ok {
		if zone, ok := z.(*time.Location); ok {
			return zone, nil
		}
	}
	zone, err := time.LoadLocation(name)
	if err != nil {
		return nil, err
	}
	zones.Store(name, zone)
	return zone, nil
}

// inWindows tells whether a moment is in any window, and when that changes.
// Windows that touch are one.
func inWindows(windows []Window, now time.Time) (open bool, change time.Time) {
	type span struct{ from, to time.Time }
	var spans []span
	for _, w := range windows {
		zone, err := zoneOf(w.Zone)
		if err != nil {
			continue // refused at write; a window that cannot be read opens nothing
		}
		local := now.In(zone)
		for d := -2; d <= 14; d++ {
			day := time.Date(local.Year(), local.Month(), local.Day()+d, 12, 0, 0, 0, zone)
			if len(w.Days) > 0 && !slices.Contains(w.Days, weekdays[day.Weekday()]) {
				continue
			}
			from, to := w.on(day, zone)
			if from.Before(to) {
				spans = append(spans, span{from, to})
			}
		}
	}
	slices.SortFunc(spans, func(a, b span) int { return a.from.Compare(b.from) })
	for _, s := range spans {
		switch {
		case open && !s.from.After(change):
			if s.to.After(change) {
				change = s.to
			}
		case open:
			return true, change
		case !now.Before(s.from) && now.Before(s.to):
			open, change = true, s.to
		case now.Before(s.from):
			return false, s.from
		}
	}
	return open, change
}

// on is the window that begins on a day.
func (w Window) on(day time.Time, zone *time.Location) (from, to time.Time) {
	fh, fm, _ := clockTime(w.From)
	th, tm, _ := clockTime(w.To)
	next := day
	if th*60+tm <= fh*60+fm {
		next = day.AddDate(0, 0, 1)
	}
	return wall(day, fh, fm, zone, false), wall(next, th, tm, zone, true)
}

// wall is the moment of a wall-clock time on a day. time.Date picks one of two
// for a time that comes twice, and moves one that is skipped by the length of
// the gap in either direction; both are settled here.
func wall(day time.Time, h, m int, zone *time.Location, last bool) time.Time {
	t := time.Date(day.Year(), day.Month(), day.Day(), h, m, 0, 0, zone)
	want := h*60 + m
	if got := t.Hour()*60 + t.Minute(); got != want%(24*60) {
		return gapEnd(t, zone)
	}
	for _, by := range []time.Duration{-2 * time.Hour, -time.Hour, -30 * time.Minute, 30 * time.Minute, time.Hour, 2 * time.Hour} {
		u := t.Add(by)
		if u.Day() == t.Day() && u.Hour() == t.Hour() && u.Minute() == t.Minute() && (by > 0) == last {
			return u
		}
	}
	return t
}

// gapEnd is when the clock goes on after the gap that is near t.
func gapEnd(t time.Time, zone *time.Location) time.Time {
	_, end := t.Add(-3 * time.Hour).In(zone).ZoneBounds()
	if end.IsZero() || end.After(t.Add(3*time.Hour)) {
		return t
	}
	return end
}

// clockTime reads HH:MM; 24:00 is the end of a day.
func clockTime(s string) (h, m int, ok bool) {
	hh, mm, cut := strings.Cut(s, ":")
	if !cut || len(hh) != 2 || len(mm) != 2 {
		return 0, 0, false
	}
	h, herr := strconv.Atoi(hh)
	m, merr := strconv.Atoi(mm)
	ok = herr == nil && merr == nil && h >= 0 && m >= 0 && m < 60 && (h < 24 || h == 24 && m == 0)
	return h, m, ok
}

func (r Role) checkSchedule(p *problems) {
	if len(r.AllowedWindows) > LimitWindows {
		p.add("allowed_windows", fmt.Sprintf("more than %d", LimitWindows))
	}
	for i, w := range r.AllowedWindows {
		field := fmt.Sprintf("allowed_windows.%d", i+1)
		for _, d := range w.Days {
			if !slices.Contains(weekdays, d) {
				p.add(field+".days", "must be of mon, tue, wed, thu, fri, sat, sun")
				break
			}
		}
		if _, _, ok := clockTime(w.From); !ok || w.From == "24:00" {
			p.add(field+".from", "must be a time of day such as 08:30")
		}
		if _, _, ok := clockTime(w.To); !ok {
			p.add(field+".to", "must be a time of day such as 17:00, at most 24:00")
		}
		if _, err := time.LoadLocation(w.Zone); err != nil || w.Zone == "Local" {
			p.add(field+".zone", "must be an IANA time zone such as Europe/Vienna, or empty for UTC")
		}
	}
	r.checkFreezes(p)
}

func (r Role) checkFreezes(p *problems) {
	if len(r.FreezeWindows) > LimitFreezes {
		p.add("freeze_windows", fmt.Sprintf("more than %d", LimitFreezes))
	}
	for i, f := range r.FreezeWindows {
		field := fmt.Sprintf("freeze_windows.%d", i+1)
		if f.From.IsZero() || !f.From.Before(f.Until) {
			p.add(field, "needs a from that is before its until")
		}
		if f.Reason == "" {
			p.add(field+".reason", "is required: people are shown why")
		} else if why := CheckText(f.Reason, 512); why != "" {
			p.add(field+".reason", why)
		}
	}
}
