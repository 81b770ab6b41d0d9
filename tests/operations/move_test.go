package operations

import (
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/vault-pim/vault-plugin-secrets-pim/tests/harness"
	"github.com/vault-pim/vault-plugin-secrets-pim/tests/harness/poll"
)

// moved: a policy opens the database directly; check finds it, and the page takes it
// away together with what was issued by it.
func moved(t *testing.T, r *runbook) {
	pg := harness.StartPostgres(t)
	r.open(t)
	root := r.node.Root()
	engine := r.node.DatabaseEngine(t, pg, harness.DropAndDisconnect)
	path := engine + "/creds/reader"
	reader := r.node.Policy(t, "reader", fmt.Sprintf("path %q { capabilities = [\"read\"] }", path))
	tokenRole := root.Read(t, "auth/token/roles/"+r.target.TokenRole).OK(t)
	root.Write(t, "auth/token/roles/"+r.target.TokenRole, map[string]any{
		"allowed_policies": append(tokenRole.Data["allowed_policies"].([]any), reader), //nolint:forcetypeassert,errcheck // a list
	}).OK(t)
	r.role(t, "db", map[string]any{"path": path, "engine": "database", "ends_sessions": true})
	root.Write(t, "sys/policies/acl/dba", map[string]any{"policy": fmt.Sprintf("path \"%s/*\" { capabilities = [\"read\", \"list\"] }", engine)}).OK(t)
	dba := r.node.Person(t, "carol", "dba")
	old := dba.Read(t, path).OK(t)

	out := r.next(t, map[string]string{
		"role/pim-login ": "role/" + r.target.Login.Name + " ", "token_policies=pim-login,": "token_policies=" + r.loginPolicy(t) + ",",
	})
	if !strings.Contains(out, "policy dba opens "+path+" of role db by its rule for "+engine+"/*") {
		t.Errorf("check: %s", out)
	}
	if !strings.Contains(out, "policy "+reader+" opens "+path) || !strings.Contains(out, "nobody else should hold it") {
		t.Errorf("the policy of pim's own tokens: %s", out)
	}
	r.next(t, map[string]string{"database/": engine + "/", "creds/admin": "creds/reader"})
	if got := dba.Read(t, path); got.Status != http.StatusForbidden {
		t.Errorf("still open: %d", got.Status)
	}
	if conn, err := pg.Connect(t.Context(), old.String(t, "username"), old.String(t, "password")); err == nil {
		t.Error("what was issued directly still works")
		if err := conn.Close(t.Context()); err != nil {
			t.Error(err)
		}
	}
	poll.Until(t, pauses, func() error { // check asks the target at most once a minute
		seen := fmt.Sprint(root.Read(t, "pim/targets/local/check").OK(t).Data["direct_access"])
		if strings.Contains(seen, "dba") {
			return fmt.Errorf("%s", seen)
		}
		return nil
	})
	id := r.grant(t, "db")
	creds := r.alice.Read(t, "pim/creds/db").OK(t)
	if conn, err := pg.Connect(t.Context(), creds.String(t, "username"), creds.String(t, "password")); err != nil {
		t.Errorf("through pim: %v", err)
	} else if err := conn.Close(t.Context()); err != nil {
		t.Error(err)
	}
	r.alice.Delete(t, "pim/requests/"+id).OK(t)
}
