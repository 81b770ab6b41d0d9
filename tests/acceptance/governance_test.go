package acceptance

import (
	"net/http"
	"strings"
	"testing"
	"time"
)

// What a role allows beyond one request and one decision, through the doors that
// people use.
func TestMoreTimeManyAndObserved(t *testing.T) {
	t.Parallel()
	c := prodScene(t, nil)
	c.moreTime(t)
	c.several(t)
	c.observed(t)
}

// moreTime: more time takes a decision of its own, and ends at the cap.
func (c *cast) moreTime(t *testing.T) {
	t.Helper()
	host.Root().Write(t, c.path("roles/prod"), map[string]any{"ttl": "10m", "max_extension": "10m"}).OK(t)
	id := c.grant(t, "prod")
	before := c.alice.Read(t, c.path("requests/"+id)).OK(t).String(t, "window_ends_at")
	extend := func(ttl string) map[string]any {
		return map[string]any{"ttl": ttl, "justification": "order 4711 is not done"}
	}
	c.bob.Write(t, c.path("requests/"+id+"/extend"), extend("5m")).Refused(t, http.StatusNotFound, "no such request")
	c.alice.Write(t, c.path("requests/"+id+"/extend"), extend("11m")).Refused(t, http.StatusBadRequest, "invalid input: ttl: goes beyond")
	c.alice.Write(t, c.path("requests/"+id+"/extend"), extend("5m")).OK(t)
	shown := c.bob.Read(t, c.path("approvals/"+id)).OK(t)
	c.approve(t, id, shown.String(t, "digest"))
	from, err := time.Parse(time.RFC3339, before)
	if err != nil {
		t.Fatal(err)
	}
	if after := c.alice.Read(t, c.path("requests/"+id)).OK(t).String(t, "window_ends_at"); after != from.Add(5*time.Minute).Format(time.RFC3339) {
		t.Errorf("the window ended at %s and ends at %s", before, after)
	}
	c.alice.Delete(t, c.path("requests/"+id)).OK(t)
}

// several: one write decides on several requests, each by its own digest.
func (c *cast) several(t *testing.T) {
	t.Helper()
	one, digest := c.ask(t, "prod")
	done := c.bob.Write(t, c.path("approvals/bulk"), map[string]any{
		"decision": "approve", "requests": map[string]any{one: digest, "01k2j8000000000000000000aa": digest},
	}).OK(t)
	if done.Data["decided"] == nil || !strings.Contains(string(done.Body), one+" is active") || !strings.Contains(string(done.Body), "refused: no such request") {
		t.Errorf("bulk: %s", done.Body)
	}
	c.alice.Delete(t, c.path("requests/"+one)).OK(t)
}

// observed: an observed policy lets through, and says what it would have said.
func (c *cast) observed(t *testing.T) {
	t.Helper()
	host.Root().Write(t, c.path("roles/prod"), map[string]any{
		"enforce": "observe", "observe_until": time.Now().Add(time.Hour).UTC().Format(time.RFC3339),
	}).OK(t)
	read := c.alice.Read(t, c.path("creds/prod?justification=order+4711")).OK(t)
	if said := read.String(t, "pim_observed"); !strings.HasPrefix(said, "would have waited: ") {
		t.Errorf("observed: %q", said)
	}
}
