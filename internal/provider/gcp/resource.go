package gcp

import (
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strings"

	"github.com/vault-pim/vault-plugin-secrets-pim/internal/provider/contract"
)

const (
	projectsPrefix      = "projects/"
	foldersPrefix       = "folders/"
	organizationsPrefix = "organizations/"
)

// resource is something that has an allow policy which takes conditions, as a
// full resource name without the leading slashes:
// storage.googleapis.com/buckets/NAME.
type resource string

// kindOfResource is one form of resource names that this provider knows.
type kindOfResource struct {
	service service
	form    *regexp.Regexp // of the part behind the service
	// permission begins the names of the permissions on its policy.
	permission string
	prefix     string // of paths: v3/
	readByPost bool   // getIamPolicy is a POST with options in its body
}

// Forms of the names of resources. Names of projects may begin with the domain
// of an old organization.
const (
	formID      = `[A-Za-z0-9][A-Za-z0-9._~-]{0,254}`
	formProject = `projects/([a-z][a-z0-9.-]{1,60}:)?[a-z0-9][a-z0-9-]{1,62}`
	formKeyRing = formProject + `/locations/` + formID + `/keyRings/` + formID
)

var (
	projectResource = regexp.MustCompile(`^` + formProject + `$`)
	folderResource  = regexp.MustCompile(`^folders/[0-9]{1,20}$`)
	orgResource     = regexp.MustCompile(`^organizations/[0-9]{1,20}$`)
	bucketResource  = regexp.MustCompile(`^buckets/` + formID + `$`)
	secretResource  = regexp.MustCompile(`^` + formProject + `(/locations/` + formID + `)?/secrets/` + formID + `$`)
	ringResource    = regexp.MustCompile(`^` + formKeyRing + `$`)
	keyResource     = regexp.MustCompile(`^` + formKeyRing + `/cryptoKeys/` + formID + `$`)
	runResource     = regexp.MustCompile(`^` + formProject + `/locations/` + formID + `/services/` + formID + `$`)
)

// Services whose resources take conditional bindings in their own policies
// (IAM documentation, "Resource types that accept conditional role bindings").
func resourceKinds() []kindOfResource {
	return []kindOfResource{
		{svcProjects, projectResource, "resourcemanager.projects", "v3/", true},
		{svcProjects, folderResource, "resourcemanager.folders", "v3/", true},
		{svcProjects, orgResource, "resourcemanager.organizations", "v3/", true},
		{svcStorage, bucketResource, "storage.buckets", "storage/v1/b/", false},
		{svcSecrets, secretResource, "secretmanager.secrets", "v1/", false},
		{svcKMS, ringResource, "cloudkms.keyRings", "v1/", false},
		{svcKMS, keyResource, "cloudkms.cryptoKeys", "v1/", false},
		{svcRun, runResource, "run.services", "v2/", false},
	}
}

// parseResource reads a resource's name, in full or short form.
func parseResource(text string) (resource, bool) {
	full, isFull := strings.CutPrefix(text, "//")
	if !isFull {
		full = string(svcProjects) + ".googleapis.com/" + text
	}
	r := resource(full)
	_, ok := r.kind()
	return r, ok && len(full) <= 300
}

func (r resource) parts() (service, string) {
	host, name, _ := strings.Cut(string(r), "/")
	return service(strings.TrimSuffix(host, ".googleapis.com")), name
}

func (r resource) kind() (kindOfResource, bool) {
	svc, name := r.parts()
	for _, k := range resourceKinds() {
		if k.service == svc && k.form.MatchString(name) && !strings.Contains(name, "..") {
			return k, true
		}
	}
	return kindOfResource{}, false
}

// String is the resource's name as people write it.
func (r resource) String() string {
	if svc, name := r.parts(); svc == svcProjects {
		return name
	}
	return "//" + string(r)
}

// project is the project that a resource is or lies in; "" = none is in its
// name.
func (r resource) project() string {
	_, name := r.parts()
	rest, ok := strings.CutPrefix(name, projectsPrefix)
	if !ok {
		return ""
	}
	id, _, _ := strings.Cut(rest, "/")
	return id
}

// permissions on the resource's policy.
func (r resource) permissions(verbs ...string) []string {
	k, _ := r.kind()
	out := make([]string, len(verbs))
	for i, v := range verbs {
		out[i] = k.permission + "." + v
	}
	return out
}

// path is a resource's own part of a path. Bucket names stand alone.
func (r resource) path(k kindOfResource) string {
	_, name := r.parts()
	if k.service == svcStorage {
		name = strings.TrimPrefix(name, "buckets/")
	}
	return k.prefix + name
}

// getPolicy, setPolicy and testPermissions are the calls on a resource.
func (r resource) getPolicy() call {
	k, _ := r.kind()
	c := call{op: "read policy", service: k.service, method: http.MethodGet, path: r.path(k) + ":getIamPolicy"}
	switch {
	case k.readByPost:
		c.method, c.body = http.MethodPost, map[string]any{"options": map[string]any{"requestedPolicyVersion": policyVersion}}
	case k.service == svcStorage:
		c.path = r.path(k) + "/iam"
		c.query = url.Values{"optionsRequestedPolicyVersion": {"3"}}
	default:
		c.query = url.Values{"options.requestedPolicyVersion": {"3"}}
	}
	return c
}

func (r resource) setPolicy(policy []byte) call {
	k, _ := r.kind()
	c := call{op: "write policy", service: k.service, method: http.MethodPost, path: r.path(k) + ":setIamPolicy", once: true}
	if k.service == svcStorage {
		c.method, c.path, c.raw = http.MethodPut, r.path(k)+"/iam", policy
		return c
	}
	c.raw = slices.Concat([]byte(`{"policy":`), policy, []byte(`}`))
	return c
}

func (r resource) testPermissions(list []string) call {
	k, _ := r.kind()
	c := call{op: "test permissions", service: k.service, method: http.MethodPost, path: r.path(k) + ":testIamPermissions"}
	if k.service == svcStorage {
		c.method, c.path, c.query = http.MethodGet, r.path(k)+"/iam/testPermissions", url.Values{"permissions": list}
		return c
	}
	c.body = map[string]any{"permissions": list}
	return c
}

func readResources(field string, list []string, report *contract.Report) []resource {
	var out []resource
	for _, text := range list {
		r, ok := parseResource(text)
		switch {
		case !ok:
			report.Addf(field, "must be projects/ID, folders/NUMBER, organizations/NUMBER, or full names of buckets, secrets, key rings, "+
				"crypto keys or Cloud Run services: others take no conditions")
		case slices.Contains(out, r):
			report.Addf(field, "names one resource twice")
		default:
			out = append(out, r)
		}
	}
	return out
}
