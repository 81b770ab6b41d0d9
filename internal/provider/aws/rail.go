package aws

import (
	"cmp"
	"encoding/json"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/vault-pim/vault-plugin-secrets-pim/internal/provider/contract"
)

// maxGuardrail is the size of a service control policy in characters, from the
// quotas of Organizations.
const maxGuardrail = 5120

// railMarker is the statement by which a service control policy says that it
// is kept for pim. It denies nothing that exists.
const railMarker = "PimOpenSessions"

var railSid = regexp.MustCompile(`^PimUntil([0-9]{8}T[0-9]{2})N[0-9]+$`)

// railDeny denies the sessions of users under one permission set in one account
// that were issued before a time. Sessions of other people, of other permission
// sets and of a later grant stay.
type railDeny struct {
	account, set  string
	before, until time.Time
	users         names
}

// rail is the content of the service control policy that ends open sessions of
// Identity Center. Like a ledger it is its own store.
type rail struct {
	foreign []json.RawMessage
	denies  []railDeny
}

// parseRail reads a service control policy and refuses one that was not
// prepared for pim.
func parseRail(text string) (*rail, error) {
	var doc struct{ Statement []json.RawMessage }
	if err := json.Unmarshal([]byte(text), &doc); err != nil {
		return nil, contract.Refused("read service control policy", "bad_guardrail", "the service control policy of scp_deny is not readable")
	}
	r := &rail{}
	marked := false
	for _, raw := range doc.Statement {
		var s statement
		err := json.Unmarshal(raw, &s)
		marked = marked || s.Sid == railMarker
		if d, ok := readRailDeny(s); err == nil && ok {
			r.denies = append(r.denies, d)
			continue
		}
		r.foreign = append(r.foreign, raw)
	}
	if !marked {
		return nil, contract.Refused("read service control policy", "bad_guardrail",
			"the service control policy of scp_deny has no statement %s: it was not prepared for pim", railMarker)
	}
	return r, nil
}

var railPrincipal = regexp.MustCompile(`^arn:\*:iam::([0-9]{12}):role/aws-reserved/sso\.amazonaws\.com/\*AWSReservedSSO_(.+)_\*$`)

// readRailDeny reads a statement if it is exactly what pim writes.
func readRailDeny(s statement) (railDeny, bool) {
	sid := railSid.FindStringSubmatch(s.Sid)
	who := railPrincipal.FindStringSubmatch(strings.Join(s.Condition["ArnLike"]["aws:PrincipalArn"], " "))
	if sid == nil || who == nil {
		return railDeny{}, false
	}
	until, err1 := time.Parse(sidHour, sid[1])
	before, err2 := time.Parse(time.RFC3339, strings.Join(s.Condition["DateLessThan"]["aws:TokenIssueTime"], " "))
	d := railDeny{account: who[1], set: who[2], before: before, until: until, users: s.Condition["StringEquals"]["identitystore:UserId"]}
	return d, err1 == nil && err2 == nil && len(d.users) > 0 && sameShape(s, d.statement(s.Sid))
}

func (d railDeny) statement(sid string) statement {
	return statement{
		Sid: sid, Effect: "Deny", Action: names{"*"}, Resource: names{"*"},
		Condition: condition{
			"StringEquals": {"identitystore:UserId": d.users},
			"ArnLike": {"aws:PrincipalArn": {
				"arn:*:iam::" + d.account + ":role/aws-reserved/sso.amazonaws.com/*AWSReservedSSO_" + d.set + "_*",
			}},
			"DateLessThan": {"aws:TokenIssueTime": {policyTime(d.before)}},
		},
	}
}

// covers tells whether d denies all that other denies.
func (d railDeny) covers(other railDeny) bool {
	return d.account == other.account && d.set == other.set && !d.before.Before(other.before) && !d.until.Before(other.until) &&
		!slices.ContainsFunc(other.users, func(u string) bool { return !slices.Contains(d.users, u) })
}

func (r *rail) has(d railDeny) bool {
	return slices.ContainsFunc(r.denies, func(x railDeny) bool { return x.covers(d) })
}

func (r *rail) hasAll(list []railDeny) bool {
	return !slices.ContainsFunc(list, func(d railDeny) bool { return !r.has(d) })
}

// prune drops what is no longer needed and tells whether anything was.
func (r *rail) prune(now time.Time) bool {
	n := len(r.denies)
	r.denies = slices.DeleteFunc(r.denies, func(d railDeny) bool { return !d.until.After(now) })
	return len(r.denies) != n
}

// add enters a deny. Where the policy would be too large, the denies of a
// permission set become one, with the latest time: that may end a session that
// one of its users opened under a later grant, which asks for a new one and
// gets it. ok is false when even that is too large.
func (r *rail) add(d railDeny) (ok bool, err error) {
	joined := false
	for i, x := range r.denies {
		if x.account == d.account && x.set == d.set && x.before.Equal(d.before) && x.until.Equal(d.until) {
			r.denies[i].users = sorted(append(slices.Clone(x.users), d.users...))
			joined = true
		}
	}
	if !joined {
		r.denies = append(r.denies, d)
	}
	text, err := r.render()
	if err != nil || policySize(text) <= maxGuardrail {
		return err == nil, err
	}
	r.merge()
	text, err = r.render()
	return err == nil && policySize(text) <= maxGuardrail, err
}

// merge makes the denies of each permission set in each account one.
func (r *rail) merge() {
	var out []railDeny
	for _, d := range r.denies {
		i := slices.IndexFunc(out, func(x railDeny) bool { return x.account == d.account && x.set == d.set })
		if i < 0 {
			out = append(out, d)
			continue
		}
		x := &out[i]
		x.users = sorted(append(slices.Clone(x.users), d.users...))
		if d.before.After(x.before) {
			x.before = d.before
		}
		if d.until.After(x.until) {
			x.until = d.until
		}
	}
	r.denies = out
}

// render writes the policy.
func (r *rail) render() (string, error) {
	d := policyDoc{Version: policyVersion, Statement: slices.Clone(r.foreign)}
	list := slices.Clone(r.denies)
	slices.SortFunc(list, func(a, b railDeny) int {
		return cmp.Or(a.until.Compare(b.until), a.before.Compare(b.before), cmp.Compare(a.account+a.set, b.account+b.set))
	})
	for i, x := range list {
		if err := d.add(x.statement(fmt.Sprintf("PimUntil%sN%d", x.until.Format(sidHour), i+1))); err != nil {
			return "", err
		}
	}
	return d.String(), nil
}
