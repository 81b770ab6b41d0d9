package domain

import (
	"errors"
	"fmt"
	"reflect"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"
)

var personValues = []Person{"p1", "p2", "p3", "p4", "p5", "alice", "alice-new"}

// drawStanding is any decision by any entity, with any present standing.
func drawStanding(t *rapid.T, n int) Standing {
	s := Standing{
		Decision: Decision{
			By:      Party{Entity: uuid(n), Person: rapid.SampledFrom(personValues).Draw(t, "stored"), Name: fmt.Sprintf("entity %d", n)},
			Verdict: rapid.SampledFrom([]Verdict{Approve, Approve, Approve, Approve, Deny}).Draw(t, "verdict"),
			TTL:     rapid.SampledFrom([]Seconds{0, 0, 60, 600}).Draw(t, "ttl"),
		},
		Person:  rapid.SampledFrom(append([]Person{""}, personValues...)).Draw(t, "current"),
		Machine: rapid.IntRange(0, 9).Draw(t, "machine") == 0,
	}
	if rapid.IntRange(0, 9).Draw(t, "known") > 0 {
		e := entity("bob", rapid.SampledFrom([]string{"leads", "leads", "leads", "others"}).Draw(t, "group"))
		e.ID, e.Disabled = uuid(n), rapid.IntRange(0, 9).Draw(t, "disabled") == 0
		s.Now = &e
	}
	return s
}

func drawStandings(t *rapid.T) []Standing {
	out := make([]Standing, rapid.IntRange(0, 7).Draw(t, "decisions"))
	for i := range out {
		out[i] = drawStanding(t, i)
	}
	return out
}

func drawRole(t *rapid.T) Role {
	r := testRole()
	r.Approvals = rapid.IntRange(-1, 4).Draw(t, "approvals")
	r.AutoApprove = rapid.IntRange(0, 9).Draw(t, "auto") == 0
	return r
}

func evaluate(role Role, standings []Standing) Outcome {
	return Evaluate(role, Facts{Requester: Party{Entity: uuid(1000), Person: "alice"}, RequesterNow: "alice-new", Standings: standings, Asked: t0, Now: at("1h")})
}

func TestQuorumProperties(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		role, standings := drawRole(t), drawStandings(t)
		o := evaluate(role, standings)

		shuffled := rapid.Permutation(standings).Draw(t, "order")
		if other := evaluate(role, shuffled); !reflect.DeepEqual(o, other) {
			t.Fatalf("the order of decisions matters: %+v, %+v", o, other)
		}
		if o.Met && !role.AutoApprove && (role.Approvals < 1 || o.Have < role.Approvals) {
			t.Fatalf("met with %d of %d", o.Have, role.Approvals)
		}
		if people := countPeople(standings); o.Have > people {
			t.Fatalf("%d voices of %d people", o.Have, people)
		}
		deny := drawStanding(t, 100)
		deny.Decision.Verdict = Deny
		if evaluate(role, append(slices.Clip(standings), deny)).Met {
			t.Fatal("met in spite of a denial")
		}
	})
}

// countPeople is an upper bound made in another way: the stored values, and the
// current values, of those whose values are not the requester's.
func countPeople(standings []Standing) int {
	stored, current := map[Person]bool{}, map[Person]bool{}
	for _, s := range standings {
		own := func(p Person) bool { return p == "alice" || p == "alice-new" }
		if s.Decision.Verdict != Approve || own(s.Decision.By.Person) || own(s.Person) {
			continue
		}
		stored[s.Decision.By.Person], current[s.Person] = true, true
	}
	return min(len(stored), len(current))
}

func TestOneMoreApproval(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		role, standings := drawRole(t), drawStandings(t)
		more := drawStanding(t, 100)
		more.Decision.Verdict = Approve
		more.Person = more.Decision.By.Person // nobody's value changed, so nobody is shown to be somebody else
		before := evaluate(role, standings)
		after := evaluate(role, append(slices.Clip(standings), more))
		if after.Have < before.Have || before.Met && !after.Met {
			t.Fatalf("an approval took one away: %+v, then %+v", before, after)
		}
		if after.Have > before.Have+1 {
			t.Fatalf("one approval counts %d times", after.Have-before.Have)
		}
		if after.TTL > before.TTL && before.TTL > 0 {
			t.Fatal("an approval lengthened the window")
		}
	})
}

func TestTheSamePersonAgain(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		role, standings := drawRole(t), drawStandings(t)
		if len(standings) == 0 {
			return
		}
		first := rapid.SampledFrom(standings).Draw(t, "who")
		again := drawStanding(t, 100)
		again.Decision.Verdict = Approve
		if rapid.Bool().Draw(t, "known by the stored value") {
			again.Decision.By.Person, again.Person = first.Decision.By.Person, first.Decision.By.Person
		} else {
			again.Decision.By.Person, again.Person = first.Person, first.Person
		}
		counted := first.Decision.Verdict == Approve && disqualified(role, first) == ""
		before := evaluate(role, standings)
		after := evaluate(role, append(slices.Clip(standings), again))
		if counted && after.Have > before.Have {
			t.Fatalf("one person counted twice: %d, then %d", before.Have, after.Have)
		}
	})
}

func TestDecideKeepsPeopleApart(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		r := filed()
		for range rapid.IntRange(0, 20).Draw(t, "attempts") {
			by := Party{
				Entity: uuid(rapid.IntRange(0, 6).Draw(t, "entity")),
				Person: Person(fmt.Sprintf("p%d", rapid.IntRange(0, 6).Draw(t, "person"))),
			}
			if rapid.IntRange(0, 5).Draw(t, "own") == 0 {
				by.Person = r.Requester.Person
			}
			next, err := r.Decide(Decision{By: by, Verdict: Approve}, at("1h"))
			if err != nil && !errors.Is(err, ErrOwnRequest) && !errors.Is(err, ErrAlreadyDecided) {
				t.Fatal(err)
			}
			r = next
		}
		entities, persons := map[string]bool{}, map[Person]bool{}
		for _, d := range r.Decisions {
			if entities[d.By.Entity] || persons[d.By.Person] || d.By.Person == r.Requester.Person {
				t.Fatalf("%+v decided twice, or on an own request", d.By)
			}
			entities[d.By.Entity], persons[d.By.Person] = true, true
		}
	})
}

// life drives one request with random events in random, growing time.
type life struct {
	r     Request
	now   time.Time
	asked bool // a window was opened by a met quorum
	n     int
}

func newLife(t *rapid.T) *life {
	ask := asked()
	switch rapid.IntRange(0, 2).Draw(t, "start") {
	case 1:
		ask.StartTime = t0.Add(time.Duration(rapid.IntRange(1, 300).Draw(t, "minutes ahead")) * time.Minute)
	case 2:
		ask.FirstRead, ask.ClaimWithin = true, 3600
	}
	return &life{r: File(ask, 4*3600, t0), now: t0}
}

func (l *life) step(t *rapid.T) {
	l.now = l.now.Add(time.Duration(rapid.IntRange(0, 40).Draw(t, "minutes later")) * time.Minute)
	switch rapid.IntRange(0, 5).Draw(t, "what") {
	case 0: // any event at all
		l.apply(t, Event{
			Kind:    rapid.SampledFrom(allRequestEvents()).Draw(t, "event"),
			Outcome: Outcome{Met: rapid.Bool().Draw(t, "met"), TTL: rapid.SampledFrom([]Seconds{0, 600}).Draw(t, "ttl")},
		})
	case 1: // what time brings
		if ev, due := l.r.Due(l.now); due {
			seen := l.r.At(l.now)
			l.apply(t, Event{Kind: ev})
			if l.r.State != seen {
				t.Fatalf("was seen as %s and became %s", seen, l.r.State)
			}
		}
	case 2:
		l.apply(t, l.r.Grant(met(0), l.now))
	case 3: // credentials are planned under what is seen as active
		if l.r.State == Active && l.r.At(l.now) == Active {
			l.n++
			l.r = l.r.Plan(planned(l.n), l.now)
		}
	default:
		l.credential(t)
	}
}

func (l *life) apply(t *rapid.T, ev Event) {
	before := l.r
	next, err := l.r.Apply(ev, l.now)
	if err != nil {
		if !reflect.DeepEqual(before, next) {
			t.Fatalf("a refused %s changed the request", ev.Kind)
		}
		return
	}
	if before.State.Terminal() {
		t.Fatalf("%s followed %s", ev.Kind, before.State)
	}
	if seen := before.At(l.now); seen.Terminal() && next.State.Terminal() != seen.Terminal() {
		t.Fatalf("a request seen as %s came back as %s", seen, next.State)
	}
	if ev.Kind == Approved || ev.Kind == Planned {
		l.asked = ev.Outcome.Met
	}
	l.r = next
}

func (l *life) credential(t *rapid.T) {
	if l.n == 0 {
		return
	}
	name := CredentialID(id(rapid.IntRange(1, l.n).Draw(t, "credential")))
	ev := rapid.SampledFrom(allCredentialEvents()).Draw(t, "credential event")
	before, _ := l.r.Credential(name)
	next, err := l.r.ApplyCredential(name, ev, "test", l.now)
	if err != nil {
		return
	}
	if after, _ := next.Credential(name); after.State == CredGone && ev != CredConfirmed {
		t.Fatalf("%s is gone through %s, without the target's word", before.State, ev)
	}
	l.r = next
}

func (l *life) check(t *rapid.T) {
	r := l.r
	if !r.History.Intact() {
		t.Fatal("the history is not intact")
	}
	if (r.State == Active || r.State == Scheduled) && !l.asked {
		t.Fatalf("%s without a met quorum", r.State)
	}
	if r.Granted > r.TTL || r.WindowEnd.Before(r.WindowStart) || r.WindowEnd.Sub(r.WindowStart) > r.TTL.Duration() {
		t.Fatalf("window of %d from %s to %s, asked for %d", r.Granted, r.WindowStart, r.WindowEnd, r.TTL)
	}
	if r.State == Active && l.now.Before(r.WindowStart) {
		t.Fatal("active before the window")
	}
	for _, c := range r.Credentials {
		running := c.State == CredIssuing || c.State == CredActive
		if r.State.Terminal() && running {
			t.Fatalf("credential %s under a request that is %s", c.State, r.State)
		}
		if len(CredentialMoves()[c.State]) == 0 && c.GoneAt.IsZero() {
			t.Fatalf("%s without the target's word", c.State)
		}
	}
	if r.Finished() && (r.Live() > 0 || !r.State.Terminal()) {
		t.Fatal("finished with something left")
	}
}

func TestEveryLifeKeepsThePromises(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		l := newLife(t)
		for range rapid.IntRange(1, 40).Draw(t, "steps") {
			rev, length := l.r.Rev, len(l.r.History.Entries)
			l.step(t)
			l.check(t)
			if l.r.Rev < rev || len(l.r.History.Entries) < length {
				t.Fatal("something was taken back")
			}
		}
	})
}

func TestResolvedTimesKeepTheirBounds(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		r := testRole()
		r.LeaseTTL = Seconds(rapid.IntRange(0, 7200).Draw(t, "lease"))
		d := func(name string) time.Duration {
			return time.Duration(rapid.Int64Range(0, int64(3*time.Hour)).Draw(t, name))
		}
		left, low, high, mount := d("left"), d("low"), d("high"), d("mount")
		ttl, ok := ResolveLease(r, left, low, high, mount)
		if !ok {
			return
		}
		if ttl%time.Second != 0 || ttl < time.Second || ttl < r.MinTTL.Duration() || ttl < low || ttl > left {
			t.Fatalf("a lease of %s with %s left", ttl, left)
		}
		if high > 0 && ttl > high || mount > 0 && ttl > mount || r.LeaseTTL > 0 && ttl > r.LeaseTTL.Duration() {
			t.Fatalf("a lease of %s beyond a bound", ttl)
		}
	})
}

func TestPersonValuesAreStable(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		value := rapid.String().Draw(t, "value")
		e := Entity{ID: uuid(1), Metadata: map[string]string{"k": value}}
		p, ok := PersonOf(e, "k")
		if !ok {
			return
		}
		e.Metadata["k"] = string(p[len("k:"):])
		if again, ok := PersonOf(e, "k"); !ok || again != p {
			t.Fatalf("%q becomes %q", p, again)
		}
	})
}
