package remote

import (
	"context"
	"crypto/tls"
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
	// ConnectTimeout bounds the way to a connection, the TLS handshake included.
	ConnectTimeout = 5 * time.Second
	// CallTimeout bounds one call; a whole issue is bounded by its context.
	CallTimeout = 15 * time.Second

	idleTimeout     = 90 * time.Second
	idleConnections = 8
)

// NewDialer makes connections, and none to an address of this machine or its
// link unless local permits it.
func NewDialer(local bool) *net.Dialer {
	dialer := &net.Dialer{Timeout: ConnectTimeout}
	if !local {
		dialer.Control = refuseLocal // after name resolution, so that no name can lead around it
	}
	return dialer
}

func refuseLocal(_, address string, _ syscall.RawConn) error {
	ap, err := netip.ParseAddrPort(address)
	if err != nil {
		return err
	}
	if isLocal(ap.Addr()) {
		return ErrLocal
	}
	return nil
}

// NewTransport is the way to a service: TLS 1.2 or newer, no proxy, and dialled
// as NewDialer has it.
func NewTransport(local bool) *http.Transport {
	return &http.Transport{
		DialContext:         NewDialer(local).DialContext,
		TLSClientConfig:     &tls.Config{MinVersion: tls.VersionTLS12},
		TLSHandshakeTimeout: ConnectTimeout,
		ForceAttemptHTTP2:   true,
		MaxIdleConnsPerHost: idleConnections,
		IdleConnTimeout:     idleTimeout,
	}
}

// CloudTransport is NewTransport as the environment permits it. onLink is for
// the machine's metadata service alone, which is on the link.
func CloudTransport(env contract.Env, onLink bool) http.RoundTripper {
	return NewTransport(env.AllowLocal || onLink)
}

// NewClient makes calls, each within CallTimeout, and follows no redirect.
func NewClient(next http.RoundTripper) *http.Client {
	return &http.Client{
		Transport:     next,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		Timeout:       CallTimeout,
	}
}

// IsLocalName tells whether a host's name or number is this machine or its
// link. What other names lead to shows when they are dialled.
func IsLocalName(host string) bool {
	addr, err := netip.ParseAddr(host)
	return host == "localhost" || (err == nil && isLocal(addr))
}

// isLocal tells whether an address is the machine itself or its link, where
// metadata services and the host's own API listen.
func isLocal(a netip.Addr) bool {
	a = a.Unmap()
	return a.IsLoopback() || a.IsLinkLocalUnicast() || a.IsLinkLocalMulticast() || a.IsInterfaceLocalMulticast() || a.IsUnspecified()
}

// Pace waits between tries. Tests have one that does not wait.
type Pace func(ctx context.Context, clk clock.Clock, d time.Duration) error

// ClockPace waits for d, and up to half of it again at random, so that those
// who collided once do not collide again. It ends early, with an error, when
// ctx does.
func ClockPace(ctx context.Context, clk clock.Clock, d time.Duration) error {
	d += rand.N(d/2 + 1) //nolint:gosec // spreads load; nothing is decided on it
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-clk.After(d):
		return nil
	}
}
