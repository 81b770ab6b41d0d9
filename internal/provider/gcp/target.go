package gcp

import (
	"crypto/rand"
	"crypto/rsa"
	"net/http"
	"net/url"
	"os"
	"regexp"
	"slices"
	"strings"

	"github.com/vault-pim/vault-plugin-secrets-pim/internal/provider/contract"
	"github.com/vault-pim/vault-plugin-secrets-pim/internal/provider/remote"
	"github.com/vault-pim/vault-plugin-secrets-pim/internal/secret"
)

var (
	projectForm = regexp.MustCompile(`^([a-z][a-z0-9.-]{1,60}:)?[a-z][a-z0-9-]{4,28}[a-z0-9]$`)
	accountForm = regexp.MustCompile(`^[a-z0-9][a-z0-9.-]{0,62}@[a-z0-9][a-z0-9.-]{1,100}\.gserviceaccount\.com$`)
	numberForm  = regexp.MustCompile(`^[0-9]{1,20}$`)
)

const (
	maxChain     = 5
	maxResources = 10
)

// surroundings are what the plugin finds on its machine, and its way to
// Google. Tests have others.
type surroundings struct {
	getenv    func(string) string
	transport func(contract.Env, bool) http.RoundTripper
	pace      remote.Pace
	generate  func() (*rsa.PrivateKey, error)
}

func machine() surroundings {
	return surroundings{
		getenv: os.Getenv, transport: remote.CloudTransport, pace: remote.ClockPace,
		generate: func() (*rsa.PrivateKey, error) { return rsa.GenerateKey(rand.Reader, keyBits) },
	}
}

// service is one of Google's APIs, by the first part of its host name.
type service string

const (
	svcIAM         service = "iam"
	svcCredentials service = "iamcredentials"
	svcProjects    service = "cloudresourcemanager"
	svcSTS         service = "sts"
	svcOAuth       service = "oauth2"
	svcMetadata    service = "metadata"
	svcStorage     service = "storage"
	svcSecrets     service = "secretmanager"
	svcKMS         service = "cloudkms"
	svcRun         service = "run"
)

func services() []service {
	return []service{
		svcKMS, svcProjects, svcIAM, svcCredentials, svcMetadata, svcOAuth, svcRun, svcSecrets, svcStorage, svcSTS,
	}
}

// targetConfig is what a target's fields say, in types.
type targetConfig struct {
	project     string
	credentials secret.String
	file        remote.File // where the root credential is, if it is in a file
	ambient     bool        // the process's own identity, from the metadata server
	chain       []string
	managed     []resource
	endpoints   map[service]*url.URL
}

// beside names another file that a file of this kind may point to.
func beside(f remote.File, name string) (remote.File, bool) {
	if f.Root == "" {
		return remote.File{Path: name}, name != ""
	}
	return remote.FileBelow(f.Root, name)
}

// readTarget reads a target's fields and reports everything that is wrong with
// them. It does no I/O.
func readTarget(w surroundings, env contract.Env, t contract.Target) (targetConfig, contract.Report) {
	var report contract.Report
	v := t.Fields
	c := targetConfig{project: v.String("project"), chain: v.Strings("impersonate"), credentials: t.Secrets["credentials"]}
	if !projectForm.MatchString(c.project) {
		report.Addf("project", "is required: the id of a project, not its number or name")
	}
	c.endpoints = readEndpoints(env, v.Map("endpoints"), &report)
	if len(c.chain) > maxChain {
		report.Addf("impersonate", "at most %d", maxChain)
	}
	for _, email := range c.chain {
		if !accountForm.MatchString(email) {
			report.Addf("impersonate", "must be e-mail addresses of service accounts")
			break
		}
	}
	c.readCredentials(w, env, v.String("credentials_file"), &report)
	list := v.Strings("managed_resources")
	if len(list) == 0 && c.project != "" {
		list = []string{"projects/" + c.project}
	}
	if len(list) > 10*maxResources {
		report.Addf("managed_resources", "at most %d", 10*maxResources)
	}
	c.managed = readResources("managed_resources", list, &report)
	return c, report
}

func (c *targetConfig) readCredentials(w surroundings, env contract.Env, file string, report *contract.Report) {
	switch {
	case !c.credentials.Empty() && file != "":
		report.Addf("credentials_file", "credentials and credentials_file cannot both be set")
	case !c.credentials.Empty():
		if _, err := readKeyFile([]byte(c.credentials.Reveal()), c.endpoints[svcOAuth]); err != nil {
			report.Addf("credentials", "%s", publicOf(err))
		}
	case file != "":
		var ok bool
		if c.file, ok = remote.FileBelow(env.FileRoot, file); !ok {
			report.Addf("credentials_file", "must be a file below PIM_FILE_ROOT, which the plugin's registration sets")
		}
	case !slices.Contains(env.AllowAmbient, Type):
		report.Addf("credentials", "is required, or credentials_file; the process's own identity is taken only if PIM_ALLOW_AMBIENT has gcp")
	default:
		c.file.Path = w.getenv("GOOGLE_APPLICATION_CREDENTIALS")
		c.ambient = c.file.Path == ""
	}
}

func readEndpoints(env contract.Env, given map[string]string, report *contract.Report) map[service]*url.URL {
	out := map[service]*url.URL{}
	for _, s := range services() {
		out[s] = &url.URL{Scheme: "https", Host: string(s) + ".googleapis.com"}
	}
	out[svcMetadata] = &url.URL{Scheme: "http", Host: "169.254.169.254"}
	for _, name := range contract.SortedKeys(given) {
		if !slices.Contains(services(), service(name)) {
			report.Addf("endpoints", "names a service that this provider does not call")
			continue
		}
		u, err := url.Parse(given[name])
		if err != nil || u.Hostname() == "" || u.User != nil || u.RawQuery != "" || u.Fragment != "" {
			report.Addf("endpoints", "%s must be an address: https://name:port", name)
			continue
		}
		local := remote.IsLocalName(u.Hostname())
		switch {
		case local && !env.AllowLocal:
			report.Addf("endpoints", "%s is this machine or its link, which only PIM_ALLOW_LOCAL=true permits", name)
		case u.Scheme != "https" && (u.Scheme != "http" || !local):
			report.Addf("endpoints", "%s must be https", name)
		}
		u.Path = strings.TrimRight(u.Path, "/")
		out[service(name)] = u
	}
	return out
}

// manages tells whether roles of this target may grant access on a resource.
func (c targetConfig) manages(r resource) bool { return slices.Contains(c.managed, r) }
