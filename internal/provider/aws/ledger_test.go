package aws

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"
)

var ledgerStart = time.Date(2026, 3, 1, 10, 20, 30, 0, time.UTC)

func sessionNumber(n int) string { return fmt.Sprintf("pim-01kjmekwdgbtqakvbp2svn%04d", n) }

func mustRender(t interface{ Fatal(args ...any) }, l *ledger) string {
	text, err := l.render()
	if err != nil {
		t.Fatal(err)
	}
	return text
}

func TestALedgerIsReadBackAsItWasWritten(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		l := newLedger(rapid.SampledFrom([]string{keySourceIdentity, keyUserID}).Draw(t, "key"))
		for i := range rapid.IntRange(0, 40).Draw(t, "entries") {
			l.put(sessionNumber(i), ledgerStart.Add(time.Duration(rapid.IntRange(0, 50_000).Draw(t, "until"))*time.Second))
		}
		if rapid.Bool().Draw(t, "wave") {
			l.surge(wave{Before: ledgerStart, Until: ledgerStart.Add(time.Hour)})
		}
		text := mustRender(t, l)
		back, err := parseLedger(l.key, text)
		if err != nil || len(back.foreign) > 0 {
			t.Fatalf("%v, %d statements not understood", err, len(back.foreign))
		}
		if again := mustRender(t, back); again != text {
			t.Fatalf("%s\n%s", text, again)
		}
		if size, err := back.size(); err != nil || size != len(text) {
			t.Fatalf("size %d of %d characters: %v", size, len(text), err)
		}
	})
}

func TestWhatALedgerDenies(t *testing.T) {
	t.Parallel()
	l := newLedger(keySourceIdentity)
	l.put("pim-revoked", ledgerStart.Add(time.Hour))
	waved := newLedger(keySourceIdentity)
	waved.surge(wave{Before: ledgerStart, Until: ledgerStart.Add(time.Hour)})
	session := func(name string, issued time.Time) map[string]string {
		return map[string]string{"aws:sourceidentity": name, "aws:tokenissuetime": policyTime(issued)}
	}
	early, late := ledgerStart.Add(-time.Minute), ledgerStart.Add(time.Minute)
	for _, row := range []struct {
		name string
		l    *ledger
		keys map[string]string
		want bool
	}{
		{"a session that is named", l, session("pim-revoked", early), true},
		{"no session that is not named", l, session("pim-live", early), false},
		{"no session without a source identity", l, map[string]string{"aws:tokenissuetime": policyTime(early)}, false},
		{"by a wave a session of ours issued before it", waved, session("pim-live", early), true},
		{"by a wave a session issued in its second", waved, session("pim-live", ledgerStart), true},
		{"by a wave no session issued after it", waved, session("pim-live", late), false},
		{"by a wave no session that is not ours", waved, session("alice", early), false},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			denied := !judge(tryAction, tryResource, row.keys, []string{allowAllPolicy, mustRender(t, row.l)})
			if denied != row.want {
				t.Errorf("denied: %v, want %v", denied, row.want)
			}
		})
	}
}

func TestStatementsOfOthersStayInALedger(t *testing.T) {
	t.Parallel()
	for name, foreign := range map[string]string{
		"a statement with a name of its own":         `{"Sid":"Ours","Effect":"Deny","Action":"*","Resource":"*"}`,
		"an expired entry with another condition":    `{"Sid":"Until20200101T00","Effect":"Deny","Action":"*","Resource":"*","Condition":{"StringLike":{"aws:SourceIdentity":"pim-*"}}}`,
		"an expired entry with one more element":     `{"Sid":"Until20200101T00","Effect":"Deny","Action":"s3:*","Resource":"*","Condition":{"StringEquals":{"aws:SourceIdentity":"pim-x"}}}`,
		"a wave with a time that is not in its name": `{"Sid":"Before20200101T000000Until20200101T00","Effect":"Deny","Action":"*","Resource":"*","Condition":{"DateLessThan":{"aws:TokenIssueTime":"2021-01-01T00:00:00Z"},"StringLike":{"aws:SourceIdentity":"pim-*"}}}`,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l, err := parseLedger(keySourceIdentity, `{"Version":"2012-10-17","Statement":[`+foreign+`]}`)
			if err != nil {
				t.Fatal(err)
			}
			l.prune(ledgerStart)
			if text := mustRender(t, l); !strings.Contains(text, foreign) {
				t.Errorf("it was dropped or changed: %s", text)
			}
		})
	}
}

func TestAnUnreadableRevocationPolicyIsAnError(t *testing.T) {
	t.Parallel()
	if _, err := parseLedger(keySourceIdentity, "{"); err == nil {
		t.Fatal("it would have been written over")
	}
}

func TestHours(t *testing.T) {
	t.Parallel()
	full := time.Date(2026, 3, 1, 10, 0, 0, 0, time.UTC)
	for in, want := range map[time.Time]time.Time{full: full, full.Add(time.Nanosecond): full.Add(time.Hour), full.Add(59 * time.Minute): full.Add(time.Hour)} {
		if got := hourAfter(in); !got.Equal(want) {
			t.Errorf("%s became %s, want %s", in, got, want)
		}
	}
}

// Random sequences on the shards of one role: no denial that was entered is
// lost before its time, no shard is larger than it may be, and what finds no
// room is handed back.
func TestShardsNeverLoseADenialAndNeverOverflow(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		now := ledgerStart
		s := &shards{
			key: keySourceIdentity, slots: rapid.IntRange(0, 2).Draw(t, "slots"),
			list: []*shard{{capacity: rapid.IntRange(waveRoom+100, 3000).Draw(t, "capacity"), attached: true, ledger: newLedger(keySourceIdentity)}},
		}
		want := map[string]time.Time{}
		for step := range rapid.IntRange(1, 25).Draw(t, "steps") {
			var list []denial
			for i := range rapid.IntRange(0, 30).Draw(t, "revoked") {
				until := now.Add(time.Duration(rapid.IntRange(1, 14*3600).Draw(t, "until")) * time.Second)
				list = append(list, denial{Session: sessionNumber(step*100 + i), Until: until, Since: now})
			}
			rest, err := s.place(list)
			for err == nil && len(rest) > 0 && s.grow(fmt.Sprint("more-", len(s.list))) {
				rest, err = s.place(rest)
			}
			if err != nil {
				t.Fatal(err)
			}
			for _, d := range list {
				want[d.Session] = d.Until
			}
			for _, d := range rest {
				delete(want, d.Session)
			}
			now = now.Add(time.Duration(rapid.IntRange(0, 7200).Draw(t, "pause")) * time.Second)
			s.prune(now)
			checkShards(t, s, want, now)
		}
	})
}

func checkShards(t *rapid.T, s *shards, want map[string]time.Time, now time.Time) {
	var texts []string
	for i, x := range s.list {
		size, err := x.ledger.size()
		if limit := x.capacity; err != nil || size > limit || (i == 0 && size > limit-waveRoom) {
			t.Fatalf("shard %d has %d of %d characters: %v", i, size, limit, err)
		}
		texts = append(texts, mustRender(t, x.ledger))
	}
	all := strings.Join(texts, "")
	for session, until := range want {
		if until.After(now) && !strings.Contains(all, `"`+session+`"`) {
			t.Fatalf("%s is not denied any more, needed until %s", session, until)
		}
		if hourAfter(until).Before(now) && strings.Contains(all, `"`+session+`"`) {
			t.Fatalf("%s is still named, needed until %s, now %s", session, until, now)
		}
	}
}

func TestAWaveAlwaysFits(t *testing.T) {
	t.Parallel()
	for _, key := range []string{keySourceIdentity, keyUserID} {
		s := &shards{key: key, list: []*shard{{capacity: waveRoom, attached: true, ledger: newLedger(key)}}}
		if err := s.surge(wave{Before: ledgerStart, Until: ledgerStart.Add(time.Hour)}); err != nil {
			t.Fatal(err)
		}
		if size, err := s.list[0].ledger.size(); err != nil || size > waveRoom {
			t.Errorf("a wave by %s takes %d characters, %d are kept: %v", key, size, waveRoom, err)
		}
	}
}
