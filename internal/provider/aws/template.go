package aws

import (
	"fmt"
	"regexp"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/vault-pim/vault-plugin-secrets-pim/internal/provider/contract"
)

// Limits of tags, the same in STS and IAM.
const (
	maxTags     = 50
	maxTagKey   = 128
	maxTagValue = 256
)

// tagManaged marks everything that pim makes and keeps at AWS. The others say
// whose it is.
const (
	tagManaged    = "pim:managed"
	tagCredential = "pim:credential" //nolint:gosec // the name of a tag
	tagRequest    = "pim:request"
	tagRole       = "pim:role"
	tagTarget     = "pim:target"
)

var placeholder = regexp.MustCompile(`\{\{([^{}]*)\}\}`)

// variables are the placeholders without a name of their own.
//
//nolint:gochecknoglobals // constant table
var variables = map[string]func(contract.Input) string{
	"person":        func(in contract.Input) string { return in.Person },
	"ticket":        func(in contract.Input) string { return in.Ticket },
	"role":          func(in contract.Input) string { return in.Role },
	"entity_id":     func(in contract.Input) string { return in.EntityID },
	"request_id":    func(in contract.Input) string { return string(in.Request) },
	"credential_id": func(in contract.Input) string { return string(in.Credential) },
}

// render fills a template. What comes from outside is escaped so that every
// value is one that AWS takes and no two values become the same.
func render(template string, in contract.Input) string {
	return placeholder.ReplaceAllStringFunc(template, func(m string) string {
		return escapeTag(lookup(strings.TrimSpace(m[2:len(m)-2]), in))
	})
}

func lookup(name string, in contract.Input) string {
	if f, ok := variables[name]; ok {
		return f(in)
	}
	if key, ok := strings.CutPrefix(name, "params."); ok {
		return in.Params[key]
	}
	if key, ok := strings.CutPrefix(name, "metadata."); ok {
		return in.Metadata[key]
	}
	return ""
}

// escapeTag writes every byte that tags may not have, and the escape sign
// itself, as = and two hexadecimal digits.
func escapeTag(s string) string {
	var b strings.Builder
	for _, r := range s {
		if r != '=' && r != utf8.RuneError && tagRune(r) {
			b.WriteRune(r)
			continue
		}
		for _, c := range []byte(string(r)) {
			fmt.Fprintf(&b, "=%02X", c)
		}
	}
	return b.String()
}

// tagRune tells whether tags may have a character.
func tagRune(r rune) bool {
	return unicode.IsLetter(r) || unicode.IsNumber(r) || unicode.Is(unicode.Z, r) || strings.ContainsRune("_.:/=+-@", r)
}

// renderTags fills all templates of a field and measures the values.
func renderTags(field string, templates map[string]string, in contract.Input) (map[string]string, error) {
	if len(templates) == 0 {
		return nil, nil
	}
	out := make(map[string]string, len(templates))
	for key, template := range templates {
		value := render(template, in)
		if utf8.RuneCountInString(value) > maxTagValue {
			return nil, contract.Refused("tag", "tag_size", "a value of %s would be longer than the %d characters that AWS takes", field, maxTagValue)
		}
		out[key] = value
	}
	return out, nil
}

// checkTags reports what is wrong with the tags of a role.
func checkTags(r *contract.Report, field string, templates map[string]string, params []string, most int) {
	if len(templates) > most {
		r.Addf(field, "has more than %d entries", most)
	}
	seen := map[string]bool{}
	for _, key := range sortedKeys(templates) {
		folded := strings.ToLower(key)
		switch {
		case key == "" || utf8.RuneCountInString(key) > maxTagKey || strings.ContainsFunc(key, func(c rune) bool { return !tagRune(c) }):
			r.Addf(field, "has a key that AWS does not take")
		case strings.HasPrefix(folded, "aws:"), strings.HasPrefix(folded, "pim:"):
			r.Addf(field, "has a key that begins with aws: or pim:")
		case seen[folded]:
			r.Addf(field, "has two keys that differ in case alone")
		}
		seen[folded] = true
		checkTemplate(r, field, templates[key], params)
	}
}

func checkTemplate(r *contract.Report, field, template string, params []string) {
	rest := placeholder.ReplaceAllStringFunc(template, func(m string) string {
		name := strings.TrimSpace(m[2 : len(m)-2])
		_, known := variables[name]
		key, isParam := strings.CutPrefix(name, "params.")
		_, isMetadata := strings.CutPrefix(name, "metadata.")
		switch {
		case isParam && !contains(params, key):
			r.Addf(field, "uses a parameter that the role does not declare")
		case !known && !isParam && !isMetadata:
			r.Addf(field, "has a placeholder that is not known")
		}
		return ""
	})
	if strings.ContainsFunc(rest, func(c rune) bool { return !tagRune(c) }) || utf8.RuneCountInString(rest) > maxTagValue {
		r.Addf(field, "has a value with a character or a length that AWS does not take")
	}
}
