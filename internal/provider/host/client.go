package host

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"syscall"
	"time"

	"github.com/vault-pim/vault-plugin-secrets-pim/internal/provider/contract"
	"github.com/vault-pim/vault-plugin-secrets-pim/internal/secret"
)

const (
	callTimeout  = 6 * time.Second // of a single call
	answerLimit  = 4 << 20         // bytes; the list of mounts is the longest answer we read
	headerMemory = 64 << 10        // bytes
)

// client speaks to one host's HTTP API. It reads nothing from the environment,
// uses no proxy, follows no redirect and repeats no call.
type client struct {
	base      url.URL
	namespace string
	kept      *http.Client // connections are kept between calls
	fresh     *http.Client // a connection of its own for each call
}

// newClient makes the client of a target whose fields have been checked.
func newClient(env contract.Env, t contract.Target) (*client, error) {
	base, err := parseAddress(t.Fields.String("address"))
	if err != nil {
		return nil, fmt.Errorf("address: %w", err)
	}
	config := &tls.Config{MinVersion: tls.VersionTLS12, ServerName: t.Fields.String("tls_server_name")}
	if pem := t.Fields.String("ca_cert"); pem != "" {
		config.RootCAs = x509.NewCertPool()
		if !config.RootCAs.AppendCertsFromPEM([]byte(pem)) {
			return nil, errors.New("ca_cert: no certificate in PEM form")
		}
	}
	guard := dialGuard(base.Scheme == "http", env.AllowLocal)
	return &client{
		base: *base, namespace: t.Fields.String("namespace"),
		kept: newHTTP(config, guard, true), fresh: newHTTP(config, guard, false),
	}, nil
}

func newHTTP(config *tls.Config, guard func(string, string, syscall.RawConn) error, keep bool) *http.Client {
	dialer := &net.Dialer{Timeout: callTimeout, Control: guard}
	return &http.Client{
		Transport: &http.Transport{
			DialContext: dialer.DialContext, TLSClientConfig: config.Clone(), TLSHandshakeTimeout: callTimeout,
			DisableKeepAlives: !keep, DisableCompression: true, MaxIdleConnsPerHost: 16, IdleConnTimeout: 30 * time.Second,
			MaxResponseHeaderBytes: headerMemory,
			// HTTP/2 adds nothing for a handful of calls and repeats some by itself.
			TLSNextProto: map[string]func(string, *tls.Conn) http.RoundTripper{},
		},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

// dialGuard looks at the address that a name resolved to, right before it is
// dialled: unencrypted calls stay on this machine, and link-local addresses
// (cloud metadata services) need permission.
func dialGuard(plain, allowLocal bool) func(string, string, syscall.RawConn) error {
	return func(_, address string, _ syscall.RawConn) error {
		ap, err := netip.ParseAddrPort(address)
		if err != nil {
			return errors.New("the host's address is no IP address")
		}
		ip := ap.Addr().Unmap()
		if plain && !ip.IsLoopback() {
			return errors.New("http is for loopback addresses alone")
		}
		if !allowLocal && refusedIP(ip) {
			return errors.New("link-local addresses are not allowed")
		}
		return nil
	}
}

// call is one call to the host's API.
type call struct {
	op     string // what it is for, in our words
	method string
	path   string // below /v1/, already checked; never holds user text unchecked
	query  string
	token  secret.String
	body   map[string]any
	// fresh asks for a connection of its own: on a kept one the transport may
	// send a GET again when the connection dies, and a credential would be
	// made twice.
	fresh bool
	// limit bounds the answer in bytes; 0 = answerLimit.
	limit int64
	// outside leaves the namespace header off: sys/health is of the whole host.
	outside bool
}

// answer is what we read of the host's answers.
type answer struct {
	LeaseID       string          `json:"lease_id"`
	LeaseDuration int64           `json:"lease_duration"` // seconds
	Data          map[string]any  `json:"data"`
	WrapInfo      json.RawMessage `json:"wrap_info"`
	Auth          *authBlock      `json:"auth"`

	Initialized bool   `json:"initialized"` // sys/health
	Sealed      bool   `json:"sealed"`
	ClusterID   string `json:"cluster_id"`
}

// authBlock is a token as logins and token creation answer it.
type authBlock struct {
	ClientToken   string   `json:"client_token"`
	Accessor      string   `json:"accessor"`
	Policies      []string `json:"policies"`
	EntityID      string   `json:"entity_id"`
	TokenType     string   `json:"token_type"`
	LeaseDuration int64    `json:"lease_duration"` // seconds; 0 = no end
	NumUses       int      `json:"num_uses"`
}

// wrapped tells whether the answer is somewhere else: response wrapping, and
// control groups too.
func (a *answer) wrapped() bool { return len(a.WrapInfo) > 0 && string(a.WrapInfo) != "null" }

// errAbsent is the cause of an error that says no more than "there is no such
// lease".
var errAbsent = errors.New("absent")

// do makes one call. Every status but 2xx is an error.
func (c *client) do(ctx context.Context, k call) (*answer, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	req, err := c.request(ctx, k)
	if err != nil {
		return nil, err
	}
	via := c.kept
	if k.fresh {
		via = c.fresh
	}
	res, err := via.Do(req)
	if err != nil {
		return nil, transportError(k.op, err)
	}
	limit := max(k.limit, answerLimit)
	raw, err := io.ReadAll(io.LimitReader(res.Body, limit+1))
	if err := errors.Join(err, res.Body.Close()); err != nil {
		return nil, transportError(k.op, err)
	}
	if int64(len(raw)) > limit {
		return nil, &contract.Error{Op: k.op, Code: "too_long", Public: "the host's answer is too long"}
	}
	if res.StatusCode < 200 || res.StatusCode > 299 {
		e := statusError(k.op, res.StatusCode)
		if saysAbsent(res.StatusCode, raw) {
			e.Cause = errAbsent
		}
		return nil, e
	}
	return decode(k.op, raw)
}

func (c *client) request(ctx context.Context, k call) (*http.Request, error) {
	target := c.base
	target.Path, target.RawQuery = "/v1/"+k.path, k.query
	var body io.Reader
	if k.body != nil {
		raw, err := json.Marshal(k.body)
		if err != nil {
			return nil, fmt.Errorf("%s: encode: %w", k.op, err)
		}
		body = bytes.NewReader(raw)
	}
	req, err := http.NewRequestWithContext(ctx, k.method, target.String(), body)
	if err != nil {
		return nil, &contract.Error{Op: k.op, Code: "bad_call", Public: "the call cannot be written down", Refused: true}
	}
	req.Header.Set("X-Vault-Request", "true")
	if k.body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	if !k.token.Empty() {
		req.Header.Set("X-Vault-Token", k.token.Reveal())
	}
	if c.namespace != "" && !k.outside {
		req.Header.Set("X-Vault-Namespace", c.namespace)
	}
	return req, nil
}

// decode reads a successful answer; an empty one is an answer without fields.
func decode(op string, raw []byte) (*answer, error) {
	out := &answer{}
	if len(bytes.TrimSpace(raw)) == 0 {
		return out, nil
	}
	d := json.NewDecoder(bytes.NewReader(raw))
	d.UseNumber()
	if err := d.Decode(out); err != nil {
		// The decoder's own text may quote the answer.
		return nil, &contract.Error{Op: op, Code: "bad_answer", Public: "the host's answer is not readable"}
	}
	return out, nil
}

// saysAbsent tells whether an error answer says that a lease does not exist,
// and nothing else. The hosts of today answer 204 for such a lease.
func saysAbsent(status int, raw []byte) bool {
	if status != http.StatusBadRequest && status != http.StatusNotFound {
		return false
	}
	var body struct {
		Errors []string `json:"errors"`
	}
	if err := json.Unmarshal(raw, &body); err != nil || len(body.Errors) != 1 {
		return false
	}
	return body.Errors[0] == "lease not found" || body.Errors[0] == "invalid lease"
}

// close drops the kept connections.
func (c *client) close() {
	c.kept.CloseIdleConnections()
	c.fresh.CloseIdleConnections()
}
