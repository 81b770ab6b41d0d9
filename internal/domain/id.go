package domain

import (
	"errors"
	"fmt"
	"io"
	"regexp"
	"strings"
	"time"

	"github.com/oklog/ulid/v2"
)

// RequestID names a request and the grant it becomes.
type RequestID string

// CredentialID names one credential.
type CredentialID string

var (
	idPattern   = regexp.MustCompile(`^[0-7][0-9a-hjkmnp-tv-z]{25}$`)
	namePattern = regexp.MustCompile(`^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$`)
)

var errID = errors.New("not an id: 26 lower-case characters are expected")

// NewID makes an id from the time and 80 bits of entropy, in the one exact
// lower-case form (ULID, https://github.com/ulid/spec).
func NewID(now time.Time, entropy io.Reader) (string, error) {
	id, err := ulid.New(ulid.Timestamp(now), entropy)
	if err != nil {
		return "", fmt.Errorf("make id: %w", err)
	}
	return strings.ToLower(id.String()), nil
}

// ValidID tells whether s is an id in the exact form. Nothing is folded.
func ValidID(s string) bool { return idPattern.MatchString(s) }

// ParseRequestID is the only way from outside text to a RequestID.
func ParseRequestID(s string) (RequestID, error) {
	if !ValidID(s) {
		return "", errID
	}
	return RequestID(s), nil
}

// ParseCredentialID is the only way from outside text to a CredentialID.
func ParseCredentialID(s string) (CredentialID, error) {
	if !ValidID(s) {
		return "", errID
	}
	return CredentialID(s), nil
}

// TimeOf is when an id was made; zero for what is no id.
func TimeOf(id string) time.Time {
	u, err := ulid.ParseStrict(strings.ToUpper(id))
	if err != nil {
		return time.Time{}
	}
	return ulid.Time(u.Time()).UTC()
}

var namePatternPattern = regexp.MustCompile(`^[a-z0-9*-]{1,63}$`)

// ValidNamePattern tells whether s can match names, with * for any run of
// characters.
func ValidNamePattern(s string) bool { return namePatternPattern.MatchString(s) }

// ValidName tells whether s can name a target, a role or a parameter holder.
func ValidName(s string) bool { return namePattern.MatchString(s) }
