package domain

import (
	"bytes"
	"fmt"
	"slices"
	"strconv"
	"time"
)

// Rendering is the text of a request, and where in it its credentials and the lines
// of its history stand: the next version shares nearly all of them. It is never
// changed.
type Rendering struct {
	Text        []byte
	Of          Request
	credentials []part
	entries     []part
}

// part is where an element of a list stands in a text.
type part struct{ from, to int }

// Render appends the request to b as encoding/json renders it, to the byte. A record
// is rendered twice for each credential, which by reflection is the largest part of
// what that costs; only what few requests have is left to reflection. last is how a
// version of it was rendered to the same b; nil = nobody remembers. Errors: what is
// no JSON, and times outside the years 0 to 9999.
func (r Request) Render(b []byte, last *Rendering) (*Rendering, error) {
	if last == nil {
		last = &Rendering{}
	}
	out := &Rendering{Of: r}
	w := renderer{b: b}
	w.asked(&r)
	w.progress(&r)
	w.raw(`,"times":`)
	w.times(&r.Times)
	w.raw(`,"rev":`)
	w.b = strconv.AppendUint(w.b, r.Rev, 10)
	out.credentials = w.credentials(r.Credentials, last)
	w.raw(`,"history":`)
	out.entries = w.history(&r.History, last)
	w.raw("}")
	if w.err != nil {
		return nil, fmt.Errorf("render request: %w", w.err)
	}
	out.Text = w.b
	return out, nil
}

func (w *renderer) credentials(list []Credential, last *Rendering) []part {
	parts := again(w, `,"credentials":[`, list, last.Of.Credentials, last.Text, last.credentials, (*Credential).same, w.credential)
	w.end(len(list))
	return parts
}

func (w *renderer) history(h *History, last *Rendering) []part {
	w.text(`{"head":`, h.Head)
	w.textOK(`,"base":`, h.Base)
	w.numberOK(`,"folded":`, int64(h.Folded))
	w.raw(`,"entries":`)
	if h.Entries == nil {
		w.raw("null}")
		return nil
	}
	w.raw("[")
	same := func(e, o *Entry) bool { return *e == *o }
	parts := again(w, "", h.Entries, last.Of.History.Entries, last.Text, last.entries, same, w.entry)
	w.raw("]}")
	return parts
}

// again renders the elements of a list that opens so. One that was in the list before
// is taken from where it stands in the text of that time.
func again[T any](w *renderer, open string, list, before []T, text []byte, at []part, same func(*T, *T) bool, render func(*T)) []part {
	parts, next := make([]part, 0, len(list)), 0
	for i := range list {
		w.raw(sep(i, open))
		from, old := len(w.b), next
		for old < len(at) && !same(&list[i], &before[old]) {
			old++
		}
		if old < len(at) {
			w.b = append(w.b, text[at[old].from:at[old].to]...)
			next = old + 1
		} else {
			render(&list[i])
		}
		parts = append(parts, part{from, len(w.b)})
	}
	return parts
}

// same tells whether a credential is rendered as another one is.
func (c *Credential) same(o *Credential) bool {
	return c.ID == o.ID && c.State == o.State && c.dates() == o.dates() && c.Handle.same(&o.Handle) &&
		c.Boot == o.Boot && c.Call == o.Call && c.Attempts == o.Attempts && c.Problem == o.Problem && c.Why == o.Why &&
		c.RefusedAfter == o.RefusedAfter && slices.Equal(c.Nonces, o.Nonces)
}

func (c *Credential) dates() [6]time.Time {
	return [...]time.Time{c.Planned, c.Expires, c.Until, c.Due, c.AccessAt, c.GoneAt}
}

func (h *Handle) same(o *Handle) bool {
	return h.Provider == o.Provider && h.V == o.V && h.Target == o.Target && h.Place == o.Place &&
		h.Credential == o.Credential && h.Shared == o.Shared && bytes.Equal(h.Data, o.Data)
}
