package aws

import (
	"cmp"
	"slices"
	"time"
)

// waveRoom is kept free in the first shard, so that a wave can always be
// written: it is what makes a revocation certain when names have no more room.
const waveRoom = 420

// shard is one policy that holds revocations: the inline policy first, then
// customer-managed ones.
type shard struct {
	arn      string // "" = the inline policy
	name     string
	attached bool
	capacity int // characters it may have
	ledger   *ledger
	before   string // text as it was read
}

// shards is everything that revokes on one role or user.
type shards struct {
	list  []*shard
	slots int // further customer-managed policies that could be attached
	key   string
	// readAt is when the reading of the policies began: what is written
	// later than the settle time after it may take back what others entered.
	readAt time.Time
}

// has tells whether a denial is in one of them.
func (s *shards) has(d denial) bool {
	return slices.ContainsFunc(s.list, func(x *shard) bool { return x.ledger.holds(d) })
}

// missing returns those that are in none.
func (s *shards) missing(list []denial) []denial {
	var out []denial
	for _, d := range list {
		if !s.has(d) {
			out = append(out, d)
		}
	}
	return out
}

// place puts denials where there is room and returns those for which there is
// none. The latest end goes first, so that equal hours meet in one statement.
func (s *shards) place(list []denial) ([]denial, error) {
	list = s.missing(list)
	slices.SortFunc(list, func(a, b denial) int {
		return cmp.Or(b.Until.Compare(a.Until), cmp.Compare(a.Session, b.Session))
	})
	for _, x := range s.list {
		n, err := x.fill(list)
		if err != nil {
			return nil, err
		}
		list = list[n:]
	}
	return list, nil
}

// fill puts in as many as there is room for and tells how many.
func (x *shard) fill(list []denial) (int, error) {
	room := x.capacity
	if x.arn == "" {
		room -= waveRoom
	}
	// The number that fits is searched by halves: rendering tells the size.
	low, high := 0, len(list)
	for low < high {
		mid := (low + high + 1) / 2
		trial := x.ledger.clone()
		for _, d := range list[:mid] {
			trial.put(d.Session, d.Until)
		}
		size, err := trial.size()
		if err != nil {
			return 0, err
		}
		if size <= room {
			low = mid
		} else {
			high = mid - 1
		}
	}
	for _, d := range list[:low] {
		x.ledger.put(d.Session, d.Until)
	}
	return low, nil
}

// grow adds an empty customer-managed policy if one more may be attached.
func (s *shards) grow(name string) bool {
	if s.slots <= 0 {
		return false
	}
	s.slots--
	s.list = append(s.list, &shard{arn: pendingARN, name: name, capacity: maxManagedPolicy, ledger: newLedger(s.key)})
	return true
}

// pendingARN marks a shard whose policy does not exist yet.
const pendingARN = "pending"

// surge writes a wave into the inline policy. Its names of sessions issued
// before the wave make room if they must: the wave covers them.
func (s *shards) surge(w wave) error {
	first := s.list[0]
	first.ledger.surge(w)
	size, err := first.ledger.size()
	if err != nil || size <= first.capacity {
		return err
	}
	for session, until := range first.ledger.entries {
		if !until.After(first.ledger.waves[0].Until) {
			delete(first.ledger.entries, session)
		}
	}
	return nil
}

// prune drops what is no longer needed everywhere.
func (s *shards) prune(now time.Time) {
	for _, x := range s.list {
		x.ledger.prune(now)
	}
}

// changed returns the shards whose text is not what was read, with the new
// text.
func (s *shards) changed() (map[*shard]string, error) {
	out := map[*shard]string{}
	for _, x := range s.list {
		text, err := x.ledger.render()
		if err != nil {
			return nil, err
		}
		if text != x.before || (x.arn != "" && !x.attached && text != "") {
			out[x] = text
		}
	}
	return out, nil
}

// room is how many more sessions could be denied by name, at their largest.
func (s *shards) room() (int, error) {
	free := 0
	for _, x := range s.list {
		size, err := x.ledger.size()
		if err != nil {
			return 0, err
		}
		left := x.capacity - size
		if x.arn == "" {
			left -= waveRoom
		}
		free += entriesIn(left)
	}
	return free + s.slots*entriesIn(maxManagedPolicy-emptyPolicySize), nil
}

const (
	emptyPolicySize = 40  // {"Version":"2012-10-17","Statement":[]}
	statementSize   = 140 // one hour's statement around its names
	entrySize       = 48  // the longest name with quotes and comma: <account>:pim-<id>
	hoursInUse      = 4   // statements that a policy usually has at the same time
)

// entriesIn estimates downwards how many names fit into so many characters.
func entriesIn(chars int) int {
	return max(0, (chars-hoursInUse*statementSize)/entrySize)
}
