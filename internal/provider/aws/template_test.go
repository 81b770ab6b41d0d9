package aws

import (
	"strings"
	"testing"
	"unicode/utf8"

	"pgregory.net/rapid"

	"github.com/vault-pim/vault-plugin-secrets-pim/internal/provider/contract"
)

func TestTemplates(t *testing.T) {
	t.Parallel()
	in := contract.Input{
		Credential: "01kjmekwdgbtqakvbp2svn3b3z", Request: "01kjmekwdgbtqakvbp2svn3b3y", Role: "prod", EntityID: "e-1",
		Person: "alice@example.com", Ticket: "T-1", Params: map[string]string{"team": "a*b", "eq": "a=b"},
		Metadata: map[string]string{"cost center": "Ünï 12"},
	}
	for template, want := range map[string]string{
		"{{person}}":                 "alice@example.com",
		"{{ person }}/{{ticket}}":    "alice@example.com/T-1",
		"{{role}}-{{request_id}}":    "prod-01kjmekwdgbtqakvbp2svn3b3y",
		"{{credential_id}}":          "01kjmekwdgbtqakvbp2svn3b3z",
		"{{entity_id}}":              "e-1",
		"{{metadata.cost center}}":   "Ünï 12",
		"{{params.team}}":            "a=2Ab",
		"{{params.eq}}":              "a=3Db",
		"{{params.none}}{{unknown}}": "",
		"fixed = text":               "fixed = text",
	} {
		if got := render(template, in); got != want {
			t.Errorf("%q became %q, want %q", template, got, want)
		}
	}
}

// Whatever comes from outside, the value is one that AWS takes, and two values
// never become the same: policies may decide on them.
func TestEscapedTagsAreValidAndDistinct(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		a, b := rapid.String().Draw(t, "a"), rapid.String().Draw(t, "b")
		x, y := escapeTag(a), escapeTag(b)
		if strings.ContainsFunc(x, func(r rune) bool { return !tagRune(r) }) || !utf8.ValidString(x) {
			t.Fatalf("%q became %q", a, x)
		}
		if a != b && x == y && utf8.ValidString(a) && utf8.ValidString(b) {
			t.Fatalf("%q and %q became %q", a, b, x)
		}
	})
}
