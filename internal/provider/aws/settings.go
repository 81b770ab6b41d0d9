package aws

import (
	"io/fs"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/vault-pim/vault-plugin-secrets-pim/internal/provider/contract"
	"github.com/vault-pim/vault-plugin-secrets-pim/internal/secret"
)

// settings are a target's fields, read.
type settings struct {
	Source          string
	Root            keyPair
	BaseRole        string
	RevokerRole     string
	ExternalID      string
	WebRole         string
	WebFile         string // relative to contract.Env.FileRoot
	Region          string
	STSRegion       string
	STSEndpoint     string
	Fallback        []stsPlace
	IAMEndpoint     string
	Center          string // ARN of the Identity Center instance
	CenterRegion    string
	CenterEndpoint  string
	StoreEndpoint   string
	OrgEndpoint     string
	SigninEndpoint  string
	Retries         int
	AllowLocal      bool
	FileRoot        string
	PinnedAccountID string
}

// stsPlace is one more STS to try.
type stsPlace struct{ Region, Endpoint string }

// readSettings reads a target that checkTarget found right.
func readSettings(env contract.Env, t contract.Target) settings {
	f := t.Fields.WithDefaults(targetFields())
	s := settings{
		Source: f.String("root_credential"), BaseRole: f.String("base_role_arn"), RevokerRole: f.String("revoker_role_arn"),
		ExternalID: f.String("external_id"), WebRole: f.String("web_identity_role_arn"), WebFile: f.String("web_identity_token_file"),
		Region: f.String("region"), STSRegion: f.String("sts_region"), STSEndpoint: f.String("sts_endpoint"),
		IAMEndpoint: f.String("iam_endpoint"), Center: f.String("identity_center_arn"),
		CenterRegion: f.String("identity_center_region"), CenterEndpoint: f.String("identity_center_endpoint"),
		StoreEndpoint: f.String("identity_store_endpoint"), OrgEndpoint: f.String("organizations_endpoint"),
		SigninEndpoint: f.String("signin_endpoint"), Retries: f.Int("max_retries"),
		AllowLocal: env.AllowLocal, FileRoot: env.FileRoot, PinnedAccountID: t.Place,
	}
	s.Root = keyPair{ID: t.Secrets["access_key"].Reveal(), Secret: secret.New(t.Secrets["secret_key"].Reveal())}
	if s.STSRegion == "" {
		s.STSRegion = s.Region
	}
	if s.CenterRegion == "" {
		s.CenterRegion = s.Region
	}
	endpoints, regions := f.Strings("sts_fallback_endpoints"), f.Strings("sts_fallback_regions")
	for i, region := range regions {
		place := stsPlace{Region: region}
		if i < len(endpoints) {
			place.Endpoint = endpoints[i]
		}
		s.Fallback = append(s.Fallback, place)
	}
	return s
}

var (
	regionForm    = regexp.MustCompile(`^[a-z]{2}(-[a-z]+)+-[0-9]{1,2}$`)
	accessKeyForm = regexp.MustCompile(`^[A-Z0-9]{16,128}$`)
	externalForm  = regexp.MustCompile(`^[\w+=,.@:/-]{2,}$`)
)

// validExternalID tells whether STS takes an external id: 2 to 1,224 characters.
func validExternalID(s string) bool { return len(s) <= 1224 && externalForm.MatchString(s) }

func checkRoleARNs(r *contract.Report, f contract.Values) {
	for _, name := range []string{"base_role_arn", "revoker_role_arn", "web_identity_role_arn"} {
		v := f.String(name)
		if a, ok := parseARN(v); v != "" && (!ok || !isRoleARN(a)) {
			r.Addf(name, "is not the ARN of an IAM role")
		}
	}
}

// checkTarget reports every problem of a target's fields, offline.
func checkTarget(env contract.Env, t contract.Target) contract.Report {
	var r contract.Report
	f := t.Fields.WithDefaults(targetFields())
	checkRoot(&r, env, f, t.Secrets)
	checkRoleARNs(&r, f)
	if v := f.String("external_id"); v != "" && !validExternalID(v) {
		r.Addf("external_id", "has a form that STS does not take")
	}
	for _, name := range []string{"region", "sts_region", "identity_center_region"} {
		if v := f.String(name); v != "" && !regionForm.MatchString(v) {
			r.Addf(name, "is not the name of an AWS region")
		}
	}
	for _, name := range endpointFields {
		checkEndpoint(&r, env, name, f.String(name))
	}
	checkFallback(&r, env, f)
	if v := f.String("identity_center_arn"); v != "" {
		if a, ok := parseARN(v); !ok || a.service != "sso" || !strings.HasPrefix(a.resource, "instance/") {
			r.Addf("identity_center_arn", "is not the ARN of an IAM Identity Center instance")
		}
	}
	if n := f.Int("max_retries"); n < 0 || n > mostRetries {
		r.Addf("max_retries", "must be from 0 to %d", mostRetries)
	}
	return r
}

//nolint:gochecknoglobals // constant table
var endpointFields = []string{
	"sts_endpoint", "iam_endpoint", "identity_center_endpoint", "identity_store_endpoint", "organizations_endpoint", "signin_endpoint",
}

func isRoleARN(a arn) bool {
	_, ok := a.roleName()
	return ok && accountForm.MatchString(a.account)
}

func checkFallback(r *contract.Report, env contract.Env, f contract.Values) {
	endpoints, regions := f.Strings("sts_fallback_endpoints"), f.Strings("sts_fallback_regions")
	if len(endpoints) > 0 && len(endpoints) != len(regions) {
		r.Addf("sts_fallback_endpoints", "needs one entry for each of sts_fallback_regions")
	}
	for _, v := range regions {
		if !regionForm.MatchString(v) {
			r.Addf("sts_fallback_regions", "has an entry that is not the name of an AWS region")
		}
	}
	for _, v := range endpoints {
		checkEndpoint(r, env, "sts_fallback_endpoints", v)
	}
}

// checkRoot checks where the root credential comes from.
func checkRoot(r *contract.Report, env contract.Env, f contract.Values, secrets map[string]secret.String) {
	key, sec := secrets["access_key"].Reveal(), secrets["secret_key"].Reveal()
	source := f.String("root_credential")
	if source != sourceStatic && (key != "" || sec != "") {
		r.Addf("access_key", "belongs to root_credential=static, and only to it")
	}
	if source != sourceWebIdentity && f.String("web_identity_token_file")+f.String("web_identity_role_arn") != "" {
		r.Addf("web_identity_token_file", "belongs to root_credential=web_identity, and only to it")
	}
	switch source {
	case sourceStatic:
		if !accessKeyForm.MatchString(key) {
			r.Addf("access_key", "is required and must be an access key id")
		}
		if sec == "" {
			r.Addf("secret_key", "is required")
		}
	case sourceWebIdentity:
		checkTokenFile(r, env, f)
	case sourceEnvironment, sourceInstance, sourceContainer:
		if !slices.Contains(env.AllowAmbient, Type) {
			r.Addf("root_credential", "uses the plugin's own identity, which PIM_ALLOW_AMBIENT does not allow for aws")
		}
	default:
		r.Addf("root_credential", "must be one of static, environment, instance, container, web_identity")
	}
}

func checkTokenFile(r *contract.Report, env contract.Env, f contract.Values) {
	if f.String("web_identity_role_arn") == "" {
		r.Addf("web_identity_role_arn", "is required for web_identity")
	}
	name := f.String("web_identity_token_file")
	switch {
	case env.FileRoot == "":
		r.Addf("web_identity_token_file", "files are not allowed here: PIM_FILE_ROOT is not set")
	case name == "" || !filepath.IsLocal(name):
		r.Addf("web_identity_token_file", "is required and must be a path below PIM_FILE_ROOT")
	}
}

// readFile reads a file below the root and nowhere else, symbolic links
// included.
func readFile(root, name string) ([]byte, error) {
	dir, err := os.OpenRoot(root)
	if err != nil {
		return nil, err
	}
	data, err := fs.ReadFile(dir.FS(), filepath.ToSlash(filepath.Clean(name)))
	if cerr := dir.Close(); err == nil {
		err = cerr
	}
	return data, err
}

// checkEndpoint checks the URL of one service. Plain HTTP is for loopback, and
// loopback and link-local addresses only where they are allowed.
func checkEndpoint(r *contract.Report, env contract.Env, field, value string) {
	if value == "" {
		return
	}
	u, err := url.Parse(value)
	if err != nil || u.Host == "" || u.User != nil || u.RawQuery != "" || u.Fragment != "" || (u.Path != "" && u.Path != "/") {
		r.Addf(field, "must be a URL of scheme and host alone")
		return
	}
	local := isLocalHost(u.Hostname())
	switch {
	case local && !env.AllowLocal:
		r.Addf(field, "is a loopback or link-local address, which PIM_ALLOW_LOCAL does not allow")
	case u.Scheme == "https", u.Scheme == "http" && local:
	default:
		r.Addf(field, "must begin with https://")
	}
}

// isLocalHost tells whether a host is this machine or its link by name or
// number. What a name resolves to is checked again when it is dialled.
func isLocalHost(host string) bool {
	host = strings.TrimSuffix(strings.ToLower(host), ".")
	if host == "localhost" || strings.HasSuffix(host, ".localhost") {
		return true
	}
	ip, err := netip.ParseAddr(host)
	return err == nil && isLocalAddress(ip)
}

func isLocalAddress(ip netip.Addr) bool {
	ip = ip.Unmap()
	return ip.IsLoopback() || ip.IsLinkLocalUnicast() || ip.IsUnspecified()
}
