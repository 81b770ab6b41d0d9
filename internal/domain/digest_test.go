package domain

import (
	"maps"
	"reflect"
	"regexp"
	"testing"
	"time"
)

func sealed() Sealed {
	return Sealed{
		Mount: "mount-1", Namespace: "ns1/", Request: RequestID(id(1)), Kind: KindNormal,
		Person: "email:alice@example.com", Requester: uuid(1), Role: "prod-admin", RoleRevision: "r1",
		Target: "prod", TargetRevision: "t1", Principal: "alice@example.com",
		Params: map[string]string{"branch": "main", "run": "<1&2>"}, TTL: 3600, Start: "2026-03-02T09:00:00Z",
	}
}

// A changed digest voids every open request of every mount on upgrade.
func TestDigestGolden(t *testing.T) {
	const want = "3be0bf02d123157dae137942dc3fa7cd032710f96c4e623f8b24114b1f4bf172"
	if got := sealed().Digest(); got != want {
		t.Errorf("got %s", got)
	}
	const wantEmpty = "a4342a23954b2ef00823d195cc78da9cd4a5b57ad6c54bfc7eb50fa1e819724e"
	if got := (Sealed{}).Digest(); got != wantEmpty {
		t.Errorf("got %s for nothing", got)
	}
}

func TestDigestCoversEveryField(t *testing.T) {
	seen := map[string]string{sealed().Digest(): "nothing changed"}
	for i := range reflect.TypeFor[Sealed]().NumField() {
		name := reflect.TypeFor[Sealed]().Field(i).Name
		s := sealed()
		change(t, reflect.ValueOf(&s).Elem().Field(i))
		d := s.Digest()
		if other, ok := seen[d]; ok {
			t.Errorf("a changed %s has the digest of: %s", name, other)
		}
		seen[d] = name
	}
}

// change gives a field another value.
func change(t *testing.T, f reflect.Value) {
	t.Helper()
	if f.Type() == reflect.TypeFor[time.Time]() {
		f.Set(reflect.ValueOf(at("1h")))
		return
	}
	switch f.Kind() {
	case reflect.String:
		f.SetString(f.String() + "x")
	case reflect.Int:
		f.SetInt(f.Int() + 1)
	case reflect.Bool:
		f.SetBool(!f.Bool())
	case reflect.Pointer:
		f.Set(reflect.New(f.Type().Elem()))
	case reflect.Slice:
		f.Set(reflect.Append(f, reflect.New(f.Type().Elem()).Elem()))
	case reflect.Map:
		m := reflect.MakeMap(f.Type())
		for _, k := range f.MapKeys() {
			m.SetMapIndex(k, f.MapIndex(k))
		}
		m.SetMapIndex(reflect.ValueOf("new").Convert(f.Type().Key()), reflect.New(f.Type().Elem()).Elem())
		f.Set(m)
	default:
		t.Fatalf("no way to change a %s", f.Kind())
	}
}

func TestDigestOfParameters(t *testing.T) {
	with := func(params map[string]string) string { s := sealed(); s.Params = params; return s.Digest() }
	if with(nil) != with(map[string]string{}) {
		t.Error("no parameters and an empty map differ")
	}
	if with(map[string]string{"a": "1", "b": "2"}) != with(map[string]string{"b": "2", "a": "1"}) {
		t.Error("the order of parameters matters")
	}
	different := []map[string]string{nil, {"a": ""}, {"a": "1", "b": "2"}, {"a": "2", "b": "1"}, {"a": `1","b":"2`}, {"ab": "12"}}
	seen := map[string]int{}
	for i, params := range different {
		if j, ok := seen[with(params)]; ok {
			t.Errorf("%v and %v have one digest", params, different[j])
		}
		seen[with(params)] = i
	}
}

func TestDigestForm(t *testing.T) {
	s := sealed()
	before := maps.Clone(s.Params)
	if !regexp.MustCompile(`^[0-9a-f]{64}$`).MatchString(s.Digest()) || !maps.Equal(before, s.Params) {
		t.Fatalf("digest %q, parameters %v", s.Digest(), s.Params)
	}
}

func TestParamsHash(t *testing.T) {
	if ParamsHash(nil) != "" || ParamsHash(map[string]string{}) != "" {
		t.Error("no parameters have a hash")
	}
	a, b := ParamsHash(map[string]string{"a": "1", "b": "2"}), ParamsHash(map[string]string{"b": "2", "a": "1"})
	if a != b || len(a) != 32 || a == ParamsHash(map[string]string{"a": "1"}) {
		t.Errorf("%q and %q", a, b)
	}
}

func TestRevisionCoversTheSecurityFields(t *testing.T) {
	free := map[string]bool{"Description": true, "Owner": true, "Labels": true, "Free": true, "Pins": true, "Editors": true}
	base := testRole()
	base.Fields = map[string]any{"path": "database/creds/prod"}
	for _, field := range reflect.VisibleFields(reflect.TypeFor[Role]()) {
		name := field.Name
		if field.Anonymous { // its fields follow
			continue
		}
		t.Run(name, func(t *testing.T) {
			r := base
			change(t, reflect.ValueOf(&r).Elem().FieldByIndex(field.Index))
			if same := r.Revision() == base.Revision(); same != free[name] {
				t.Fatalf("a changed %s has the same revision: %v", name, same)
			}
		})
	}
	r := base
	r.Pins, r.Labels = map[string]string{"leads": "x"}, map[string]string{"team": "a"}
	if r.Revision() != base.Revision() || r.Pins["leads"] != "x" || r.Labels["team"] != "a" {
		t.Error("computing the revision changed the role")
	}
}

func TestRevisionOfOneContent(t *testing.T) {
	a, b := testRole(), testRole()
	a.Fields = map[string]any{"path": "p", "ttl": 60, "names": []string{"x", "y"}, "data": map[string]string{"k": "v"}}
	// The same content as it comes back from storage.
	b.Fields = map[string]any{"data": map[string]any{"k": "v"}, "names": []any{"x", "y"}, "ttl": float64(60), "path": "p"}
	b.EligibleEntities = []string{}
	if a.Revision() != b.Revision() {
		t.Error("the same content has two revisions")
	}
	b.Incarnation = "incarnation-2"
	if a.Revision() == b.Revision() {
		t.Error("a recreated role has the revision of the old one")
	}
}

func TestRevisionGolden(t *testing.T) {
	const want = "incarnation-1:75d6294f1a66d5905c3896ef7ad88c292950470127be872d52149811c3579450"
	if got := testRole().Revision(); got != want {
		t.Errorf("got %s", got)
	}
}
