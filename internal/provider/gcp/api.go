package gcp

import (
	"context"
	"encoding/base64"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/vault-pim/vault-plugin-secrets-pim/internal/secret"
)

// project is what Resource Manager says of a project.
type project struct {
	Name   string `json:"name"` // projects/NUMBER
	ID     string `json:"projectId"`
	Parent string `json:"parent"`
	State  string `json:"state"`
}

func (p project) number() string { return strings.TrimPrefix(p.Name, projectsPrefix) }

func (c *client) project(ctx context.Context, id string) (project, error) {
	var out project
	return out, c.do(ctx, call{op: "read project", service: svcProjects, method: http.MethodGet, path: "v3/projects/" + id}, &out)
}

// parent is the folder or organization that a folder is in.
func (c *client) parent(ctx context.Context, folder string) (string, error) {
	var out struct {
		Parent string `json:"parent"`
	}
	return out.Parent, c.do(ctx, call{op: "read folder", service: svcProjects, method: http.MethodGet, path: "v3/" + folder}, &out)
}

// account is a service account.
type account struct {
	Name        string `json:"name,omitempty"`
	ProjectID   string `json:"projectId,omitempty"`
	UniqueID    string `json:"uniqueId,omitempty"`
	Email       string `json:"email,omitempty"`
	DisplayName string `json:"displayName,omitempty"`
	Description string `json:"description,omitempty"`
	Disabled    bool   `json:"disabled,omitempty"`
}

// accountPath is the path of an account. Accounts of pim are in the target's
// project; others are named with the wildcard that Google asks for.
func accountPath(project, email string) string {
	return "v1/projects/" + project + "/serviceAccounts/" + email
}

func (c *client) createAccount(ctx context.Context, project, id string, a account) (account, error) {
	var out account
	return out, c.do(ctx, call{
		op: "create service account", service: svcIAM, method: http.MethodPost, path: "v1/projects/" + project + "/serviceAccounts",
		body: map[string]any{"accountId": id, "serviceAccount": a},
	}, &out)
}

func (c *client) account(ctx context.Context, project, email string) (account, error) {
	var out account
	return out, c.do(ctx, call{op: "read service account", service: svcIAM, method: http.MethodGet, path: accountPath(project, email)}, &out)
}

func (c *client) disableAccount(ctx context.Context, project, email string) error {
	return c.do(ctx, call{
		op: "disable service account", service: svcIAM, method: http.MethodPost, path: accountPath(project, email) + ":disable",
		body: map[string]any{},
	}, nil)
}

func (c *client) deleteAccount(ctx context.Context, project, email string) error {
	return c.do(ctx, call{op: "delete service account", service: svcIAM, method: http.MethodDelete, path: accountPath(project, email)}, nil)
}

// accounts yields every service account of a project.
func (c *client) accounts(ctx context.Context, project string, yield func(account) error) error {
	next := ""
	for {
		q := url.Values{"pageSize": {"100"}}
		if next != "" {
			q.Set("pageToken", next)
		}
		var page struct {
			Accounts []account `json:"accounts"`
			Next     string    `json:"nextPageToken"`
		}
		err := c.do(ctx, call{
			op: "list service accounts", service: svcIAM, method: http.MethodGet, path: "v1/projects/" + project + "/serviceAccounts", query: q,
		}, &page)
		if err != nil {
			return err
		}
		for _, a := range page.Accounts {
			if err := yield(a); err != nil {
				return err
			}
		}
		if next = page.Next; next == "" {
			return nil
		}
	}
}

// accountKey is a key of a service account, without its private part.
type accountKey struct {
	Name      string    `json:"name"`
	Type      string    `json:"keyType"`
	Origin    string    `json:"keyOrigin"`
	Disabled  bool      `json:"disabled"`
	NotAfter  time.Time `json:"validBeforeTime"`
	PublicKey string    `json:"publicKeyData"` // base64 of a PEM certificate
}

func (k accountKey) id() string { return k.Name[strings.LastIndexByte(k.Name, '/')+1:] }

func keyPath(email, id string) string { return accountPath("-", email) + "/keys/" + id }

// keys lists the keys of an account that somebody holds the private part of.
func (c *client) keys(ctx context.Context, email string) ([]accountKey, error) {
	var out struct {
		Keys []accountKey `json:"keys"`
	}
	return out.Keys, c.do(ctx, call{
		op: "list keys", service: svcIAM, method: http.MethodGet, path: accountPath("-", email) + "/keys",
		query: url.Values{"keyTypes": {"USER_MANAGED"}},
	}, &out)
}

// key reads one key with its certificate.
func (c *client) key(ctx context.Context, email, id string) (accountKey, error) {
	var out accountKey
	return out, c.do(ctx, call{
		op: "read key", service: svcIAM, method: http.MethodGet, path: keyPath(email, id),
		query: url.Values{"publicKeyType": {"TYPE_X509_PEM_FILE"}},
	}, &out)
}

// uploadKey makes the public key in a PEM certificate a key of the account.
func (c *client) uploadKey(ctx context.Context, email string, certificate []byte) (accountKey, error) {
	var out accountKey
	return out, c.do(ctx, call{
		op: "upload key", service: svcIAM, method: http.MethodPost, path: accountPath("-", email) + "/keys:upload", once: true,
		body: map[string]any{"publicKeyData": base64.StdEncoding.EncodeToString(certificate)},
	}, &out)
}

func (c *client) deleteKey(ctx context.Context, email, id string) error {
	return c.do(ctx, call{op: "delete key", service: svcIAM, method: http.MethodDelete, path: keyPath(email, id)}, nil)
}

// grantedToken is an access token as Google made it.
type grantedToken struct {
	token   secret.String
	expires time.Time
}

// mint asks for an access token of a service account. With base it is asked
// for by somebody else than the engine's identity.
func (c *client) mint(
	ctx context.Context, email string, delegates, scopes []string, life time.Duration, base secret.String,
) (grantedToken, error) {
	body := map[string]any{"scope": scopes, "lifetime": fmt.Sprintf("%ds", int(life/time.Second))}
	if len(delegates) > 0 {
		names := make([]string, len(delegates))
		for i, d := range delegates {
			names[i] = "projects/-/serviceAccounts/" + d
		}
		body["delegates"] = names
	}
	var out struct {
		Token   string    `json:"accessToken"`
		Expires time.Time `json:"expireTime"`
	}
	err := c.do(ctx, call{
		op: "create access token", service: svcCredentials, method: http.MethodPost,
		path: accountPath("-", email) + ":generateAccessToken", body: body, as: base,
	}, &out)
	return grantedToken{secret.New(out.Token), out.Expires.UTC()}, err
}

// allowed lists which permissions a caller has on a resource. The caller is
// whoever holds the token, or the engine.
func (c *client) allowed(ctx context.Context, r resource, list []string, as secret.String) ([]string, error) {
	k := r.testPermissions(list)
	k.as = as
	var out struct {
		Permissions []string `json:"permissions"`
	}
	return out.Permissions, c.do(ctx, k, &out)
}

// allowedOnAccount is the same for a service account.
func (c *client) allowedOnAccount(ctx context.Context, email string, list []string) ([]string, error) {
	var out struct {
		Permissions []string `json:"permissions"`
	}
	return out.Permissions, c.do(ctx, call{
		op: "test permissions", service: svcIAM, method: http.MethodPost, path: accountPath("-", email) + ":testIamPermissions",
		body: map[string]any{"permissions": list},
	}, &out)
}

// roleInfo lists what a role permits.
func (c *client) rolePermissions(ctx context.Context, role string) ([]string, error) {
	var out struct {
		Permissions []string `json:"includedPermissions"`
	}
	return out.Permissions, c.do(ctx, call{op: "read role", service: svcIAM, method: http.MethodGet, path: "v1/" + role}, &out)
}

func (c *client) policy(ctx context.Context, r resource) (*policy, error) {
	return c.policyCall(ctx, r.getPolicy())
}

func (c *client) writePolicy(ctx context.Context, r resource, p *policy) (*policy, error) {
	raw, err := p.encode()
	if err != nil {
		return nil, err
	}
	return c.policyCall(ctx, r.setPolicy(raw))
}

func (c *client) policyCall(ctx context.Context, k call) (*policy, error) {
	raw, err := c.doRaw(ctx, k)
	if err != nil {
		return nil, err
	}
	return parsePolicy(raw)
}
