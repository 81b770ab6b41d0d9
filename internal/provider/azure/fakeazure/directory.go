package fakeazure

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"slices"
	"time"
)

// Tenant is one directory.
type Tenant struct {
	ID         string
	Apps       map[string]*App // by object id
	Principals map[string]*Principal
	Groups     map[string]map[string]time.Time // members, and since when
	Quota      int                             // directory objects, deleted ones included; 0 = none
	Lagging    bool                            // removals do not see at once what was made
	count      int
}

// App is an application.
type App struct {
	ID, Client, Unique string
	Tags               []string
	Passwords          []Password
	Certificate        bool // it has one, and any assertion counts as made with it
	Born, Deleted      time.Time
}

// Password is one of an application's secrets.
type Password struct {
	Key, Name, Text string
	End, Born       time.Time
}

// PasswordMark is in every password that the directory makes.
const PasswordMark = "~password-"

// Principal is a service principal.
type Principal struct {
	ID, Client    string
	Enabled       bool
	Roles         []string // application permissions
	Born, Deleted time.Time
}

// AddTenant makes an empty directory.
func (c *Cloud) AddTenant(id string) *Tenant {
	t := &Tenant{ID: id, Apps: map[string]*App{}, Principals: map[string]*Principal{}, Groups: map[string]map[string]time.Time{}}
	c.Tenants[id] = t
	return t
}

// newID gives an object id.
func (t *Tenant) newID() string {
	t.count++
	sum := sha256.Sum256(fmt.Appendf(nil, "%s %d", t.ID, t.count))
	h := hex.EncodeToString(sum[:16])
	return h[:8] + "-" + h[8:12] + "-8" + h[13:16] + "-8" + h[17:20] + "-" + h[20:]
}

// Standing adds an application and principal that have been there for ever.
func (t *Tenant) Standing(client, secret string, roles ...string) (*App, *Principal) {
	long := time.Time{}
	app := &App{ID: t.newID(), Client: client, Born: long}
	if secret != "" {
		app.Passwords = []Password{{Key: t.newID(), Name: "by hand", Text: secret, End: long.AddDate(9000, 0, 0), Born: long}}
	}
	sp := &Principal{ID: t.newID(), Client: client, Enabled: true, Roles: roles, Born: long}
	t.Apps[app.ID], t.Principals[sp.ID] = app, sp
	return app, sp
}

func (t *Tenant) app(match func(*App) bool) *App {
	for _, a := range t.Apps {
		if match(a) && a.Deleted.IsZero() {
			return a
		}
	}
	return nil
}

// AppOf is the application with a client id, or nil.
func (t *Tenant) AppOf(client string) *App {
	return t.app(func(a *App) bool { return a.Client == client })
}

// PrincipalOf is the principal of an application, or nil.
func (t *Tenant) PrincipalOf(client string) *Principal {
	for _, sp := range t.Principals {
		if sp.Client == client && sp.Deleted.IsZero() {
			return sp
		}
	}
	return nil
}

// Objects counts what a quota is about.
func (t *Tenant) Objects() int { return len(t.Apps) + len(t.Principals) }

func (t *Tenant) full() bool { return t.Quota > 0 && t.Objects() >= t.Quota }

// remove puts an application and its principal into the bin.
func (t *Tenant) remove(a *App, now time.Time) {
	a.Deleted = now
	sp := t.PrincipalOf(a.Client)
	if sp == nil {
		return
	}
	sp.Deleted = now
	for _, members := range t.Groups {
		delete(members, sp.ID)
	}
}

// The forms in which the directory shows what it has.
type (
	appShown struct {
		ID        string          `json:"id"`
		AppID     string          `json:"appId,omitempty"`
		Tags      []string        `json:"tags,omitempty"`
		Passwords []passwordShown `json:"passwordCredentials,omitempty"`
	}
	passwordShown struct {
		KeyID       string    `json:"keyId"`
		DisplayName string    `json:"displayName"`
		Hint        string    `json:"hint"`
		End         time.Time `json:"endDateTime"`
		Text        string    `json:"secretText,omitempty"`
	}
	objectShown struct {
		ID    string `json:"id"`
		AppID string `json:"appId,omitempty"`
	}
	groupShown struct {
		ID         string `json:"id"`
		Assignable bool   `json:"isAssignableToRole"`
	}
	pageShown struct {
		Value any    `json:"value"`
		Next  string `json:"@odata.nextLink,omitempty"`
	}
)

func (pw Password) shown() passwordShown {
	return passwordShown{KeyID: pw.Key, DisplayName: pw.Name, Hint: pw.Text[:3], End: pw.End}
}

func (a *App) shown(c *Cloud) appShown {
	out := appShown{ID: a.ID, AppID: a.Client, Tags: slices.Clone(a.Tags)}
	for _, pw := range a.Passwords {
		if c.visible(pw.Born) {
			out.Passwords = append(out.Passwords, pw.shown())
		}
	}
	return out
}
