package krl_test

import (
	"errors"
	"math"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/vault-pim/vault-plugin-secrets-pim/internal/krl"
	"github.com/vault-pim/vault-plugin-secrets-pim/internal/krl/krltest"
)

var (
	oneCA   = []byte("ca-one")
	otherCA = []byte("ca-other")
)

func marshal(t testing.TB, l krl.List) []byte {
	t.Helper()
	raw, err := l.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

func parse(t testing.TB, raw []byte) krltest.List {
	t.Helper()
	l, err := krltest.Parse(raw)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// serialsOf lists every serial that a list names.
func serialsOf(l krltest.List) []uint64 {
	var out []uint64
	for _, e := range l.Entries {
		if e.KeyID != "" {
			continue
		}
		for s := e.Low; ; s++ {
			out = append(out, s)
			if s == e.High {
				break
			}
		}
	}
	slices.Sort(out)
	return out
}

func upTo(low, n, step uint64) []uint64 {
	out := make([]uint64, 0, n)
	for i := range n {
		out = append(out, low+i*step)
	}
	return out
}

func TestSerialsTakeTheirShortestForm(t *testing.T) {
	const list, span, bitmap = 0x20, 0x21, 0x22
	for _, row := range []struct {
		name    string
		serials []uint64
		kinds   []byte
	}{
		{"one alone is listed", []uint64{7}, []byte{list}},
		{"two neighbours are listed", []uint64{7, 8}, []byte{list}},
		{"three in a row are a range", []uint64{7, 8, 9}, []byte{span}},
		{"the largest serial is listed", []uint64{math.MaxUint64}, []byte{list}},
		{"the last three serials are a range", []uint64{math.MaxUint64 - 2, math.MaxUint64 - 1, math.MaxUint64}, []byte{span}},
		{"serials far apart are listed", upTo(5, 100, 1<<40), []byte{list}},
		{"every second one of many is a bitmap", upTo(10, 500, 2), []byte{bitmap}},
		{"a bitmap whose top bit falls on a byte's edge", upTo(1, 8, 9), []byte{bitmap}},
		{"more than a bitmap holds takes several", upTo(1, 30000, 2), []byte{bitmap, bitmap, bitmap, bitmap}},
		{"a long run beside a thinner one", append(upTo(1, 5000, 1), upTo(5010, 100, 3)...), []byte{span, bitmap}},
		{"no bitmap reaches beyond the last serial", upTo(math.MaxUint64-399, 200, 2), []byte{list}},
		{"one far from a run", append(upTo(1, 50, 1), 1<<50), []byte{list, span}},
		{"in any order and repeated", []uint64{9, 7, 9, 8, 7}, []byte{span}},
	} {
		t.Run(row.name, func(t *testing.T) {
			l := parse(t, marshal(t, krl.List{CAs: []krl.CA{{Key: oneCA, Serials: row.serials}}}))
			want := slices.Clone(row.serials)
			slices.Sort(want)
			if got := serialsOf(l); !slices.Equal(got, slices.Compact(want)) {
				t.Errorf("%d serials went in, other %d came out", len(want), len(got))
			}
			if !slices.Equal(l.Kinds, row.kinds) {
				t.Errorf("sections %x, want %x", l.Kinds, row.kinds)
			}
		})
	}
}

func TestRandomSerialsComeBack(t *testing.T) {
	for round := range uint64(200) {
		random := rand.New(rand.NewPCG(round, 1))
		spread := uint64(1) << (4 + random.UintN(60))
		serials := make([]uint64, 1+random.IntN(400))
		for i := range serials {
			serials[i] = 1 + random.Uint64N(spread)
		}
		raw := marshal(t, krl.List{CAs: []krl.CA{{Key: oneCA, Serials: serials}}})
		slices.Sort(serials)
		if !slices.Equal(serialsOf(parse(t, raw)), slices.Compact(serials)) {
			t.Fatalf("round %d: other serials came back", round)
		}
	}
}

func TestEveryEntryIsBoundToItsCA(t *testing.T) {
	l := parse(t, marshal(t, krl.List{
		Number: 42, Generated: time.Unix(1700000000, 0), Comment: "pim",
		CAs: []krl.CA{
			{Key: otherCA, Serials: []uint64{3}},
			{Key: oneCA, KeyIDs: []string{"pim-b", "pim-a", "pim-b"}},
			{Key: oneCA, Serials: []uint64{2}},
			{Key: []byte("nothing of this one")},
		},
	}))
	want := []krltest.Entry{
		{CA: "ca-one", Low: 2, High: 2},
		{CA: "ca-one", KeyID: "pim-a"},
		{CA: "ca-one", KeyID: "pim-b"},
		{CA: "ca-other", Low: 3, High: 3},
	}
	if !slices.Equal(l.Entries, want) {
		t.Errorf("entries %+v", l.Entries)
	}
	if l.Number != 42 || l.Generated != 1700000000 || l.Comment != "pim" {
		t.Errorf("head %+v", l)
	}
}

func TestAnEmptyListIsAList(t *testing.T) {
	raw := marshal(t, krl.List{})
	if l := parse(t, raw); len(l.Entries) != 0 || l.Number != 0 || l.Generated != 0 {
		t.Errorf("%+v", l)
	}
	if len(raw) != 44 {
		t.Errorf("%d bytes", len(raw))
	}
}

func TestWhatSSHDWouldReadOtherwiseIsRefused(t *testing.T) {
	for name, row := range map[string]struct {
		ca   krl.CA
		want error
	}{
		"entries without a CA":  {krl.CA{Serials: []uint64{1}}, krl.ErrNoCA},
		"key ids without a CA":  {krl.CA{KeyIDs: []string{"a"}}, krl.ErrNoCA},
		"serial zero":           {krl.CA{Key: oneCA, Serials: []uint64{5, 0}}, krl.ErrSerial},
		"a key id that is none": {krl.CA{Key: oneCA, KeyIDs: []string{"a", ""}}, krl.ErrKeyID},
	} {
		if _, err := (krl.List{CAs: []krl.CA{row.ca}}).Marshal(); !errors.Is(err, row.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func BenchmarkTenThousandRandomSerials(b *testing.B) {
	random := rand.New(rand.NewPCG(1, 2))
	serials := make([]uint64, 10000)
	for i := range serials {
		serials[i] = 1 + random.Uint64N(math.MaxUint64)
	}
	for b.Loop() {
		marshal(b, krl.List{CAs: []krl.CA{{Key: oneCA, Serials: serials}}})
	}
}
