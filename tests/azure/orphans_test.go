package azure

import (
	"crypto/rand"
	"encoding/hex"
	"strings"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/resourcemanager/authorization/armauthorization/v2"

	"github.com/vault-pim/vault-plugin-secrets-pim/internal/clock"
	"github.com/vault-pim/vault-plugin-secrets-pim/internal/provider/azure/fakeazure"
	"github.com/vault-pim/vault-plugin-secrets-pim/internal/provider/providertest"
	"github.com/vault-pim/vault-plugin-secrets-pim/tests/harness"
)

// guid is an id that is nobody else's.
func guid() string {
	raw := make([]byte, 16)
	_, _ = rand.Read(raw) // it never fails
	h := hex.EncodeToString(raw)
	return h[:8] + "-" + h[8:12] + "-4" + h[13:16] + "-8" + h[17:20] + "-" + h[20:]
}

func describe(tag, id string) string {
	return "pim target " + tag + " credential " + id + " request " + id
}

const definition = scopeAll + "/providers/Microsoft.Authorization/roleDefinitions/" + contributor

// assign makes a role assignment by hand that carries all our tags.
func (o *office) assign(who, tag, id string) (name string) {
	o.Lock()
	defer o.Unlock()
	name = guid()
	o.manager.Assignments[name] = &fakeazure.Assignment{
		Name: name, Scope: scopeGroup, Born: time.Now().Add(-time.Hour), Props: armauthorization.RoleAssignmentProperties{
			PrincipalID: new(who), RoleDefinitionID: new(definition), Scope: new(scopeGroup), Description: new(describe(tag, id)),
		},
	}
	return name
}

// strayApplication makes an application with a principal, a secret and a role by
// hand, with all our tags.
func (o *office) strayApplication(t *testing.T, tag string, age time.Duration) (id string) {
	t.Helper()
	id = providertest.NewID(t, clock.System{}.Now().Add(-age))
	o.Lock()
	app, sp := o.home.Standing(guid(), "stray~of-nobody")
	app.Unique = "pim-" + id
	app.Tags = []string{"pim", "pim-target:" + tag, "pim-credential:" + id, "pim-request:" + id}
	o.Unlock()
	o.assign(sp.ID, tag, id)
	return id
}

// strayAssignment makes a role assignment of somebody by hand.
func (o *office) strayAssignment(t *testing.T, tag string, age time.Duration) (id string) {
	t.Helper()
	id = providertest.NewID(t, clock.System{}.Now().Add(-age))
	o.assign(guid(), tag, id)
	return id
}

// straySchedule makes a role assignment with an end by hand.
func (o *office) straySchedule(t *testing.T, tag string, age time.Duration) (id string) {
	t.Helper()
	id = providertest.NewID(t, clock.System{}.Now().Add(-age))
	who, request, name, end := guid(), guid(), guid(), time.Now().Add(time.Hour)
	o.Lock()
	defer o.Unlock()
	o.manager.Requests[request] = &fakeazure.ScheduleRequest{
		Name: request, Scope: scopeGroup, Born: time.Now().Add(-time.Hour), Props: armauthorization.RoleAssignmentScheduleRequestProperties{
			PrincipalID: new(who), RoleDefinitionID: new(definition), RequestType: new(armauthorization.RequestTypeAdminAssign),
			Scope: new(scopeGroup), Justification: new(describe(tag, id)), TargetRoleAssignmentScheduleID: new(name),
			ScheduleInfo: &armauthorization.RoleAssignmentScheduleRequestPropertiesScheduleInfo{
				Expiration: &armauthorization.RoleAssignmentScheduleRequestPropertiesScheduleInfoExpiration{
					Type: new(armauthorization.TypeAfterDateTime), EndDateTime: new(end),
				},
			},
		},
	}
	o.manager.Schedules[name] = &fakeazure.Schedule{
		Name: name, Origin: guid(), Scope: scopeGroup, Principal: who, Role: definition, Request: request,
		Start: time.Now().Add(-time.Hour), End: end, Made: time.Now().Add(-time.Hour),
	}
	return id
}

// there tells whether the cloud has something of a stray that gives access.
func (o *office) there(id string) bool {
	o.Lock()
	defer o.Unlock()
	for _, a := range o.home.Apps {
		if a.Unique == "pim-"+id && a.Deleted.IsZero() {
			return true
		}
	}
	for _, a := range o.manager.Assignments {
		if a.Props.Description != nil && strings.Contains(*a.Props.Description, id) {
			return true
		}
	}
	for _, s := range o.manager.Schedules {
		if r := o.manager.Requests[s.Request]; time.Now().Before(s.End) && r != nil && strings.Contains(*r.Props.Justification, id) {
			return true
		}
	}
	return false
}

// TestOrphansAreListed has orphans/ list strays that were made by hand, and
// nothing that is live, young, of another mount, or somebody else's; a second
// sweep ends them and nothing else.
func TestOrphansAreListed(t *testing.T) {
	t.Parallel()
	o := newOffice(t, harness.Plugin{})
	live := map[string]harness.Answer{}
	for _, role := range []string{"principal", "own-role", "password", "own-group"} {
		o.Write(t, "roles/"+role, o.Auto(o.kinds()[role]))
		live[role] = o.creds(t, role)
	}
	timed := o.Auto(o.kinds()["own-timed"])
	timed["azure_roles"] = "Reader@" + scopeAll
	o.Write(t, "roles/own-timed", timed)
	live["own-timed"] = o.creds(t, "own-timed")
	tag := o.tag(t)
	strays := []string{o.strayApplication(t, tag, time.Hour), o.strayAssignment(t, tag, time.Hour), o.straySchedule(t, tag, time.Hour)}
	others := []string{
		o.strayApplication(t, tag, time.Minute), o.strayApplication(t, "prod-00000000", time.Hour),
		o.strayAssignment(t, "prod-00000000", time.Hour), o.straySchedule(t, "prod-00000000", time.Hour),
	}

	o.Sweep(t, nil)
	o.Orphans(t, strays...)
	one := host.Root().Read(t, o.Path("orphans/"+strays[0])).OK(t)
	if what := one.String(t, "what"); !strings.Contains(what, "application pim-"+strays[0]) {
		t.Errorf("%s", one.Body)
	}
	o.Sweep(t, args{"end": true})
	for _, id := range strays {
		if o.there(id) {
			t.Errorf("the stray %s is still there", id)
		}
	}
	for _, id := range others {
		if !o.there(id) {
			t.Errorf("%s was ended", id)
		}
	}
	for role, creds := range live {
		if o.access(creds) == "" {
			t.Errorf("%s was ended by a sweep", role)
		}
	}
}

// tag is what this mount's objects carry.
func (o *office) tag(t *testing.T) string {
	t.Helper()
	o.Lock()
	defer o.Unlock()
	for _, a := range o.home.Apps {
		for _, text := range a.Tags {
			if tag, ok := strings.CutPrefix(text, "pim-target:"); ok {
				return tag
			}
		}
	}
	t.Fatal("applications do not say whose they are")
	return ""
}
