package azure

import (
	"net/http"
	"strconv"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"

	"github.com/vault-pim/vault-plugin-secrets-pim/internal/clock"
	"github.com/vault-pim/vault-plugin-secrets-pim/internal/provider/contract"
	"github.com/vault-pim/vault-plugin-secrets-pim/internal/provider/remote"
)

const (
	maxTries     = 4               // of one call that was throttled or failed for a moment
	firstPause   = time.Second     // before the second try
	longestPause = 8 * time.Second // that a call waits when it is told to
)

// surroundings are the provider's way to the cloud. Tests have another.
type surroundings struct {
	transport func(contract.Env, bool) http.RoundTripper
	pace      remote.Pace
}

func machine() surroundings {
	return surroundings{transport: remote.CloudTransport, pace: remote.ClockPace}
}

// clientOptions is what all pipelines to the cloud share: this package's
// transport, and this package's retries, which wait by the engine's clock.
func clientOptions(next *http.Client, p remote.Pace, clk clock.Clock) policy.ClientOptions {
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
	pace remote.Pace
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
