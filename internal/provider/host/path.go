package host

import (
	"regexp"
	"slices"
	"strings"

	"github.com/vault-pim/vault-plugin-secrets-pim/internal/provider/contract"
)

const maxPath = 512 // bytes

var (
	segment     = regexp.MustCompile(`^[A-Za-z0-9_][A-Za-z0-9_.@:+=-]*$`)
	roleSegment = regexp.MustCompile(`^[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}$`)
	leaseID     = regexp.MustCompile(`^[A-Za-z0-9_][A-Za-z0-9_.@:+=/-]*$`)
	policyName  = regexp.MustCompile(`^[a-z0-9][a-z0-9_./:@-]{0,127}$`)
	dataKey     = regexp.MustCompile(`^[A-Za-z0-9_-]{1,64}$`)
	engineName  = regexp.MustCompile(`^[a-z0-9][a-z0-9_.-]{0,63}$`)
	wholeParam  = regexp.MustCompile(`^\{\{params\.([a-z][a-z0-9_]{0,63})\}\}$`)
)

// pathProblem says what is wrong with a path of the host, or "". The host
// itself folds, decodes and redirects paths; whatever it would read otherwise
// than it is written is refused here.
func pathProblem(path string) string {
	switch {
	case path == "":
		return "is required"
	case len(path) > maxPath:
		return "is too long"
	case strings.HasPrefix(path, "/") || strings.HasSuffix(path, "/"):
		return "must not begin or end with a slash"
	}
	segments := strings.Split(path, "/")
	if len(segments) < 2 {
		return "names a mount alone"
	}
	for _, s := range segments {
		if !segment.MatchString(s) || strings.Contains(s, "..") || strings.HasSuffix(s, ".") {
			return "has a segment that is empty, is made of dots, or holds other characters than letters, digits and _.@:+=-"
		}
		if slices.Contains([]string{"sys", "identity", "auth", "cubbyhole"}, strings.ToLower(s)) {
			return "leads into sys, identity, auth or cubbyhole"
		}
	}
	return ""
}

// mountPathProblem is pathProblem for the mount path of an auth method.
func mountPathProblem(path string) string {
	for s := range strings.SplitSeq(path, "/") {
		if !roleSegment.MatchString(s) || strings.Contains(s, "..") {
			return "must be a mount path of letters, digits and _.- without slash at either end"
		}
	}
	return ""
}

func roleNameProblem(name string) string {
	if !roleSegment.MatchString(name) || strings.Contains(name, "..") {
		return "must be a name of letters, digits and _.-"
	}
	return ""
}

// dataProblems checks a role's data: plain values, or a declared parameter as
// the whole value.
func dataProblems(r *contract.Report, data map[string]string, params []string) {
	for _, key := range contract.SortedKeys(data) {
		if !dataKey.MatchString(key) {
			r.Addf("data", "has a key that is not made of letters, digits, _ and -")
			continue
		}
		value := data[key]
		m := wholeParam.FindStringSubmatch(value)
		switch {
		case m == nil && strings.Contains(value, "{{"):
			r.Addf("data", "%s: a parameter fills a whole value, written {{params.name}}", key)
		case m != nil && !slices.Contains(params, m[1]):
			r.Addf("data", "%s: the role declares no such parameter", key)
		}
	}
}

// fill puts the request's parameters into a role's data.
func fill(data, params map[string]string) (map[string]any, error) {
	out := make(map[string]any, len(data))
	for key, value := range data {
		m := wholeParam.FindStringSubmatch(value)
		if m == nil {
			if strings.Contains(value, "{{") {
				return nil, refuse("fill data", "bad_role", "the role's data holds a template that is no whole value")
			}
			out[key] = value
			continue
		}
		given, ok := params[m[1]]
		if !ok {
			return nil, refuse("fill data", "missing_param", "the request lacks a parameter that the role's data needs")
		}
		out[key] = given
	}
	return out, nil
}

// ownLease tells whether a lease id is one of that path, in a form that can be
// written into the path of a call.
func ownLease(id, path string) bool {
	return len(id) <= 2*maxPath && strings.HasPrefix(id, path+"/") && safeLease(id)
}

func safeLease(id string) bool {
	return leaseID.MatchString(id) && !strings.Contains(id, "..") && !strings.Contains(id, "//") && !strings.HasSuffix(id, "/")
}
