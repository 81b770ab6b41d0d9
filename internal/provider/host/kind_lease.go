package host

import (
	"context"
	"encoding/json"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/vault-pim/vault-plugin-secrets-pim/internal/provider/contract"
	"github.com/vault-pim/vault-plugin-secrets-pim/internal/secret"
)

// leaseKind reads or writes a path of the host with the credential's own
// token, which so becomes the parent of the lease.
func leaseKind() kind {
	return kind{
		name:        kindLease,
		fields:      []string{"path", "method", "data", "engine", "ends_sessions", "revocation"},
		validate:    validateLease,
		revocation:  leaseRevocation,
		policies:    func(contract.Values) []string { return nil },
		deliver:     deliverLease,
		grants:      leaseGrants,
		childGrants: leaseChildGrants,
	}
}

func validateLease(r *contract.Report, role contract.Values, params []string) {
	path := role.String("path")
	if p := pathProblem(path); p != "" {
		r.Addf("path", "%s", p)
	}
	if len(role.Map("data")) > 0 && role.String("method") != "write" {
		r.Addf("data", "belongs to method=write, and only to it")
	}
	dataProblems(r, role.Map("data"), params)
	name := role.String("engine")
	if name != "" && !engineName.MatchString(name) {
		r.Addf("engine", "is no engine type")
	}
	if name != "" && neverAllowed(name) {
		r.Addf("engine", "is never allowed: the host's own engines and pim")
	}
	if role.Bool("ends_sessions") && name != "database" {
		r.Addf("ends_sessions", "belongs to engine=database, and only to it")
	}
	if name != "" && claimsTooMuch(role, name) {
		r.Addf("revocation", "is stronger than leases of this engine type can keep")
	}
	if _, known := engines()[name]; !known && role.String("revocation") == "" {
		r.Warnf("the engine type is not known, so the role promises expiry_only; set engine, or revocation for types of your own")
	}
}

func leaseGrants(role contract.Values) []grant {
	return []grant{
		{path: "sys/leases/revoke/" + role.String("path") + "/*", need: []string{"update"}},
		{path: role.String("path"), need: []string{"list"}, optional: true},
	}
}

func leaseChildGrants(role contract.Values) []grant {
	need := []string{"read"}
	if role.String("method") == "write" {
		need = []string{"create", "update"}
	}
	return []grant{{path: role.String("path"), need: need}}
}

// deliverLease makes the child lease, records its id, and only then answers.
func deliverLease(ctx context.Context, p *Provider, d *delivery) (secret.Map, time.Time, error) {
	const op = "read path"
	none := secret.Map{}
	path := d.role.String("path")
	if problem := pathProblem(path); problem != "" {
		return none, time.Time{}, refuse(op, "bad_role", "the role's path "+problem)
	}
	if err := p.checkMount(ctx, d.token.value, d.role); err != nil {
		return none, time.Time{}, err
	}
	c := call{op: op, method: http.MethodGet, path: path, token: d.token.value, fresh: true}
	if d.role.String("method") == "write" {
		body, err := fill(d.role.Map("data"), d.in.Params)
		if err != nil {
			return none, time.Time{}, err
		}
		c.op, c.method, c.body = "write path", http.MethodPut, body
	}
	from := p.env.Clock.Now()
	a, err := p.client.do(ctx, c)
	if err != nil {
		return none, time.Time{}, err
	}
	if err := acceptLease(c.op, a, path); err != nil {
		return none, time.Time{}, err
	}
	d.data.Lease = a.LeaseID
	if err := d.record(); err != nil {
		return none, time.Time{}, err
	}
	answer, err := flatten(a.Data)
	if err != nil {
		return none, time.Time{}, err
	}
	notAfter := d.token.notAfter
	if end := from.Add(time.Duration(a.LeaseDuration) * time.Second); a.LeaseDuration > 0 && end.Before(notAfter) {
		notAfter = end
	}
	return secret.NewMap(answer), notAfter, nil
}

// acceptLease refuses every answer that could not be revoked or is not the
// credential itself.
func acceptLease(op string, a *answer, path string) error {
	switch {
	case a.wrapped():
		return refuse(op, "wrapped", "the path answers wrapped or waits for a control group; such answers are not handed out")
	case a.Auth != nil:
		return refuse(op, "login", "the path answers with a login, not with a lease")
	case a.LeaseID == "":
		return refuse(op, "no_lease", "the path answers without a lease, so nothing could end it")
	case !ownLease(a.LeaseID, path):
		return refuse(op, "foreign_lease", "the path answers with a lease of another path")
	case len(a.Data) == 0:
		return refuse(op, "no_data", "the path answers with a lease but without data")
	}
	return nil
}

// flatten keeps scalars as they are and writes everything else as one line of
// JSON. Names with our own prefix are refused: they would pass for ours.
func flatten(data map[string]any) (map[string]any, error) {
	out := make(map[string]any, len(data))
	for name, value := range data {
		if strings.HasPrefix(name, "pim_") || slices.Contains([]string{"data", "metadata"}, name) {
			return nil, refuse("read path", "bad_answer", "the path's answer has a field whose name is reserved")
		}
		switch v := value.(type) {
		case nil, string, bool:
			out[name] = v
		case json.Number:
			out[name] = scalar(v)
		default:
			line, err := json.Marshal(v)
			if err != nil {
				return nil, refuse("read path", "bad_answer", "the path's answer cannot be passed on")
			}
			out[name] = string(line)
		}
	}
	return out, nil
}

func scalar(n json.Number) any {
	if i, err := n.Int64(); err == nil {
		return i
	}
	return n.String()
}
