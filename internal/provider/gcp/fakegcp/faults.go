package fakegcp

import (
	"net/http"
	"strconv"
	"strings"
)

// faults are what goes wrong on purpose.
type faults struct {
	outage  bool
	bare    bool            // policies lose conditions without a word
	denied  map[string]bool // permissions that the engine lacks
	planned []*Fault
}

// Fault makes calls go wrong. The zero value matches every call, once.
type Fault struct {
	Service, Method string // "" = any
	Contains        string // of the path
	Times           int    // 0 = once
	Skip            int    // let so many matching calls pass first
	Status          int
	Code            string
	Text            string
	Reason          string
	RetryAfter      int  // seconds; 0 = the header is absent
	After           bool // the work is done, and only the answer is lost
}

// Plan has calls go wrong from now on.
func (c *Cloud) Plan(f Fault) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if f.Times == 0 {
		f.Times = 1
	}
	c.faults.planned = append(c.faults.planned, &f)
}

// Pending is how many planned faults have not happened yet.
func (c *Cloud) Pending() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	n := 0
	for _, f := range c.faults.planned {
		n += f.Times
	}
	return n
}

// DropConditions has policies lose the conditions of what is written, as
// services do that know none.
func (c *Cloud) DropConditions() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.faults.bare = true
}

// Forget drops the planned faults that have not happened yet.
func (c *Cloud) Forget() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.faults.planned = nil
}

// Deny takes a permission away from the engine.
func (c *Cloud) Deny(permission string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.faults.denied[permission] = true
}

// Break has every call fail until restored.
func (c *Cloud) Break() (restore func()) {
	set := func(on bool) {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.faults.outage = on
	}
	set(true)
	return func() { set(false) }
}

func (f *faults) next(v *visit) (before, after *refusal) {
	if f.outage {
		return refuse(http.StatusServiceUnavailable, "UNAVAILABLE", "outage"), nil
	}
	for _, p := range f.planned {
		if p.Times == 0 || (p.Service != "" && p.Service != v.service) || (p.Method != "" && p.Method != v.method) ||
			!strings.Contains(v.path, p.Contains) {
			continue
		}
		if p.Skip > 0 {
			p.Skip--
			continue
		}
		p.Times--
		r := refuse(p.Status, p.Code, p.Text)
		r.reason = p.Reason
		if p.RetryAfter > 0 {
			r.retryAfter = strconv.Itoa(p.RetryAfter)
		}
		if p.After {
			return nil, r
		}
		return r, nil
	}
	return nil, nil
}
