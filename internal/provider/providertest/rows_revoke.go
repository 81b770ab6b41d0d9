package providertest

import (
	"errors"

	"github.com/vault-pim/vault-plugin-secrets-pim/internal/domain"
	"github.com/vault-pim/vault-plugin-secrets-pim/internal/provider/contract"
)

func revokesTwice(r *run) {
	j := r.mustIssue()
	r.mustEnd(j.last)
	r.mustEnd(j.last)
	r.mustBeGone(j.last, false)
	if r.works(j) {
		r.Error("the credential still works")
	}
}

func revokesNothing(r *run) {
	in := r.input()
	h := r.plan(in)
	r.mustEnd(h)
	r.mustBeGone(h, false)
	j := r.issue(r.Context(), r.p, in, h, nil)
	if j.err != nil {
		return // a provider may refuse a handle that was ended before
	}
	r.mustEnd(j.last)
	r.mustBeGone(j.last, false)
}

func revokesAfterRestart(r *run) {
	j := r.mustIssue()
	stored := r.encode(j.last)
	if err := r.p.Close(); err != nil {
		r.Fatal(err)
	}
	h, err := domain.DecodeHandle(stored)
	if err != nil {
		r.Fatal(err)
	}
	r.mustEnd(h)
	r.mustBeGone(h, false)
	if r.works(j) {
		r.Error("the credential still works")
	}
	r.p = r.open(r.w.Target)
}

func refusesWrongPlace(r *run) {
	j := r.mustIssue()
	elsewhere := r.w.Elsewhere
	elsewhere.Name = r.w.Target.Name
	for _, row := range []struct{ name, pinned string }{
		{"moved unseen", r.w.Target.Place},
		{"pinned anew", r.placeOf(elsewhere)},
	} {
		elsewhere.Place = row.pinned
		p := r.open(elsewhere)
		if ended, err := p.Revoke(r.Context(), j.last); !errors.Is(err, contract.ErrPlace) || ended.AccessGone {
			r.Errorf("%s: absent at another place was taken for gone (%v)", row.name, err)
		} else {
			r.noteError(err)
		}
		in := r.input()
		wrong := r.issue(r.Context(), p, in, r.plan(in), nil)
		if !errors.Is(wrong.err, contract.ErrPlace) {
			r.Errorf("%s: a handle of one place was issued at another (%v)", row.name, wrong.err)
		}
	}
	moved := j.last
	moved.Place = "nowhere"
	if _, err := r.p.Revoke(r.Context(), moved); !errors.Is(err, contract.ErrPlace) {
		r.Errorf("a handle of another place was taken for gone (%v)", err)
	}
	if r.usable(j.last) != 1 {
		r.Error("the credential at the right place was touched")
	}
	r.mustEnd(j.last)
	r.mustBeGone(j.last, false)
}

// placeOf asks an unpinned target where it is.
func (r *run) placeOf(target contract.Target) string {
	r.Helper()
	target.Place = ""
	place, err := r.open(target).Place(r.Context())
	if err != nil || place == "" || place == r.w.Target.Place {
		r.Fatalf("the other target must be another place: %q, %v", place, err)
	}
	return place
}

func refusesDoubt(r *run) {
	j := r.mustIssue()
	restore := r.w.Break()
	in := r.input()
	h := r.plan(in)
	if broken := r.issue(r.Context(), r.p, in, h, nil); broken.err == nil {
		r.Error("a credential was issued at a target that fails every call")
	}
	for _, p := range []contract.Provider{r.p, r.open(r.w.Target)} {
		ended, err := p.Revoke(r.Context(), j.last)
		if err == nil || ended.AccessGone {
			r.Error("a target that fails every call was taken for gone")
		}
		r.noteError(err)
	}
	if _, err := r.open(r.w.Target).Place(r.Context()); err == nil {
		r.Error("a target that fails every call told its place")
	} else {
		r.noteError(err)
	}
	restore()
	if r.usable(j.last) != 1 {
		r.Error("the credential does not exist any more although its revocation failed")
	}
	r.mustEnd(j.last)
	r.mustEnd(h)
	r.mustBeGone(j.last, false)
	r.mustBeGone(h, true)
}

// sharesByKey runs on every case: a case without OtherPrincipal must name no
// key at all, one with it must give one key per principal.
func sharesByKey(r *run) {
	first, second := r.input(), r.input()
	one, two := r.plan(first), r.plan(second)
	if r.c.OtherPrincipal == "" {
		if one.Shared != "" {
			r.Error("the handle names a shared key, and the case no second principal to prove it with")
		}
		return
	}
	stranger := r.input()
	stranger.Principal = r.c.OtherPrincipal
	if three := r.plan(stranger); one.Shared == "" || one.Shared != two.Shared || one.Shared == three.Shared {
		r.Fatalf("keys of one principal %q and %q, of another %q", one.Shared, two.Shared, three.Shared)
	}
	a := r.issue(r.Context(), r.p, first, one, nil)
	second.Joined = true // as the core says when another live credential holds the key
	b := r.issue(r.Context(), r.p, second, two, nil)
	if a.err != nil || b.err != nil {
		r.Fatalf("issue twice for one principal: %v, %v", a.err, b.err)
	}
	if n := r.usable(b.last); n != 1 {
		r.Errorf("two grants of one principal made %d objects", n)
	}
	r.mustEnd(b.last) // the last release, by whichever of them it is
	r.mustBeGone(a.last, false)
}

func listFinds(r *run) {
	l, ok := r.p.(contract.Lister)
	if !ok || r.c.Unlisted != "" {
		return // not one of this provider's powers, or nothing that the target could list
	}
	j, other := r.mustIssue(), r.mustIssue()
	found := map[domain.CredentialID]contract.Found{}
	err := l.List(r.Context(), func(f contract.Found) error {
		r.note(r.encode(f.Handle) + f.What)
		found[f.Credential] = f
		return nil
	})
	if err != nil {
		r.Fatalf("list: %v", err)
	}
	f, ok := found[j.in.Credential]
	if _, both := found[other.in.Credential]; !ok || (!both && j.last.Shared == "") {
		r.Fatalf("the list does not have what was issued: %d entries", len(found))
	}
	if f.Handle.Credential != j.in.Credential || f.What == "" {
		r.Errorf("the list names it wrongly: %+v", f)
	}
	r.mustEnd(f.Handle)
	r.mustBeGone(f.Handle, false)
	stop := errors.New("enough")
	if err := l.List(r.Context(), func(contract.Found) error { return stop }); j.last.Shared == "" && !errors.Is(err, stop) {
		r.Errorf("an error of the receiver must end the list, got %v", err)
	}
	r.mustEnd(other.last)
}
