package harness

import (
	"strings"
	"testing"
)

// Canary returns a value that looks like nothing else. Put it where a secret goes;
// when the test ends it must not be in the host's log (which holds the plugin's)
// nor in the audit file.
func (h *Host) Canary(t testing.TB) string {
	t.Helper()
	canary := "canary-" + short() + short()
	t.Cleanup(func() { h.NoTrace(t, canary) })
	return canary
}

// NoTrace fails the test if a value is in the host's log or audit file.
func (h *Host) NoTrace(t testing.TB, value string) {
	t.Helper()
	for name, read := range map[string]func() (string, error){"log": h.Log, "audit file": h.Audit} {
		text, err := read()
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		for line := range strings.Lines(text) {
			if strings.Contains(line, value) {
				t.Errorf("a secret value is in the host's %s: %s", name, line)
				break
			}
		}
	}
}

// NoTrace fails the test if a value is anywhere in the answer.
func (a Answer) NoTrace(t testing.TB, value string) Answer {
	t.Helper()
	if strings.Contains(string(a.Body), value) {
		t.Errorf("%s: a secret value comes back in the answer: %s", a.Request, a.Body)
	}
	for name := range a.Header {
		if strings.Contains(a.Header.Get(name), value) {
			t.Errorf("%s: a secret value comes back in the header %s", a.Request, name)
		}
	}
	return a
}
