package fakegcp

import (
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"
)

const (
	maxKeys  = 10
	pageSize = 2 // small, so that every list has pages
)

// Account is a service account.
type Account struct {
	Email, Project, UniqueID string
	DisplayName, Description string
	Disabled                 bool
	Made                     time.Time
	Keys                     map[string]*Key
	Old                      bool // has been there for ever: known everywhere
}

// Key is a key of a service account.
type Key struct {
	ID, Origin  string
	Certificate *x509.Certificate
	PEM         []byte
	Made        time.Time
	Old         bool
}

// AddAccount makes an account that has always been there.
func (c *Cloud) AddAccount(project, email string) *Account {
	c.mu.Lock()
	defer c.mu.Unlock()
	a := c.newAccount(project, email)
	a.Old = true
	return a
}

// Describe gives an account a description.
func (c *Cloud) Describe(email, text string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.accounts[email].Description = text
}

func (c *Cloud) newAccount(project, email string) *Account {
	c.serial++
	a := &Account{
		Email: email, Project: project, UniqueID: "1000000000000" + strconv.Itoa(10000+c.serial),
		Made: c.clk.Now(), Keys: map[string]*Key{},
	}
	c.accounts[email] = a
	return a
}

// known tells whether an account is known where a lag holds.
func (c *Cloud) known(a *Account, lag time.Duration) bool {
	return a != nil && (a.Old || !c.clk.Now().Before(a.Made.Add(lag)))
}

func (a *Account) answer() map[string]any {
	out := map[string]any{
		"name": "projects/" + a.Project + "/serviceAccounts/" + a.Email, "projectId": a.Project, "uniqueId": a.UniqueID,
		"email": a.Email, "displayName": a.DisplayName, "description": a.Description, "etag": "MDEwMjE5MjA=", "oauth2ClientId": a.UniqueID,
	}
	if a.Disabled {
		out["disabled"] = true
	}
	return out
}

// iam is the IAM API: accounts, keys and roles.
func (c *Cloud) iam(v *visit) (any, *refusal) {
	path := strings.TrimPrefix(v.path, "v1/")
	if strings.HasPrefix(path, "roles/") || strings.Contains(path, "/roles/") {
		return c.role(v, path)
	}
	parts := strings.Split(path, "/")
	if len(parts) < 3 || parts[0] != "projects" || parts[2] != "serviceAccounts" {
		return nil, notFound()
	}
	if len(parts) == 3 {
		if v.method == http.MethodPost {
			return c.createAccount(v, parts[1])
		}
		return c.listAccounts(v, parts[1])
	}
	email, verb, _ := strings.Cut(parts[3], ":")
	a := c.accounts[email]
	if verb == "testIamPermissions" {
		return c.testOnAccount(v)
	}
	if a == nil || (parts[1] != "-" && parts[1] != a.Project) || !c.known(a, c.lag.Reads) {
		return nil, notFound()
	}
	if len(parts) >= 5 {
		id := ""
		if len(parts) == 6 {
			id = parts[5]
		}
		return c.keyCall(v, a, parts[4], id)
	}
	return c.accountCall(v, a, verb)
}

func (c *Cloud) accountCall(v *visit, a *Account, verb string) (any, *refusal) {
	switch {
	case v.method == http.MethodGet && verb == "":
		if wrong := c.need(v, "iam.serviceAccounts.get"); wrong != nil {
			return nil, wrong
		}
		return a.answer(), nil
	case v.method == http.MethodPost && verb == "disable":
		if wrong := c.need(v, "iam.serviceAccounts.disable"); wrong != nil {
			return nil, wrong
		}
		a.Disabled = true
		return nil, nil
	case v.method == http.MethodDelete && verb == "":
		if wrong := c.need(v, "iam.serviceAccounts.delete"); wrong != nil {
			return nil, wrong
		}
		c.deleteAccount(a)
		return nil, nil
	}
	return nil, notFound()
}

// deleteAccount is soft: the account can come back for 30 days, and its
// bindings show that it is deleted.
func (c *Cloud) deleteAccount(a *Account) {
	delete(c.accounts, a.Email)
	c.deleted = append(c.deleted, a)
	old := "serviceAccount:" + a.Email
	for _, p := range c.policies {
		p.rename(old, "deleted:"+old+"?uid="+a.UniqueID)
	}
}

func (c *Cloud) createAccount(v *visit, project string) (any, *refusal) {
	var in struct {
		ID      string `json:"accountId"`
		Account struct {
			DisplayName string `json:"displayName"`
			Description string `json:"description"`
		} `json:"serviceAccount"`
	}
	if wrong := v.decode(&in); wrong != nil {
		return nil, wrong
	}
	p := c.project(project)
	if p == nil {
		return nil, notFound()
	}
	if wrong := c.need(v, "iam.serviceAccounts.create"); wrong != nil {
		return nil, wrong
	}
	email := in.ID + "@" + p.ID + ".iam.gserviceaccount.com"
	used := 0
	for _, a := range c.accounts {
		if a.Project == p.ID {
			used++
		}
	}
	switch {
	case len(in.ID) < 6 || len(in.ID) > 30 || len(in.Account.DisplayName) > 100 || len(in.Account.Description) > 256:
		return nil, invalid("a name is too long or too short")
	case c.accounts[email] != nil:
		return nil, refuse(http.StatusConflict, "ALREADY_EXISTS", "exists already")
	case used >= p.MaxAccounts:
		return nil, refuse(http.StatusTooManyRequests, "RESOURCE_EXHAUSTED", "maximum number of service accounts")
	}
	a := c.newAccount(p.ID, email)
	a.DisplayName, a.Description = in.Account.DisplayName, in.Account.Description
	return a.answer(), nil
}

func (c *Cloud) listAccounts(v *visit, project string) (any, *refusal) {
	if wrong := c.need(v, "iam.serviceAccounts.list"); wrong != nil {
		return nil, wrong
	}
	var all []*Account
	for _, a := range c.accounts {
		if a.Project == project {
			all = append(all, a)
		}
	}
	slices.SortFunc(all, func(a, b *Account) int { return strings.Compare(a.Email, b.Email) })
	from, err := strconv.Atoi("0" + v.arg("pageToken"))
	if err != nil || from > len(all) {
		return nil, invalid("bad page token")
	}
	to := min(from+pageSize, len(all))
	out := map[string]any{}
	var page []any
	for _, a := range all[from:to] {
		page = append(page, a.answer())
	}
	if page != nil {
		out["accounts"] = page
	}
	if to < len(all) {
		out["nextPageToken"] = strconv.Itoa(to)
	}
	return out, nil
}

func (c *Cloud) keyCall(v *visit, a *Account, verb, id string) (any, *refusal) {
	permission := map[string]string{
		"GET keys": "iam.serviceAccountKeys.list", "POST keys:upload": "iam.serviceAccountKeys.create", "DELETE keys": "iam.serviceAccountKeys.delete",
	}[v.method+" "+verb]
	if wrong := c.need(v, permission); wrong != nil {
		return nil, wrong
	}
	k := a.Keys[id]
	switch {
	case v.method == http.MethodPost && verb == "keys:upload":
		return c.uploadKey(v, a)
	case v.method == http.MethodGet && verb == "keys" && id == "":
		var list []any
		for _, id := range sortedKeys(a.Keys) {
			list = append(list, a.Keys[id].answer(a, false))
		}
		if list == nil {
			return nil, nil
		}
		return map[string]any{"keys": list}, nil
	case k == nil:
		return nil, notFound()
	case v.method == http.MethodGet:
		return k.answer(a, v.arg("publicKeyType") == "TYPE_X509_PEM_FILE"), nil
	case v.method == http.MethodDelete:
		delete(a.Keys, id)
		return nil, nil
	}
	return nil, notFound()
}

func (k *Key) answer(a *Account, public bool) map[string]any {
	out := map[string]any{
		"name":           "projects/" + a.Project + "/serviceAccounts/" + a.Email + "/keys/" + k.ID,
		"validAfterTime": k.Certificate.NotBefore.UTC().Format(time.RFC3339), "keyAlgorithm": "KEY_ALG_RSA_2048",
		"validBeforeTime": k.Certificate.NotAfter.UTC().Format(time.RFC3339), "keyOrigin": k.Origin, "keyType": "USER_MANAGED",
	}
	if public {
		out["publicKeyData"] = base64.StdEncoding.EncodeToString(k.PEM)
	}
	return out
}

func (c *Cloud) uploadKey(v *visit, a *Account) (any, *refusal) {
	var in struct {
		Data string `json:"publicKeyData"`
	}
	if wrong := v.decode(&in); wrong != nil {
		return nil, wrong
	}
	raw, err := base64.StdEncoding.DecodeString(in.Data)
	if err != nil {
		return nil, invalid("not base64")
	}
	if len(a.Keys) >= maxKeys {
		return nil, refuse(http.StatusTooManyRequests, "RESOURCE_EXHAUSTED", "maximum number of keys on account reached")
	}
	k, wrong := c.attach(a, raw, "USER_PROVIDED")
	if wrong != "" {
		return nil, invalid(wrong)
	}
	return k.answer(a, false), nil
}

// attach gives an account a key; why is not empty when the certificate is not
// one.
func (c *Cloud) attach(a *Account, certificate []byte, origin string) (k *Key, why string) {
	block, _ := pem.Decode(certificate)
	if block == nil {
		return nil, "no certificate"
	}
	cert, err := x509.ParseCertificate(block.Bytes)
	if err != nil || cert.Version != 3 || cert.CheckSignatureFrom(cert) != nil && cert.CheckSignature(cert.SignatureAlgorithm, cert.RawTBSCertificate, cert.Signature) != nil {
		return nil, "not a self-signed X.509 v3 certificate"
	}
	if !c.clk.Now().Before(cert.NotAfter) {
		return nil, "the certificate has ended"
	}
	c.serial++
	k = &Key{ID: strings.Repeat("0", 34) + strconv.Itoa(100000+c.serial), Origin: origin, Certificate: cert, PEM: certificate, Made: c.clk.Now()}
	a.Keys[k.ID] = k
	return k, ""
}

func (c *Cloud) role(v *visit, name string) (any, *refusal) {
	list, ok := c.roles[name]
	if !ok {
		return nil, notFound()
	}
	if wrong := c.need(v, "iam.roles.get"); wrong != nil {
		return nil, wrong
	}
	return map[string]any{"name": name, "title": name, "includedPermissions": list, "stage": "GA", "etag": "AA=="}, nil
}

func (c *Cloud) testOnAccount(v *visit) (any, *refusal) {
	var in struct {
		Permissions []string `json:"permissions"`
	}
	if wrong := v.decode(&in); wrong != nil {
		return nil, wrong
	}
	return granted(slices.DeleteFunc(in.Permissions, func(p string) bool { return !v.caller.engine || c.faults.denied[p] })), nil
}

func granted(list []string) any {
	if len(list) == 0 {
		return nil
	}
	return map[string]any{"permissions": list}
}

func sortedKeys[V any](m map[string]V) []string {
	out := make([]string, 0, len(m))
	for k := range m {
		out = append(out, k)
	}
	slices.Sort(out)
	return out
}

// Find returns a copy of an account, without its keys' private parts.
func (c *Cloud) Find(email string) (Account, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	a, ok := c.accounts[email]
	if !ok {
		return Account{}, false
	}
	out := *a
	out.Keys = maps.Clone(a.Keys)
	return out, true
}

// GiveKey makes a certificate a key that has always been one.
func (c *Cloud) GiveKey(email string, certificate []byte, origin string) (id string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	k, why := c.attach(c.accounts[email], certificate, origin)
	if why != "" {
		return ""
	}
	k.Old = true
	return k.ID
}
