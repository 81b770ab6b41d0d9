package domain

import (
	"encoding/json"
	"errors"
	"strconv"
	"time"
)

// asked is what a request asks for.
func (w *renderer) asked(r *Request) {
	w.text(`{"id":`, string(r.ID))
	w.text(`,"kind":`, r.Kind)
	w.text(`,"role":`, r.Role)
	w.text(`,"role_revision":`, r.RoleRevision)
	w.text(`,"target":`, r.Target)
	w.text(`,"target_revision":`, r.TargetRevision)
	w.raw(`,"requester":`)
	w.party(&r.Requester)
	w.textOK(`,"justification":`, r.Justification)
	w.textOK(`,"ticket":`, r.Ticket)
	w.valueOK(`,"params":`, r.Params, len(r.Params) > 0)
	w.textOK(`,"principal":`, r.Principal)
	w.number(`,"ttl":`, int64(r.TTL))
	w.timeOK(`,"start_time":`, r.StartTime)
	w.text(`,"digest":`, r.Digest)
	w.flagOK(`,"auto":`, r.Auto)
	w.flagOK(`,"first_read":`, r.FirstRead)
	w.numberOK(`,"claim_within":`, int64(r.ClaimWithin))
}

// progress is what became of it.
func (w *renderer) progress(r *Request) {
	w.text(`,"state":`, string(r.State))
	w.time(`,"expires_at":`, r.ExpiresAt)
	w.timeOK(`,"window_start":`, r.WindowStart)
	w.timeOK(`,"window_end":`, r.WindowEnd)
	w.numberOK(`,"granted":`, int64(r.Granted))
	for i := range r.Decisions {
		w.raw(sep(i, `,"decisions":[`))
		w.decision(&r.Decisions[i])
	}
	w.end(len(r.Decisions))
	w.numberOK(`,"stage":`, int64(r.Stage))
	w.timeOK(`,"reconsider":`, r.Reconsider)
	w.textOK(`,"review_owed":`, r.ReviewOwed)
	w.textOK(`,"observed":`, r.Observed)
	w.valueOK(`,"extensions":`, r.Extensions, len(r.Extensions) > 0)
	w.valueOK(`,"series":`, r.Series, r.Series != nil)
	w.textOK(`,"reason":`, r.Reason)
	w.numberOK(`,"issued":`, int64(r.Issued))
	w.valueOK(`,"glass":`, r.Glass, r.Glass != nil)
	w.valueOK(`,"review":`, r.Review, r.Review != nil)
	w.numberOK(`,"fed":`, int64(r.Fed))
}

func (w *renderer) party(p *Party) {
	w.text(`{"entity":`, p.Entity)
	w.text(`,"person":`, string(p.Person))
	w.text(`,"name":`, p.Name)
	w.flagOK(`,"machine":`, p.Machine)
	w.raw("}")
}

func (w *renderer) decision(d *Decision) {
	w.raw(`{"by":`)
	w.party(&d.By)
	w.text(`,"verdict":`, string(d.Verdict))
	w.textOK(`,"comment":`, d.Comment)
	w.numberOK(`,"ttl":`, int64(d.TTL))
	w.time(`,"at":`, d.At)
	w.text(`,"digest":`, d.Digest)
	w.numberOK(`,"stage":`, int64(d.Stage))
	w.raw("}")
}

func (w *renderer) times(t *Times) {
	w.time(`{"requested":`, t.Requested)
	w.timeOK(`,"first_decision":`, t.FirstDecision)
	w.timeOK(`,"quorum":`, t.Quorum)
	w.timeOK(`,"first_issue":`, t.FirstIssue)
	w.timeOK(`,"revoke_asked":`, t.RevokeAsked)
	w.timeOK(`,"target_confirmed":`, t.TargetConfirmed)
	w.timeOK(`,"first_refused":`, t.FirstRefused)
	w.timeOK(`,"closed":`, t.Closed)
	w.raw("}")
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
	last      time.Time
	lastAt    [2]int // where in b it was rendered; records name the same times again and again
	err       error
}

// raw appends JSON as it is, such as the beginning of a field. Each kind of value
// has a method that takes that beginning; what ends in OK leaves out the zero value.
func (w *renderer) raw(s string) { w.b = append(w.b, s...) }

func (w *renderer) text(k, v string) {
	w.raw(k)
	w.string(v)
}

func (w *renderer) textOK(k, v string) {
	if v != "" {
		w.text(k, v)
	}
}

func (w *renderer) number(k string, v int64) {
	w.raw(k)
	w.b = strconv.AppendInt(w.b, v, 10)
}

func (w *renderer) numberOK(k string, v int64) {
	if v != 0 {
		w.number(k, v)
	}
}

func (w *renderer) flagOK(k string, v bool) {
	if v {
		w.raw(k)
		w.raw("true")
	}
}

func (w *renderer) valueOK(k string, v any, has bool) {
	if has {
		w.raw(k)
		w.value(v)
	}
}

// end closes a list of so many elements, which is left out when it is empty.
func (w *renderer) end(n int) {
	if n > 0 {
		w.raw("]")
	}
}

func (w *renderer) time(k string, t time.Time) {
	w.raw(k)
	from := len(w.b)
	if t == w.last && w.lastAt[1] > 0 { //nolint:staticcheck // the very same value, location and all
		w.b = append(w.b, w.b[w.lastAt[0]:w.lastAt[1]]...)
		return
	}
	w.raw(`"`)
	b, err := t.AppendText(w.b)
	if err != nil {
		w.fail(err)
		return
	}
	w.b = append(b, '"')
	w.last, w.lastAt = t, [2]int{from, len(w.b)}
}

func (w *renderer) timeOK(k string, t time.Time) {
	if !t.IsZero() {
		w.time(k, t)
	}
}

// asItIs tells which bytes stand in a JSON text as they are.
var asItIs = func() (t [256]bool) {
	for c := ' '; c <= '~'; c++ {
		t[c] = c != '"' && c != '\\' && c != '<' && c != '>' && c != '&'
	}
	return t
}()

// string appends a text. Nearly all are plain ASCII; the others are left to
// encoding/json.
func (w *renderer) string(s string) {
	for i := range len(s) {
		if !asItIs[s[i]] {
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
	w.raw(`,"handle":`)
	w.handle(&c.Handle)
	w.textOK(`,"boot":`, c.Boot)
	w.textOK(`,"call":`, c.Call)
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
	w.end(len(c.Nonces))
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
		w.raw(`,"d":`)
		w.embed(h.Data)
	}
	w.raw("}")
}

func (w *renderer) entry(e *Entry) {
	w.time(`{"at":`, e.At)
	w.textOK(`,"by":`, e.By)
	w.textOK(`,"who":`, e.Who)
	w.text(`,"what":`, e.What)
	w.text(`,"text":`, e.Text)
	w.raw("}")
}
