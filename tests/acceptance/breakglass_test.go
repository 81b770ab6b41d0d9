package acceptance

import (
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/vault-pim/vault-plugin-secrets-pim/tests/harness"
	"github.com/vault-pim/vault-plugin-secrets-pim/tests/harness/poll"
)

// prodScene is a cast whose role prod yields tokens of the policy prod-read; the
// login at the host may use more paths.
func prodScene(t *testing.T, paths map[string]string) *cast {
	t.Helper()
	policy := host.Policy(t, "prod-read", `path "secret/data/prod/*" { capabilities = ["read"] }`)
	c := newScene(t, paths, policy).cast(t)
	c.role(t, "prod", map[string]any{"token_policies": policy, "max_active": 2}).OK(t)
	return c
}

// emergency is a cast whose role prod may be had at once by dave, who is on call
// and not eligible, and whose security officer is carol.
type emergency struct {
	*cast
	dave, carol      *harness.Person
	onCall, security *harness.Group
}

func newEmergency(t *testing.T, fields map[string]any) *emergency {
	t.Helper()
	return emergencyIn(t, prodScene(t, nil), fields)
}

func emergencyIn(t *testing.T, c *cast, fields map[string]any) *emergency {
	t.Helper()
	e := &emergency{cast: c, dave: host.Person(t, "dave", c.policy), carol: host.Person(t, "carol", c.policy)}
	e.onCall, e.security = host.Group(t, "on-call", e.dave), host.Group(t, "security", e.carol)
	all := map[string]any{"break_glass_groups": e.onCall.Name, "reviewer_groups": e.security.Name}
	maps.Copy(all, fields)
	host.Root().Write(t, c.path("roles/prod"), all).OK(t)
	return e
}

func (e *emergency) smash(t *testing.T, who *harness.Person, ticket string) harness.Answer {
	t.Helper()
	return who.Write(t, e.path("break-glass/prod"), map[string]any{"justification": "the orders are stuck", "ticket": ticket})
}

func (e *emergency) over(t *testing.T, who *harness.Person, id string) {
	t.Helper()
	who.Delete(t, e.path("requests/"+id)).OK(t)
}

// From the alarm to the sign-off, with real tokens.
func TestBreakGlassFromAlarmToSignOff(t *testing.T) {
	t.Parallel()
	e := newEmergency(t, map[string]any{"break_glass_max": 1})
	shown := e.dave.Read(t, e.path("eligible/prod")).OK(t)
	if shown.Data["break_glass"] != true || shown.Data["break_glass_left"] != 5.0 || !strings.Contains(shown.String(t, "command"), "break-glass/prod") {
		t.Errorf("eligible: %s", shown.Body)
	}
	e.dave.Read(t, e.path("creds/prod")).Refused(t, http.StatusForbidden, "access denied: no such role, or you are not eligible")
	got := e.smash(t, e.dave, "INC-1").OK(t)
	id := got.String(t, "request_id")
	if got.String(t, "state") != "active" || got.Data["break_glass"] != true || got.Data["heard"] != false || got.String(t, "review") != "owed" || got.Data["need"] != 0.0 {
		t.Errorf("the answer: %s", got.Body)
	}
	if again := e.smash(t, e.dave, "INC-1").OK(t); again.String(t, "request_id") != id || again.Data["existing"] != true {
		t.Errorf("the same ask: %s", again.Body)
	}
	creds := e.dave.Read(t, e.path("creds/prod")).OK(t)
	if creds.Data["pim_break_glass"] != true || creds.String(t, "pim_request_id") != id {
		t.Errorf("the credential: request %v, break-glass %v", creds.Data["pim_request_id"], creds.Data["pim_break_glass"])
	}
	token := e.dave.With("credential", creds.String(t, "token"))
	if a := token.Read(t, "secret/data/prod/none"); a.Status != http.StatusNotFound {
		t.Fatalf("the credential is refused: %d", a.Status)
	}
	e.heard(t, id)
	e.over(t, e.dave, id)
	poll.Until(t, promised, func() error {
		if token.Read(t, "secret/data/prod/none").Status != http.StatusForbidden {
			return errors.New("the credential outlives the emergency")
		}
		return nil
	})
	e.signedOff(t, id)
}

// heard: the feed has it, and the request says so once a consumer took it.
func (e *emergency) heard(t *testing.T, id string) {
	t.Helper()
	feed := host.Root().List(t, e.path("events/")).OK(t)
	info, _ := feed.Data["key_info"].(map[string]any)
	last := ""
	for _, key := range feed.Keys(t) {
		event, _ := info[key].(map[string]any)
		if event["kind"] == "break_glass" && event["request_id"] == id {
			last = key
		}
	}
	if last == "" {
		t.Fatalf("no event of %s in %s", id, feed.Body)
	}
	host.Root().Write(t, e.path("events/consumers/siem"), map[string]any{"cursor": last}).OK(t)
	seen := host.Root().Read(t, e.path("audit/requests/"+id)).OK(t)
	if seen.Data["heard"] != true || !strings.Contains(string(seen.Body), "the consumer of events siem has heard of it") {
		t.Errorf("after a consumer read it: %s", seen.Body)
	}
}

// signedOff: another use waits for the review, which is carol's alone.
func (e *emergency) signedOff(t *testing.T, id string) {
	t.Helper()
	refused := e.smash(t, e.dave, "INC-1").Refused(t, http.StatusForbidden, "access denied: request "+id+" for this role waits for its review: ")
	if refused.Data["code"] != "review_owed" {
		t.Errorf("code %v", refused.Data["code"])
	}
	review := map[string]any{"verdict": "justified", "comment": "read the incident report"}
	e.dave.Write(t, e.path("reviews/"+id), review).Refused(t, http.StatusForbidden, "access denied: nobody reviews their own request")
	for _, other := range []*harness.Person{e.alice, e.bob} {
		if a := other.Write(t, e.path("reviews/"+id), review); a.Status != http.StatusNotFound {
			t.Errorf("%s, who is no reviewer: %d %s", other.Name, a.Status, a.Body)
		}
		if a := other.Read(t, e.path("reviews/"+id)); a.Status != http.StatusNotFound {
			t.Errorf("%s, who is no reviewer, reads: %d %s", other.Name, a.Status, a.Body)
		}
	}
	if keys := e.carol.List(t, e.path("reviews/")).OK(t).Keys(t); !slices.Equal(keys, []string{id}) {
		t.Fatalf("the inbox: %v", keys)
	}
	if a := e.carol.Read(t, e.path("reviews/"+id)).OK(t); a.String(t, "ticket") != "INC-1" || a.String(t, "kind") != "break_glass" {
		t.Errorf("the review: %s", a.Body)
	}
	if a := e.carol.Write(t, e.path("reviews/"+id), review).OK(t); a.String(t, "review") != "justified" {
		t.Errorf("signed off: %s", a.Body)
	}
	if a := e.dave.Read(t, e.path("requests/"+id)).OK(t); a.String(t, "review") != "justified" || a.String(t, "reviewed_by") == "" {
		t.Errorf("what dave sees: %s", a.Body)
	}
	e.smash(t, e.dave, "INC-2").OK(t)
}

// What stops it: holds, machines by their login, who is not on call, and who
// edited role or target, whoever edits after them.
func TestWhatStopsABreakGlass(t *testing.T) {
	t.Parallel()
	e := newEmergency(t, nil)
	admin := host.Policy(t, "role-keeper", fmt.Sprintf(`path "%s/*" { capabilities = ["read", "update"] }`, e.path("roles")))
	editor := host.Person(t, "erin", e.policy, admin)
	host.SetMembers(t, e.onCall, e.dave, editor)
	e.smash(t, e.alice, "INC-1").Refused(t, http.StatusForbidden, "access denied: no such role, or you are not among those who may break its glass")
	e.dave.Write(t, e.path("break-glass/unknown"), map[string]any{"justification": "x", "ticket": "x"}).
		Refused(t, http.StatusForbidden, "access denied: no such role, or you are not among those who may break its glass")
	e.dave.Write(t, e.path("break-glass/prod"), map[string]any{"justification": "x"}).Refused(t, http.StatusBadRequest, "invalid input: ticket: ")
	host.Root().Write(t, e.path("break-glass/prod"), map[string]any{"justification": "x", "ticket": "x"}).Refused(t, http.StatusForbidden, "access denied: log in again")

	editor.Write(t, e.path("roles/prod"), map[string]any{"request_ttl": "23h"}).OK(t)
	host.Root().Write(t, e.path("roles/prod"), map[string]any{"request_ttl": "22h"}).OK(t)
	e.smash(t, editor, "INC-1").Refused(t, http.StatusForbidden, "access denied: you edited this role or its target within 24 hours")

	hold := host.Root().Write(t, e.path("holds"), map[string]any{"role": "prod", "reason": "incident"}).OK(t).String(t, "hold_id")
	e.smash(t, e.dave, "INC-1").Refused(t, http.StatusForbidden, "access denied: a hold is in force")
	host.Root().Delete(t, e.path("holds/"+hold)).OK(t)
	id := e.smash(t, e.dave, "INC-1").OK(t).String(t, "request_id")
	token := e.dave.With("credential", e.dave.Read(t, e.path("creds/prod")).OK(t).String(t, "token"))

	// Who leaves the group gets nothing more, at once.
	host.SetMembers(t, e.onCall, editor)
	e.dave.Read(t, e.path("creds/prod")).Refused(t, http.StatusForbidden, "access denied: ")
	host.SetMembers(t, e.onCall, editor, e.dave)
	// A hold that comes later stops it too, and the kill switch ends it.
	host.Root().Write(t, e.path("revoke"), map[string]any{"entity_id": e.dave.EntityID, "reason": "incident"}).OK(t)
	poll.Until(t, settles, func() error {
		if got := host.Root().Read(t, e.path("audit/requests/"+id)).OK(t).String(t, "state"); got != "revoked" {
			return fmt.Errorf("the emergency is %s", got)
		}
		if token.Read(t, "secret/data/prod/none").Status != http.StatusForbidden {
			return errors.New("the credential outlives the kill switch")
		}
		return nil
	})
	e.smash(t, e.dave, "INC-1").Refused(t, http.StatusForbidden, "access denied: a hold is in force")
}

// A review that is overdue bars its person from the role, and nobody else.
func TestOverdueReviewOnTheHost(t *testing.T) {
	t.Parallel()
	e := newEmergency(t, map[string]any{"review_deadline": "1s"})
	host.SetMembers(t, e.onCall, e.dave, e.alice)
	id := e.smash(t, e.alice, "INC-1").OK(t).String(t, "request_id")
	e.over(t, e.alice, id)
	poll.Until(t, settles, func() error {
		a := e.alice.Write(t, e.path("request/prod"), map[string]any{"justification": "order 4711"})
		if a.Status == http.StatusOK {
			e.alice.Delete(t, e.path("requests/"+a.String(t, "request_id"))).OK(t)
			return errors.New("she may still ask")
		}
		a.Refused(t, http.StatusForbidden, "access denied: request "+id+" for this role waits for its review: it is overdue")
		return nil
	})
	poll.Until(t, settles, func() error {
		if feed := host.Root().List(t, e.path("events/")).OK(t); !strings.Contains(string(feed.Body), `"review_overdue"`) {
			return fmt.Errorf("the feed does not say so: %s", feed.Body)
		}
		return nil
	})
	e.carol.Write(t, e.path("reviews/"+id), map[string]any{"verdict": "unjustified", "comment": "it could have waited"}).OK(t)
	e.alice.Write(t, e.path("request/prod"), map[string]any{"justification": "order 4711"}).OK(t)
}

// After a use the target's login is another one, and the old one is dead.
func TestRotationAfterBreakGlass(t *testing.T) {
	t.Parallel()
	paths := map[string]string{"auth/approle/role/+/secret-id": `"update", "list"`}
	for _, below := range []string{"secret-id/destroy", "secret-id-accessor/lookup", "secret-id-accessor/destroy"} {
		paths["auth/approle/role/+/"+below] = `"update"`
	}
	c := prodScene(t, paths)
	host.Root().Write(t, c.path("targets/"+c.target.Name), map[string]any{"role_name": c.target.Login.Name}).OK(t)
	e := emergencyIn(t, c, map[string]any{"break_glass_rotate": true})
	before := host.Root().Read(t, e.path("targets/"+e.target.Name)).OK(t).Data["rotated_at"]
	id := e.smash(t, e.dave, "INC-1").OK(t).String(t, "request_id")
	e.dave.Read(t, e.path("creds/prod")).OK(t)
	e.over(t, e.dave, id)
	poll.Until(t, settles, func() error {
		if a := host.Root().Read(t, e.path("audit/requests/"+id)).OK(t); !strings.Contains(string(a.Body), "was rotated after this use") {
			return fmt.Errorf("not rotated: %s", a.Body)
		}
		return nil
	})
	if after := host.Root().Read(t, e.path("targets/"+e.target.Name)).OK(t).Data["rotated_at"]; after == before {
		t.Errorf("rotated at %v before and after", after)
	}
	e.carol.Write(t, e.path("reviews/"+id), map[string]any{"verdict": "justified", "comment": "fine"}).OK(t)
	e.smash(t, e.dave, "INC-2").OK(t)
	e.dave.Read(t, e.path("creds/prod")).OK(t)
}

// blocks are the commands of a page, each with whose they are, in order.
func blocks(t *testing.T, name string) [][2]string {
	t.Helper()
	var out [][2]string
	for _, part := range strings.Split(page(t, "docs", name), "\n```sh\n# ")[1:] {
		who, rest, _ := strings.Cut(part, "\n")
		block, _, closed := strings.Cut(rest, "\n```")
		if !closed {
			t.Fatalf("a block of %q does not end", who)
		}
		out = append(out, [2]string{who, block})
	}
	return out
}

// follow runs a page's blocks as it stands, with the names of this run.
func follow(t *testing.T, c *cast, name string, people map[string]*harness.Person, fill func(block string) string) {
	t.Helper()
	for _, b := range blocks(t, name) {
		who, block := people[b[0]], fill(strings.ReplaceAll(b[1], "pim/", c.pim.Path+"/"))
		if who == nil {
			t.Fatalf("a block of %q", b[0])
		}
		if host.OpenBao {
			block = strings.ReplaceAll(block, "vault ", "bao ")
		}
		if p := paste(t, who, "set -eu\n"+block); p.Code != 0 {
			t.Fatalf("%s: exit code %d\n%s%s\nof\n%s", b[0], p.Code, p.Stdout, p.Stderr, block)
		}
	}
}

// onlyOne puts the one id of a list in its place in a block.
func onlyOne(t *testing.T, block string, who *harness.Person, list string) string {
	t.Helper()
	if !strings.Contains(block, "<id>") {
		return block
	}
	ids := who.List(t, list).OK(t).Keys(t)
	if len(ids) != 1 {
		t.Fatalf("%s has %v", list, ids)
	}
	return strings.ReplaceAll(block, "<id>", ids[0])
}

// docs/break-glass.md as it stands, each block by whom its first line names.
func TestThePageOnBreakGlassWorksAsItStands(t *testing.T) {
	t.Parallel()
	c, yields := withPolicy(t)
	c.role(t, "prod-read", map[string]any{"token_policies": yields}).OK(t)
	people := map[string]*harness.Person{
		"operator": host.Person(t, "operator", persona(t, c.pim, "operator")),
		"alice":    host.Person(t, "alice", persona(t, c.pim, "requester")),
		"security": host.Person(t, "carol", persona(t, c.pim, "security-officer")),
	}
	onCall, security := host.Group(t, "on-call", people["alice"]), host.Group(t, "security", people["security"])
	names := strings.NewReplacer("=on-call", "="+onCall.Name, "=security", "="+security.Name)
	follow(t, c, "break-glass.md", people, func(block string) string {
		block = names.Replace(block)
		if strings.Contains(block, "<last id>") {
			ids := people["security"].List(t, c.path("events/")).OK(t).Keys(t)
			block = strings.ReplaceAll(block, "<last id>", ids[len(ids)-1])
		}
		return onlyOne(t, block, people["security"], c.path("reviews/"))
	})
	mine := people["alice"].List(t, c.path("requests/mine/")).OK(t).Keys(t)
	if len(mine) != 1 {
		t.Fatalf("%d requests", len(mine))
	}
	r := host.Root().Read(t, c.path("audit/requests/"+mine[0])).OK(t)
	if r.Data["break_glass"] != true || r.Data["heard"] != true || r.String(t, "review") != "justified" || r.Data["ttl"] != (30*time.Minute).Seconds() {
		t.Errorf("the request: %s", r.Body)
	}
}
