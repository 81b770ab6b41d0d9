package gcp

import (
	"context"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/vault-pim/vault-plugin-secrets-pim/internal/clock"
	"github.com/vault-pim/vault-plugin-secrets-pim/internal/domain"
	"github.com/vault-pim/vault-plugin-secrets-pim/internal/provider/contract"
	"github.com/vault-pim/vault-plugin-secrets-pim/internal/provider/gcp/fakegcp"
	"github.com/vault-pim/vault-plugin-secrets-pim/internal/provider/providertest"
	"github.com/vault-pim/vault-plugin-secrets-pim/internal/secret"
)

const (
	homeProject   = "prod-access"
	homeNumber    = "111111111111"
	engineAccount = "pim-engine@engine-home.iam.gserviceaccount.com"
	robot         = "deployer@prod-access.iam.gserviceaccount.com"
	projectPolicy = "cloudresourcemanager/projects/prod-access"
	bucketPolicy  = "storage/buckets/prod-logs"
	secretPolicy  = "secretmanager/projects/prod-access/secrets/db"
	bucket        = "//storage.googleapis.com/buckets/prod-logs"
	vaultSecret   = "//secretmanager.googleapis.com/projects/prod-access/secrets/db"
)

var start = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

// keyPool has a few keys made once: making one takes longer than everything
// else in these tests.
var keyPool = sync.OnceValue(func() []*rsa.PrivateKey {
	out := make([]*rsa.PrivateKey, 4)
	for i := range out {
		k, err := rsa.GenerateKey(rand.Reader, keyBits)
		if err != nil {
			panic(err)
		}
		out[i] = k
	}
	return out
})

var nextKey atomic.Int64

func pooledKey() (*rsa.PrivateKey, error) {
	return keyPool()[int(nextKey.Add(1))%len(keyPool())], nil
}

// kit is one cloud with what tests of the provider need.
type kit struct {
	clk    *clock.Manual
	cloud  *fakegcp.Cloud
	root   secret.String
	waited atomic.Int64 // nanoseconds that the provider would have waited
	gather func() (called func() []string)
}

func newKit(t testing.TB) *kit {
	t.Helper()
	clk := clock.NewManual(start)
	k := &kit{clk: clk, cloud: fakegcp.New(clk)}
	k.cloud.AddFolder("folders/77", "organizations/42")
	k.cloud.AddFolder("organizations/42", "")
	k.cloud.AddProject(homeProject, homeNumber, "folders/77")
	k.cloud.AddProject("stage-access", "222222222222", "folders/77")
	k.cloud.AddProject("engine-home", "333333333333", "folders/77")
	k.cloud.AddResource("storage", "buckets/prod-logs")
	k.cloud.AddResource("secretmanager", "projects/prod-access/secrets/db")
	k.cloud.AddResource("cloudkms", "projects/prod-access/locations/global/keyRings/main/cryptoKeys/db")
	k.cloud.AddResource("run", "projects/prod-access/locations/europe-west1/services/api")
	k.cloud.AddAccount("engine-home", engineAccount)
	k.cloud.AddAccount(homeProject, robot)
	k.root = k.keyOf(t, engineAccount, "somebody's own")
	k.gather = func() func() []string { return judged(t, k.cloud) }
	k.gather()
	return k
}

// keyOf makes a key of an account, as its JSON.
func (k *kit) keyOf(t testing.TB, email, name string) secret.String {
	t.Helper()
	private, err := pooledKey()
	if err != nil {
		t.Fatal(err)
	}
	cert, err := certify(private, name, start.Add(-time.Hour), rootEnd())
	if err != nil {
		t.Fatal(err)
	}
	id := k.cloud.GiveKey(email, cert, "USER_PROVIDED")
	der, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil || id == "" {
		t.Fatal("no key", err)
	}
	raw, err := json.Marshal(keyFile{
		Type: kindAccount, PrivateKeyID: id, ClientEmail: email, TokenURI: googleTokenURI, ProjectID: "engine-home",
		PrivateKey: string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})),
	})
	if err != nil {
		t.Fatal(err)
	}
	return secret.New(string(raw))
}

// surroundings lead to the cloud in memory and do not wait.
func (k *kit) surroundings() surroundings {
	return surroundings{
		getenv:    func(string) string { return "" },
		transport: func(contract.Env, bool) http.RoundTripper { return k.cloud },
		generate:  pooledKey,
		pace: func(ctx context.Context, _ clock.Clock, d time.Duration) error {
			k.waited.Add(int64(d))
			return ctx.Err()
		},
	}
}

func (k *kit) env() contract.Env { return contract.Env{Clock: k.clk, Log: providertest.Quiet{}} }

// target is the usual target, with some fields changed.
func (k *kit) target(change contract.Values) contract.Target {
	fields := contract.Values{
		"project":           homeProject,
		"managed_resources": []string{"projects/prod-access", bucket, vaultSecret, "folders/77"},
	}
	maps.Copy(fields, change)
	return contract.Target{
		Name: "prod", Fields: fields, Place: homeNumber, Secrets: map[string]secret.String{"credentials": k.root},
	}
}

func (k *kit) open(t testing.TB, target contract.Target) *Provider {
	t.Helper()
	p, err := open(k.surroundings(), k.env(), target)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := p.Close(); err != nil {
			t.Error(err)
		}
	})
	return p
}

// input is a fresh credential of a role.
func (k *kit) input(t testing.TB, fields contract.Values) contract.Input {
	t.Helper()
	now := k.clk.Now()
	return contract.Input{
		Credential: domain.CredentialID(providertest.NewID(t, now)), Request: domain.RequestID(providertest.NewID(t, now)), Role: "reader", Person: "alice",
		Principal: "user:alice@example.com", Fields: normalize(fields), NotAfter: now.Add(10 * time.Minute),
	}
}

func (k *kit) plan(t testing.TB, p *Provider, in contract.Input) domain.Handle {
	t.Helper()
	h, err := p.Plan(t.Context(), in)
	if err != nil {
		t.Fatalf("plan: %v", err)
	}
	return h
}

// issue issues until the credential is usable, and gives the last handle that
// was noted.
func (k *kit) issue(t testing.TB, p *Provider, in contract.Input, h domain.Handle) (contract.Issued, domain.Handle, error) {
	t.Helper()
	return providertest.IssueUsable(t, p, in, h, k.clk)
}

func (k *kit) mustIssue(t testing.TB, p *Provider, fields contract.Values) (contract.Issued, domain.Handle) {
	t.Helper()
	in := k.input(t, fields)
	issued, last, err := k.issue(t, p, in, k.plan(t, p, in))
	if err != nil {
		t.Fatalf("issue: %v", err)
	}
	return issued, last
}

func (k *kit) mustEnd(t testing.TB, p *Provider, h domain.Handle) {
	t.Helper()
	providertest.MustEnd(t, p, h, k.clk)
}

var discovery = sync.OnceValues(func() (*fakegcp.Discovery, error) { return fakegcp.LoadDiscovery(".") })

// judged holds every call of a test to Google's own descriptions, and every
// answer of the fake too. It returns the methods that were called.
func judged(t testing.TB, cloud *fakegcp.Cloud) (called func() []string) {
	t.Helper()
	d, err := discovery()
	if err != nil {
		t.Fatal(err)
	}
	var (
		mu  sync.Mutex
		ids = map[string]bool{}
	)
	cloud.Observe = func(s fakegcp.Seen) {
		if slices.Contains(fakegcp.Undescribed(), s.Service) {
			return
		}
		id, wrong := d.Judge(s)
		mu.Lock()
		ids[id] = true
		mu.Unlock()
		for _, w := range wrong {
			t.Errorf("%s %s: %s", s.Method, s.Path, w)
		}
	}
	return func() []string {
		mu.Lock()
		defer mu.Unlock()
		return contract.SortedKeys(ids)
	}
}

// exists lists what is there for a credential. What gives access counts once.
func (k *kit) exists(_ testing.TB, h domain.Handle) []providertest.Object {
	var out []providertest.Object
	usable := -1
	id := string(h.Credential)
	for _, email := range k.cloud.Accounts("pim-" + id) {
		a, _ := k.cloud.Find(email)
		out = append(out, providertest.Object{What: "account " + email})
		if !a.Disabled && (k.cloud.Live("credential/"+id) > 0 || len(a.Keys) > 0) {
			usable = len(out) - 1
		}
	}
	for _, policy := range []string{projectPolicy, bucketPolicy, secretPolicy} {
		for _, b := range k.cloud.Bindings(policy) {
			if b.Condition == nil || b.Condition.Title != "pim-"+id {
				continue
			}
			out = append(out, providertest.Object{What: b.Role + " on " + policy})
			if strings.HasPrefix(b.Members[0], "user:") {
				usable = len(out) - 1
			}
		}
	}
	a, _ := k.cloud.Find(robot)
	for _, key := range a.Keys {
		if key.Certificate.Subject.CommonName == "pim-"+id {
			out = append(out, providertest.Object{What: "key " + key.ID})
			usable = len(out) - 1
		}
	}
	if usable < 0 && k.cloud.Live("credential/"+id) > 0 {
		out = append(out, providertest.Object{What: "tokens of " + robot})
		usable = len(out) - 1
	}
	if usable >= 0 {
		out[usable].Usable = true
	}
	return out
}

// works tries a credential.
func (k *kit) works(t testing.TB, issued contract.Issued) bool {
	t.Helper()
	data := issued.Data.Reveal()
	switch {
	case data["token"] != nil:
		value, _ := data["token"].(string)
		email, ok := k.cloud.Valid(value)
		return ok && (email == robot || k.cloud.Gives(projectPolicy, "serviceAccount:"+email))
	case data["private_key_data"] != nil:
		encoded, _ := data["private_key_data"].(string)
		raw, err := base64.StdEncoding.DecodeString(encoded)
		if err != nil {
			t.Fatal(err)
		}
		var file keyFile
		if err := json.Unmarshal(raw, &file); err != nil {
			t.Fatal(err)
		}
		endpoint, err := url.Parse(strings.TrimSuffix(file.TokenURI, "/token"))
		if err != nil {
			t.Fatal(err)
		}
		key, err := readKeyFile(raw, endpoint)
		if err != nil {
			t.Fatal(err)
		}
		proof, err := (&client{env: k.env()}).assertion(key)
		if err != nil {
			t.Fatal(err)
		}
		return k.cloud.Accepts(proof.Reveal())
	}
	who, _ := data["principal"].(string)
	return k.cloud.Gives(projectPolicy, who)
}
