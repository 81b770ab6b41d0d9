package gcp

import (
	"context"
	"crypto/tls"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/netip"
	"syscall"
	"time"

	"github.com/vault-pim/vault-plugin-secrets-pim/internal/clock"
	"github.com/vault-pim/vault-plugin-secrets-pim/internal/provider/contract"
)

const (
	connectTimeout  = 5 * time.Second
	callTimeout     = 15 * time.Second // one call; the whole issue is bounded by its context
	maxAnswer       = 16 << 20         // bytes of one answer
	idleTimeout     = 90 * time.Second
	idleConnections = 8
)

// newTransport makes the way to Google: TLS 1.2 or newer, no proxy, and no
// address of this machine or its link unless that is permitted. forMetadata is
// for the metadata server alone, which is on the link.
func newTransport(env contract.Env, forMetadata bool) http.RoundTripper {
	dialer := &net.Dialer{Timeout: connectTimeout}
	if !env.AllowLocal && !forMetadata {
		dialer.Control = refuseLocal // after name resolution, so that no name can lead around it
	}
	return &http.Transport{
		DialContext:         dialer.DialContext,
		TLSClientConfig:     &tls.Config{MinVersion: tls.VersionTLS12},
		TLSHandshakeTimeout: connectTimeout,
		ForceAttemptHTTP2:   true,
		MaxIdleConnsPerHost: idleConnections,
		IdleConnTimeout:     idleTimeout,
	}
}

func refuseLocal(_, address string, _ syscall.RawConn) error {
	ap, err := netip.ParseAddrPort(address)
	if err != nil {
		return err
	}
	if isLocal(ap.Addr()) {
		return errLocal
	}
	return nil
}

// newHTTP makes a client that follows no redirect.
func newHTTP(next http.RoundTripper) *http.Client {
	return &http.Client{
		Transport:     next,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		Timeout:       callTimeout,
	}
}

// readAll reads an answer up to its bound.
func readAll(resp *http.Response) (raw []byte, err error) {
	raw, err = io.ReadAll(io.LimitReader(resp.Body, maxAnswer+1))
	if closeErr := resp.Body.Close(); err == nil {
		err = closeErr
	}
	if err == nil && len(raw) > maxAnswer {
		err = errTooLong
	}
	return raw, err
}

// pace waits between tries. Tests do not wait.
type pace func(ctx context.Context, clk clock.Clock, d time.Duration) error

// clockPace waits for d, and up to half of it again at random, so that those
// who collided once do not collide again.
func clockPace(ctx context.Context, clk clock.Clock, d time.Duration) error {
	d += rand.N(d/2 + 1) //nolint:gosec // spreads load; nothing is decided on it
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-clk.After(d):
		return nil
	}
}
