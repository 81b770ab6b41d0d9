package azure

import (
	"context"
	"crypto/tls"
	"math/rand/v2"
	"net"
	"net/http"
	"net/netip"
	"strconv"
	"syscall"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"

	"github.com/vault-pim/vault-plugin-secrets-pim/internal/clock"
	"github.com/vault-pim/vault-plugin-secrets-pim/internal/provider/contract"
)

const (
	connectTimeout  = 5 * time.Second
	callTimeout     = 15 * time.Second // one call; the whole issue is bounded by its context
	idleTimeout     = 90 * time.Second
	idleConnections = 8
	maxTries        = 4               // of one call that was throttled or failed for a moment
	firstPause      = time.Second     // before the second try
	longestPause    = 8 * time.Second // that a call waits when it is told to
)

// surroundings are the provider's way to the cloud. Tests have another.
type surroundings struct {
	transport func(contract.Env, bool) http.RoundTripper
	pace      pace
}

func machine() surroundings { return surroundings{transport: newTransport, pace: clockPace} }

// newTransport makes the way to Azure: TLS 1.2 or newer, no proxy, and no
// address of this machine or its link unless that is permitted. forMetadata is
// for the managed identity's service alone, which is on the link.
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

// clientOptions is what all pipelines to the cloud share: this package's
// transport, and this package's retries, which wait by the engine's clock.
func clientOptions(next *http.Client, p pace, clk clock.Clock) policy.ClientOptions {
	return policy.ClientOptions{
		Transport:       next,
		Retry:           policy.RetryOptions{MaxRetries: -1},
		Telemetry:       policy.TelemetryOptions{ApplicationID: "vault-pim"},
		PerCallPolicies: []policy.Policy{patience{pace: p, clk: clk}},
	}
}

// patience tries a call again that was throttled, or that the cloud could not
// do at this moment and that may be done twice.
type patience struct {
	pace pace
	clk  clock.Clock
}

// Do implements policy.Policy.
func (p patience) Do(req *policy.Request) (*http.Response, error) {
	ctx := req.Raw().Context()
	pause := firstPause
	for try := 1; ; try++ {
		if err := req.RewindBody(); err != nil {
			return nil, err
		}
		resp, err := req.Clone(ctx).Next()
		if err != nil || try == maxTries || !passing(req.Raw().Method, resp.StatusCode) {
			return resp, err
		}
		wait := max(pause, retryAfter(resp.Header))
		if wait > longestPause {
			return resp, nil // the caller says that it is throttled, instead of waiting for so long
		}
		if err := resp.Body.Close(); err != nil {
			return nil, err
		}
		if err := p.pace(ctx, p.clk, wait); err != nil {
			return nil, err
		}
		pause *= 2
	}
}

// passing tells whether a call that was answered like this may be made again.
func passing(method string, status int) bool {
	if status == http.StatusTooManyRequests {
		return true // nothing was done
	}
	return method != http.MethodPost && status >= http.StatusInternalServerError && status != http.StatusNotImplemented
}

func retryAfter(h http.Header) time.Duration {
	seconds, err := strconv.Atoi(h.Get("Retry-After"))
	if err != nil || seconds < 0 {
		return 0
	}
	return time.Duration(seconds) * time.Second
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
