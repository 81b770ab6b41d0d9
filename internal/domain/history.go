package domain

import "time"

// MaxHistory is how many entries a record keeps; older ones fold into the head
// of the hash chain.
const MaxHistory = 200

// Entry is one sentence of a request's history.
type Entry struct {
	At   time.Time `json:"at"`
	By   string    `json:"by,omitempty"` // display name; "" = the engine
	Who  string    `json:"who,omitempty"`
	What string    `json:"what"` // event name, closed list
	Text string    `json:"text"` // our words
}

// History is a hash-chained list of entries. The head covers everything that
// ever happened, folded entries included; outside copies of it prove
// tampering.
type History struct {
	Head    string  `json:"head"`
	Base    string  `json:"base,omitempty"` // head before the first kept entry
	Folded  int     `json:"folded,omitempty"`
	Entries []Entry `json:"entries"`
}

// link is the canonicalHash of {"prev": …, "entry": …}.
func link(prev string, e Entry) string {
	w := renderer{b: make([]byte, 0, 512), canonical: true}
	w.text(`{"prev":`, prev)
	w.raw(`,"entry":`)
	w.entry(&e)
	w.raw("}")
	return hashOf(w.b, w.err)
}

// add returns the history with one more entry; the receiver stays as it was.
func (h History) add(e Entry) History {
	e.At = e.At.UTC()
	entries := make([]Entry, 0, len(h.Entries)+1)
	entries = append(append(entries, h.Entries...), e)
	h.Head, h.Entries = link(h.Head, e), entries
	return h.Fold(MaxHistory)
}

// Fold keeps the newest entries, at most keep, and folds the others into the
// base of the chain. The head stays.
func (h History) Fold(keep int) History {
	for len(h.Entries) > keep {
		h.Base = link(h.Base, h.Entries[0])
		h.Folded++
		h.Entries = h.Entries[1:]
	}
	return h
}

// Intact recomputes the chain and tells whether it still leads to the head.
func (h History) Intact() bool {
	head := h.Base
	for _, e := range h.Entries {
		head = link(head, e)
	}
	return head == h.Head
}
