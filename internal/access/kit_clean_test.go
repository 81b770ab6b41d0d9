package access_test

import (
	"encoding/json"
	"strings"
	"time"

	"github.com/vault-pim/vault-plugin-secrets-pim/internal/domain"
)

// drain lets so much time pass that everything open ends, and insists that it
// does.
func (m *mount) drain() {
	m.Helper()
	for range 60 {
		m.pass(2 * time.Minute) // undone credentials are looked at twice
		if len(m.disk.keys("req/")) == 0 {
			return
		}
		m.clk.Advance(30 * time.Minute)
	}
	for _, k := range m.disk.keys("req/") {
		m.Logf("left: %s %s", k, m.disk.value(k))
	}
	m.Fatalf("%d request(s) never end", len(m.disk.keys("req/")))
}

// clean insists that nothing is left anywhere: nothing at the target, no open
// record, no dangling entry, no claim, and that every archived history is
// whole.
func (m *mount) clean() {
	m.Helper()
	m.drain()
	for _, o := range m.world.Objects() {
		m.Errorf("left at the target: %s %s of credential %s", o.Kind, o.Name, o.Credential)
	}
	for _, prefix := range []string{"claim/", "req/"} {
		for _, k := range m.disk.keys(prefix) {
			m.Errorf("left in storage: %s = %s", k, m.disk.value(k))
		}
	}
	if ids := m.a.IndexedIDs(); len(ids) > 0 {
		m.Errorf("left in memory: %v", ids)
	}
	m.archived()
	m.entries()
	m.secretless()
	if m.Failed() {
		m.FailNow()
	}
}

// record decodes what storage holds under a key.
func record[T any](m *mount, key string) T {
	m.Helper()
	var out struct {
		V    int `json:"v"`
		Body T   `json:"body"`
	}
	if err := json.Unmarshal(m.disk.value(key), &out); err != nil {
		m.Fatalf("%s: %v", key, err)
	}
	return out.Body
}

func (m *mount) archived() {
	m.Helper()
	for _, k := range m.disk.keys("arch/") {
		r := record[domain.Request](m, k)
		if !r.Finished() {
			m.Errorf("%s is archived but not finished: %s", k, r.State)
		}
		if !r.History.Intact() {
			m.Errorf("the history of %s is broken", k)
		}
	}
}

// entries insists that every entry of a person's record names an archived
// request and says how it ended. What a crash cut off while a request was being
// filed may dangle until the next filing.
func (m *mount) entries() {
	m.Helper()
	for _, k := range m.disk.keys("ent/") {
		for _, e := range record[domain.PersonRecord](m, k).Entries {
			switch raw := m.disk.value("arch/" + string(e.ID)); {
			case raw == nil && !m.dangling:
				m.Errorf("%s has an entry for %s that names nothing", k, e.ID)
			case raw != nil && e.Closed == "":
				m.Errorf("%s says that %s is open", k, e.ID)
			}
		}
	}
}

// secretless insists that no secret reached a record or the log.
func (m *mount) secretless() {
	m.Helper()
	all := m.log.all()
	for _, k := range m.disk.keys("") {
		if !strings.HasPrefix(k, "target-secret/") {
			all = append(all, string(m.disk.value(k)))
		}
	}
	for _, text := range all {
		if strings.Contains(text, "fake-password") || strings.Contains(text, "root-of-") {
			m.Errorf("a secret got out: %s", text)
		}
	}
}
