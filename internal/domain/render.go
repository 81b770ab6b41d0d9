package domain

import (
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"time"
)

// AppendJSON appends the request as encoding/json renders it, to the byte. A record
// is rendered twice for each credential, and nearly all of it is credentials and
// lines of history: these two are rendered here by hand, at a tenth of the price of
// reflection, and everything else as ever.
func (r Request) AppendJSON(b []byte) ([]byte, error) {
	type plain Request
	head, err := json.Marshal(struct {
		*plain
		// They hide the fields of the same names.
		Credentials struct{} `json:"credentials,omitzero"`
		History     struct{} `json:"history,omitzero"`
	}{plain: (*plain)(&r)})
	if err != nil {
		return b, fmt.Errorf("render request: %w", err)
	}
	w := renderer{b: append(b, head[:len(head)-1]...)} // without its last brace
	for i := range r.Credentials {
		w.raw(sep(i, `,"credentials":[`))
		w.credential(&r.Credentials[i])
	}
	if len(r.Credentials) > 0 {
		w.raw("]")
	}
	w.raw(`,"history":`)
	w.history(r.History)
	w.raw("}")
	if w.err != nil {
		return b, fmt.Errorf("render request: %w", w.err)
	}
	return w.b, nil
}

// sep is what stands before element i of a list that opens so.
func sep(i int, open string) string {
	if i == 0 {
		return open
	}
	return ","
}

// renderer appends JSON, as encoding/json does it, and remembers its first error.
type renderer struct {
	b         []byte
	canonical bool // as canonicalHash wants it: without HTML escaping
	err       error
}

func (w *renderer) raw(s string) { w.b = append(w.b, s...) }

// key begins a field. Each kind of value has a method; what ends in OK leaves out
// the zero value.
func (w *renderer) key(k string) { w.raw(k) }

func (w *renderer) text(k, v string) {
	w.key(k)
	w.string(v)
}

func (w *renderer) textOK(k, v string) {
	if v != "" {
		w.text(k, v)
	}
}

func (w *renderer) number(k string, v int64) {
	w.key(k)
	w.b = strconv.AppendInt(w.b, v, 10)
}

func (w *renderer) numberOK(k string, v int64) {
	if v != 0 {
		w.number(k, v)
	}
}

func (w *renderer) time(k string, t time.Time) {
	w.key(k)
	w.raw(`"`)
	b, err := t.AppendText(w.b)
	if err != nil {
		w.fail(err)
		return
	}
	w.b = append(b, '"')
}

func (w *renderer) timeOK(k string, t time.Time) {
	if !t.IsZero() {
		w.time(k, t)
	}
}

// string appends a text. Nearly all are plain ASCII; the others are left to
// encoding/json.
func (w *renderer) string(s string) {
	for i := range len(s) {
		if c := s[i]; c < ' ' || c > '~' || c == '"' || c == '\\' || c == '<' || c == '>' || c == '&' {
			w.value(s)
			return
		}
	}
	w.b = append(append(append(w.b, '"'), s...), '"')
}

// embed appends what is JSON already. It is checked: half of it would make the
// whole record unreadable.
func (w *renderer) embed(v json.RawMessage) {
	for _, c := range v {
		if c <= ' ' || c > '~' || c == '<' || c == '>' || c == '&' {
			w.value(v)
			return
		}
	}
	if !json.Valid(v) {
		w.fail(errors.New("what was to be embedded is not JSON"))
		return
	}
	w.b = append(w.b, v...)
}

func (w *renderer) value(v any) {
	render := json.Marshal
	if w.canonical {
		render = canonicalJSON
	}
	raw, err := render(v)
	if err != nil {
		w.fail(err)
		return
	}
	w.b = append(w.b, raw...)
}

func (w *renderer) fail(err error) {
	if w.err == nil {
		w.err = err
	}
}

func (w *renderer) credential(c *Credential) {
	w.text(`{"id":`, string(c.ID))
	w.text(`,"state":`, string(c.State))
	w.key(`,"handle":`)
	w.handle(&c.Handle)
	w.text(`,"boot":`, c.Boot)
	w.text(`,"call":`, c.Call)
	w.time(`,"planned":`, c.Planned)
	w.time(`,"expires":`, c.Expires)
	w.time(`,"until":`, c.Until)
	w.timeOK(`,"due":`, c.Due)
	w.numberOK(`,"attempts":`, int64(c.Attempts))
	w.textOK(`,"problem":`, c.Problem)
	w.textOK(`,"why":`, c.Why)
	for i, n := range c.Nonces {
		w.raw(sep(i, `,"nonces":[`))
		w.text(`{"id":`, n.ID)
		w.time(`,"until":`, n.Until)
		w.raw("}")
	}
	if len(c.Nonces) > 0 {
		w.raw("]")
	}
	w.timeOK(`,"access_ended_at":`, c.AccessAt)
	w.timeOK(`,"gone_at":`, c.GoneAt)
	w.numberOK(`,"refused_after_ms":`, c.RefusedAfter)
	w.raw("}")
}

func (w *renderer) handle(h *Handle) {
	w.text(`{"p":`, h.Provider)
	w.number(`,"v":`, int64(h.V))
	w.text(`,"t":`, h.Target)
	w.text(`,"l":`, h.Place)
	w.text(`,"c":`, string(h.Credential))
	w.textOK(`,"s":`, h.Shared)
	if len(h.Data) > 0 {
		w.key(`,"d":`)
		w.embed(h.Data)
	}
	w.raw("}")
}

func (w *renderer) history(h History) {
	w.text(`{"head":`, h.Head)
	w.textOK(`,"base":`, h.Base)
	w.numberOK(`,"folded":`, int64(h.Folded))
	w.key(`,"entries":`)
	if h.Entries == nil {
		w.raw("null}")
		return
	}
	w.raw("[")
	for i := range h.Entries {
		w.raw(sep(i, ""))
		w.entry(&h.Entries[i])
	}
	w.raw("]}")
}

func (w *renderer) entry(e *Entry) {
	w.time(`{"at":`, e.At)
	w.textOK(`,"by":`, e.By)
	w.textOK(`,"who":`, e.Who)
	w.text(`,"what":`, e.What)
	w.text(`,"text":`, e.Text)
	w.raw("}")
}
