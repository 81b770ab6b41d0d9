package krl

import (
	"math"
	"math/big"
)

// Serials that lie close together take less room as ranges or as a bitmap.
// Those that a CA draws at random never do, and go into one list.
const (
	serialBytes  = 8
	rangeBytes   = 5 + 2*serialBytes   // with the head of its section
	bitmapBytes  = 5 + serialBytes + 4 // besides the bits
	maxGap       = 8 * serialBytes     // a wider one costs more bits than a list entry
	longRun      = 8 * rangeBytes      // in a bitmap it would take more than a range
	maxBitmapLen = 1 << 14             // bits; readers refuse larger numbers
)

// run is serials that follow each other without a gap.
type run struct{ low, high uint64 }

func (r run) count() uint64 { return r.high - r.low + 1 }

// bytes is what the run costs without a bitmap.
func (r run) bytes() uint64 { return min(rangeBytes, r.count()*serialBytes) }

// part is one section about serials.
type part struct {
	kind byte
	runs []run
}

// split puts sorted serials, each there once, into sections: the list, if
// there is one, comes first.
func split(serials []uint64) []part {
	list := part{kind: certSerialList}
	var parts []part
	for runs := runsOf(serials); len(runs) > 0; {
		n, asBitmap := neighbours(runs)
		group := runs[:n]
		runs = runs[n:]
		if asBitmap {
			parts = append(parts, part{certSerialBitmap, group})
			continue
		}
		for _, r := range group {
			if r.count()*serialBytes > rangeBytes {
				parts = append(parts, part{certSerialRange, []run{r}})
			} else {
				list.runs = append(list.runs, r)
			}
		}
	}
	if len(list.runs) > 0 {
		parts = append([]part{list}, parts...)
	}
	return parts
}

func runsOf(serials []uint64) []run {
	var out []run
	for _, s := range serials {
		if n := len(out); n > 0 && out[n-1].high+1 == s {
			out[n-1].high = s
		} else {
			out = append(out, run{s, s})
		}
	}
	return out
}

// neighbours tells how many of the first runs belong together, and whether a
// bitmap is the shortest form of them.
func neighbours(runs []run) (n int, asBitmap bool) {
	if runs[0].count() >= longRun {
		return 1, false
	}
	single := runs[0].bytes()
	for n = 1; n < len(runs); n++ {
		next := runs[n]
		if next.low-runs[n-1].high > maxGap || next.high-runs[0].low >= maxBitmapLen || next.count() >= longRun {
			break
		}
		single += next.bytes()
	}
	span := runs[n-1].high - runs[0].low + 1
	// Readers refuse a bitmap whose last byte reaches beyond the largest serial.
	fits := runs[0].low <= math.MaxUint64-maxBitmapLen
	return n, n > 1 && fits && bitmapBytes+span/8+1 < single
}

// data renders the section's content.
func (p part) data() []byte {
	var out writer
	switch p.kind {
	case certSerialRange:
		out.uint64(p.runs[0].low)
		out.uint64(p.runs[0].high)
	case certSerialBitmap:
		out.uint64(p.runs[0].low)
		out.string(p.bitmap())
	default:
		for _, r := range p.runs {
			for s := r.low; ; s++ {
				out.uint64(s)
				if s == r.high {
					break
				}
			}
		}
	}
	return out.Bytes()
}

// bitmap is the number in which bit N stands for the first serial plus N.
func (p part) bitmap() []byte {
	bits := new(big.Int)
	first := p.runs[0].low
	for _, r := range p.runs {
		for at := r.low - first; at <= r.high-first; at++ {
			bits.SetBit(bits, int(at), 1) //nolint:gosec // below maxBitmapLen
		}
	}
	number := bits.Bytes()
	if number[0]&0x80 != 0 {
		number = append([]byte{0}, number...) // with its top bit set it would be negative
	}
	return number
}
