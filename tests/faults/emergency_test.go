package faults

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/vault-pim/vault-plugin-secrets-pim/tests/harness"
	"github.com/vault-pim/vault-plugin-secrets-pim/tests/harness/poll"
)

// glassRole is a role whose glass alice may break, once before bob's review.
func (w *world) glassRole(t *testing.T) string {
	t.Helper()
	return w.role(t, map[string]any{"break_glass_groups": w.fields["eligible_groups"], "break_glass_max": 1})
}

func (w *world) smash(t *testing.T, role string) (harness.Answer, error) {
	t.Helper()
	return do(t, w.alice.Actor, http.MethodPut, w.path("break-glass/"+role), map[string]any{"justification": "order 4711 is stuck", "ticket": "INC-1"})
}

func (w *world) signOff(t *testing.T, id string) (harness.Answer, error) {
	t.Helper()
	return do(t, w.bob.Actor, http.MethodPut, w.path("reviews/"+id), map[string]any{"verdict": "justified", "comment": "read the report"})
}

// signed gives the review, which may have been given before the crash.
func (w *world) signed(t *testing.T, id string) {
	t.Helper()
	poll.Until(t, retries, func() error {
		answer, err := w.signOff(t, id)
		if err == nil && answer.Status != http.StatusOK && answer.Data["code"] != "already_decided" {
			err = fmt.Errorf("%d %s", answer.Status, answer.Body)
		}
		return err
	})
}

// inFeed waits until the feed tells of something about a request.
func (w *world) inFeed(t *testing.T, id, kind string) (event string) {
	t.Helper()
	poll.Until(t, settles, func() error {
		after := ""
		for {
			feed, err := do(t, host.Root(), "LIST", w.path("events/?after="+after), nil)
			if err != nil || feed.Status != http.StatusOK {
				return fmt.Errorf("the feed: %d %s (%w)", feed.Status, feed.Body, err)
			}
			info, _ := feed.Data["key_info"].(map[string]any)
			keys := feed.Keys(t)
			for _, key := range keys {
				if e, _ := info[key].(map[string]any); e["kind"] == kind && e["request_id"] == id {
					event = key
					return nil
				}
			}
			if len(keys) == 0 {
				return fmt.Errorf("%s of %s is not in the feed", kind, id)
			}
			after = keys[len(keys)-1]
		}
	})
	return event
}

// gone waits until a request of alice is archived.
func (w *world) gone(t *testing.T, id string) {
	t.Helper()
	again(t, func() (harness.Answer, error) {
		return do(t, w.alice.Actor, http.MethodDelete, w.path("requests/"+id), nil)
	})
	poll.Until(t, settles, func() error {
		if slices.Contains(w.openIDs(t), id) {
			return fmt.Errorf("%s is not archived yet", id)
		}
		return nil
	})
}

func (w *world) openIDs(t *testing.T) []string {
	t.Helper()
	mine, err := do(t, w.alice.Actor, "LIST", w.path("requests/mine/"), nil)
	if err != nil || mine.Status == http.StatusNotFound {
		return nil
	}
	return mine.Keys(t)
}

// emergency: alice breaks the glass and the process dies; she does it again and
// has one grant, which is in the feed and in bob's inbox.
func emergency(t *testing.T, w *world, step string) {
	role := w.glassRole(t)
	w.arm(t, step)
	w.attempt(t, func() (harness.Answer, error) { return w.smash(t, role) })
	id := again(t, func() (harness.Answer, error) { return w.smash(t, role) }).String(t, "request_id")
	w.inFeed(t, id, "break_glass")
	if open := w.openOf(t, role); len(open) != 1 {
		t.Errorf("%v are open after one emergency", open)
	}
	w.works(t, again(t, func() (harness.Answer, error) { return w.read(t, role) }))
	w.accounted(t, id, 0)
	w.signed(t, id)
	w.gone(t, id)
	next := again(t, func() (harness.Answer, error) { return w.smash(t, role) }).String(t, "request_id") // nothing more is owed
	w.signed(t, next)
	w.over(t, role, next)
}

// lookBack: bob signs off an emergency that is over, and the process dies.
func lookBack(t *testing.T, w *world, step string) {
	role := w.glassRole(t)
	id := again(t, func() (harness.Answer, error) { return w.smash(t, role) }).String(t, "request_id")
	w.gone(t, id)
	w.arm(t, step)
	w.attempt(t, func() (harness.Answer, error) { return w.signOff(t, id) })
	w.signed(t, id)
	w.inFeed(t, id, "reviewed")
	next := again(t, func() (harness.Answer, error) { return w.smash(t, role) }).String(t, "request_id")
	w.signed(t, next)
	w.over(t, role, next)
}

// hearing: a consumer says that it has read of an emergency, and the process dies.
func hearing(t *testing.T, w *world, step string) {
	role := w.glassRole(t)
	id := again(t, func() (harness.Answer, error) { return w.smash(t, role) }).String(t, "request_id")
	event := w.inFeed(t, id, "break_glass")
	hear := func() (harness.Answer, error) {
		return do(t, host.Root(), http.MethodPut, w.path("events/consumers/siem"), map[string]any{"cursor": event})
	}
	w.arm(t, step)
	w.attempt(t, hear)
	again(t, hear)
	poll.Until(t, settles, func() error {
		r, err := do(t, host.Root(), http.MethodGet, w.path("audit/requests/"+id), nil)
		if err == nil && r.Data["heard"] != true {
			err = fmt.Errorf("nobody has heard: %d %s", r.Status, r.Body)
		}
		if err == nil && strings.Count(string(r.Body), "siem has heard") != 1 {
			t.Errorf("it was heard more than once: %s", r.Body)
		}
		return err
	})
	w.signed(t, id)
	w.over(t, role, id)
}

// accessReview: a review of who may have a role closes, and the process dies: the
// reaper of the next one applies it.
func accessReview(t *testing.T, w *world, step string) {
	others := host.Group(t, "others")
	role := w.role(t, map[string]any{"eligible_groups": []any{w.fields["eligible_groups"], others.Name}})
	id := again(t, func() (harness.Answer, error) {
		return do(t, host.Root(), http.MethodPut, w.path("campaigns"), map[string]any{
			"role": role, "reviewer_groups": w.fields["approver_groups"], "undecided": "keep",
			"due": time.Now().Add(time.Hour).UTC().Format(time.RFC3339),
		})
	}).String(t, "campaign_id")
	again(t, func() (harness.Answer, error) {
		return do(t, w.bob.Actor, http.MethodPut, w.path("reviews/"+id), map[string]any{
			"principal": "group:" + others.Name, "verdict": "remove", "comment": "left",
		})
	})
	w.arm(t, step)
	w.attempt(t, func() (harness.Answer, error) {
		return do(t, host.Root(), http.MethodPut, w.path("campaigns/"+id+"/close"), nil)
	})
	poll.Until(t, settles, func() error {
		c, err := do(t, host.Root(), http.MethodGet, w.path("campaigns/"+id), nil)
		if err == nil && c.Data["state"] != "closed" {
			err = fmt.Errorf("the review is not closed: %d %s", c.Status, c.Body)
		}
		return err
	})
	now := again(t, func() (harness.Answer, error) { return do(t, host.Root(), http.MethodGet, w.path("roles/"+role), nil) })
	if groups, _ := now.Data["eligible_groups"].([]any); len(groups) != 1 || groups[0] != w.fields["eligible_groups"] {
		t.Errorf("eligible: %v", now.Data["eligible_groups"])
	}
	w.over(t, role, w.grant(t, role))
}
