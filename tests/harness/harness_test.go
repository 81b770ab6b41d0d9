package harness_test

import (
	"errors"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/vault-pim/vault-plugin-secrets-pim/tests/harness"
	"github.com/vault-pim/vault-plugin-secrets-pim/tests/harness/poll"
)

// These tests need no plugin: they show that what the other tests stand on holds.

var host *harness.Host

func TestMain(m *testing.M) { os.Exit(harness.Main(m, &host, harness.Options{})) }

func TestPersonHasEntityAndGroup(t *testing.T) {
	t.Parallel()
	alice := host.Person(t, "alice", "default")
	group := host.Group(t, "eng", alice)
	self := alice.Read(t, "auth/token/lookup-self").OK(t)
	if got := self.String(t, "entity_id"); got != alice.EntityID {
		t.Errorf("the login belongs to entity %s, want %s", got, alice.EntityID)
	}
	entity := host.Root().Read(t, "identity/entity/id/"+alice.EntityID).OK(t)
	if groups, ok := entity.Data["group_ids"].([]any); !ok || len(groups) != 1 || groups[0] != group.ID {
		t.Errorf("group_ids = %v, want [%s]", entity.Data["group_ids"], group.ID)
	}
	alice.Read(t, "sys/mounts").Refused(t, http.StatusForbidden, "")
}

func TestAppRoleLogsIn(t *testing.T) {
	t.Parallel()
	policy := host.Policy(t, "mounts", `path "sys/mounts" { capabilities = ["read"] }`)
	machine := host.AppRole(t, "ci", "20m", policy).LogIn(t)
	machine.Read(t, "sys/mounts").OK(t)
	machine.Read(t, "sys/auth").Refused(t, http.StatusForbidden, "")
}

func TestJobLogsInWithMatchingClaimsOnly(t *testing.T) {
	t.Parallel()
	issuer := harness.NewIssuer(t)
	auth := host.JWTAuth(t, issuer)
	auth.Role(t, "deploy", map[string]any{
		"user_claim": "sub", "bound_audiences": "pim", "bound_claims": map[string]string{"ref": "refs/heads/main"},
	})
	claims := map[string]any{
		"sub": "repo:shop:ref:refs/heads/main", "aud": "pim", "ref": "refs/heads/main",
	}
	job := auth.LogIn(t, "deploy", issuer.Sign(t, claims))
	job.Read(t, "auth/token/lookup-self").OK(t)

	claims["ref"] = "refs/heads/feature"
	auth.TryLogIn(t, "deploy", issuer.Sign(t, claims)).Refused(t, http.StatusBadRequest, "error validating claims")
	claims["ref"] = "refs/heads/main"
	stranger := harness.NewIssuer(t)
	auth.TryLogIn(t, "deploy", stranger.Sign(t, claims)).Refused(t, http.StatusBadRequest, "error validating token")
}

func TestDatabaseUserIsDroppedAndDisconnected(t *testing.T) {
	t.Parallel()
	pg := harness.StartPostgres(t)
	engine := host.DatabaseEngine(t, pg, harness.DropAndDisconnect)
	creds := host.Root().Read(t, engine+"/creds/reader").OK(t)
	username, password := creds.String(t, "username"), creds.String(t, "password")
	conn, err := pg.Connect(t.Context(), username, password)
	if err != nil {
		t.Fatal(err)
	}
	var who string
	if err := conn.QueryRow(t.Context(), "SELECT current_user").Scan(&who); err != nil || who != username {
		t.Fatalf("current_user = %q, %v; want %q", who, err, username)
	}

	host.Root().Write(t, "sys/leases/revoke", map[string]any{"lease_id": creds.LeaseID, "sync": true}).OK(t)
	if _, err := pg.Connect(t.Context(), username, password); err == nil {
		t.Error("the dropped user still logs in")
	}
	if _, err := conn.Exec(t.Context(), "SELECT 1"); err == nil {
		t.Error("the dropped user's session still answers")
	}
}

func TestRecorderSeesAndAnswers(t *testing.T) {
	t.Parallel()
	recorder := harness.NewRecorder(t, host.Addr)
	get := func() int {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, recorder.URL+"/v1/sys/health", nil)
		if err != nil {
			t.Fatal(err)
		}
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		if err := resp.Body.Close(); err != nil {
			t.Fatal(err)
		}
		return resp.StatusCode
	}
	if status := get(); status != http.StatusOK {
		t.Errorf("passed on: %d, want 200", status)
	}
	recorder.Fault(func(*http.Request) int { return http.StatusBadGateway })
	if status := get(); status != http.StatusBadGateway {
		t.Errorf("with a fault: %d, want 502", status)
	}
	want := []harness.Call{
		{Method: http.MethodGet, Path: "/v1/sys/health", Status: http.StatusOK},
		{Method: http.MethodGet, Path: "/v1/sys/health", Status: http.StatusBadGateway},
	}
	if got := recorder.Calls(); len(got) != 2 || got[0] != want[0] || got[1] != want[1] {
		t.Errorf("calls = %v, want %v", got, want)
	}
}

func TestCommandLineIsTheHostsOwn(t *testing.T) {
	t.Parallel()
	alice := host.Person(t, "alice", "default")
	if got := alice.CLI(t, "token", "lookup", "-format=json"); got.Code != 0 || !strings.Contains(got.Stdout, alice.EntityID) {
		t.Errorf("token lookup: exit %d\n%s%s", got.Code, got.Stdout, got.Stderr)
	}
	if got := alice.CLI(t, "read", "sys/mounts"); got.Code != 2 || !strings.Contains(got.Stderr, "Code: 403") {
		t.Errorf("read sys/mounts: exit %d, want 2 and 403\n%s", got.Code, got.Stderr)
	}
}

func TestSecretsAreHashedInTheAuditFile(t *testing.T) {
	t.Parallel()
	canary := host.Canary(t)
	name := "canary-" + canary[len(canary)-8:]
	host.Secret(t, name, map[string]string{"password": canary})
	poll.Until(t, 5*time.Second, func() error {
		audit, err := host.Audit()
		if err == nil && !strings.Contains(audit, "secret/data/"+name) {
			err = errors.New("the write is not in the audit file")
		}
		return err
	})
}

func TestClusterSurvivesStepDown(t *testing.T) {
	t.Parallel()
	cluster := harness.StartCluster(t, harness.Options{})
	first := cluster.Leader(t)
	first.Secret(t, "before", map[string]string{"a": "1"})
	second := cluster.StepDown(t)
	for _, node := range cluster.Nodes {
		node.Root().Read(t, "secret/data/before").OK(t)
	}
	if second == first {
		t.Error("the same node leads again")
	}
}
