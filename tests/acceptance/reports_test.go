package acceptance

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/vault-pim/vault-plugin-secrets-pim/tests/harness/poll"
)

// The report names who is eligible for what, and tells used roles from unused
// ones, page by page.
func TestEligibilityReport(t *testing.T) {
	t.Parallel()
	c := prodScene(t, nil)
	c.role(t, "quiet", map[string]any{"token_policies": "default", "eligible_entities": c.alice.EntityID}).Refused(t, http.StatusBadRequest, "invalid input: ")
	role := host.Root().Read(t, c.path("roles/prod")).OK(t)
	c.role(t, "quiet", map[string]any{"token_policies": role.Data["token_policies"], "eligible_entities": c.alice.EntityID, "owner": "team a"}).OK(t)
	id := c.grant(t, "prod")
	c.alice.Read(t, c.path("creds/prod")).OK(t)
	c.alice.Delete(t, c.path("requests/"+id)).OK(t)
	// The report may be a minute old: this is the first look at this mount.
	poll.Until(t, settles, func() error {
		a := host.Root().Read(t, c.path("audit/requests/"+id)).OK(t)
		if a.Data["live_credentials"] != 0.0 {
			return fmt.Errorf("still live: %s", a.Body)
		}
		return nil
	})
	report := host.Root().List(t, c.path("reports/eligibility/")).OK(t)
	if keys := report.Keys(t); !slices.Equal(keys, []string{"prod", "quiet"}) {
		t.Fatalf("the report: %v", keys)
	}
	info, _ := report.Data["key_info"].(map[string]any)
	prod, _ := info["prod"].(map[string]any)
	quiet, _ := info["quiet"].(map[string]any)
	if prod["uses"] != 1.0 || prod["people"] != 1.0 || prod["unused_days"] != 0.0 || prod["last_used"] == "" {
		t.Errorf("prod: %v", prod)
	}
	if quiet["unused_days"] != -1.0 || quiet["owner"] != "team a" || !strings.Contains(fmt.Sprint(quiet["principals"]), "entity:"+c.alice.EntityID) {
		t.Errorf("quiet: %v", quiet)
	}
	if keys := host.Root().List(t, c.path("reports/eligibility/?limit=1&after=prod")).OK(t).Keys(t); !slices.Equal(keys, []string{"quiet"}) {
		t.Errorf("the second page: %v", keys)
	}
	if keys := host.Root().List(t, c.path("reports/eligibility/?unused_days=30")).OK(t).Keys(t); !slices.Equal(keys, []string{"quiet"}) {
		t.Errorf("unused for 30 days: %v", keys)
	}
	one := host.Root().Read(t, c.path("reports/eligibility/prod")).OK(t)
	if uses, _ := one.Data["people_uses"].([]any); len(uses) != 1 || !strings.Contains(fmt.Sprint(uses[0]), c.alice.EntityID) {
		t.Errorf("who used prod: %s", one.Body)
	}
	if a := host.Root().Read(t, c.path("reports/eligibility/unknown")); a.Status != http.StatusNotFound {
		t.Errorf("an unknown role: %d %s", a.Status, a.Body)
	}
	c.alice.List(t, c.path("reports/eligibility/")).Refused(t, http.StatusForbidden, "")
}
