package aws

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"time"
)

// Condition keys by which a revocation policy names sessions.
const (
	keySourceIdentity = "aws:SourceIdentity" // role sessions: set once, kept through chaining, unchangeable by the holder
	keyUserID         = "aws:userid"         // federated users have no source identity: <account>:<name>
)

const (
	sidHour   = "20060102T15"
	sidSecond = "20060102T150405"
)

var (
	sidEntries = regexp.MustCompile(`^Until([0-9]{8}T[0-9]{2})$`)
	sidWave    = regexp.MustCompile(`^Before([0-9]{8}T[0-9]{6})Until([0-9]{8}T[0-9]{2})$`)
)

// denial is one session that must be refused until it has ended by itself.
type denial struct {
	Session string // value of the ledger's condition key
	Until   time.Time
	Since   time.Time // it was issued before this time
}

// wave refuses every session of ours that was issued before a time. It ends
// more than it was asked to and is the last resort when names have no room.
type wave struct {
	Before, Until time.Time
}

// ledger is the content of one revocation policy. The policy itself is the
// only store: each statement's Sid carries the hour until which it is needed,
// so that any host can read, extend and prune it.
type ledger struct {
	key     string
	entries map[string]time.Time // session → hour until which it is denied
	waves   []wave
	foreign []json.RawMessage // statements that are not ours; kept as they are
}

func newLedger(key string) *ledger {
	return &ledger{key: key, entries: map[string]time.Time{}}
}

// sessionPattern matches every session of ours under the ledger's key.
func (l *ledger) sessionPattern() string {
	if l.key == keyUserID {
		return "*:" + sessionPrefix + "*"
	}
	return sessionPrefix + "*"
}

// hourAfter rounds up to the hour: entries that end in one hour share a
// statement.
func hourAfter(t time.Time) time.Time {
	t = t.UTC()
	if full := t.Truncate(time.Hour); full.Before(t) {
		return full.Add(time.Hour)
	}
	return t.Truncate(time.Hour)
}

// parseLedger reads a revocation policy; "" is an empty one. A statement that
// it does not know stays: removing a deny is never right by accident.
func parseLedger(key, text string) (*ledger, error) {
	l := newLedger(key)
	if text == "" {
		return l, nil
	}
	var doc struct{ Statement json.RawMessage }
	if err := json.Unmarshal([]byte(text), &doc); err != nil {
		return nil, errors.New("the revocation policy is not readable")
	}
	var list []json.RawMessage
	if err := json.Unmarshal(doc.Statement, &list); err != nil {
		list = []json.RawMessage{doc.Statement}
	}
	for _, raw := range list {
		var s statement
		if err := json.Unmarshal(raw, &s); err != nil || !l.take(s) {
			l.foreign = append(l.foreign, slices.Clone(raw))
		}
	}
	return l, nil
}

// take reads one statement if it is exactly what render writes.
func (l *ledger) take(s statement) bool {
	if m := sidEntries.FindStringSubmatch(s.Sid); m != nil {
		until, err := time.Parse(sidHour, m[1])
		sessions := s.Condition["StringEquals"][l.key]
		if err != nil || len(sessions) == 0 || !sameShape(s, l.entryStatement(until, sessions)) {
			return false
		}
		for _, v := range sessions {
			l.put(v, until)
		}
		return true
	}
	if m := sidWave.FindStringSubmatch(s.Sid); m != nil {
		before, err1 := time.Parse(sidSecond, m[1])
		until, err2 := time.Parse(sidHour, m[2])
		w := wave{Before: before, Until: until}
		if err1 != nil || err2 != nil || !sameShape(s, l.waveStatement(w)) {
			return false
		}
		l.waves = append(l.waves, w)
		return true
	}
	return false
}

// sameShape tells whether two statements are written alike.
func sameShape(a, b statement) bool {
	x, err1 := encodeJSON(a)
	y, err2 := encodeJSON(b)
	return err1 == nil && err2 == nil && string(x) == string(y)
}

func (l *ledger) put(session string, until time.Time) {
	until = hourAfter(until)
	if old, ok := l.entries[session]; !ok || old.Before(until) {
		l.entries[session] = until
	}
}

// holds tells whether the ledger denies a session for as long as it must, by
// its name or by a wave.
func (l *ledger) holds(d denial) bool {
	if until, ok := l.entries[d.Session]; ok && !until.Before(d.Until) {
		return true
	}
	return slices.ContainsFunc(l.waves, func(w wave) bool {
		return w.Before.After(d.Since) && !w.Until.Before(d.Until)
	})
}

// surge adds a wave, joined with those there are.
func (l *ledger) surge(w wave) {
	w.Until = hourAfter(w.Until)
	w.Before = w.Before.UTC().Truncate(time.Second).Add(time.Second)
	for _, old := range l.waves {
		if old.Until.After(w.Until) {
			w.Until = old.Until
		}
		if old.Before.After(w.Before) {
			w.Before = old.Before
		}
	}
	l.waves = []wave{w}
}

// prune drops what is no longer needed.
func (l *ledger) prune(now time.Time) {
	maps.DeleteFunc(l.entries, func(_ string, until time.Time) bool { return !until.After(now) })
	l.waves = slices.DeleteFunc(l.waves, func(w wave) bool { return !w.Until.After(now) })
}

func (l *ledger) empty() bool {
	return len(l.entries) == 0 && len(l.waves) == 0 && len(l.foreign) == 0
}

func (l *ledger) clone() *ledger {
	c := newLedger(l.key)
	maps.Copy(c.entries, l.entries)
	c.waves, c.foreign = slices.Clone(l.waves), slices.Clone(l.foreign)
	return c
}

func (l *ledger) entryStatement(until time.Time, sessions names) statement {
	return statement{
		Sid: "Until" + until.Format(sidHour), Effect: "Deny", Action: names{"*"}, Resource: names{"*"},
		Condition: condition{"StringEquals": {l.key: sessions}},
	}
}

func (l *ledger) waveStatement(w wave) statement {
	return statement{
		Sid:    "Before" + w.Before.Format(sidSecond) + "Until" + w.Until.Format(sidHour),
		Effect: "Deny", Action: names{"*"}, Resource: names{"*"},
		Condition: condition{
			"DateLessThan": {"aws:TokenIssueTime": {policyTime(w.Before)}},
			"StringLike":   {l.key: {l.sessionPattern()}},
		},
	}
}

// render writes the policy, the same text for the same content; "" when it is
// empty.
func (l *ledger) render() (string, error) {
	if l.empty() {
		return "", nil
	}
	byHour := map[string]names{}
	for session, until := range l.entries {
		k := until.Format(sidHour)
		byHour[k] = append(byHour[k], session)
	}
	d := policyDoc{Version: policyVersion, Statement: slices.Clone(l.foreign)}
	for _, w := range l.waves {
		if err := d.add(l.waveStatement(w)); err != nil {
			return "", err
		}
	}
	hours := make([]string, 0, len(byHour))
	for k := range byHour {
		hours = append(hours, k)
	}
	slices.Sort(hours)
	for _, k := range hours {
		until, err := time.Parse(sidHour, k)
		if err != nil {
			return "", fmt.Errorf("render revocations: %w", err)
		}
		slices.Sort(byHour[k])
		if err := d.add(l.entryStatement(until, byHour[k])); err != nil {
			return "", err
		}
	}
	return d.String(), nil
}

// size is how many characters the policy has.
func (l *ledger) size() (int, error) {
	text, err := l.render()
	return policySize(text), err
}

// sessionPrefix starts every name that pim gives to something at AWS.
const sessionPrefix = "pim-"

// ours tells whether a name is of the form that pim gives.
func ours(name string) bool { return strings.HasPrefix(name, sessionPrefix) }
