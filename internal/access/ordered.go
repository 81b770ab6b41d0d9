package access

import (
	"slices"
	"strings"

	"github.com/vault-pim/vault-plugin-secrets-pim/internal/domain"
)

// ordered is a set of rows in order of their ids. New ids are the largest, so
// adding is nearly always an append; a page costs what it shows, however many
// rows there are.
type ordered struct {
	chunks [][]*row // none is empty
}

// chunkSize bounds what one insertion or removal moves.
const chunkSize = 512

func byID(w *row, id domain.RequestID) int { return strings.Compare(string(w.id), string(id)) }

// chunkOf finds the chunk that an id belongs to: the last one that does not
// begin after it.
func (o *ordered) chunkOf(id domain.RequestID) int {
	i, found := slices.BinarySearchFunc(o.chunks, id, func(c []*row, id domain.RequestID) int { return byID(c[0], id) })
	if found || i == 0 {
		return i
	}
	return i - 1
}

// add puts a row into its place. Adding one that is there changes nothing.
func (o *ordered) add(w *row) {
	i := o.chunkOf(w.id)
	if i == len(o.chunks) {
		o.chunks = append(o.chunks, []*row{w})
		return
	}
	at, found := slices.BinarySearchFunc(o.chunks[i], w.id, byID)
	switch {
	case found:
	case len(o.chunks[i]) < chunkSize:
		o.chunks[i] = slices.Insert(o.chunks[i], at, w)
	case at == chunkSize && i == len(o.chunks)-1: // the newest: chunks that are full stay full
		o.chunks = append(o.chunks, []*row{w})
	default:
		half := slices.Clone(o.chunks[i][chunkSize/2:])
		clear(o.chunks[i][chunkSize/2:])
		o.chunks[i] = o.chunks[i][:chunkSize/2]
		o.chunks = slices.Insert(o.chunks, i+1, half)
		o.add(w)
	}
}

// remove takes a row out. Removing one that is not there changes nothing.
func (o *ordered) remove(id domain.RequestID) {
	i := o.chunkOf(id)
	if i == len(o.chunks) {
		return
	}
	at, found := slices.BinarySearchFunc(o.chunks[i], id, byID)
	if !found {
		return
	}
	o.chunks[i] = slices.Delete(o.chunks[i], at, at+1)
	if len(o.chunks[i]) == 0 {
		o.chunks = slices.Delete(o.chunks, i, i+1)
	}
}

func (o *ordered) empty() bool { return o == nil || len(o.chunks) == 0 }

// after visits the rows after an id, in order, until visit says to stop.
func (o *ordered) after(id domain.RequestID, visit func(*row) (more bool)) {
	if o.empty() {
		return
	}
	first := o.chunkOf(id)
	at, found := slices.BinarySearchFunc(o.chunks[first], id, byID)
	if found {
		at++
	}
	for _, c := range o.chunks[first:] {
		for _, w := range c[at:] {
			if !visit(w) {
				return
			}
		}
		at = 0
	}
}
