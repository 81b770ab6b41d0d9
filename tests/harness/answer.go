package harness

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"
)

// Answer is what the host said, word for word.
type Answer struct {
	Request string // method and path, for messages
	Status  int
	Header  http.Header
	Body    []byte // exactly as received

	// What the body holds if it is one of the host's JSON envelopes.
	Errors        []string
	Warnings      []string
	Data          map[string]any
	LeaseID       string
	LeaseDuration int // seconds
	Renewable     bool
	WrapToken     string
	Auth          map[string]any
}

func parseAnswer(request string, status int, header http.Header, body []byte) Answer {
	a := Answer{Request: request, Status: status, Header: header, Body: body}
	var envelope struct {
		Errors        []string       `json:"errors"`
		Warnings      []string       `json:"warnings"`
		Data          map[string]any `json:"data"`
		LeaseID       string         `json:"lease_id"`
		LeaseDuration int            `json:"lease_duration"`
		Renewable     bool           `json:"renewable"`
		Auth          map[string]any `json:"auth"`
		WrapInfo      struct {
			Token string `json:"token"`
		} `json:"wrap_info"`
	}
	if json.Unmarshal(body, &envelope) != nil {
		return a // raw answers are judged by Body alone
	}
	a.Errors, a.Warnings, a.Data = envelope.Errors, envelope.Warnings, envelope.Data
	a.LeaseID, a.LeaseDuration, a.Renewable = envelope.LeaseID, envelope.LeaseDuration, envelope.Renewable
	a.WrapToken, a.Auth = envelope.WrapInfo.Token, envelope.Auth
	return a
}

// OK fails the test unless the answer is a success, and returns it.
func (a Answer) OK(t testing.TB) Answer {
	t.Helper()
	if a.Status/100 != 2 {
		t.Fatalf("%s: want success, got %d %s", a.Request, a.Status, a.Body)
	}
	return a
}

// Refused fails the test unless the answer has this status and its first error
// begins with prefix. It returns the answer.
func (a Answer) Refused(t testing.TB, status int, prefix string) Answer {
	t.Helper()
	if a.Status != status {
		t.Fatalf("%s: want status %d, got %d %s", a.Request, status, a.Status, a.Body)
	}
	if len(a.Errors) == 0 || !strings.HasPrefix(a.Errors[0], prefix) {
		t.Fatalf("%s: want an error that begins with %q, got %s", a.Request, prefix, a.Body)
	}
	return a
}

// String returns a field of data and fails the test unless it is a string that
// is not empty.
func (a Answer) String(t testing.TB, field string) string {
	t.Helper()
	s, ok := a.Data[field].(string)
	if !ok || s == "" {
		t.Fatalf("%s: want a string in data.%s, got %s", a.Request, field, a.Body)
	}
	return s
}

// Keys returns what a list holds. The host answers an empty list with 404, which
// is no failure here.
func (a Answer) Keys(t testing.TB) []string {
	t.Helper()
	if a.Status == http.StatusNotFound && len(a.Errors) == 0 {
		return nil
	}
	a.OK(t)
	rows, ok := a.Data["keys"].([]any)
	if !ok {
		t.Fatalf("%s: want data.keys, got %s", a.Request, a.Body)
	}
	keys := make([]string, 0, len(rows))
	for _, row := range rows {
		key, ok := row.(string)
		if !ok {
			t.Fatalf("%s: want strings in data.keys, got %s", a.Request, a.Body)
		}
		keys = append(keys, key)
	}
	return keys
}
