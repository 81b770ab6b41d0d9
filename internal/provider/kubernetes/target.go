package kubernetes

import (
	"crypto/x509"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/vault-pim/vault-plugin-secrets-pim/internal/provider/contract"
	"github.com/vault-pim/vault-plugin-secrets-pim/internal/provider/remote"
	"github.com/vault-pim/vault-plugin-secrets-pim/internal/secret"
)

// everyNamespace in token_namespaces stands for all of them.
const everyNamespace = "*"

// surroundings are what a plugin inside a cluster finds there, and the way to
// an API server. Tests have others.
type surroundings struct {
	getenv     func(string) string
	accountDir string // where kubelet puts the pod's own token and CA
	dial       func(contract.Env, targetConfig) (api, error)
}

func machine() surroundings {
	return surroundings{
		getenv:     os.Getenv,
		accountDir: "/var/run/secrets/kubernetes.io/serviceaccount",
		dial:       func(env contract.Env, c targetConfig) (api, error) { return dial(env, c) },
	}
}

// targetConfig is what a target's fields say, in types.
type targetConfig struct {
	host            *url.URL
	ca              secretFile // PEM; not secret, but read in the same ways
	serverName      string
	token           secretFile
	rootTTL         time.Duration
	managed         []string
	tokenNamespaces []string
}

// secretFile is a text that is either known or read anew at every use.
type secretFile struct {
	value string
	remote.File
}

func (f secretFile) read() (secret.String, error) {
	if f.Path == "" {
		return secret.New(f.value), nil
	}
	raw, err := f.Read()
	return secret.New(strings.TrimSpace(string(raw))), err
}

// readTarget reads a target's fields and reports everything that is wrong with
// them. It does no I/O.
func readTarget(w surroundings, env contract.Env, t contract.Target) (targetConfig, contract.Report) {
	var report contract.Report
	v := t.Fields.WithDefaults(targetFields())
	c := targetConfig{
		serverName: v.String("tls_server_name"), rootTTL: v.Seconds("root_token_ttl"),
		managed: v.Strings("managed_namespaces"), tokenNamespaces: v.Strings("token_namespaces"),
		ca: secretFile{value: v.String("ca_cert")},
	}
	if v.String("host") == "" {
		c.readAmbient(w, env, &report)
	} else {
		c.host = readHost(v.String("host"), env.AllowLocal, &report)
	}
	if c.ca.value != "" && !x509.NewCertPool().AppendCertsFromPEM([]byte(c.ca.value)) {
		report.Addf("ca_cert", "has no certificate in PEM form")
	}
	if c.serverName != "" && !plainText(c.serverName) {
		report.Addf("tls_server_name", "must be a host name")
	}
	c.readToken(env, t.Secrets["token"], v.String("token_file"), &report)
	if c.rootTTL < minTokenTTL {
		report.Addf("root_token_ttl", "must be at least %s", minTokenTTL)
	}
	for _, ns := range c.managed {
		checkNamespace(ns, "managed_namespaces", &report)
	}
	for _, ns := range c.tokenNamespaces {
		if ns != everyNamespace {
			checkNamespace(ns, "token_namespaces", &report)
		}
	}
	return c, report
}

// readAmbient takes address and CA from the pod that the plugin runs in.
func (c *targetConfig) readAmbient(w surroundings, env contract.Env, report *contract.Report) {
	name, port := w.getenv("KUBERNETES_SERVICE_HOST"), w.getenv("KUBERNETES_SERVICE_PORT")
	switch {
	case !slices.Contains(env.AllowAmbient, Type):
		report.Addf("host", "is required; the cluster that the plugin runs in is taken only if PIM_ALLOW_AMBIENT has kubernetes")
	case name == "" || port == "":
		report.Addf("host", "is required: the plugin does not run in a cluster")
	default:
		c.host = &url.URL{Scheme: "https", Host: net.JoinHostPort(name, port)}
		c.token.Path = filepath.Join(w.accountDir, "token")
		if c.ca.value == "" {
			c.ca.Path = filepath.Join(w.accountDir, "ca.crt")
		}
	}
}

func readHost(text string, allowLocal bool, report *contract.Report) *url.URL {
	u, err := url.Parse(text)
	if err != nil || u.Scheme != "https" || u.Hostname() == "" || u.User != nil || u.RawQuery != "" || u.Fragment != "" {
		report.Addf("host", "must be https://name:port and nothing more")
		return nil
	}
	if remote.IsLocalName(u.Hostname()) && !allowLocal {
		report.Addf("host", "is this machine or its link, which only PIM_ALLOW_LOCAL=true permits")
	}
	return u
}

func (c *targetConfig) readToken(env contract.Env, token secret.String, file string, report *contract.Report) {
	switch {
	case !token.Empty() && file != "":
		report.Addf("token_file", "token and token_file cannot both be set")
	case !token.Empty():
		c.token = secretFile{value: strings.TrimSpace(token.Reveal())}
		if !oneLine(c.token.value) {
			report.Addf("token", "must be one line without blanks")
		}
	case file != "":
		var ok bool
		if c.token.File, ok = remote.FileBelow(env.FileRoot, file); !ok {
			report.Addf("token_file", "must be a file below PIM_FILE_ROOT, which the plugin's registration sets")
		}
	case c.token.Path == "":
		report.Addf("token", "is required, or token_file")
	}
}

func oneLine(s string) bool { return !strings.ContainsAny(s, " \t\r\n") }

// manages tells whether roles of this target may reach into a namespace.
func (c targetConfig) manages(ns string) bool {
	return len(c.managed) == 0 || slices.Contains(c.managed, ns)
}

// issuesIn tells whether tokens of existing service accounts of a namespace
// may be issued.
func (c targetConfig) issuesIn(ns string) bool {
	return slices.Contains(c.tokenNamespaces, everyNamespace) || slices.Contains(c.tokenNamespaces, ns)
}
