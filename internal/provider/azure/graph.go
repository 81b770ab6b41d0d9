package azure

import (
	"context"
	"encoding/json"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/runtime"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/streaming"

	"github.com/vault-pim/vault-plugin-secrets-pim/internal/provider/remote"
)

const (
	graphVersion = "/v1.0"
	moduleName   = "vault-plugin-secrets-pim"
	maxPages     = 200
	upsertHeader = "create-if-missing"
)

// graphClient speaks to Microsoft Graph, or to another service of its manners,
// on the SDK's pipeline.
type graphClient struct {
	pipeline runtime.Pipeline
	bare     runtime.Pipeline // without a login, for trying new secrets
	base     string
}

func newGraph(cred azcore.TokenCredential, options policy.ClientOptions, scope, base string) *graphClient {
	bearer := runtime.NewBearerTokenPolicy(cred, []string{scope}, nil)
	return &graphClient{
		pipeline: runtime.NewPipeline(moduleName, "v1.0.0", runtime.PipelineOptions{PerRetry: []policy.Policy{bearer}}, &options),
		bare:     runtime.NewPipeline(moduleName, "v1.0.0", runtime.PipelineOptions{}, &options),
		base:     base,
	}
}

// graphCall is one call.
type graphCall struct {
	method string
	path   string
	query  url.Values
	header map[string]string
	in     any
	out    any
}

// do makes a call and tells its status. A refusal is an *apiError.
func (g *graphClient) do(ctx context.Context, c graphCall) (int, error) {
	address := c.path
	if !strings.HasPrefix(address, "https://") {
		address = g.base + c.path
	}
	req, err := runtime.NewRequest(ctx, c.method, address)
	if err != nil {
		return 0, remote.WithoutText(err)
	}
	if len(c.query) > 0 {
		req.Raw().URL.RawQuery = strings.ReplaceAll(c.query.Encode(), "+", "%20")
	}
	req.Raw().Header.Set("Accept", "application/json")
	for name, value := range c.header {
		req.Raw().Header.Set(name, value)
	}
	if c.in != nil {
		if err := runtime.MarshalAsJSON(req, c.in); err != nil {
			return 0, err
		}
	}
	resp, err := g.pipeline.Do(req) //nolint:bodyclose // Payload reads it whole and closes it
	if err != nil {
		return 0, err
	}
	raw, err := runtime.Payload(resp)
	if err != nil {
		return 0, err
	}
	if resp.StatusCode < 200 || resp.StatusCode > 299 {
		return resp.StatusCode, readRefusal(resp.StatusCode, raw)
	}
	if c.out != nil && resp.StatusCode != http.StatusNoContent {
		if err := json.Unmarshal(raw, c.out); err != nil {
			return resp.StatusCode, remote.ErrAnswer
		}
	}
	return resp.StatusCode, nil
}

// post asks the tenant for a token with a client id and a secret.
func (g *graphClient) post(ctx context.Context, c targetConfig, client, secret string) (int, []byte, error) {
	form := url.Values{
		"grant_type": {"client_credentials"}, "client_id": {client}, "client_secret": {secret}, "scope": {c.armScope()},
	}
	req, err := runtime.NewRequest(ctx, http.MethodPost, c.endpoints[svcLogin]+"/"+c.tenant+"/oauth2/v2.0/token")
	if err != nil {
		return 0, nil, remote.WithoutText(err)
	}
	body := streaming.NopCloser(strings.NewReader(form.Encode()))
	if err := req.SetBody(body, "application/x-www-form-urlencoded"); err != nil {
		return 0, nil, remote.WithoutText(err)
	}
	resp, err := g.bare.Do(req) //nolint:bodyclose // Payload reads it whole and closes it
	if err != nil {
		return 0, nil, err
	}
	raw, err := runtime.Payload(resp)
	return resp.StatusCode, raw, err
}

// page is one page of a list.
type page[T any] struct {
	Value []T    `json:"value"`
	Next  string `json:"@odata.nextLink"`
}

// list reads all pages of a list. A link to elsewhere is not followed.
func list[T any](ctx context.Context, g *graphClient, c graphCall, yield func(T) error) error {
	c.method = http.MethodGet
	for range maxPages {
		var p page[T]
		c.out = &p
		if _, err := g.do(ctx, c); err != nil {
			return err
		}
		for _, item := range p.Value {
			if err := yield(item); err != nil {
				return err
			}
		}
		if p.Next == "" {
			return nil
		}
		if !strings.HasPrefix(p.Next, g.base+"/") {
			return remote.ErrAnswer
		}
		c.path, c.query = p.Next, nil
	}
	return remote.ErrAnswer
}

// application is an application of the directory, as far as we read it.
type application struct {
	ID        string     `json:"id,omitempty"`
	AppID     string     `json:"appId,omitempty"`
	Tags      []string   `json:"tags,omitempty"`
	Passwords []password `json:"passwordCredentials,omitempty"`
}

// password is a password of an application. Text is there once, when it is
// made.
type password struct {
	KeyID       string     `json:"keyId,omitempty"`
	DisplayName string     `json:"displayName,omitempty"`
	Hint        string     `json:"hint,omitempty"`
	End         *time.Time `json:"endDateTime,omitempty"`
	Text        string     `json:"secretText,omitempty"`
}

// principal is a service principal, as far as we read it.
type principal struct {
	ID    string `json:"id,omitempty"`
	AppID string `json:"appId,omitempty"`
}

const applicationFields = "id,appId,tags,passwordCredentials"

func selecting(fields string) url.Values { return url.Values{"$select": {fields}} }

// applicationBy reads an application by an address such as applications/ID or
// applications(appId='…').
func (g *graphClient) applicationBy(ctx context.Context, path string) (application, error) {
	var out application
	_, err := g.do(ctx, graphCall{method: http.MethodGet, path: path, query: selecting(applicationFields), out: &out})
	if err == nil && (!guidForm.MatchString(out.ID) || !guidForm.MatchString(out.AppID)) {
		err = remote.ErrAnswer
	}
	return out, err
}

func (g *graphClient) principalBy(ctx context.Context, path string) (principal, error) {
	var out principal
	_, err := g.do(ctx, graphCall{method: http.MethodGet, path: path, query: selecting("id,appId"), out: &out})
	if err == nil && !guidForm.MatchString(out.ID) {
		err = remote.ErrAnswer
	}
	return out, err
}

// remove deletes something and tells whether it was there.
func (g *graphClient) remove(ctx context.Context, path string) (bool, error) {
	_, err := g.do(ctx, graphCall{method: http.MethodDelete, path: path})
	if isAbsent(err) {
		return false, nil
	}
	return err == nil, err
}

func (g *graphClient) addPassword(ctx context.Context, object, name string, end time.Time) (password, error) {
	var out password
	end = end.UTC().Truncate(time.Second)
	in := map[string]password{"passwordCredential": {DisplayName: name, End: &end}}
	_, err := g.do(ctx, graphCall{method: http.MethodPost, path: "/applications/" + object + "/addPassword", in: in, out: &out})
	if err == nil && (!guidForm.MatchString(out.KeyID) || out.Text == "") {
		err = remote.ErrAnswer
	}
	return out, err
}

func (g *graphClient) removePassword(ctx context.Context, object, key string) error {
	in := map[string]string{"keyId": key}
	_, err := g.do(ctx, graphCall{method: http.MethodPost, path: "/applications/" + object + "/removePassword", in: in})
	return err
}

// addMember makes somebody a member of a group.
func (g *graphClient) addMember(ctx context.Context, group, member string) error {
	in := map[string]string{"@odata.id": g.base + "/directoryObjects/" + member}
	_, err := g.do(ctx, graphCall{method: http.MethodPost, path: "/groups/" + group + "/members/$ref", in: in})
	return err
}

func (g *graphClient) removeMember(ctx context.Context, group, member string) (bool, error) {
	return g.remove(ctx, "/groups/"+group+"/members/"+member+"/$ref")
}

// isMember tells whether somebody is a direct member of a group.
func (g *graphClient) isMember(ctx context.Context, group, member string) (bool, error) {
	found := false
	query := selecting("id")
	query.Set("$filter", "id eq '"+member+"'")
	query.Set("$count", "true")
	err := list(ctx, g, graphCall{
		path: "/groups/" + group + "/members", query: query, header: map[string]string{"ConsistencyLevel": "eventual"},
	}, func(o principal) error {
		found = found || o.ID == member
		return nil
	})
	return found, err
}
