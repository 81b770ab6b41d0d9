package azure

import (
	"fmt"
	"net/url"
	"slices"
	"time"
)

// fakeTenant is one directory.
type fakeTenant struct {
	id         string
	apps       map[string]*fakeApp // by object id
	principals map[string]*fakePrincipal
	groups     map[string]map[string]time.Time // members, and since when
	count      int
	quota      int // directory objects, deleted ones included; 0 = none
	lagging    bool
}

type fakeApp struct {
	id, client, unique, display string
	tags                        []string
	passwords                   []fakePassword
	certificate                 bool
	born, deleted               time.Time
}

type fakePassword struct {
	key, name, text string
	end, born       time.Time
}

type fakePrincipal struct {
	id, client    string
	enabled       bool
	roles         []string
	born, deleted time.Time
}

func (c *fakeCloud) tenant(id string) *fakeTenant {
	t := &fakeTenant{
		id: id, apps: map[string]*fakeApp{}, principals: map[string]*fakePrincipal{}, groups: map[string]map[string]time.Time{},
	}
	c.tenants[id] = t
	return t
}

// newID gives an object id.
func (t *fakeTenant) newID() string {
	t.count++
	return guid(t.id, fmt.Sprint(t.count))
}

// standing adds an application and principal that have been there for ever.
func (t *fakeTenant) standing(client, secret string, roles ...string) (*fakeApp, *fakePrincipal) {
	long := time.Time{}
	app := &fakeApp{id: t.newID(), client: client, born: long}
	if secret != "" {
		app.passwords = []fakePassword{{key: t.newID(), name: "by hand", text: secret, end: long.AddDate(9000, 0, 0), born: long}}
	}
	sp := &fakePrincipal{id: t.newID(), client: client, enabled: true, roles: roles, born: long}
	t.apps[app.id], t.principals[sp.id] = app, sp
	return app, sp
}

func (t *fakeTenant) app(match func(*fakeApp) bool) *fakeApp {
	for _, a := range t.apps {
		if match(a) && a.deleted.IsZero() {
			return a
		}
	}
	return nil
}

func (t *fakeTenant) principalOf(client string) *fakePrincipal {
	for _, sp := range t.principals {
		if sp.client == client && sp.deleted.IsZero() {
			return sp
		}
	}
	return nil
}

// authenticate checks a client's secret as Entra does, whose servers learn of
// applications, principals and secrets one after the other.
func (t *fakeTenant) authenticate(c *fakeCloud, form url.Values) (*fakePrincipal, string) {
	client := form.Get("client_id")
	app := t.app(func(a *fakeApp) bool { return a.client == client })
	if app == nil || !c.visible(app.born) {
		return nil, "AADSTS700016"
	}
	sp := t.principalOf(client)
	if sp == nil || !c.visible(sp.born) {
		return nil, "AADSTS7000229"
	}
	if !sp.enabled {
		return nil, "AADSTS7000112"
	}
	if form.Get("client_assertion") != "" {
		if app.certificate {
			return sp, ""
		}
		return nil, "AADSTS700027"
	}
	for _, pw := range app.passwords {
		if pw.text != form.Get("client_secret") || !c.visible(pw.born) {
			continue
		}
		if !c.clk.Now().Before(pw.end) {
			return nil, "AADSTS7000222"
		}
		return sp, ""
	}
	return nil, "AADSTS7000215"
}

// objects counts what a quota is about.
func (t *fakeTenant) objects() int { return len(t.apps) + len(t.principals) }

func (t *fakeTenant) full() bool { return t.quota > 0 && t.objects() >= t.quota }

// remove puts an application and its principal into the bin.
func (t *fakeTenant) remove(a *fakeApp, now time.Time) {
	a.deleted = now
	sp := t.principalOf(a.client)
	if sp == nil {
		return
	}
	sp.deleted = now
	for _, members := range t.groups {
		delete(members, sp.id)
	}
}

func (a *fakeApp) shown(c *fakeCloud) application {
	out := application{ID: a.id, AppID: a.client, Tags: slices.Clone(a.tags)}
	for _, pw := range a.passwords {
		if c.visible(pw.born) {
			out.Passwords = append(out.Passwords, password{KeyID: pw.key, DisplayName: pw.name, Hint: pw.text[:3], End: &pw.end})
		}
	}
	return out
}
