package domain

import (
	"errors"
	"fmt"
	"regexp"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Bounds of user text, in bytes.
const (
	MaxJustification = 2048
	MaxTicket        = 256
	MaxComment       = 2048
	MaxParam         = 2048 // a certificate request for a long RSA key
	MaxPattern       = 512
)

// CheckText says what is wrong with a text from outside, or "". The text is
// never part of the answer.
func CheckText(s string, maxBytes int) string {
	switch {
	case len(s) > maxBytes:
		return fmt.Sprintf("longer than %d bytes", maxBytes)
	case !utf8.ValidString(s):
		return "not valid UTF-8"
	case strings.IndexFunc(s, hidden) >= 0:
		return "has control or bidirectional characters"
	}
	return ""
}

// hidden tells whether a rune could make a text look like another one on a
// terminal: controls, and the bidirectional marks of Unicode TR 9.
func hidden(r rune) bool {
	return unicode.IsControl(r) || unicode.Is(unicode.Cf, r) || r == '\u2028' || r == '\u2029'
}

// Printable shows a text from outside with everything hidden made visible.
func Printable(s string) string {
	if strings.IndexFunc(s, hidden) < 0 && utf8.ValidString(s) {
		return s
	}
	var b strings.Builder
	for _, r := range s {
		if hidden(r) || r == utf8.RuneError {
			fmt.Fprintf(&b, `\u%04x`, r)
			continue
		}
		b.WriteRune(r)
	}
	return b.String()
}

var errPattern = errors.New("not a valid RE2 pattern")

// CompilePattern compiles a pattern of a role. It is RE2, at most MaxPattern
// bytes, and anchored at both ends by us.
func CompilePattern(p string) (*regexp.Regexp, error) {
	if why := CheckText(p, MaxPattern); why != "" {
		return nil, errors.New(why)
	}
	// Alone first: "a)|(b" is valid only inside our brackets, and leaves them.
	if _, err := regexp.Compile(p); err != nil {
		return nil, errPattern
	}
	re, err := regexp.Compile(`^(?:` + p + `)$`)
	if err != nil {
		return nil, errPattern
	}
	return re, nil
}
