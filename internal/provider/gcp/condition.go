package gcp

import (
	"errors"
	"strings"
)

// Google allows 12 logical operators in one condition; our own part has one.
const (
	maxOperators = 11
	maxCondition = 1024
)

// checkCondition sees to it that a role's condition stays within the
// parentheses that are put around it, so that it cannot undo the end of the
// access window. Whether it means anything is Google's to say.
func checkCondition(text string) error {
	if len(text) > maxCondition {
		return errors.New("is longer than 1024 bytes")
	}
	s := scanner{}
	for i := range len(text) {
		if text[i] < ' ' || text[i] == 0x7f {
			return errors.New("must be one line without control characters")
		}
		if err := s.step(text, i); err != nil {
			return err
		}
	}
	switch {
	case s.quote != 0:
		return errors.New("has a text that does not end")
	case len(s.open) > 0:
		return errors.New("has a parenthesis that is not closed")
	case s.operators > maxOperators:
		return errors.New("has more than 11 of &&, || and the negation")
	}
	return nil
}

// scanner walks over an expression in CEL, byte by byte.
type scanner struct {
	quote     byte   // 0 = not in a text
	raw       bool   // in a text that knows no escapes
	skip      bool   // the next byte is escaped
	open      []byte // closing brackets that are due
	operators int
}

func (s *scanner) step(text string, i int) error {
	c := text[i]
	switch {
	case s.skip:
		s.skip = false
		return nil
	case s.quote != 0:
		if c == '\\' && !s.raw {
			s.skip = true
		} else if c == s.quote {
			s.quote = 0
		}
		return nil
	case c == '"' || c == '\'':
		if strings.HasPrefix(text[i:], strings.Repeat(string(c), 3)) {
			return errors.New("must not have texts in triple quotes")
		}
		s.quote, s.raw = c, rawPrefix(text[:i])
		return nil
	}
	return s.outside(text, i)
}

// rawPrefix tells whether a text that begins now is a raw one: r"…", rb"…".
func rawPrefix(before string) bool {
	word := before[strings.LastIndexFunc(before, func(r rune) bool { return !isWord(r) })+1:]
	switch strings.ToLower(word) {
	case "r", "br", "rb":
		return true
	}
	return false
}

func isWord(r rune) bool {
	return r == '_' || (r >= '0' && r <= '9') || (r >= 'a' && r <= 'z') || (r >= 'A' && r <= 'Z')
}

func (s *scanner) outside(text string, i int) error {
	c := text[i]
	two := text[i:min(i+2, len(text))]
	switch {
	case two == "//":
		return errors.New("must not have comments")
	case two == "&&" || two == "||" || (c == '!' && two != "!="):
		s.operators++
	case c == '(':
		s.open = append(s.open, ')')
	case c == '[':
		s.open = append(s.open, ']')
	case c == '{':
		s.open = append(s.open, '}')
	case c == ')' || c == ']' || c == '}':
		if len(s.open) == 0 || s.open[len(s.open)-1] != c {
			return errors.New("closes a parenthesis that it did not open")
		}
		s.open = s.open[:len(s.open)-1]
	}
	return nil
}
