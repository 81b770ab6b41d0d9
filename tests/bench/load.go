package bench

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/vault-pim/vault-plugin-secrets-pim/internal/clock"
)

// Call is one request to the host, ready to be sent.
type Call struct {
	Method, URL, Token string
	Body               []byte
}

// Next gives the n-th call of a client, both counted from 0; false = this client
// has no more.
type Next func(client, n int) (Call, bool)

// Sample is what one slice of load measured.
type Sample struct {
	Latencies []time.Duration // of calls that succeeded, sorted
	Errors    int             // calls with another status than 2xx, or none
	First     error           // of them
	Wall      time.Duration   // from the first call to the last answer
}

// Rate is successful calls per second.
func (s Sample) Rate() float64 {
	if s.Wall <= 0 {
		return 0
	}
	return float64(len(s.Latencies)) / s.Wall.Seconds()
}

// Quantile is the latency, in milliseconds, that a share q of the calls did not
// exceed; 0 without calls.
func (s Sample) Quantile(q float64) float64 {
	if len(s.Latencies) == 0 {
		return 0
	}
	i := min(int(q*float64(len(s.Latencies))), len(s.Latencies)-1)
	return float64(s.Latencies[i].Microseconds()) / 1000
}

// client sends calls over connections that are kept, and follows nothing.
type client struct{ http http.Client }

func newClient() *client {
	return &client{http: http.Client{
		Timeout:       time.Minute,
		Transport:     &http.Transport{MaxIdleConnsPerHost: 256},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}
}

var errStatus = errors.New("the host answered with an error")

func (c *client) send(ctx context.Context, call Call) error {
	req, err := http.NewRequestWithContext(ctx, call.Method, call.URL, bytes.NewReader(call.Body))
	if err != nil {
		return err
	}
	req.Header.Set("X-Vault-Token", call.Token)
	resp, err := c.http.Do(req)
	if err != nil {
		return err
	}
	var said bytes.Buffer
	_, err = io.Copy(&said, resp.Body)
	if err = errors.Join(err, resp.Body.Close()); err == nil && resp.StatusCode/100 != 2 {
		err = fmt.Errorf("%w: %d %s", errStatus, resp.StatusCode, said.Bytes()[:min(said.Len(), 300)])
	}
	return err
}

// gathering collects what clients measure at the same time.
type gathering struct {
	mu     sync.Mutex
	sample Sample
}

func (g *gathering) add(took time.Duration, err error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if err != nil {
		g.sample.Errors++
		if g.sample.First == nil {
			g.sample.First = err
		}
		return
	}
	g.sample.Latencies = append(g.sample.Latencies, took)
}

func (g *gathering) done(wall time.Duration) Sample {
	g.mu.Lock()
	defer g.mu.Unlock()
	slices.Sort(g.sample.Latencies)
	g.sample.Wall = wall
	return g.sample
}

// Closed has so many clients send one call after the other, each when the one
// before was answered, until the time is over or nothing is left to send: it
// measures capacity.
func (c *client) Closed(ctx context.Context, clients int, lasts time.Duration, next Next) Sample {
	var g gathering
	var wg sync.WaitGroup
	start := clock.System{}.Now()
	for i := range clients {
		wg.Go(func() {
			for n := 0; ctx.Err() == nil; n++ {
				began := clock.System{}.Now()
				call, more := next(i, n)
				if !more || began.Sub(start) >= lasts {
					return
				}
				err := c.send(ctx, call)
				g.add(clock.System{}.Now().Sub(began), err)
			}
		})
	}
	wg.Wait()
	return g.done(clock.System{}.Now().Sub(start))
}

// Paced sends calls at a fixed rate per second, whether or not earlier ones were
// answered, and measures from when each was due: a host that falls behind cannot
// hide it. It measures latency.
func (c *client) Paced(ctx context.Context, rate float64, lasts time.Duration, next Next) Sample {
	var g gathering
	var wg sync.WaitGroup
	start := clock.System{}.Now()
	total := int(rate * lasts.Seconds())
	for n := range total {
		due := start.Add(time.Duration(float64(n) / rate * float64(time.Second)))
		select {
		case <-ctx.Done():
		case <-time.After(due.Sub(clock.System{}.Now())):
		}
		call, more := next(0, n)
		if !more {
			break
		}
		wg.Go(func() {
			err := c.send(ctx, call)
			g.add(clock.System{}.Now().Sub(due), err)
		})
	}
	wg.Wait()
	return g.done(clock.System{}.Now().Sub(start))
}

// Each is Closed for work that takes several calls.
func (c *client) Each(ctx context.Context, clients int, lasts time.Duration, work func(client int) error) Sample {
	var g gathering
	var wg sync.WaitGroup
	start := clock.System{}.Now()
	for i := range clients {
		wg.Go(func() {
			for ctx.Err() == nil {
				began := clock.System{}.Now()
				if began.Sub(start) >= lasts {
					return
				}
				err := work(i)
				g.add(clock.System{}.Now().Sub(began), err)
			}
		})
	}
	wg.Wait()
	return g.done(clock.System{}.Now().Sub(start))
}
