package domain

import (
	"bytes"
	"encoding/json"
	"math"
	"reflect"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// What is rendered by hand is what encoding/json renders, whatever the fields hold
// and whichever fields there are: one that is added to a record and forgotten here
// fails this.
func TestRenderingByHandIsTheSame(t *testing.T) {
	same := func(t rapid.TB, r Request) {
		t.Helper()
		want, errWant := json.Marshal(r)
		got, err := r.Render([]byte("before"), nil)
		if (err == nil) != (errWant == nil) {
			t.Fatalf("by hand: %v, otherwise: %v", err, errWant)
		}
		if err == nil && !bytes.Equal(got.Text, append([]byte("before"), want...)) {
			t.Fatalf("by hand:\n%s\notherwise:\n%s", got.Text, want)
		}
	}
	sameHandle := func(t rapid.TB, h Handle) {
		t.Helper()
		want, errWant := json.Marshal(h)
		got, err := h.Encode()
		if (err == nil) != (errWant == nil) || err == nil && got != string(want) {
			t.Fatalf("by hand: %s (%v), otherwise: %s (%v)", got, err, want, errWant)
		}
	}
	same(t, Request{})
	same(t, fullRequest(t))
	rapid.Check(t, func(t *rapid.T) {
		var r Request
		fill(t, reflect.ValueOf(&r).Elem())
		same(t, r)
		for _, c := range r.Credentials {
			sameHandle(t, c.Handle)
		}
	})
}

func TestALinkOfTheHistoryIsCanonical(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var x struct {
			Prev  string `json:"prev"`
			Entry Entry  `json:"entry"`
		}
		fill(t, reflect.ValueOf(&x).Elem())
		if y := x.Entry.At.Year(); y < 0 || y > 9999 {
			return
		}
		if got, want := link(x.Prev, x.Entry), canonicalHash(x); got != want {
			t.Fatalf("%s, want %s", got, want)
		}
	})
}

// Whatever changes in a record is in its next text, and nothing else is: there is no
// field, at any depth, whose change would be missed because the rest is as it was.
func TestTheNextRenderingMissesNoChange(t *testing.T) {
	r := fullRequest(t)
	for n := 11; n < 14; n++ {
		r = r.Plan(planned(n), at("90m"))
	}
	last, err := r.Render(nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	check := func(t *testing.T, what string, next Request) {
		t.Helper()
		want, err := json.Marshal(next)
		if err != nil {
			t.Fatal(err)
		}
		got, err := next.Render(nil, last)
		if err != nil || string(got.Text) != string(want) {
			t.Errorf("%s:\n%s (%v)\nwant\n%s", what, got.Text, err, want)
			return
		}
		if then, err := next.Render(nil, got); err != nil || string(then.Text) != string(want) {
			t.Errorf("%s, once more:\n%s (%v)\nwant\n%s", what, then.Text, err, want)
		}
	}
	check(t, "nothing", r)
	check(t, "an older version", fullRequest(t))
	check(t, "another request", File(asked(), 3600, t0))
	for i := range r.Credentials {
		next := r
		next.Credentials = slices.Delete(slices.Clone(r.Credentials), i, i+1)
		check(t, "a credential less", next)
		changes(t, &r.Credentials[i], func(what string, c Credential) {
			next.Credentials = slices.Clone(r.Credentials)
			next.Credentials[i] = c
			check(t, "credential"+what, next)
		})
	}
	for i := range r.History.Entries {
		next := r
		next.History.Entries = slices.Delete(slices.Clone(r.History.Entries), i, i+1)
		check(t, "a line less", next)
		changes(t, &r.History.Entries[i], func(what string, e Entry) {
			next.History.Entries = slices.Clone(r.History.Entries)
			next.History.Entries[i] = e
			check(t, "line"+what, next)
		})
	}
}

// changes calls f with copies of v, of which each differs in one field, at any depth.
func changes[T any](t *testing.T, v *T, f func(what string, changed T)) {
	t.Helper()
	var walk func(path string, field func(reflect.Value) reflect.Value)
	walk = func(path string, field func(reflect.Value) reflect.Value) {
		changed := *v
		x := field(reflect.ValueOf(&changed).Elem())
		switch old := x.Interface().(type) {
		case time.Time:
			x.Set(reflect.ValueOf(old.UTC().Add(time.Millisecond)))
		case json.RawMessage:
			x.Set(reflect.ValueOf(json.RawMessage(`{"changed":true}`)))
		case []Nonce:
			x.Set(reflect.ValueOf(append(slices.Clone(old), Nonce{ID: "one more", Until: t0})))
			f(path, changed)
			if len(old) == 0 {
				return
			}
			changes(t, &old[0], func(what string, n Nonce) {
				x.Set(reflect.ValueOf(append([]Nonce{n}, old[1:]...)))
				f(path+"[0]"+what, changed)
			})
			return
		default:
			switch x.Kind() {
			case reflect.Struct:
				for i := range x.NumField() {
					walk(path+"."+x.Type().Field(i).Name, func(v reflect.Value) reflect.Value { return field(v).Field(i) })
				}
				return
			case reflect.String:
				x.SetString(x.String() + "x")
			case reflect.Int, reflect.Int64:
				x.SetInt(x.Int() + 1)
			default:
				t.Fatalf("%s is of kind %s", path, x.Kind())
			}
		}
		f(path, changed)
	}
	walk("", func(v reflect.Value) reflect.Value { return v })
}

func TestASealIsCanonical(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var s Sealed
		fill(t, reflect.ValueOf(&s).Elem())
		got := s.Digest()
		if s.Params == nil {
			s.Params = map[string]string{}
		}
		if want := canonicalHash(s); got != want {
			t.Fatalf("%s, want %s", got, want)
		}
	})
}

// fill sets every field, at any depth, to something.
func fill(t *rapid.T, v reflect.Value) {
	switch x := v.Addr().Interface().(type) {
	case *time.Time:
		if rapid.Bool().Draw(t, "set") {
			s := rapid.Int64Range(-1e11, 3e11).Draw(t, "s") // years before 0 and after 9999 have no rendering
			*x = time.Unix(s, rapid.Int64Range(0, 999_999_999).Draw(t, "ns")).UTC()
		}
		return
	case *json.RawMessage:
		*x = rapid.SampledFrom([]json.RawMessage{nil, {}, json.RawMessage(`{"a": "<b>"}`), json.RawMessage(`{"a":1}`), json.RawMessage(`{`)}).Draw(t, "raw")
		return
	}
	switch v.Kind() {
	case reflect.String:
		v.SetString(rapid.OneOf(rapid.StringMatching("[ -~]{0,20}"), rapid.String(), rapid.Just("a\xffb")).Draw(t, "text"))
	case reflect.Bool:
		v.SetBool(rapid.Bool().Draw(t, "bool"))
	case reflect.Int, reflect.Int64:
		v.SetInt(rapid.Int64Range(-1, math.MaxInt32).Draw(t, "int"))
	case reflect.Uint64:
		v.SetUint(rapid.Uint64().Draw(t, "uint"))
	case reflect.Pointer:
		if rapid.Bool().Draw(t, "set") {
			v.Set(reflect.New(v.Type().Elem()))
			fill(t, v.Elem())
		}
	case reflect.Slice:
		if n := rapid.IntRange(-1, 3).Draw(t, "len"); n >= 0 {
			v.Set(reflect.MakeSlice(v.Type(), n, n))
		}
		for i := range v.Len() {
			fill(t, v.Index(i))
		}
	case reflect.Map:
		v.Set(reflect.MakeMap(v.Type()))
		for range rapid.IntRange(0, 2).Draw(t, "len") {
			key, value := reflect.New(v.Type().Key()).Elem(), reflect.New(v.Type().Elem()).Elem()
			fill(t, key)
			fill(t, value)
			v.SetMapIndex(key, value)
		}
	case reflect.Struct:
		for _, field := range v.Fields() {
			fill(t, field)
		}
	default:
		t.Fatalf("a record has a field of kind %s", v.Kind())
	}
}

// BenchmarkRender renders a record as it is under a grant with twenty live
// credentials, by hand and otherwise.
func BenchmarkRender(b *testing.B) {
	r := File(asked(), 3600, t0)
	for n := range 20 {
		r = r.Plan(planned(n), t0)
	}
	b.Run("by hand", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if _, err := r.Render(make([]byte, 0, 16<<10), nil); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("by hand, the next version", func(b *testing.B) {
		b.ReportAllocs()
		last, err := r.Render(nil, nil)
		if err != nil {
			b.Fatal(err)
		}
		next := r.Plan(planned(20), t0)
		for b.Loop() {
			if _, err := next.Render(make([]byte, 0, 16<<10), last); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("otherwise", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if _, err := json.Marshal(r); err != nil {
				b.Fatal(err)
			}
		}
	})
}
