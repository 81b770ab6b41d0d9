package providertest

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"

	"github.com/vault-pim/vault-plugin-secrets-pim/internal/domain"
	"github.com/vault-pim/vault-plugin-secrets-pim/internal/provider/contract"
)

func validates(r *run) {
	spec := contract.Spec{Role: "conformance", Fields: r.c.Fields, Params: contract.SortedKeys(r.c.Params)}
	for _, probe := range []bool{false, true} {
		if report := r.p.Validate(r.Context(), spec, probe); !report.OK() {
			r.Errorf("a role that the suite issues under is not valid (probe=%v): %v", probe, report.Problems)
		}
	}
	if report := r.w.Descriptor.CheckTarget(r.w.Env, r.w.Target); !report.OK() {
		r.Errorf("the target that the suite uses is not valid: %v", report.Problems)
	}
}

func planIsPure(r *run) {
	in := r.input()
	first, second := r.plan(in), r.plan(in)
	if r.encode(first) != r.encode(second) {
		r.Error("two plans for one input differ")
	}
	if first.Provider != r.w.Descriptor.Type || first.V < 1 || first.Target != r.w.Target.Name ||
		first.Place != r.w.Target.Place || first.Credential != in.Credential {
		r.Errorf("the handle does not say whose it is: %+v", first)
	}
	r.mustBeGone(first, false)
}

func issues(r *run) {
	j := r.mustIssue()
	if n := r.usable(j.last); n != 1 || !r.works(j) {
		r.Errorf("one working access expected, found %d (works: %v)", n, r.works(j))
	}
	if len(j.issued.Data.Reveal()) == 0 {
		r.Error("the answer is empty")
	}
	if end := j.issued.NotAfter; !end.IsZero() && end.After(j.in.NotAfter.Add(tolerance)) {
		r.Errorf("the target ends it at %s, later than %s", end, j.in.NotAfter)
	}
	if j.saved > 0 && r.encode(j.issued.Handle) != r.encode(j.last) {
		r.Error("the handle of the answer was never checkpointed")
	}
	r.mustEnd(j.last)
	r.mustBeGone(j.last, false)
}

func issuesOnce(r *run) {
	j := r.mustIssue()
	again := r.issue(r.Context(), r.open(r.w.Target), j.in, j.last, nil)
	if again.err != nil {
		r.Fatalf("issue a second time: %v", again.err)
	}
	if n := r.usable(again.last); n != 1 || !r.works(again) {
		r.Errorf("one working access expected after two issues, found %d", n)
	}
	r.mustEnd(again.last)
	r.mustBeGone(again.last, false)
	if r.works(j) || r.works(again) {
		r.Error("a credential still works although its handle was revoked")
	}
}

func refusesForeignHandles(r *run) {
	in := r.input()
	h := r.plan(in)
	other := r.input()
	for name, change := range map[string]func(*domain.Handle){
		"credential": func(h *domain.Handle) { h.Credential = other.Credential },
		"version":    func(h *domain.Handle) { h.V = 99 },
		"target":     func(h *domain.Handle) { h.Target = "another-target" },
		"provider":   func(h *domain.Handle) { h.Provider = "nonesuch" },
		"data":       func(h *domain.Handle) { h.Data = []byte(`"?"`) },
	} {
		bad := h
		change(&bad)
		if j := r.issue(r.Context(), r.p, in, bad, nil); j.err == nil {
			r.Errorf("a handle with another %s was issued", name)
			r.mustEnd(j.last)
		}
		if name == "credential" {
			continue // the handle alone cannot show whose it ought to be
		}
		if _, err := r.p.Revoke(r.Context(), bad); err == nil {
			r.Errorf("a handle with another %s was taken for gone", name)
		} else {
			r.noteError(err)
		}
	}
	r.mustBeGone(h, false)
}

// cutAt is one place to cut Issue: at its n-th call, before or after it took
// effect.
type cutAt struct {
	n     int
	after bool
}

// issueCut issues with a context that ends at the cut, and tells whether the
// issue got that far.
func (r *run) issueCut(at cutAt) (j *journey, reached bool) {
	r.Helper()
	in := r.input()
	h := r.plan(in)
	p := r.open(r.w.Target)
	ctx, cancel := context.WithCancel(r.Context())
	defer cancel()
	var before, done atomic.Int64
	stop := r.w.Watch(func(after bool) {
		count := &before
		if after {
			count = &done
		}
		if count.Add(1) == int64(at.n) && after == at.after {
			cancel()
		}
	})
	defer stop()
	j = r.issue(ctx, p, in, h, nil)
	return j, ctx.Err() != nil
}

func survivesCuts(r *run) {
	const most = 60
	for n := 1; n <= most; n++ {
		for _, after := range []bool{false, true} {
			j, reached := r.issueCut(cutAt{n: n, after: after})
			if !reached && j.err != nil {
				r.Fatalf("issue without a cut: %v", j.err)
			}
			r.mustEnd(j.last)
			r.mustBeGone(j.last, true)
			if j.err == nil && r.works(j) {
				r.Errorf("cut %d (after: %v): the credential still works", n, after)
			}
			if !reached {
				if n == 1 {
					r.Fatal("the issue made no call that could be cut")
				}
				return
			}
		}
	}
	r.Fatalf("an issue made more than %d calls", most)
}

// checkpoints counts how many checkpoints one issue has.
func (r *run) checkpoints() int {
	r.Helper()
	j := r.mustIssue()
	r.mustEnd(j.last)
	return j.saved
}

func stopsAtCheckpoint(r *run) {
	for n := range r.checkpoints() {
		in := r.input()
		j := r.issue(r.Context(), r.p, in, r.plan(in), func(k int) error {
			if k == n+1 {
				return errCheckpoint
			}
			return nil
		})
		if !errors.Is(j.err, errCheckpoint) {
			r.Errorf("checkpoint %d failed, and the issue ended with: %v", n+1, j.err)
		}
		r.mustEnd(j.last)
		r.mustBeGone(j.last, true)
	}
}

func survivesCrash(r *run) {
	for n := range r.checkpoints() {
		for _, stored := range []bool{false, true} {
			in := r.input()
			restore := func() {}
			j := r.issue(r.Context(), r.open(r.w.Target), in, r.plan(in), func(k int) error {
				if k != n+1 {
					return nil
				}
				restore = r.w.Break() // from here on this process reaches nothing
				if stored {
					return nil
				}
				return errCheckpoint
			})
			restore()
			if j.err == nil && !stored {
				r.Errorf("checkpoint %d was not stored, and the issue did not fail", n+1)
			}
			r.mustEnd(j.last)
			r.mustBeGone(j.last, true)
		}
	}
}

func runsInParallel(r *run) {
	const workers = 12
	var wg sync.WaitGroup
	r.beside = workers
	for range workers {
		in := r.input()
		if r.c.OtherPrincipal != "" {
			in.Principal += "-" + string(in.Credential[20:])
		}
		h := r.plan(in)
		wg.Go(func() {
			j := r.issue(r.Context(), r.p, in, h, nil)
			if j.err != nil {
				r.Errorf("issue beside others: %v", j.err)
			}
			r.revokeTogether(j.last)
		})
	}
	wg.Wait()
}

// revokeTogether revokes one handle from two sides at once: whoever loses may
// fail, but what is left must end with one more try.
func (r *run) revokeTogether(h domain.Handle) {
	r.publish(h)
	var wg sync.WaitGroup
	for range 2 {
		wg.Go(func() {
			if _, err := r.p.Revoke(r.Context(), h); err != nil {
				r.noteError(err)
			}
		})
	}
	wg.Wait()
	ended, err := r.p.Revoke(r.Context(), h)
	if err == nil && !ended.AccessGone && r.expiryOnly() {
		return
	}
	if err != nil || !ended.AccessGone {
		r.Errorf("revoke after others did: %+v, %v", ended.AccessGone, err)
	}
	for _, o := range r.exists(h) {
		if o.Usable {
			r.Errorf("still usable: %s", o.What)
		}
	}
}
