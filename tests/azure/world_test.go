package azure

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"flag"
	"fmt"
	"maps"
	"math/big"
	"net"
	"net/http/httptest"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/vault-pim/vault-plugin-secrets-pim/internal/clock"
	"github.com/vault-pim/vault-plugin-secrets-pim/internal/provider/azure/fakeazure"
	"github.com/vault-pim/vault-plugin-secrets-pim/internal/provider/contract"
	"github.com/vault-pim/vault-plugin-secrets-pim/tests/harness"
	"github.com/vault-pim/vault-plugin-secrets-pim/tests/harness/poll"
)

const (
	tenantID     = "11111111-1111-4111-8111-111111111111"
	otherTenant  = "22222222-2222-4222-8222-222222222222"
	engineClient = "33333333-3333-4333-8333-333333333333"
	robotClient  = "44444444-4444-4444-8444-444444444444"
	aliceID      = "a11ce000-0000-4000-8000-00000000a11c"
	admins       = "66666666-6666-4666-8666-666666666666"
	subscription = "55555555-5555-4555-8555-555555555555"
	scopeAll     = "/subscriptions/" + subscription
	scopeGroup   = scopeAll + "/resourceGroups/prod"
	contributor  = "b24988ac-6180-42a0-ab88-20f7382dd24c"
	reader       = "acdd72a7-3385-48ef-bd42-f606fba81ae7"
	userAdmin    = "18d7d88d-d35e-4fb5-a5c3-7773c20a72d9"
	// endBound is how long an end may take: ticks of the reaper, pauses between
	// tries, and a process that starts anew.
	endBound = 90 * time.Second
)

type args = map[string]any

var host *harness.Host

func TestMain(m *testing.M) { os.Exit(run(m)) }

func run(m *testing.M) int {
	// These tests wait for pauses between tries far more than they compute.
	// -parallel on the command line is read later and wins.
	if err := flag.Set("test.parallel", "24"); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	code := m.Run()
	if host == nil {
		return code
	}
	if err := errors.Join(host.Stop(), os.RemoveAll(filepath.Dir(authority.file))); err != nil {
		fmt.Fprintln(os.Stderr, "stopping the host:", err)
		return 1
	}
	return code
}

// authority vouches for the cloud's sockets.
var authority struct {
	file string // its certificate
	tls  tls.Certificate
}

var startHost = sync.OnceValue(func() error {
	if err := newAuthority(); err != nil {
		return err
	}
	var err error
	host, err = harness.Start(harness.Options{})
	return err
})

// newAuthority makes a certificate authority and a certificate of it for
// loopback.
func newAuthority() error {
	now := time.Now()
	caKey, err1 := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	key, err2 := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err := errors.Join(err1, err2); err != nil {
		return err
	}
	ca := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "tests"}, NotBefore: now.Add(-time.Hour), NotAfter: now.Add(24 * time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	leaf := &x509.Certificate{
		SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: "cloud"}, NotBefore: ca.NotBefore, NotAfter: ca.NotAfter,
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	caDER, err1 := x509.CreateCertificate(rand.Reader, ca, ca, &caKey.PublicKey, caKey)
	der, err2 := x509.CreateCertificate(rand.Reader, leaf, ca, &key.PublicKey, caKey)
	dir, err3 := os.MkdirTemp("", "pim-azure-")
	if err := errors.Join(err1, err2, err3); err != nil {
		return err
	}
	authority.file = filepath.Join(dir, "ca.pem")
	authority.tls = tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
	return os.WriteFile(authority.file, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: caDER}), 0o600)
}

// cloud is Azure on sockets, with what the tests use.
type cloud struct {
	*fakeazure.Cloud
	home    *fakeazure.Tenant
	manager *fakeazure.Manager
	robot   *fakeazure.App
	engine  *fakeazure.Principal
	secret  string // of the engine's application
	urls    map[string]string
}

func newCloud(t *testing.T) *cloud {
	t.Helper()
	c := &cloud{Cloud: fakeazure.New(clock.System{}), secret: "eng~" + rand.Text(), urls: map[string]string{}}
	c.PageSize = 100
	c.home = c.AddTenant(tenantID)
	_, c.engine = c.home.Standing(engineClient, c.secret, "Application.ReadWrite.OwnedBy", "GroupMember.ReadWrite.All")
	c.robot, _ = c.home.Standing(robotClient, "rob~somebody-elses")
	c.home.Groups[admins] = map[string]time.Time{}
	c.manager = c.AddManager(c.home, subscription)
	c.manager.Settle, c.manager.Floor = time.Second, 4*time.Second
	c.manager.Define(contributor, "*")
	c.manager.Define(reader, "*/read")
	c.manager.Define(userAdmin, "Microsoft.Authorization/*")
	for _, service := range []string{fakeazure.Login, fakeazure.Graph, fakeazure.Manage} {
		server := httptest.NewUnstartedServer(c.Serve(service))
		server.TLS = &tls.Config{MinVersion: tls.VersionTLS12, Certificates: []tls.Certificate{authority.tls}}
		server.StartTLS()
		t.Cleanup(server.Close)
		c.urls[service] = server.URL
	}
	t.Cleanup(func() {
		for _, wrong := range fakeazure.Judge(c.Calls(fakeazure.Graph)) {
			t.Error(wrong)
		}
	})
	return c
}

// office is a harness.Office with a cloud of its own as its target.
type office struct {
	*cloud
	*harness.Office
}

// newOffice mounts the plugin; offices with the same environment share a
// process.
func newOffice(t *testing.T, plugin harness.Plugin) *office {
	t.Helper()
	if err := startHost(); err != nil {
		t.Fatal(err)
	}
	plugin.Env = append(plugin.Env, "SSL_CERT_FILE="+authority.file)
	o := &office{cloud: newCloud(t), Office: host.Mount(t, plugin).Office(t)}
	host.Root().Write(t, "identity/entity/id/"+o.Alice.EntityID, args{"metadata": map[string]string{"oid": aliceID}}).OK(t)
	o.Write(t, "targets/prod", o.target(nil))
	return o
}

func (o *office) target(change args) args {
	fields := args{
		"type": "azure", "tenant_id": tenantID, "client_id": engineClient, "client_secret": o.secret, "managed_scopes": scopeAll,
		"subscription_id": subscription, "endpoints": o.urls,
	}
	maps.Copy(fields, change)
	return fields
}

// kinds are the ways to get access, with their classes.
func (c *cloud) kinds() map[string]args {
	own := []string{"Contributor@" + scopeGroup}
	return map[string]args{
		"principal": {"azure_roles": own},
		"member":    {"azure_roles": own, "azure_groups": admins},
		"password":  {"application_object_id": c.robot.ID},
		"own-role":  {"principal_source": "metadata:oid", "azure_roles": own},
		"own-timed": {"principal_source": "metadata:oid", "azure_roles": own, "schedule": true},
		"own-group": {"principal_source": "metadata:oid", "azure_groups": admins},
		"purged":    {"azure_roles": own, "permanently_delete": true},
	}
}

func kindNames() []string {
	return contract.SortedKeys((&cloud{robot: &fakeazure.App{}}).kinds())
}

func class(kind string) string {
	if kind == "member" || kind == "own-group" {
		return "expiry_only"
	}
	return "propagating"
}

// creds reads a credential until it is ready.
func (o *office) creds(t *testing.T, role string) harness.Answer {
	t.Helper()
	var answer harness.Answer
	poll.Until(t, endBound, func() error {
		if answer = o.Alice.Read(t, o.Path("creds/"+role)); answer.Status/100 == 2 {
			return nil
		}
		return fmt.Errorf("%d %s", answer.Status, answer.Body)
	})
	return answer
}

// access says why a credential gives access at the cloud; "" = it does not.
func (o *office) access(creds harness.Answer) string {
	o.Lock()
	defer o.Unlock()
	if text, _ := creds.Data["client_secret"].(string); text != "" {
		client, _ := creds.Data["client_id"].(string)
		if sp, ok := o.LogsIn(o.home, client, text); ok && (client == robotClient || o.manager.Gives(sp.ID) > 0) {
			return "the secret is accepted"
		}
		return ""
	}
	who, _ := creds.Data["principal_id"].(string)
	if o.manager.Gives(who) > 0 {
		return "the role is assigned"
	}
	if _, in := o.home.Groups[admins][who]; in {
		return "the account is in the group"
	}
	return ""
}

// usable lists what is left at the cloud that gives anybody access.
func (o *office) usable() []string {
	o.Lock()
	defer o.Unlock()
	var out []string
	for _, a := range o.home.Apps {
		if sp := o.home.PrincipalOf(a.Client); a.Unique != "" && a.Deleted.IsZero() && sp != nil && sp.Enabled && len(a.Passwords) > 0 {
			out = append(out, "application "+a.Unique)
		}
	}
	for _, pw := range o.robot.Passwords {
		if pw.Name != "by hand" {
			out = append(out, "password "+pw.Name)
		}
	}
	for name := range o.manager.Assignments {
		out = append(out, "assignment "+name)
	}
	for name, s := range o.manager.Schedules {
		if time.Now().Before(s.End) {
			out = append(out, "schedule "+name)
		}
	}
	for who := range o.home.Groups[admins] {
		out = append(out, "member "+who)
	}
	return out
}

// applications counts those that were made for credentials and are there, or
// in the bin.
func (o *office) applications() int {
	o.Lock()
	defer o.Unlock()
	n := 0
	for _, a := range o.home.Apps {
		if a.Unique != "" {
			n++
		}
	}
	return n
}

// nothingLeft waits until nobody has access any more.
func (o *office) nothingLeft(t *testing.T) {
	t.Helper()
	poll.Until(t, endBound, func() error {
		if left := o.usable(); len(left) > 0 {
			return fmt.Errorf("left: %v", left)
		}
		return nil
	})
}
