package aws

import (
	"context"
	"errors"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/vault-pim/vault-plugin-secrets-pim/internal/clock"
	"github.com/vault-pim/vault-plugin-secrets-pim/internal/provider/contract"
)

// revocationPolicy is the one inline policy of a role or user that pim writes,
// and the start of the names of the customer-managed ones that follow when it
// is full.
const revocationPolicy = "pim-revocations"

const (
	policyPath    = "/pim/"
	maxOverflow   = 5  // customer-managed policies of ours on one role or user
	attachedQuota = 10 // AWS's default for one role or user
)

// pace is how patiently revocations are written. IAM has no conditional write:
// the last writer of a policy wins, and a host that read it just before us can
// take our entry out again without knowing. So nobody may take longer than
// settle from reading to writing, and an entry counts once it is still there
// after settle. What breaks that rule (a request that AWS held back, a stale
// read) is found by the re-check a while later.
type pace struct {
	settle  time.Duration // from our write until no older reader can still write
	recheck time.Duration // from the revocation until it is looked at again
	survey  time.Duration // how long the room taken by other policies is remembered
	batch   time.Duration // most for one batch, retries included
	tries   int
}

func usualPace() pace {
	return pace{
		settle: 2 * time.Second, recheck: time.Minute, survey: time.Minute, batch: 20 * time.Second, tries: 6,
	}
}

// denier writes revocation policies. It is safe for concurrent use by one
// process; between processes it relies on pace.
type denier struct {
	api       policyAPI
	clk       clock.Clock
	log       contract.Logger
	pace      pace
	seed      int    // 0 to 999, another in every instance: two writers that collide part ways
	policyARN string // ARN of a customer-managed policy of ours, up to its name

	mu      sync.Mutex
	surveys map[holder]survey
}

// survey is what limits the room for revocations on a holder.
type survey struct {
	others   int // characters of inline policies that are not ours
	attached []managed
	at       time.Time
}

// order is what one batch has to do at one holder. Without denials it prunes.
type order struct {
	at      holder
	key     string // condition key
	denials []denial
	bulk    bool // few calls matter more than sparing others: no policies are added, a wave comes first
}

func mergeOrders(into *order, more order) {
	into.denials = append(into.denials, more.denials...)
	into.bulk = into.bulk || more.bulk
}

// run makes one holder deny what is ordered, drops what is no longer needed,
// and returns once the policies were read back with everything in them. wrote
// tells whether something that was ordered had not been there.
func (d *denier) run(ctx context.Context, o order) (wrote bool, err error) {
	for try := range d.pace.tries {
		if try > 0 {
			if werr := d.wait(ctx, time.Duration(try*(200+d.seed))*time.Millisecond); werr != nil {
				return wrote, errors.Join(werr, err)
			}
		}
		var done, changed bool
		done, changed, err = d.attempt(ctx, o.at, o)
		wrote = wrote || changed
		if done || (err != nil && !worthAnotherTry(err)) {
			return wrote, err
		}
		d.forget(o.at)
	}
	if err == nil {
		err = &contract.Error{Op: "deny sessions", Code: "contended", Public: "other writers kept replacing the revocation policy"}
	}
	return wrote, err
}

// attempt reads, changes, writes and reads again. done is false when another
// writer took our change back.
func (d *denier) attempt(ctx context.Context, h holder, o order) (done, wrote bool, err error) {
	s, err := d.load(ctx, h, o.key, false)
	if err != nil {
		return false, false, err
	}
	s.prune(d.clk.Now())
	if missing := s.missing(o.denials); len(missing) > 0 {
		wrote = true
		if err := d.enter(s, h, missing, o.bulk); err != nil {
			return false, wrote, err
		}
	}
	changed, err := s.changed()
	if err != nil || len(changed) == 0 {
		return err == nil, wrote, err
	}
	if err := d.writeAll(ctx, h, s.readAt, changed); err != nil {
		return false, wrote, err
	}
	if !wrote {
		return true, false, nil // a prune that is lost is done again
	}
	done, err = d.stays(ctx, h, o)
	return done, wrote, err
}

// stays tells whether what was written is there at once and still after the
// time in which an older reader may have written over it.
func (d *denier) stays(ctx context.Context, h holder, o order) (bool, error) {
	for _, pause := range []time.Duration{0, d.pace.settle} {
		if err := d.wait(ctx, pause); err != nil {
			return false, err
		}
		s, err := d.load(ctx, h, o.key, false)
		if err != nil || len(s.missing(o.denials)) > 0 {
			return false, err
		}
	}
	return true, nil
}

// enter puts denials into the shards; what finds no room even in new ones is
// denied by a wave.
func (d *denier) enter(s *shards, h holder, list []denial, bulk bool) error {
	rest, err := s.place(list)
	for err == nil && len(rest) > 0 && !bulk && s.grow(d.freeName(s, h)) {
		rest, err = s.place(rest)
	}
	if err != nil || len(rest) == 0 {
		return err
	}
	w := wave{Before: d.clk.Now()}
	for _, x := range rest {
		if x.Until.After(w.Until) {
			w.Until = x.Until
		}
	}
	d.log.Warn("no room for more names in revocation policies: every pim session issued until now is denied",
		"holder", h.String(), "without_room", len(rest))
	return s.surge(w)
}

// freeName is the first name of an overflow policy that is not in use.
func (d *denier) freeName(s *shards, h holder) string {
	for n := 1; ; n++ {
		name := overflowPrefix(h) + strconv.Itoa(n)
		if !slices.ContainsFunc(s.list, func(x *shard) bool { return x.name == name }) {
			return name
		}
	}
}

func overflowPrefix(h holder) string {
	return revocationPolicy + "-" + string(h.Kind) + "-" + h.Name + "-"
}

// room is how many more sessions could be denied by name on a holder. It reads
// at most once in the survey time.
func (d *denier) room(ctx context.Context, h holder, key string) (int, error) {
	s, err := d.load(ctx, h, key, true)
	if err != nil {
		return 0, err
	}
	return s.room()
}

// load reads everything that revokes on a holder, the inline policy last: it
// is the one most often written, and the time until then is the race.
func (d *denier) load(ctx context.Context, h holder, key string, remembered bool) (*shards, error) {
	sv, err := d.surveyed(ctx, h, remembered)
	if err != nil {
		return nil, err
	}
	inline := &shard{name: revocationPolicy, attached: true, capacity: inlineQuota(h) - sv.others}
	s := &shards{list: []*shard{inline}, key: key, readAt: d.clk.Now()}
	for _, m := range sv.attached {
		if !strings.HasPrefix(m.Name, overflowPrefix(h)) {
			continue
		}
		text, err := d.api.ReadPolicy(ctx, m.ARN)
		if isAbsent(err) {
			continue // another host has just cleared it
		}
		if err != nil {
			return nil, failed("read revocation policy", err)
		}
		x := &shard{arn: m.ARN, name: m.Name, attached: true, capacity: maxManagedPolicy, before: text}
		if x.ledger, err = parseLedger(key, text); err != nil {
			return nil, err
		}
		s.list = append(s.list, x)
	}
	s.slots = max(0, min(maxOverflow-(len(s.list)-1), attachedQuota-len(sv.attached)))
	inline.before, err = d.api.GetInline(ctx, h, revocationPolicy)
	if err != nil && !isAbsent(err) {
		return nil, failed("read revocation policy", err)
	}
	if isAbsent(err) {
		// The role itself may be what is absent: then this fails, as it must.
		if _, err := d.api.ListInline(ctx, h); err != nil {
			return nil, failed("read role policies", err)
		}
		inline.before = ""
	}
	inline.ledger, err = parseLedger(key, inline.before)
	return s, err
}

func inlineQuota(h holder) int {
	if h.Kind == userHolder {
		return maxUserPolicies
	}
	return maxRolePolicies
}

// surveyed says how much room other policies leave. What is attached is read
// afresh unless remembered is enough; the size of others is remembered a while.
func (d *denier) surveyed(ctx context.Context, h holder, remembered bool) (survey, error) {
	d.mu.Lock()
	sv, known := d.surveys[h]
	d.mu.Unlock()
	known = known && d.clk.Now().Sub(sv.at) < d.pace.survey
	if known && remembered {
		return sv, nil
	}
	attached, err := d.api.ListAttached(ctx, h)
	if err != nil {
		return survey{}, failed("list attached policies", err)
	}
	if !known {
		if sv.others, err = d.measureOthers(ctx, h); err != nil {
			return survey{}, err
		}
		sv.at = d.clk.Now()
	}
	sv.attached = attached
	d.mu.Lock()
	defer d.mu.Unlock()
	d.surveys[h] = sv
	return sv, nil
}

// measureOthers counts the characters of a holder's inline policies that are
// not ours.
func (d *denier) measureOthers(ctx context.Context, h holder) (int, error) {
	list, err := d.api.ListInline(ctx, h)
	if err != nil {
		return 0, failed("list inline policies", err)
	}
	sum := 0
	for _, name := range list {
		if name == revocationPolicy {
			continue
		}
		text, err := d.api.GetInline(ctx, h, name)
		if isAbsent(err) {
			continue
		}
		if err != nil {
			return 0, failed("measure inline policies", err)
		}
		sum += policySize(text)
	}
	return sum, nil
}

// forget drops what is remembered of a holder.
func (d *denier) forget(h holder) {
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.surveys, h)
}

func (d *denier) wait(ctx context.Context, pause time.Duration) error {
	if pause <= 0 {
		return ctx.Err()
	}
	select {
	case <-d.clk.After(pause):
		return nil
	case <-ctx.Done():
		return failed("wait for AWS", ctx.Err())
	}
}
