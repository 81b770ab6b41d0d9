package gcp

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/vault-pim/vault-plugin-secrets-pim/internal/provider/contract"
	"github.com/vault-pim/vault-plugin-secrets-pim/internal/provider/remote"
	"github.com/vault-pim/vault-plugin-secrets-pim/internal/secret"
)

const (
	maxAnswer  = 16 << 20         // bytes of one answer
	maxTries   = 3                // of one call that Google asks to repeat
	retryPause = time.Second      // doubling, where Google says nothing else
	maxPause   = 10 * time.Second // a longer wish is an error: whoever asked comes again
)

// call is one call of a Google API.
type call struct {
	op      string
	service service
	method  string
	path    string
	query   url.Values
	body    any           // sent as JSON
	raw     []byte        // sent as it is, instead of body
	form    url.Values    // sent as a form, instead of body
	header  http.Header   // further headers
	as      secret.String // whose token; empty = the engine's
	open    bool          // needs no token
	once    bool          // not to be repeated here: the caller reads again first
}

// client speaks to Google's APIs as the engine, or as whoever a call says.
type client struct {
	env      contract.Env
	config   targetConfig
	pace     remote.Pace
	http     *http.Client
	metadata *http.Client
	tokens   *tokenSource
}

// do makes a call and reads its answer into out, if that is not nil.
func (c *client) do(ctx context.Context, k call, out any) error {
	raw, err := c.doRaw(ctx, k)
	if err != nil || out == nil {
		return err
	}
	return json.Unmarshal(raw, out)
}

func (c *client) doRaw(ctx context.Context, k call) ([]byte, error) {
	for try := 1; ; try++ {
		raw, err := c.send(ctx, k)
		if err == nil {
			return raw, nil
		}
		wait, again := repeatable(k, err, try)
		if !again {
			return nil, err
		}
		if waitErr := c.pace(ctx, c.env.Clock, wait); waitErr != nil {
			return nil, errors.Join(waitErr, err)
		}
	}
}

// repeatable tells whether and when Google wants a call once more.
func repeatable(k call, err error, try int) (time.Duration, bool) {
	var e *apiError
	if try >= maxTries || !errors.As(err, &e) {
		return 0, false
	}
	wait := retryPause << (try - 1)
	if e.retryAfter > 0 {
		wait = e.retryAfter
	}
	switch e.status {
	case http.StatusTooManyRequests: // nothing was done
	case http.StatusInternalServerError, http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout:
		if k.once {
			return 0, false
		}
	default:
		return 0, false
	}
	return wait, wait <= maxPause
}

// send makes a call once. A token that Google does not accept any more is
// fetched anew, once.
func (c *client) send(ctx context.Context, k call) ([]byte, error) {
	for fresh := false; ; fresh = true {
		token := k.as
		if token.Empty() && !k.open {
			var err error
			if token, err = c.tokens.get(ctx, c, fresh); err != nil {
				return nil, err
			}
		}
		raw, err := c.roundTrip(ctx, k, token)
		if statusOf(err) == http.StatusUnauthorized && !fresh && k.as.Empty() && !k.open {
			continue
		}
		return raw, err
	}
}

func (c *client) roundTrip(ctx context.Context, k call, token secret.String) ([]byte, error) {
	r, err := c.request(ctx, k, token)
	if err != nil {
		return nil, err
	}
	via := c.http
	if k.service == svcMetadata {
		via = c.metadata
	}
	resp, err := via.Do(r)
	if err != nil {
		return nil, err
	}
	raw, err := readAll(resp)
	if err != nil {
		return nil, err
	}
	if resp.StatusCode < 200 || resp.StatusCode > 299 {
		return nil, readAPIError(resp.StatusCode, resp.Header, raw)
	}
	return raw, nil
}

// readAll reads an answer up to its bound.
func readAll(resp *http.Response) (raw []byte, err error) {
	raw, err = io.ReadAll(io.LimitReader(resp.Body, maxAnswer+1))
	if closeErr := resp.Body.Close(); err == nil {
		err = closeErr
	}
	if err == nil && len(raw) > maxAnswer {
		err = remote.ErrTooLong
	}
	return raw, err
}

func (c *client) request(ctx context.Context, k call, token secret.String) (*http.Request, error) {
	body, kind := k.raw, "application/json"
	switch {
	case k.form != nil:
		body, kind = []byte(k.form.Encode()), "application/x-www-form-urlencoded"
	case k.body != nil:
		raw, err := json.Marshal(k.body)
		if err != nil {
			return nil, fmt.Errorf("encode %s: %w", k.op, err)
		}
		body = raw
	}
	base := *c.config.endpoints[k.service]
	base.Path = strings.TrimRight(base.Path, "/") + "/" + k.path
	base.RawQuery = k.query.Encode()
	r, err := http.NewRequestWithContext(ctx, k.method, base.String(), bytes.NewReader(body))
	if err != nil {
		return nil, fmt.Errorf("make request of %s: %w", k.op, remote.WithoutText(err))
	}
	maps.Copy(r.Header, k.header)
	if body != nil {
		r.Header.Set("Content-Type", kind)
	}
	r.Header.Set("Accept", "application/json")
	r.Header.Set("User-Agent", remote.UserAgent(ctx))
	if !token.Empty() {
		r.Header.Set("Authorization", "Bearer "+token.Reveal())
	}
	return r, nil
}

// close ends idle connections.
func (c *client) close() {
	c.http.CloseIdleConnections()
	c.metadata.CloseIdleConnections()
}
