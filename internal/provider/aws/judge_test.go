package aws

import (
	"encoding/json"
	"path"
	"strings"
	"sync"
	"time"
)

// judge decides a request by policies of one level, as IAM does: an explicit
// deny wins, then an allow is needed. It knows the condition operators that
// pim writes; the ones that AWS has besides are judged by an independent
// evaluator in tests/aws.
func judge(action, resource string, keys map[string]string, policies []string) bool {
	allowed := false
	for _, text := range policies {
		list, ok := statementsOf(text)
		if !ok {
			return false
		}
		for _, s := range list {
			if !applies(s, action, resource, keys) {
				continue
			}
			if s.Effect == "Deny" {
				return false
			}
			allowed = true
		}
	}
	return allowed
}

// judged remembers policies that were read: property tests ask often.
var judged sync.Map // text → []statement

func statementsOf(text string) ([]statement, bool) {
	if known, ok := judged.Load(text); ok {
		list, ok := known.([]statement)
		return list, ok
	}
	var d struct{ Statement []statement }
	if err := json.Unmarshal([]byte(text), &d); err != nil {
		return nil, false
	}
	judged.Store(text, d.Statement)
	return d.Statement, true
}

func applies(s statement, action, resource string, keys map[string]string) bool {
	if s.Action != nil && !anyMatch(s.Action, action) || s.NotAction != nil && anyMatch(s.NotAction, action) {
		return false
	}
	if s.Resource != nil && !anyMatch(s.Resource, resource) || s.NotResource != nil && anyMatch(s.NotResource, resource) {
		return false
	}
	for operator, tests := range s.Condition {
		for key, wanted := range tests {
			have, ok := keys[strings.ToLower(key)]
			if !ok || !holds(operator, have, wanted) {
				return false
			}
		}
	}
	return true
}

func anyMatch(patterns names, s string) bool {
	for _, p := range patterns {
		if wild(strings.ToLower(p), strings.ToLower(s)) {
			return true
		}
	}
	return false
}

// wild matches * and ?; slashes are nothing special.
func wild(pattern, s string) bool {
	flat := strings.NewReplacer("/", "\x01", "[", "\x02")
	ok, err := path.Match(flat.Replace(pattern), flat.Replace(s))
	return err == nil && ok
}

func holds(operator, have string, wanted names) bool {
	for _, w := range wanted {
		switch operator {
		case "StringEquals":
			if have == w {
				return true
			}
		case "StringLike", "ArnLike":
			if wild(w, have) {
				return true
			}
		case "DateLessThan", "DateGreaterThanEquals":
			a, err1 := time.Parse(time.RFC3339, have)
			b, err2 := time.Parse(time.RFC3339, w)
			if err1 == nil && err2 == nil && a.Before(b) == (operator == "DateLessThan") {
				return true
			}
		}
	}
	return false
}

// policiesOf is everything that a role or user has. The caller holds mu.
func policiesOf(a *fakeAccount, p *fakePrincipal) []string {
	var out []string
	for _, text := range p.inline {
		out = append(out, text)
	}
	for _, arn := range p.attached {
		if v := a.policies[arn]; v != nil {
			out = append(out, v[len(v)-1])
		} else if strings.HasSuffix(arn, "/AdministratorAccess") {
			out = append(out, allowAllPolicy)
		}
	}
	return out
}

// can tells whether a session may do something now.
func (w *fakeAWS) can(a *fakeAccount, s *fakeSession, action, resource string) bool {
	now := w.clk.Now()
	if !now.Before(s.Expires) {
		return false
	}
	list := a.roles
	if s.kind == userHolder {
		list = a.users
	}
	p := list[s.name]
	if p == nil {
		return false
	}
	keys := map[string]string{
		"aws:currenttime": policyTime(now), "aws:tokenissuetime": policyTime(s.issued), "aws:userid": s.userID,
	}
	if s.sourceIdentity != "" {
		keys["aws:sourceidentity"] = s.sourceIdentity
	}
	if !judge(action, resource, keys, policiesOf(a, p)) {
		return false
	}
	sessionPolicies := []string{s.policy}
	for _, arn := range s.policyARNs {
		if strings.HasSuffix(arn, "/AdministratorAccess") {
			sessionPolicies = append(sessionPolicies, allowAllPolicy)
		}
	}
	return judge(action, resource, keys, sessionPolicies)
}

// canKey tells whether a user's key may do something now.
func (w *fakeAWS) canKey(a *fakeAccount, u *fakePrincipal, action, resource string) bool {
	keys := map[string]string{"aws:currenttime": policyTime(w.clk.Now())}
	return judge(action, resource, keys, policiesOf(a, u))
}
