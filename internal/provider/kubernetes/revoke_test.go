package kubernetes

import (
	"errors"
	"slices"
	"testing"

	"github.com/vault-pim/vault-plugin-secrets-pim/internal/provider/remote"
)

func TestRevokeTakesBindingsFirstAndGoesAsFarAsItCan(t *testing.T) {
	t.Parallel()
	b := newBench(t, nil)
	in := b.input(generatedRole(), nil)
	out, h := b.mustIssue(in)
	b.c.denied["delete rolebindings"] = true
	wantCode(t, second(b.p.Revoke(t.Context(), h)), "Forbidden")
	left := b.c.of(string(in.Credential))
	if slices.ContainsFunc(left, func(k key) bool { return k.kind != roleBinding }) || len(left) != 2 {
		t.Errorf("left: %v", left)
	}
	if token, _ := out.Data.Reveal()["service_account_token"].(string); second(b.c.valid(token)) {
		t.Error("the token outlived its account")
	}
	delete(b.c.denied, "delete rolebindings")
	b.clk.Advance(lateWrites)
	if ended, err := b.p.Revoke(t.Context(), h); err != nil || !ended.Done() {
		t.Errorf("then: %+v, %v", ended, err)
	}
}

func second[A, B any](_ A, b B) B { return b }

func TestRevokeDoesNotTakeAFinalizerForTheEnd(t *testing.T) {
	t.Parallel()
	b := newBench(t, nil)
	in := b.input(bindingRole(), nil)
	_, h := b.mustIssue(in)
	k := key{roleBinding, "team-a", boundName(in.Credential, 0)}
	b.c.objects[k].SetFinalizers([]string{"example.com/slow"})
	e := failureWith(t, second(b.p.Revoke(t.Context(), h)), "finalizers")
	if e.Refused || !errors.Is(e, errFinalizers) {
		t.Error("it is worth trying again")
	}
}

func TestRevokeDeletesWhatLostItsLabels(t *testing.T) {
	t.Parallel()
	b := newBench(t, nil)
	in := b.input(bindingRole(), nil)
	_, h := b.mustIssue(in)
	b.c.objects[key{roleBinding, "team-a", boundName(in.Credential, 0)}].SetLabels(nil)
	if ended, err := b.p.Revoke(t.Context(), h); err != nil || !ended.Done() || len(b.c.of(string(in.Credential))) > 0 {
		t.Errorf("got %+v, %v", ended, err)
	}
}

func TestRevokeLooksAgainForWhatMayBeOnItsWay(t *testing.T) {
	t.Parallel()
	b := newBench(t, nil)
	in := b.input(bindingRole(), nil)
	h, err := b.p.Plan(t.Context(), in)
	if err != nil {
		t.Fatal(err)
	}
	ended, err := b.p.Revoke(t.Context(), h)
	if err != nil || !ended.AccessGone || ended.Done() || !ended.Again.Equal(b.clk.Now().Add(remote.FirstLook)) {
		t.Fatalf("got %+v, %v", ended, err)
	}
	if _, err := b.p.Issue(t.Context(), in, h, nil); err != nil { // the call arrives late
		t.Fatal(err)
	}
	b.clk.Advance(remote.FirstLook)
	if ended, err = b.p.Revoke(t.Context(), ended.Rest); err != nil || !ended.Done() || len(b.c.of(string(in.Credential))) > 0 {
		t.Errorf("the late binding was not taken back: %+v, %v", ended, err)
	}
	for looks := 0; ; looks++ {
		if ended, err = b.p.Revoke(t.Context(), h); err != nil || looks > 20 {
			t.Fatalf("look %d: %v", looks, err)
		}
		if ended.Done() {
			break
		}
		b.clk.Advance(ended.Again.Sub(b.clk.Now()))
	}
	if age := b.clk.Now().Sub(start); age < lateWrites {
		t.Errorf("the last look was after %s", age)
	}
}
