package azure

import (
	"encoding/json"
	"net/http"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

var (
	byName   = regexp.MustCompile(`^/applications\(uniqueName='([^']+)'\)$`)
	byClient = regexp.MustCompile(`^/applications\(appId='([^']+)'\)$`)
	spClient = regexp.MustCompile(`^/servicePrincipals\(appId='([^']+)'\)$`)
	filterOf = regexp.MustCompile(`^tags/any\(t:t eq '([^']+)'\)$`)
	memberIs = regexp.MustCompile(`^id eq '([^']+)'$`)
)

// graphCallOf is one call to the fake Graph.
type graphRequest struct {
	cloud  *fakeCloud
	tenant *fakeTenant
	who    claims
	req    *http.Request
	body   []byte
	parts  []string
}

// graph is Microsoft Graph.
func (c *fakeCloud) graph(req *http.Request, body []byte) *http.Response {
	c.mu.Lock()
	defer c.mu.Unlock()
	who, ok := bearer(req)
	t := c.tenants[who.Tenant]
	if !ok || t == nil {
		return answer(req, http.StatusUnauthorized, nil, errorBody("InvalidAuthenticationToken"))
	}
	path := strings.TrimPrefix(req.URL.Path, "/v1.0")
	g := &graphRequest{cloud: c, tenant: t, who: who, req: req, body: body, parts: strings.Split(strings.Trim(path, "/"), "/")}
	r := g.route(path)
	return answer(req, r.status, nil, r.body)
}

func (g *graphRequest) route(path string) reply {
	switch {
	case byName.MatchString(path):
		return g.named(byName.FindStringSubmatch(path)[1])
	case byClient.MatchString(path):
		client := byClient.FindStringSubmatch(path)[1]
		return g.read(g.tenant.app(func(a *fakeApp) bool { return a.client == client }))
	case spClient.MatchString(path):
		return g.principalOf(spClient.FindStringSubmatch(path)[1])
	}
	switch g.parts[0] {
	case "applications":
		return g.applications()
	case "servicePrincipals":
		return g.principals()
	case "groups":
		return g.groups()
	case "directory":
		return g.bin()
	}
	return refuse(http.StatusNotFound, "Request_ResourceNotFound")
}

func (g *graphRequest) into(v any) bool { return json.Unmarshal(g.body, v) == nil }

func absent() reply { return refuse(http.StatusNotFound, "Request_ResourceNotFound") }

func (g *graphRequest) read(a *fakeApp) reply {
	if a == nil || !g.cloud.visible(a.born) {
		return absent()
	}
	return reply{http.StatusOK, a.shown(g.cloud)}
}

// named is an application by its unique name: made if it is not there, at most
// once, and read only when it is known.
func (g *graphRequest) named(name string) reply {
	a := g.tenant.app(func(a *fakeApp) bool { return a.unique == name })
	if g.req.Method == http.MethodGet {
		return g.read(a)
	}
	var in struct {
		DisplayName string   `json:"displayName"`
		Tags        []string `json:"tags"`
	}
	if g.req.Method != http.MethodPatch || !g.into(&in) || in.DisplayName == "" {
		return refuse(http.StatusBadRequest, "Request_BadRequest")
	}
	if a != nil {
		a.tags = in.Tags
		return reply{http.StatusNoContent, nil}
	}
	if g.req.Header.Get("Prefer") != upsertHeader {
		return absent()
	}
	if g.tenant.full() {
		return refuse(http.StatusForbidden, "Directory_QuotaExceeded")
	}
	a = &fakeApp{id: g.tenant.newID(), client: g.tenant.newID(), unique: name, display: in.DisplayName, tags: in.Tags, born: g.cloud.clk.Now()}
	g.tenant.apps[a.id] = a
	return reply{http.StatusCreated, a.shown(g.cloud)}
}

func (g *graphRequest) principalOf(client string) reply {
	sp := g.tenant.principalOf(client)
	if g.req.Method == http.MethodGet {
		if sp == nil || !g.cloud.visible(sp.born) {
			return absent()
		}
		return reply{http.StatusOK, principal{ID: sp.id, AppID: sp.client}}
	}
	app := g.tenant.app(func(a *fakeApp) bool { return a.client == client })
	switch {
	case g.req.Method != http.MethodPatch || g.req.Header.Get("Prefer") != upsertHeader:
		return absent()
	case app == nil || !g.cloud.visible(app.born):
		return refuse(http.StatusBadRequest, "NoBackingApplicationObject")
	case sp != nil:
		return reply{http.StatusNoContent, nil}
	case g.tenant.full():
		return refuse(http.StatusForbidden, "Directory_QuotaExceeded")
	}
	sp = &fakePrincipal{id: g.tenant.newID(), client: client, enabled: true, born: g.cloud.clk.Now()}
	g.tenant.principals[sp.id] = sp
	return reply{http.StatusCreated, principal{ID: sp.id, AppID: client}}
}

func (g *graphRequest) applications() reply {
	if len(g.parts) == 1 {
		return g.search()
	}
	a := g.tenant.apps[g.parts[1]]
	if a == nil || !a.deleted.IsZero() || !g.cloud.visible(a.born) {
		return absent()
	}
	switch {
	case len(g.parts) == 2 && g.req.Method == http.MethodGet:
		return g.read(a)
	case len(g.parts) == 2 && g.req.Method == http.MethodDelete:
		g.tenant.remove(a, g.cloud.clk.Now())
		return reply{http.StatusNoContent, nil}
	case len(g.parts) == 3 && g.parts[2] == "addPassword":
		return g.addPassword(a)
	case len(g.parts) == 3 && g.parts[2] == "removePassword":
		return g.removePassword(a)
	}
	return refuse(http.StatusBadRequest, "Request_BadRequest")
}

func (g *graphRequest) addPassword(a *fakeApp) reply {
	var in struct {
		Password struct {
			DisplayName string    `json:"displayName"`
			End         time.Time `json:"endDateTime"`
		} `json:"passwordCredential"`
	}
	if !g.into(&in) || in.Password.DisplayName == "" {
		return refuse(http.StatusBadRequest, "Request_BadRequest")
	}
	if len(a.passwords) > 40 {
		return refuse(http.StatusBadRequest, "DirectoryObjectSizeLimitExceeded")
	}
	pw := fakePassword{key: g.tenant.newID(), name: in.Password.DisplayName, end: in.Password.End, born: g.cloud.clk.Now()}
	pw.text = pw.key[9:13] + "~password-" + pw.key[24:]
	a.passwords = append(a.passwords, pw)
	return reply{http.StatusOK, password{KeyID: pw.key, DisplayName: pw.name, Hint: pw.text[:3], End: &pw.end, Text: pw.text}}
}

func (g *graphRequest) removePassword(a *fakeApp) reply {
	var in struct {
		KeyID string `json:"keyId"`
	}
	had := len(a.passwords)
	if g.into(&in) {
		a.passwords = slices.DeleteFunc(a.passwords, func(pw fakePassword) bool { return pw.key == in.KeyID })
	}
	if len(a.passwords) == had {
		return refuse(http.StatusBadRequest, "Request_BadRequest")
	}
	return reply{http.StatusNoContent, nil}
}

// search finds applications by a tag, in pages.
func (g *graphRequest) search() reply {
	m := filterOf.FindStringSubmatch(g.req.URL.Query().Get("$filter"))
	if m == nil {
		return refuse(http.StatusBadRequest, "Request_UnsupportedQuery")
	}
	var out []application
	for _, a := range g.tenant.apps {
		if a.deleted.IsZero() && g.cloud.visible(a.born) && slices.Contains(a.tags, m[1]) {
			out = append(out, a.shown(g.cloud))
		}
	}
	slices.SortFunc(out, func(a, b application) int { return strings.Compare(a.ID, b.ID) })
	return pageOf(g, out)
}

func pageOf[T any](g *graphRequest, all []T) reply {
	query := g.req.URL.Query()
	from, err := strconv.Atoi(query.Get("$skiptoken"))
	if err != nil {
		from = 0
	}
	to := min(from+g.cloud.pageSize, len(all))
	out := page[T]{Value: all[from:to]}
	if to < len(all) {
		query.Set("$skiptoken", strconv.Itoa(to))
		out.Next = "https://graph.microsoft.com" + g.req.URL.Path + "?" + query.Encode()
	}
	return reply{http.StatusOK, out}
}

func (g *graphRequest) principals() reply {
	sp := g.tenant.principals[g.parts[1]]
	if sp == nil || !sp.deleted.IsZero() || !g.cloud.visible(sp.born) {
		return absent()
	}
	if len(g.parts) == 3 && g.parts[2] == "checkMemberGroups" {
		var in struct {
			GroupIDs []string `json:"groupIds"`
		}
		if !g.into(&in) || len(in.GroupIDs) == 0 {
			return refuse(http.StatusBadRequest, "Request_BadRequest")
		}
		in.GroupIDs = slices.DeleteFunc(in.GroupIDs, func(id string) bool { return g.tenant.groups[id][sp.id].IsZero() })
		return reply{http.StatusOK, page[string]{Value: in.GroupIDs}}
	}
	if len(g.parts) == 3 && g.parts[2] == "ownedObjects" {
		var out []principal
		for id, a := range g.tenant.apps {
			if a.unique != "" && a.deleted.IsZero() {
				out = append(out, principal{ID: id})
			}
		}
		slices.SortFunc(out, func(a, b principal) int { return strings.Compare(a.ID, b.ID) })
		return pageOf(g, out)
	}
	var in struct {
		Enabled *bool `json:"accountEnabled"`
	}
	if g.req.Method != http.MethodPatch || !g.into(&in) || in.Enabled == nil {
		return refuse(http.StatusBadRequest, "Request_BadRequest")
	}
	sp.enabled = *in.Enabled
	return reply{http.StatusNoContent, nil}
}

func (g *graphRequest) groups() reply {
	members := g.tenant.groups[g.parts[1]]
	switch {
	case members == nil:
		return absent()
	case len(g.parts) == 2:
		return reply{http.StatusOK, directoryGroup{ID: g.parts[1]}}
	case len(g.parts) == 3 && g.req.Method == http.MethodGet:
		var out []principal
		m := memberIs.FindStringSubmatch(g.req.URL.Query().Get("$filter"))
		if m == nil || g.req.Header.Get("ConsistencyLevel") != "eventual" {
			return refuse(http.StatusBadRequest, "Request_UnsupportedQuery")
		}
		if since, in := members[m[1]]; in && g.cloud.visible(since) {
			out = append(out, principal{ID: m[1]})
		}
		return pageOf(g, out)
	case len(g.parts) == 4 && g.req.Method == http.MethodPost:
		return g.join(members)
	case len(g.parts) == 5 && g.req.Method == http.MethodDelete:
		if since, in := members[g.parts[3]]; !in || (g.tenant.lagging && !g.cloud.visible(since)) {
			return absent()
		}
		delete(members, g.parts[3])
		return reply{http.StatusNoContent, nil}
	}
	return refuse(http.StatusBadRequest, "Request_BadRequest")
}

func (g *graphRequest) join(members map[string]time.Time) reply {
	var in map[string]string
	if !g.into(&in) {
		return refuse(http.StatusBadRequest, "Request_BadRequest")
	}
	who := last(in["@odata.id"])
	if sp := g.tenant.principals[who]; sp != nil && !g.cloud.visible(sp.born) {
		return absent()
	}
	if _, there := members[who]; there {
		return reply{http.StatusBadRequest, map[string]any{"error": map[string]string{
			"code": "Request_BadRequest", "message": "One or more added object references already exist. " + upstreamWords,
		}}}
	}
	members[who] = g.cloud.clk.Now()
	return reply{http.StatusNoContent, nil}
}

// bin is where deleted objects are for 30 days.
func (g *graphRequest) bin() reply {
	if g.req.Method == http.MethodGet {
		var out []application
		for _, a := range g.tenant.apps {
			if !a.deleted.IsZero() {
				out = append(out, application{ID: a.id, Tags: a.tags})
			}
		}
		slices.SortFunc(out, func(a, b application) int { return strings.Compare(a.ID, b.ID) })
		return pageOf(g, out)
	}
	id := g.parts[2]
	if a := g.tenant.apps[id]; a != nil && !a.deleted.IsZero() && g.cloud.visible(a.deleted) {
		delete(g.tenant.apps, id)
		return reply{http.StatusNoContent, nil}
	}
	if sp := g.tenant.principals[id]; sp != nil && !sp.deleted.IsZero() && g.cloud.visible(sp.deleted) {
		delete(g.tenant.principals, id)
		return reply{http.StatusNoContent, nil}
	}
	return absent()
}
