package host

import (
	"context"
	"errors"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/vault-pim/vault-plugin-secrets-pim/internal/domain"
	"github.com/vault-pim/vault-plugin-secrets-pim/internal/provider/contract"
	"github.com/vault-pim/vault-plugin-secrets-pim/internal/secret"
)

const (
	signVerb        = "sign"
	defaultKeyParam = "public_key"
	maxPrincipals   = 64
	maxOptionBytes  = 1024
	clockTolerance  = 5 * time.Second // between the host's clock and ours, and rounding
	listedAfterEnd  = 5 * time.Minute // an entry outlives its certificate by this: sshd judges by its own clock
	lastMoment      = 3 * time.Second // of a certificate's life, in which it is not listed any more but waited for
	shortLife       = 10              // seconds; of a longer one a second is left for the way to the host
)

var (
	principalName = regexp.MustCompile(`^[A-Za-z0-9_][A-Za-z0-9_.@:+-]{0,127}$`)
	extensionName = regexp.MustCompile(`^[a-z][a-z0-9-]{0,63}(@[a-z0-9.-]{1,64})?$`)
	optionValue   = regexp.MustCompile(`^[ -~]*$`)
)

// sshKind has the host's SSH CA sign the requester's own public key. Upstream
// such a certificate has no lease and cannot be taken back; ours ends on the
// target's key revocation list.
func sshKind() kind {
	return kind{
		name: kindSSH,
		fields: []string{
			"path", "public_key_param", "valid_principals", "extensions", "critical_options", "ca_public_key", "krl_fetch_interval",
		},
		validate: validateSSH,
		revocation: func(role contract.Values) domain.Revocation {
			return domain.Revocation{
				Class: domain.Propagating, Seconds: role.Int("krl_fetch_interval"),
				Survives: []domain.Survivor{domain.OpenSessions, domain.CreatedObjects},
			}
		},
		policies:    func(contract.Values) []string { return nil },
		deliver:     deliverSSH,
		grants:      sshGrants,
		childGrants: writeGrants,
		begin:       beginSSH,
		end:         endSSH,
		rest:        restSSH,
		probe:       probeSSH,
		params:      sshParams,
	}
}

// enginePath parts path into the mount and the engine's role, for an engine
// that is written to at <mount>/<verb>/<role>.
func enginePath(path string, verbs ...string) (mount, verb, role string, ok bool) {
	parts := strings.Split(path, "/")
	n := len(parts)
	if pathProblem(path) != "" || n < 3 || !slices.Contains(verbs, parts[n-2]) {
		return "", "", "", false
	}
	return strings.Join(parts[:n-2], "/"), parts[n-2], parts[n-1], true
}

func writeGrants(role contract.Values) []grant {
	return []grant{{path: role.String("path"), need: []string{"create", "update"}}}
}

func sshGrants(role contract.Values) []grant {
	mount, _, name, ok := enginePath(role.String("path"), signVerb)
	if !ok {
		return nil
	}
	read := []string{"read"}
	return []grant{
		{path: mount + "/roles/" + name, need: read, optional: true},
		{path: mount + "/config/ca", need: read, optional: true},
	}
}

func validateSSH(r *contract.Report, role contract.Values, params []string) {
	path := role.String("path")
	if problem := pathProblem(path); problem != "" {
		r.Addf("path", "%s", problem)
	} else if _, _, _, ok := enginePath(path, signVerb); !ok {
		r.Addf("path", "must be <mount>/sign/<engine role> for credential_type=ssh")
	}
	if role.String("ca_public_key") == "" {
		r.Addf("ca_public_key", "is required: vault read -field=public_key <mount>/config/ca")
	} else if _, problem := caKey(role.String("ca_public_key")); problem != "" {
		r.Addf("ca_public_key", "%s", problem)
	}
	if name := role.String("public_key_param"); !slices.Contains(params, name) {
		r.Addf("public_key_param", "names no declared parameter; declare one in params for the requester's public key")
	}
	principals := role.Strings("valid_principals")
	if len(principals) == 0 || len(principals) > maxPrincipals {
		r.Addf("valid_principals", "is required for credential_type=ssh, at most %d", maxPrincipals)
	}
	for _, name := range principals {
		if !principalName.MatchString(name) {
			r.Addf("valid_principals", "holds something that is no login name")
		}
	}
	if _, problem := extensions(role); problem != "" {
		r.Addf("extensions", "%s", problem)
	}
	if problem := optionProblem(role.Map("critical_options")); problem != "" {
		r.Addf("critical_options", "%s", problem)
	}
	if role.Int("krl_fetch_interval") == 0 {
		r.Warnf("without krl_fetch_interval the role promises no bound in seconds: say how often the hosts fetch the key revocation list")
	}
}

// extensions reads name or name=value.
func extensions(role contract.Values) (map[string]string, string) {
	out := map[string]string{}
	for _, entry := range role.Strings("extensions") {
		name, value, _ := strings.Cut(entry, "=")
		if !extensionName.MatchString(name) || !optionValue.MatchString(value) {
			return nil, "holds something that is no extension: name, or name=value"
		}
		if _, twice := out[name]; twice {
			return nil, "holds one extension twice"
		}
		out[name] = value
	}
	return out, ""
}

// optionProblem says what is wrong with critical options. sshd refuses
// certificates with one that it does not know.
func optionProblem(options map[string]string) string {
	for name, value := range options {
		known := slices.Contains([]string{"force-command", "source-address", "verify-required"}, name)
		if !known && (!extensionName.MatchString(name) || !strings.Contains(name, "@")) {
			return "holds an option that sshd does not know, so it would refuse every certificate"
		}
		if !optionValue.MatchString(value) || len(value) > maxOptionBytes {
			return "holds a value that is too long or not printable"
		}
	}
	return ""
}

func sshParams(r *contract.Report, role contract.Values, params map[string]string) {
	name := role.String("public_key_param")
	if params[name] == "" {
		r.Addf(name, "is required: your SSH public key")
		return
	}
	if _, problem := userKey(params[name]); problem != "" {
		r.Addf(name, "%s", problem)
	}
}

// beginSSH plans the key id, by which a certificate can be revoked even when
// the answer that told its serial was lost.
func beginSSH(in contract.Input, role contract.Values, asking bool, d *handleData) error {
	const op = "sign key"
	next := sshData{}
	if d.SSH != nil {
		next = *d.SSH
	}
	if next.KeyID == "" {
		ca, problem := caKey(role.String("ca_public_key"))
		if problem != "" {
			return refuse(op, "bad_role", "the role's ca_public_key "+problem)
		}
		next.CA, next.KeyID = ca.Marshal(), keyID(in)
	}
	if _, problem := userKey(in.Params[role.String("public_key_param")]); problem != "" {
		return refuse(op, "bad_public_key", "the request's public key "+problem)
	}
	if asking {
		next.Asked++
		next.Window = max(next.Window, in.NotAfter.Unix())
	}
	d.SSH = &next
	return nil
}

func keyID(in contract.Input) string {
	if in.Request == "" {
		return "pim-" + string(in.Credential)
	}
	return "pim-" + string(in.Request) + "-" + string(in.Credential)
}

// deliverSSH has the key signed, records the serial, compares the certificate
// with what was approved, and only then answers.
func deliverSSH(ctx context.Context, p *Provider, d *delivery) (secret.Map, time.Time, error) {
	const op = "sign key"
	none := secret.Map{}
	if err := p.checkEngine(ctx, d, "ssh"); err != nil {
		return none, time.Time{}, err
	}
	want, err := wantedCertificate(d)
	if err != nil {
		return none, time.Time{}, err
	}
	a, err := p.client.do(ctx, call{
		op: op, method: http.MethodPut, path: d.role.String("path"), token: d.token.value, fresh: true, body: want.body(p.lifeLeft(d)),
	})
	if hadNoEffect(err) {
		// Else its key id would stay on the list for the whole window.
		d.data.SSH.Asked--
		return none, time.Time{}, errors.Join(err, d.record())
	}
	if err != nil {
		return none, time.Time{}, err
	}
	signed, _ := a.Data["signed_key"].(string)
	cert, err := parseCertificate(signed)
	if err != nil || a.wrapped() {
		return none, time.Time{}, refuse(op, "no_certificate", "the path did not answer with a certificate")
	}
	d.data.SSH.note(cert)
	if err := d.record(); err != nil {
		return none, time.Time{}, err
	}
	if fault := want.differs(cert, p.env.Clock.Now()); fault != "" {
		return none, time.Time{}, refuse(op, "certificate_differs", "the certificate "+fault+"; it was revoked")
	}
	p.spend(ctx, d)
	end := time.Unix(int64(cert.ValidBefore), 0) //nolint:gosec // compared with the window above
	return secret.NewMap(map[string]any{
		"signed_key": string(ssh.MarshalAuthorizedKey(cert)), "serial_number": serialText(cert.Serial),
		"key_id": cert.KeyId, "valid_principals": strings.Join(cert.ValidPrincipals, ","),
	}), earlier(end, d.in.NotAfter), nil
}

// lifeLeft is how many whole seconds a certificate may live. One is left for
// the way to the host, so that at the end of the window it has ended by itself
// and nothing has to be revoked.
func (p *Provider) lifeLeft(d *delivery) int64 {
	left := int64(d.in.NotAfter.Sub(p.env.Clock.Now()) / time.Second)
	if left > shortLife {
		left--
	}
	return max(left, 1)
}

func earlier(a, b time.Time) time.Time {
	if b.Before(a) {
		return b
	}
	return a
}

// checkEngine refuses a path that is not served by an engine of that type.
func (p *Provider) checkEngine(ctx context.Context, d *delivery, engine string) error {
	found, err := p.mountType(ctx, d.token.value, d.role.String("path"))
	switch {
	case err != nil:
		return err
	case found == "":
		return refuse("find mount", "mount_refused", "the role's path leads to no mount that the token role's policies can reach in this namespace")
	case found != engine:
		return refuse("find mount", "mount_refused", "the role's path leads to an engine of another type than "+engine)
	}
	return nil
}

// spend ends a token that has done its work: what it made lives without it.
// Where that fails, the revocation of the credential does it, or its own end.
func (p *Provider) spend(ctx context.Context, d *delivery) {
	if err := p.destroyToken(ctx, d.data.Accessor); err != nil && p.env.Log != nil {
		p.env.Log.Warn("a token that is not needed any more could not be ended", "target", p.target.Name, "error", err)
	}
}

// probeSSH compares the role with the engine's.
func probeSSH(ctx context.Context, p *Provider, r *contract.Report, role contract.Values) {
	mount, _, name, _ := enginePath(role.String("path"), signVerb)
	if got, ok := p.probeEngine(ctx, r, role, "ssh", mount+"/roles/"+name); ok {
		probeSigner(r, role, got)
	}
	a, err := p.asLogin(ctx, call{op: "read CA key", method: http.MethodGet, path: mount + "/config/ca"})
	if err != nil {
		r.Warnf("the engine's CA key could not be read now (%s); it is compared at every issue", publicText(err))
		return
	}
	text, _ := a.Data["public_key"].(string)
	want, _ := caKey(role.String("ca_public_key"))
	if have, problem := caKey(text); problem != "" || string(have.Marshal()) != string(want.Marshal()) {
		r.Addf("ca_public_key", "is not the key of the engine at path")
	}
}

// probeSigner reports what of the engine's role would make every issue fail.
func probeSigner(r *contract.Report, role contract.Values, got map[string]any) {
	for _, f := range []struct {
		is   bool
		text string
	}{
		{got["key_type"] != "ca", "must be of key_type=ca"},
		{got["allow_user_certificates"] != true, "must have allow_user_certificates=true"},
		{got["allow_user_key_ids"] != true, "must have allow_user_key_ids=true: the key id carries the request"},
	} {
		if f.is {
			r.Addf("path", "the engine's role %s", f.text)
		}
	}
	allowed, _ := got["allowed_users"].(string)
	if users := strings.Split(allowed, ","); allowed != "*" && got["allowed_users_template"] != true {
		for _, name := range role.Strings("valid_principals") {
			if !slices.ContainsFunc(users, func(u string) bool { return strings.TrimSpace(u) == name }) {
				r.Addf("valid_principals", "holds a name that the engine's role does not allow (allowed_users)")
				break
			}
		}
	}
}

// probeEngine looks at the mount and the role of an engine, as far as the
// login may see them.
func (p *Provider) probeEngine(ctx context.Context, r *contract.Report, role contract.Values, engine, rolePath string) (map[string]any, bool) {
	l, err := p.login(ctx)
	if err != nil {
		return nil, false // said already
	}
	found, err := p.mountType(ctx, l.token, role.String("path"))
	switch {
	case err != nil || found == "":
		r.Warnf("the login cannot see the mount of path; it is checked at every issue")
	case found != engine:
		r.Addf("path", "leads to an engine of another type than %s", engine)
		return nil, false
	}
	a, err := p.asLogin(ctx, call{op: "read engine role", method: http.MethodGet, path: rolePath})
	switch {
	case hasStatus(err, http.StatusNotFound):
		r.Addf("path", "names a role that the engine does not have")
	case err != nil:
		r.Warnf("the engine's role could not be read now (%s); what it yields is checked at every issue", publicText(err))
	default:
		return a.Data, true
	}
	return nil, false
}
