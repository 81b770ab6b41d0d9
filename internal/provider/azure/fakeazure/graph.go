package fakeazure

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

// graphRequest is one call to the fake Graph.
type graphRequest struct {
	cloud  *Cloud
	tenant *Tenant
	who    claims
	req    *http.Request
	body   []byte
	parts  []string
}

// graph is Microsoft Graph.
func (c *Cloud) graph(req *http.Request, body []byte) *http.Response {
	c.mu.Lock()
	defer c.mu.Unlock()
	who, ok := bearer(req)
	t := c.Tenants[who.Tenant]
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
		return g.read(g.tenant.app(func(a *App) bool { return a.Client == client }))
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

const createIfMissing = "create-if-missing"

func (g *graphRequest) into(v any) bool { return json.Unmarshal(g.body, v) == nil }

func absent() reply { return refuse(http.StatusNotFound, "Request_ResourceNotFound") }

func (g *graphRequest) read(a *App) reply {
	if a == nil || !g.cloud.visible(a.Born) {
		return absent()
	}
	return reply{http.StatusOK, a.shown(g.cloud)}
}

// named is an application by its unique name: made if it is not there, at most
// once, and read only when it is known.
func (g *graphRequest) named(name string) reply {
	a := g.tenant.app(func(a *App) bool { return a.Unique == name })
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
		a.Tags = in.Tags
		return reply{http.StatusNoContent, nil}
	}
	if g.req.Header.Get("Prefer") != createIfMissing {
		return absent()
	}
	if g.tenant.full() {
		return refuse(http.StatusForbidden, "Directory_QuotaExceeded")
	}
	a = &App{ID: g.tenant.newID(), Client: g.tenant.newID(), Unique: name, Tags: in.Tags, Born: g.cloud.clk.Now()}
	g.tenant.Apps[a.ID] = a
	return reply{http.StatusCreated, a.shown(g.cloud)}
}

func (g *graphRequest) principalOf(client string) reply {
	sp := g.tenant.PrincipalOf(client)
	if g.req.Method == http.MethodGet {
		if sp == nil || !g.cloud.visible(sp.Born) {
			return absent()
		}
		return reply{http.StatusOK, objectShown{ID: sp.ID, AppID: sp.Client}}
	}
	app := g.tenant.app(func(a *App) bool { return a.Client == client })
	switch {
	case g.req.Method != http.MethodPatch || g.req.Header.Get("Prefer") != createIfMissing:
		return absent()
	case app == nil || !g.cloud.visible(app.Born):
		return refuse(http.StatusBadRequest, "NoBackingApplicationObject")
	case sp != nil:
		return reply{http.StatusNoContent, nil}
	case g.tenant.full():
		return refuse(http.StatusForbidden, "Directory_QuotaExceeded")
	}
	sp = &Principal{ID: g.tenant.newID(), Client: client, Enabled: true, Born: g.cloud.clk.Now()}
	g.tenant.Principals[sp.ID] = sp
	return reply{http.StatusCreated, objectShown{ID: sp.ID, AppID: client}}
}

func (g *graphRequest) applications() reply {
	if len(g.parts) == 1 {
		return g.search()
	}
	a := g.tenant.Apps[g.parts[1]]
	if a == nil || !a.Deleted.IsZero() || !g.cloud.visible(a.Born) {
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

func (g *graphRequest) addPassword(a *App) reply {
	var in struct {
		Password struct {
			DisplayName string    `json:"displayName"`
			End         time.Time `json:"endDateTime"`
		} `json:"passwordCredential"`
	}
	if !g.into(&in) || in.Password.DisplayName == "" {
		return refuse(http.StatusBadRequest, "Request_BadRequest")
	}
	if len(a.Passwords) > 40 {
		return refuse(http.StatusBadRequest, "DirectoryObjectSizeLimitExceeded")
	}
	pw := Password{Key: g.tenant.newID(), Name: in.Password.DisplayName, End: in.Password.End, Born: g.cloud.clk.Now()}
	pw.Text = pw.Key[9:13] + PasswordMark + pw.Key[24:]
	a.Passwords = append(a.Passwords, pw)
	return reply{http.StatusOK, passwordShown{KeyID: pw.Key, DisplayName: pw.Name, Hint: pw.Text[:3], End: pw.End, Text: pw.Text}}
}

func (g *graphRequest) removePassword(a *App) reply {
	var in struct {
		KeyID string `json:"keyId"`
	}
	had := len(a.Passwords)
	if g.into(&in) {
		a.Passwords = slices.DeleteFunc(a.Passwords, func(pw Password) bool { return pw.Key == in.KeyID })
	}
	if len(a.Passwords) == had {
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
	var out []appShown
	for _, a := range g.tenant.Apps {
		if a.Deleted.IsZero() && g.cloud.visible(a.Born) && slices.Contains(a.Tags, m[1]) {
			out = append(out, a.shown(g.cloud))
		}
	}
	slices.SortFunc(out, func(a, b appShown) int { return strings.Compare(a.ID, b.ID) })
	return pageOf(g, out)
}

func pageOf[T any](g *graphRequest, all []T) reply {
	query := g.req.URL.Query()
	from, err := strconv.Atoi(query.Get("$skiptoken"))
	if err != nil {
		from = 0
	}
	to := min(from+g.cloud.PageSize, len(all))
	out := pageShown{Value: all[from:to]}
	if to < len(all) {
		query.Set("$skiptoken", strconv.Itoa(to))
		out.Next = "https://" + g.req.URL.Host + g.req.URL.Path + "?" + query.Encode()
	}
	return reply{http.StatusOK, out}
}

func (g *graphRequest) principals() reply {
	sp := g.tenant.Principals[g.parts[1]]
	if sp == nil || !sp.Deleted.IsZero() || !g.cloud.visible(sp.Born) {
		return absent()
	}
	if len(g.parts) == 3 && g.parts[2] == "checkMemberGroups" {
		var in struct {
			GroupIDs []string `json:"groupIds"`
		}
		if !g.into(&in) || len(in.GroupIDs) == 0 {
			return refuse(http.StatusBadRequest, "Request_BadRequest")
		}
		in.GroupIDs = slices.DeleteFunc(in.GroupIDs, func(id string) bool { return g.tenant.Groups[id][sp.ID].IsZero() })
		return reply{http.StatusOK, pageShown{Value: in.GroupIDs}}
	}
	if len(g.parts) == 3 && g.parts[2] == "ownedObjects" {
		return g.owned()
	}
	var in struct {
		Enabled *bool `json:"accountEnabled"`
	}
	if g.req.Method != http.MethodPatch || !g.into(&in) || in.Enabled == nil {
		return refuse(http.StatusBadRequest, "Request_BadRequest")
	}
	sp.Enabled = *in.Enabled
	return reply{http.StatusNoContent, nil}
}

// owned are the objects that the engine made.
func (g *graphRequest) owned() reply {
	var out []objectShown
	for id, a := range g.tenant.Apps {
		if a.Unique != "" && a.Deleted.IsZero() {
			out = append(out, objectShown{ID: id})
		}
	}
	slices.SortFunc(out, func(a, b objectShown) int { return strings.Compare(a.ID, b.ID) })
	return pageOf(g, out)
}

func (g *graphRequest) groups() reply {
	members := g.tenant.Groups[g.parts[1]]
	switch {
	case members == nil:
		return absent()
	case len(g.parts) == 2:
		return reply{http.StatusOK, groupShown{ID: g.parts[1]}}
	case len(g.parts) == 3 && g.req.Method == http.MethodGet:
		return g.member(members)
	case len(g.parts) == 4 && g.req.Method == http.MethodPost:
		return g.join(members)
	case len(g.parts) == 5 && g.req.Method == http.MethodDelete:
		if since, in := members[g.parts[3]]; !in || (g.tenant.Lagging && !g.cloud.visible(since)) {
			return absent()
		}
		delete(members, g.parts[3])
		return reply{http.StatusNoContent, nil}
	}
	return refuse(http.StatusBadRequest, "Request_BadRequest")
}

// member answers whether somebody is a member.
func (g *graphRequest) member(members map[string]time.Time) reply {
	m := memberIs.FindStringSubmatch(g.req.URL.Query().Get("$filter"))
	if m == nil || g.req.Header.Get("ConsistencyLevel") != "eventual" {
		return refuse(http.StatusBadRequest, "Request_UnsupportedQuery")
	}
	var out []objectShown
	if since, in := members[m[1]]; in && g.cloud.visible(since) {
		out = append(out, objectShown{ID: m[1]})
	}
	return pageOf(g, out)
}

func (g *graphRequest) join(members map[string]time.Time) reply {
	var in map[string]string
	if !g.into(&in) {
		return refuse(http.StatusBadRequest, "Request_BadRequest")
	}
	who := last(in["@odata.id"])
	if sp := g.tenant.Principals[who]; sp != nil && !g.cloud.visible(sp.Born) {
		return absent()
	}
	if _, there := members[who]; there {
		return reply{http.StatusBadRequest, map[string]any{"error": map[string]string{
			"code": "Request_BadRequest", "message": "One or more added object references already exist. " + UpstreamWords,
		}}}
	}
	members[who] = g.cloud.clk.Now()
	return reply{http.StatusNoContent, nil}
}

// bin is where deleted objects are for 30 days.
func (g *graphRequest) bin() reply {
	if g.req.Method == http.MethodGet {
		var out []appShown
		for _, a := range g.tenant.Apps {
			if !a.Deleted.IsZero() {
				out = append(out, appShown{ID: a.ID, Tags: a.Tags})
			}
		}
		slices.SortFunc(out, func(a, b appShown) int { return strings.Compare(a.ID, b.ID) })
		return pageOf(g, out)
	}
	id := g.parts[2]
	if a := g.tenant.Apps[id]; a != nil && !a.Deleted.IsZero() && g.cloud.visible(a.Deleted) {
		delete(g.tenant.Apps, id)
		return reply{http.StatusNoContent, nil}
	}
	if sp := g.tenant.Principals[id]; sp != nil && !sp.Deleted.IsZero() && g.cloud.visible(sp.Deleted) {
		delete(g.tenant.Principals, id)
		return reply{http.StatusNoContent, nil}
	}
	return absent()
}
