package kubernetes

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/vault-pim/vault-plugin-secrets-pim/internal/domain"
	"github.com/vault-pim/vault-plugin-secrets-pim/internal/provider/contract"
	"github.com/vault-pim/vault-plugin-secrets-pim/tests/harness/poll"
)

// auditLine is the part of an API server's audit event that joins are made on.
type auditLine struct {
	Verb  string `json:"verb"`
	Agent string `json:"userAgent"`
	User  struct {
		Name  string              `json:"username"`
		Extra map[string][]string `json:"extra"`
	} `json:"user"`
	Object struct {
		Resource, Subresource, Namespace, Name string
	} `json:"objectRef"`
	Request struct {
		Metadata struct {
			Name        string            `json:"name"`
			Annotations map[string]string `json:"annotations"`
		} `json:"metadata"`
	} `json:"requestObject"`
	Notes map[string]string `json:"annotations"`
}

func (c *cluster) audit(t testing.TB) []auditLine {
	t.Helper()
	raw, err := os.ReadFile(c.auditLog())
	if err != nil {
		t.Fatal(err)
	}
	var out []auditLine
	lines := bufio.NewScanner(bytes.NewReader(raw))
	lines.Buffer(nil, 1<<24)
	for lines.Scan() {
		var l auditLine
		if json.Unmarshal(lines.Bytes(), &l) == nil { // the last line may be half written
			out = append(out, l)
		}
	}
	if err := lines.Err(); err != nil {
		t.Fatal(err)
	}
	return out
}

const (
	credentialOf = "authentication.kubernetes.io/credential-id"
	issuedAs     = "authentication.kubernetes.io/issued-credential-id"
	allowedBy    = "authorization.k8s.io/reason"
	requestNote  = "vault-pim.github.io/request-id"
)

// joined says which of our requests a use of the cluster belongs to, from the
// API server's audit log alone.
func joined(lines []auditLine, use auditLine) (domain.RequestID, error) {
	for _, l := range lines {
		ours := l.Request.Metadata.Annotations[requestNote]
		switch {
		// A token of ours: the line of its TokenRequest has its id, and who asked.
		case l.Object.Subresource == "token" && l.Notes[issuedAs] != "" && len(use.User.Extra[credentialOf]) == 1 &&
			l.Notes[issuedAs] == use.User.Extra[credentialOf][0]:
			if _, request, ok := strings.Cut(l.Agent, " request/"); ok {
				return domain.RequestID(request), nil
			}
		// An own user: the authorizer names the binding, and its creation has our note.
		case l.Verb == "create" && ours != "" && strings.Contains(use.Notes[allowedBy], `RoleBinding "`+l.Request.Metadata.Name+"/"):
			return domain.RequestID(ours), nil
		}
	}
	return "", fmt.Errorf("no request of ours explains %s %s by %s (%s)",
		use.Verb, use.Object.Resource, use.User.Name, use.Notes[allowedBy])
}

func TestAuditLogIsJoinedToTheRequest(t *testing.T) {
	token := contract.Values{"service_account_name": "deployer", "service_account_namespace": "team-a"}
	generated := contract.Values{"generated_role_rules": podRules, "namespaces": []string{"team-b"}}
	own := contract.Values{"principal_source": "metadata:k8s", "kubernetes_roles": []string{"Role/deployer"}, "namespaces": []string{"team-a"}}
	b := newBench(t, "for-audit", contract.Spec{Role: "a", Fields: token}, contract.Spec{Role: "b", Fields: generated},
		contract.Spec{Role: "c", Fields: own})
	for _, row := range []struct {
		name, user, namespace, resource string
		fields                          contract.Values
	}{
		{name: "a token of an existing account", user: "system:serviceaccount:team-a:deployer", namespace: "team-a", resource: "configmaps", fields: token},
		{name: "a generated role", namespace: "team-b", resource: "pods", fields: generated},
		{name: "one's own user", user: aliceUser, namespace: "team-a", resource: "configmaps", fields: own},
	} {
		t.Run(row.name, func(t *testing.T) {
			in := b.input(row.fields, nil)
			issued, h := b.mustIssue(in)
			use := configMapsIn(row.namespace)
			if row.resource == "pods" {
				use = podsIn(row.namespace)
			}
			c, err := here.as(aliceToken)
			if err != nil {
				t.Fatal(err)
			}
			if row.user != aliceUser {
				c = clientOf(t, issued)
			}
			if row.user == "" {
				row.user = "system:serviceaccount:" + row.namespace + ":pim-" + string(in.Credential)
			}
			from := len(here.audit(t))
			allowed(t, c, use)
			b.end(h)
			poll.Until(t, bindingBound, func() error {
				lines := here.audit(t)
				for _, l := range lines[from:] {
					if l.User.Name != row.user || l.Object.Resource != row.resource || l.Notes["authorization.k8s.io/decision"] != "allow" {
						continue
					}
					got, err := joined(lines, l)
					if err == nil && got != in.Request {
						t.Fatalf("joined to request %s, not %s", got, in.Request)
					}
					return err
				}
				return fmt.Errorf("no line of %s is in the audit log yet", row.user)
			})
		})
	}
}

func TestEveryCallOfOursNamesItsCredential(t *testing.T) {
	role := contract.Values{"generated_role_rules": podRules, "namespaces": namespaces}
	b := newBench(t, "for-agents", contract.Spec{Role: "a", Fields: role})
	from := len(here.audit(t))
	in := b.input(role, nil)
	_, h := b.mustIssue(in)
	b.end(h)
	name := "pim-" + string(in.Credential)
	poll.Until(t, bindingBound, func() error {
		made, ended := 0, 0
		for _, l := range here.audit(t)[from:] {
			if l.User.Name != "system:serviceaccount:"+rootNamespace+":for-agents" {
				continue
			}
			if !strings.Contains(l.Agent, "credential/"+string(in.Credential)) {
				return fmt.Errorf("a call says only %q", l.Agent)
			}
			switch {
			case l.Verb == "create" && l.Object.Subresource == "" && l.Request.Metadata.Name == name:
				made++
			case l.Verb == "delete" && l.Object.Name == name:
				ended++
			}
		}
		if made != 5 || ended != 5 { // an account, two roles, two bindings
			return fmt.Errorf("%d creations and %d deletions are in the audit log", made, ended)
		}
		return nil
	})
}
