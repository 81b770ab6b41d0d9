package kubernetes

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"net"
	"net/http"
	"time"

	"github.com/vault-pim/vault-plugin-secrets-pim/internal/provider/contract"
	"github.com/vault-pim/vault-plugin-secrets-pim/internal/provider/remote"
)

const (
	maxAnswer = 8 << 20          // bytes of one answer
	pingAfter = 15 * time.Second // an idle HTTP/2 connection is probed, so that a dead one is not used
)

var errNoCA = errors.New("no certificate to check the API server with")

// newHTTP makes the HTTP client of one target: TLS only, no proxy, no redirect
// followed, and no address of this machine unless that is permitted.
func newHTTP(env contract.Env, c targetConfig) *http.Client {
	dialer, transport := remote.NewDialer(env.AllowLocal), remote.NewTransport(env.AllowLocal)
	transport.DialTLSContext = func(ctx context.Context, network, addr string) (net.Conn, error) {
		pool, err := c.pool()
		if err != nil {
			return nil, err
		}
		d := tls.Dialer{NetDialer: dialer, Config: &tls.Config{
			MinVersion: tls.VersionTLS12, RootCAs: pool, ServerName: c.serverName, NextProtos: []string{"h2", "http/1.1"},
		}}
		return d.DialContext(ctx, network, addr)
	}
	transport.HTTP2 = &http.HTTP2Config{SendPingTimeout: pingAfter, PingTimeout: remote.ConnectTimeout}
	return remote.NewClient(bearer{token: c.token, next: transport})
}

// pool reads the certificates that vouch for the API server; nil = the
// system's.
func (c targetConfig) pool() (*x509.CertPool, error) {
	pem, err := c.ca.read()
	if err != nil {
		return nil, &contract.Error{Op: "read ca.crt", Code: remote.CodeCertificate, Public: "the pod's CA file could not be read", Cause: err}
	}
	if pem.Empty() {
		return nil, nil
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM([]byte(pem.Reveal())) {
		return nil, &contract.Error{
			Op: "read ca_cert", Code: remote.CodeCertificate, Public: "there is no certificate in ca_cert", Refused: true, Cause: errNoCA,
		}
	}
	return pool, nil
}

// bearer adds the engine's token to each call, read anew if it is in a file,
// says what the call is for, and bounds what comes back.
type bearer struct {
	token secretFile
	next  http.RoundTripper
}

// RoundTrip implements http.RoundTripper.
func (b bearer) RoundTrip(r *http.Request) (*http.Response, error) {
	token, err := b.token.read()
	if err == nil && (token.Empty() || !oneLine(token.Reveal())) {
		err = errors.New("the token file is empty or not a token")
	}
	if err != nil {
		return nil, &contract.Error{Op: "read token", Code: "token_file", Public: "the engine's token could not be read from its file", Cause: err}
	}
	agent := remote.UserAgent(r.Context())
	r = r.Clone(r.Context())
	r.Header.Set("Authorization", "Bearer "+token.Reveal())
	r.Header.Set("User-Agent", agent)
	resp, err := b.next.RoundTrip(r)
	if err != nil {
		return nil, err
	}
	resp.Body = bounded{io.LimitReader(resp.Body, maxAnswer), resp.Body}
	return resp, nil
}

// CloseIdleConnections lets http.Client.CloseIdleConnections through.
func (b bearer) CloseIdleConnections() {
	if c, ok := b.next.(interface{ CloseIdleConnections() }); ok {
		c.CloseIdleConnections()
	}
}

type bounded struct {
	io.Reader
	io.Closer
}
