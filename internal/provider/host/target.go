package host

import (
	"crypto/x509"
	"errors"
	"net/netip"
	"net/url"
	"regexp"
	"strings"

	"github.com/vault-pim/vault-plugin-secrets-pim/internal/provider/contract"
)

var (
	hostName      = regexp.MustCompile(`^[A-Za-z0-9]([A-Za-z0-9.-]{0,251}[A-Za-z0-9])?$`)
	namespaceName = regexp.MustCompile(`^[A-Za-z0-9_][A-Za-z0-9_.-]*(/[A-Za-z0-9_][A-Za-z0-9_.-]*)*/?$`)
)

// parseAddress reads a target's address: a scheme, a host and perhaps a port,
// and nothing else.
func parseAddress(s string) (*url.URL, error) {
	u, err := url.Parse(s)
	if err != nil {
		return nil, errors.New("is no URL")
	}
	switch {
	case u.Scheme != "https" && u.Scheme != "http":
		return nil, errors.New("must begin with https:// or http://")
	case u.User != nil || u.RawQuery != "" || u.ForceQuery || u.Fragment != "" || strings.Contains(s, "#"):
		return nil, errors.New("must hold neither user, query nor fragment")
	case u.Path != "" && u.Path != "/":
		return nil, errors.New("must not hold a path; use namespace for a namespace")
	case u.Hostname() == "":
		return nil, errors.New("names no host")
	}
	if _, err := netip.ParseAddr(u.Hostname()); err != nil && !hostName.MatchString(u.Hostname()) {
		return nil, errors.New("names no valid host")
	}
	u.Path = ""
	return u, nil
}

// refusedIP tells whether an address needs PIM_ALLOW_LOCAL. Loopback does not:
// the host's own listener there is the advice for this type.
func refusedIP(ip netip.Addr) bool {
	return ip.IsLinkLocalUnicast() || ip.IsLinkLocalMulticast() || ip.IsMulticast() || ip.IsUnspecified()
}

func isLoopback(name string) bool {
	ip, err := netip.ParseAddr(name)
	return strings.EqualFold(name, "localhost") || (err == nil && ip.Unmap().IsLoopback())
}

// checkTarget reports everything wrong with a target's fields, offline.
func checkTarget(env contract.Env, t contract.Target) contract.Report {
	var r contract.Report
	checkAddress(&r, env, t.Fields)
	checkLogin(&r, t)
	if ns := t.Fields.String("namespace"); ns != "" && (!namespaceName.MatchString(ns) || strings.Contains(ns, "..")) {
		r.Addf("namespace", "must be a path of names without leading slash")
	}
	switch name := t.Fields.String("token_role"); {
	case name == "":
		r.Addf("token_role", "is required")
	case roleNameProblem(name) != "":
		r.Addf("token_role", "%s", roleNameProblem(name))
	}
	for _, kind := range t.Fields.Strings("allowed_mount_types") {
		switch {
		case !engineName.MatchString(kind):
			r.Addf("allowed_mount_types", "holds something that is no engine type")
		case neverAllowed(kind):
			r.Addf("allowed_mount_types", "holds a type that is never allowed: the host's own engines and pim")
		}
	}
	return r
}

func checkAddress(r *contract.Report, env contract.Env, f contract.Values) {
	if f.String("address") == "" {
		r.Addf("address", "is required; each node's own loopback listener is the advice")
		return
	}
	u, err := parseAddress(f.String("address"))
	if err != nil {
		r.Addf("address", "%v", err)
		return
	}
	if ip, err := netip.ParseAddr(u.Hostname()); err == nil && !env.AllowLocal && refusedIP(ip.Unmap()) {
		r.Addf("address", "link-local addresses need PIM_ALLOW_LOCAL at the registration of the plugin")
	}
	if u.Scheme == "http" {
		if !isLoopback(u.Hostname()) {
			r.Addf("address", "http is for loopback addresses alone; use https")
		}
		for _, name := range []string{"ca_cert", "tls_server_name"} {
			if f.String(name) != "" {
				r.Addf(name, "means nothing for an http address")
			}
		}
	}
	if pem := f.String("ca_cert"); pem != "" && !x509.NewCertPool().AppendCertsFromPEM([]byte(pem)) {
		r.Addf("ca_cert", "holds no certificate in PEM form")
	}
	if name := f.String("tls_server_name"); name != "" && !hostName.MatchString(name) {
		r.Addf("tls_server_name", "is no host name")
	}
}

func checkLogin(r *contract.Report, t contract.Target) {
	checkSecrets(r, t)
	if mount := t.Fields.String("auth_mount"); mount != "" {
		if p := mountPathProblem(mount); p != "" {
			r.Addf("auth_mount", "%s", p)
		}
	}
	if name := t.Fields.String("role_name"); name != "" {
		if p := roleNameProblem(name); p != "" {
			r.Addf("role_name", "%s", p)
		}
	}
	if !t.Secrets["token"].Empty() {
		r.Warnf("a token cannot be rotated from here and ends with its own ttl; an AppRole login is the advice")
	}
}

// checkSecrets sees to it that there is one way to log in, whole.
func checkSecrets(r *contract.Report, t contract.Target) {
	role, secretID := t.Fields.String("role_id") != "", !t.Secrets["secret_id"].Empty()
	if !t.Secrets["token"].Empty() {
		if role || secretID {
			r.Addf("token", "is one way to log in, role_id with secret_id the other; give one of them")
		}
		return
	}
	switch {
	case !role && !secretID:
		r.Addf("role_id", "is required, with secret_id (or token instead of both)")
	case !role:
		r.Addf("role_id", "is required with secret_id")
	case !secretID:
		r.Addf("secret_id", "is required with role_id")
	}
}
