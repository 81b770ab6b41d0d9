package host_test

import (
	"crypto/ed25519"
	"crypto/rand"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/vault-pim/vault-plugin-secrets-pim/internal/domain"
	"github.com/vault-pim/vault-plugin-secrets-pim/internal/krl/krltest"
	"github.com/vault-pim/vault-plugin-secrets-pim/internal/provider/contract"
	"github.com/vault-pim/vault-plugin-secrets-pim/internal/provider/providertest"
)

// fakeSSH is an SSH engine with one role, which signs what it is asked to. It
// is used under the fake host's lock.
type fakeSSH struct {
	ca    ssh.Signer
	role  map[string]any
	certs []*ssh.Certificate
	// twist changes a certificate before it is signed.
	twist func(*ssh.Certificate)
	// signer signs in place of ca.
	signer ssh.Signer
	list   []byte // what was published last
}

// sshSigner is a key that is the same in every run: roles name its public half.
func sshSigner(seed string) ssh.Signer {
	raw := make([]byte, ed25519.SeedSize)
	copy(raw, seed)
	signer, err := ssh.NewSignerFromKey(ed25519.NewKeyFromSeed(raw))
	if err != nil {
		panic(err)
	}
	return signer
}

func publicLine(key ssh.PublicKey) string {
	return strings.TrimSpace(string(ssh.MarshalAuthorizedKey(key)))
}

func newFakeSSH(t testing.TB) *fakeSSH {
	t.Helper()
	return &fakeSSH{ca: sshSigner("the ca"), role: map[string]any{
		"key_type": "ca", "allow_user_certificates": true, "allow_user_key_ids": true, "allowed_users": "deploy,ops",
	}}
}

// sshRole is a role that works on the fake host.
func sshRole() contract.Values {
	return contract.Values{
		"credential_type": "ssh", "path": "ssh/sign/prod", "ca_public_key": publicLine(sshSigner("the ca").PublicKey()),
		"valid_principals": []string{"ops", "deploy"}, "extensions": []string{"permit-pty", "permit-user-rc="},
		"critical_options": map[string]string{"source-address": "10.0.0.0/8"}, "krl_fetch_interval": 60,
	}
}

// userLine is the public key of whoever asks.
func userLine() string { return publicLine(sshSigner("alice").PublicKey()) + " alice@laptop" }

func (s *fakeSSH) serve(f *fakeHost, w http.ResponseWriter, r *http.Request, token *fakeToken, path string, body map[string]any) {
	switch {
	case path == "roles/prod" && token.login:
		replyData(w, s.role)
	case path == "config/ca" && token.login:
		replyData(w, map[string]any{"public_key": string(ssh.MarshalAuthorizedKey(s.ca.PublicKey()))})
	case path == "sign/prod" && !token.login && r.Method == http.MethodPut:
		s.sign(f, w, body)
	default:
		fail(w, http.StatusForbidden)
	}
}

func (s *fakeSSH) sign(f *fakeHost, w http.ResponseWriter, body map[string]any) {
	key, _, _, _, err := ssh.ParseAuthorizedKey([]byte(fmt.Sprint(body["public_key"])))
	life, err2 := time.ParseDuration(fmt.Sprint(body["ttl"]))
	if err != nil || err2 != nil {
		fail(w, http.StatusBadRequest)
		return
	}
	var serial [8]byte
	if _, err := rand.Read(serial[:]); err != nil {
		panic(err)
	}
	now := f.clk.Now()
	cert := &ssh.Certificate{
		Key: key, Serial: binary.BigEndian.Uint64(serial[:]), CertType: ssh.UserCert, KeyId: fmt.Sprint(body["key_id"]),
		ValidPrincipals: strings.Split(fmt.Sprint(body["valid_principals"]), ","),
		ValidAfter:      uint64(now.Add(-30 * time.Second).Unix()), ValidBefore: uint64(now.Add(life).Unix()),
		Permissions: ssh.Permissions{Extensions: stringMap(body["extensions"]), CriticalOptions: stringMap(body["critical_options"])},
	}
	if s.twist != nil {
		s.twist(cert)
	}
	signer := s.ca
	if s.signer != nil {
		signer = s.signer
	}
	if err := cert.SignCert(rand.Reader, signer); err != nil {
		panic(err)
	}
	s.certs = append(s.certs, cert)
	replyData(w, map[string]any{"serial_number": strconv.FormatUint(cert.Serial, 16), "signed_key": string(ssh.MarshalAuthorizedKey(cert))})
}

func stringMap(v any) map[string]string {
	out := map[string]string{}
	given, _ := v.(map[string]any)
	for name, value := range given {
		out[name] = fmt.Sprint(value)
	}
	return out
}

// published takes the list as sshd would fetch it.
func (f *fakeHost) published(list []byte) { f.with(func(f *fakeHost) { f.ssh.list = list }) }

// accepts tells whether an sshd with the present list lets a certificate in.
// The caller holds the lock of f.
func (s *fakeSSH) accepts(f *fakeHost, cert *ssh.Certificate) bool {
	if len(s.list) > 0 {
		list, err := krltest.Parse(s.list)
		if err != nil {
			panic(err) // sshd would lock everybody out
		}
		if list.Revokes(cert) {
			return false
		}
	}
	return uint64(f.clk.Now().Unix()) < cert.ValidBefore
}

// exists lists the certificates that have not expired and are for a credential.
func (s *fakeSSH) exists(f *fakeHost, h domain.Handle) []providertest.Object {
	keys := map[string]bool{} // certificates of one key and key id are one access
	var out []providertest.Object
	for _, c := range s.certs {
		end := time.Unix(int64(c.ValidBefore), 0)
		if !strings.Contains(c.KeyId, string(h.Credential)) || !f.clk.Now().Before(end) || keys[c.KeyId] && s.accepts(f, c) {
			continue
		}
		keys[c.KeyId] = keys[c.KeyId] || s.accepts(f, c)
		out = append(out, providertest.Object{What: "certificate " + c.KeyId, Usable: s.accepts(f, c), Until: end})
	}
	return out
}

func (s *fakeSSH) works(f *fakeHost, signed string) bool {
	key, _, _, _, err := ssh.ParseAuthorizedKey([]byte(signed))
	if err != nil {
		return false
	}
	cert, ok := key.(*ssh.Certificate)
	return ok && s.accepts(f, cert)
}

// kindOf is the credential type that a handle names; "" = it was damaged.
func kindOf(h domain.Handle) string {
	var d struct {
		Kind string `json:"kind"`
	}
	if err := json.Unmarshal(h.Data, &d); err != nil {
		return ""
	}
	return d.Kind
}
