package providertest

import (
	"maps"
	"slices"
	"strings"

	"github.com/vault-pim/vault-plugin-secrets-pim/internal/domain"
)

// publish does what the core does with the list of a provider that has one:
// whatever is being ended is on it before its access counts as gone.
func (r *run) publish(h domain.Handle) {
	r.Helper()
	l := r.w.Descriptor.List
	if l == nil {
		return
	}
	now := r.w.Env.Clock.Now()
	r.mu.Lock()
	defer r.mu.Unlock()
	if _, on := r.listed[h.Credential]; !on && !l.Until(h).After(now) {
		return
	}
	if r.w.Published == nil {
		r.Fatal("a role whose credentials end on a list needs a world that takes it")
	}
	if r.listed == nil {
		r.listed = map[domain.CredentialID]domain.Handle{}
	}
	r.listed[h.Credential] = h
	maps.DeleteFunc(r.listed, func(_ domain.CredentialID, h domain.Handle) bool { return !l.Until(h).After(now) })
	r.issues++
	all := slices.SortedFunc(maps.Values(r.listed), func(a, b domain.Handle) int {
		return strings.Compare(string(a.Credential), string(b.Credential))
	})
	raw, err := l.Render(all, r.issues, now)
	if err != nil {
		r.Fatalf("the list cannot be written: %v", err)
	}
	if again, err := l.Render(all, r.issues, now); err != nil || string(again) != string(raw) {
		r.Fatalf("the same list is written in two ways (%v)", err)
	}
	r.w.Published(raw)
}
