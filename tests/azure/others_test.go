package azure

import (
	"bytes"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/vault-pim/vault-plugin-secrets-pim/internal/provider/azure/fakeazure"
	"github.com/vault-pim/vault-plugin-secrets-pim/tests/harness"
)

// look runs tools/look.py, with a credential as it was issued.
func (o *office) look(t *testing.T, credential args, what string, arg ...string) string {
	t.Helper()
	dir := os.Getenv("PIM_AZURE_TOOLS")
	if dir == "" {
		t.Fatal("PIM_AZURE_TOOLS is not set: run scripts/test-azure.sh, or export PIM_AZURE_TOOLS=$(scripts/test-azure.sh --tools)")
	}
	stdin, err := json.Marshal(credential)
	if err != nil {
		t.Fatal(err)
	}
	all := append([]string{"tools/look.py", what, o.urls[fakeazure.Login], tenantID}, arg...)
	cmd := exec.CommandContext(t.Context(), filepath.Join(dir, "bin", "python3"), all...)
	cmd.Env = append(os.Environ(), "REQUESTS_CA_BUNDLE="+authority.file)
	cmd.Stdin = bytes.NewReader(stdin)
	var said strings.Builder
	cmd.Stderr = &said
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%s: %v: %s", what, err, said.String())
	}
	return strings.TrimSpace(string(out))
}

// TestMicrosoftsOwnLibraryLogsInWithASecretAsItWasIssued gives the answer,
// unchanged, to Microsoft's library for Python.
func TestMicrosoftsOwnLibraryLogsInWithASecretAsItWasIssued(t *testing.T) {
	t.Parallel()
	o := newOffice(t, harness.Plugin{})
	for _, role := range []string{"principal", "password"} {
		o.Write(t, "roles/"+role, o.Auto(o.kinds()[role]))
		creds := o.creds(t, role)
		if got := o.look(t, creds.Data, "login"); got != creds.String(t, "client_id") {
			t.Errorf("%s: logged in as %q", role, got)
		}
	}
}

// TestMicrosoftsOwnLibrarySeesWhatWasGiven reads, with Microsoft's library, the
// roles that pim gave, and that they are gone afterwards.
func TestMicrosoftsOwnLibrarySeesWhatWasGiven(t *testing.T) {
	t.Parallel()
	o := newOffice(t, harness.Plugin{})
	engine := args{"client_id": engineClient, "client_secret": o.secret}
	for _, role := range []string{"own-role", "own-timed"} {
		o.Write(t, "roles/"+role, o.Auto(o.kinds()[role]))
		creds := o.creds(t, role)
		if got := o.look(t, engine, "roles", o.urls[fakeazure.Manage], subscription, aliceID); got != contributor+"@"+scopeGroup {
			t.Errorf("%s: alice has %q", role, got)
		}
		if role == "own-timed" {
			got := o.look(t, engine, "schedules", o.urls[fakeazure.Manage], subscription, aliceID)
			if end, ok := strings.CutPrefix(got, contributor+"@"+scopeGroup+" "); !ok || end == "" {
				t.Errorf("alice's role has no end: %q", got)
			}
		}
		host.Root().Write(t, "sys/leases/revoke", args{"lease_id": creds.LeaseID, "sync": true})
		o.nothingLeft(t)
		if got := o.look(t, engine, "roles", o.urls[fakeazure.Manage], subscription, aliceID); got != "" {
			t.Errorf("%s: alice still has %q", role, got)
		}
	}
}
