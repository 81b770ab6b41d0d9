package cases

import (
	"fmt"
	"maps"
	"net/http"
	"testing"
	"time"

	"github.com/vault-pim/vault-plugin-secrets-pim/tests/faults/journal"
	"github.com/vault-pim/vault-plugin-secrets-pim/tests/faults/report"
	"github.com/vault-pim/vault-plugin-secrets-pim/tests/harness"
	"github.com/vault-pim/vault-plugin-secrets-pim/tests/harness/poll"
)

// promised is how soon access ends after somebody asked for it, or after its time.
const promised = 60 * time.Second

// within waits until a credential is gone from the target.
func (s *stage) within(t *testing.T, bound time.Duration, creds harness.Answer) {
	t.Helper()
	id := creds.String(t, "pim_credential_id")
	poll.Until(t, bound, func() error {
		for _, e := range s.target.Live() {
			if e.Credential == id {
				return fmt.Errorf("%s still exists at the target", id)
			}
		}
		return nil
	})
}

// A lease is revoked twice; its credential is deleted by hand first; the target
// answers 404 to everything: success, success, and no success until it is the
// target again.
func TestR10RevokedTwice(t *testing.T) {
	t.Parallel()
	s := newStage(t, shared)
	role := s.role(t, nil)
	runs := 0
	for range 2 * scale() {
		id := s.grant(t, role)
		twice, byHand, lost := s.creds(t, role), s.creds(t, role), s.creds(t, role)
		s.revokeLease(t, twice)
		s.revokeLease(t, twice)
		s.target.Remove(byHand.String(t, "pim_credential_id"))
		s.revokeLease(t, byHand)

		s.target.Lose(true)
		s.ledger.leaseAsked(lost.String(t, "pim_credential_id"))
		answer := shared.Root().Write(t, "sys/leases/revoke", map[string]any{"lease_id": lost.LeaseID, "sync": true})
		if answer.Status/100 == 2 {
			t.Errorf("a proxy's 404 was taken for the end of the access: %d %s", answer.Status, answer.Body)
		}
		if got := s.states(t, id)[lost.String(t, "pim_credential_id")]; got != "revoking" {
			t.Errorf("while the target is lost the credential is %s, want revoking", got)
		}
		s.target.Lose(false)
		s.within(t, promised, lost)
		s.revokeLease(t, lost)
		s.end(t, id)
		runs += 3
	}
	s.close(t, report.Row{Case: "R10", What: "revoked twice; deleted by hand before; 404 from a proxy", Runs: runs})
}

// The role is edited or deleted, or somebody tries to delete the target, under live
// leases: what was issued still ends.
func TestR12ConfigurationGoesUnderLiveLeases(t *testing.T) {
	t.Parallel()
	s := newStage(t, shared)
	root := shared.Root()
	runs := 0
	for range scale() {
		for _, what := range []struct {
			name   string
			method string
			body   map[string]any
		}{
			{"edited", http.MethodPut, map[string]any{"max_ttl": "9h", "live": "keep"}},
			{"edited and what it gave revoked", http.MethodPut, map[string]any{"max_ttl": "9h", "live": "revoke"}},
			{"deleted", http.MethodDelete, nil},
		} {
			role := s.role(t, nil)
			id := s.grant(t, role)
			creds := s.creds(t, role)
			answer := root.Delete(t, s.path("targets/journal"))
			if answer.Status/100 == 2 {
				t.Fatalf("the target was deleted under a live credential: %d %s", answer.Status, answer.Body)
			}
			path := s.path("roles/" + role)
			if what.method == http.MethodDelete {
				path += "?live=keep"
			}
			done := s.call(t, root, what.method, path, what.body)
			if done.Status/100 != 2 {
				t.Fatalf("%s: %d %s", what.name, done.Status, done.Body)
			}
			if what.body["live"] == "revoke" {
				s.ledger.endAsked(id)
				s.within(t, promised, creds)
			}
			s.revokeLease(t, creds)
			s.within(t, promised, creds)
			runs++
		}
	}
	s.close(t, report.Row{Case: "R12", What: "role edited or deleted, target's deletion tried, under live leases", Runs: runs})
}

// A client renews with an increment of a month, and a second before the end.
func TestR20Renewals(t *testing.T) {
	t.Parallel()
	s := newStage(t, shared)
	runs := 0
	for range scale() {
		role := s.role(t, map[string]any{"ttl": 6, "lease_ttl": 3})
		id := s.grant(t, role)
		windowEnd := time.Now().Add(6 * time.Second)
		creds := s.creds(t, role)
		ends := time.Now().Add(time.Duration(creds.LeaseDuration) * time.Second)
		s.ledger.leaseDue(creds.String(t, "pim_credential_id"), ends)
		renew := func(increment string) {
			answer := s.call(t, shared.Root(), http.MethodPut, "sys/leases/renew", map[string]any{"lease_id": creds.LeaseID, "increment": increment})
			if answer.Status/100 == 2 && answer.LeaseDuration > int(time.Until(windowEnd).Seconds())+1 {
				t.Errorf("renewed beyond the window: %d %s", answer.Status, answer.Body)
			}
			runs++
		}
		renew("768h")
		poll.Until(t, patience, func() error {
			if left := time.Until(ends); left > time.Second {
				return fmt.Errorf("%s are left", left)
			}
			return nil
		})
		renew("768h")
		s.within(t, promised, creds)
		for _, e := range s.target.Entries() {
			if e.Request == id && e.Deleted.Sub(windowEnd) > promised {
				t.Errorf("%s lived %s longer than its window", e.Credential, e.Deleted.Sub(windowEnd))
			}
		}
	}
	s.close(t, report.Row{Case: "R20", What: "lease renewed by 768h, and a second before its end", Runs: runs})
}

// lifetime is a kind of token that reads a credential, and how it ends.
type lifetime struct {
	name   string
	user   map[string]any // fields of the login
	revoke string         // path that ends it, as root; "" = it ends by itself
	child  bool
}

func lifetimes() []lifetime {
	return []lifetime{
		{name: "revoked", revoke: "auth/token/revoke"},
		{name: "its parent revoked", revoke: "auth/token/revoke", child: true},
		{name: "a batch token of ten seconds", user: map[string]any{"token_type": "batch", "token_ttl": "10s", "token_max_ttl": "10s"}},
		{name: "a token of one use", user: map[string]any{"token_num_uses": 1}},
		{name: "a token of ten seconds", user: map[string]any{"token_ttl": "10s", "token_max_ttl": "10s"}},
	}
}

// The token that read a credential ends: so does the credential.
func TestR21TokenLifetimes(t *testing.T) {
	t.Parallel()
	s := newStage(t, shared)
	creator := shared.Policy(t, "creator", `path "auth/token/create" { capabilities = ["update"] }`)
	for range scale() {
		for _, l := range lifetimes() {
			s.lifetime(t, l, creator)
		}
	}
	s.close(t, report.Row{
		Case: "R21", What: "token revoked, parent revoked, batch, one use, expired", Runs: scale() * len(lifetimes()),
	})
}

func (s *stage) lifetime(t *testing.T, l lifetime, creator string) {
	t.Helper()
	root := shared.Root()
	role := s.role(t, nil)
	id := s.grant(t, role)
	fields := map[string]any{
		"password": s.alice.Password, "token_policies": []string{s.pim.PersonPolicy(t), creator},
		"token_type": "service", "token_ttl": 0, "token_max_ttl": 0, "token_num_uses": 0,
	}
	maps.Copy(fields, l.user)
	root.Write(t, "auth/userpass/users/"+s.alice.Login, fields).OK(t)
	defer func() {
		maps.Copy(fields, map[string]any{"token_type": "service", "token_ttl": 0, "token_max_ttl": 0, "token_num_uses": 0})
		root.Write(t, "auth/userpass/users/"+s.alice.Login, fields).OK(t)
		s.alice.LogIn(t)
	}()
	s.alice.LogIn(t)
	parent, began := s.alice.Token, time.Now()
	if l.child {
		made := s.alice.Write(t, "auth/token/create", map[string]any{"ttl": "1h"}).OK(t)
		s.alice.Token = fmt.Sprint(made.Auth["client_token"])
	}
	answer, err := s.read(t, shared, role)
	if err != nil {
		t.Fatal(err)
	}
	var made journal.Entry
	for _, e := range s.target.Entries() {
		if e.Request == id {
			made = e
		}
	}
	if made.Credential == "" {
		t.Fatalf("%s: nothing was made: %d %s", l.name, answer.Status, answer.Body)
	}
	ends := began
	switch {
	case l.revoke != "":
		s.ledger.leaseAsked(made.Credential)
		root.Write(t, l.revoke, map[string]any{"token": parent}).OK(t)
	case l.user["token_ttl"] != nil:
		// The host ends a lease with its service token, whatever the lease says; a batch
		// token leaves no trace that it could go by.
		if l.user["token_type"] == "batch" && answer.LeaseDuration > 10 {
			t.Errorf("%s: the lease of %d s outlives the token", l.name, answer.LeaseDuration)
		}
		ends = began.Add(10 * time.Second)
		s.ledger.leaseDue(made.Credential, ends)
	default:
		s.ledger.leaseDue(made.Credential, made.Made)
	}
	poll.Until(t, time.Until(ends)+promised, func() error {
		for _, e := range s.target.Live() {
			if e.Credential == made.Credential {
				return fmt.Errorf("%s: the credential outlives its token", l.name)
			}
		}
		return nil
	})
}
