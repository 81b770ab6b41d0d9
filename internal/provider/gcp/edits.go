package gcp

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/vault-pim/vault-plugin-secrets-pim/internal/domain"
	"github.com/vault-pim/vault-plugin-secrets-pim/internal/provider/contract"
)

// titlePrefix and a credential's id are the title of the condition of every
// binding that pim makes. The id has 80 random bits that nobody saw before the
// plan: whatever has such a title is ours.
const titlePrefix = "pim-"

var titleForm = regexp.MustCompile(`^pim-([0-7][0-9a-hjkmnp-tv-z]{25})$`)

func titleOf(id domain.CredentialID) string { return titlePrefix + string(id) }

// edit is one change of one policy. apply may run several times, each time on
// the policy as it then is; it changes all that it must or nothing.
type edit interface {
	apply(p *policy) (changed bool, err error)
	// check looks at what Google made of it.
	check(p *policy) error
	// takeBack removes what was made and is not what was asked for. It tells
	// whether there was anything.
	takeBack(p *policy) (changed bool, err error)
}

// grant adds a principal to roles until a time.
type grant struct {
	credential domain.CredentialID
	principal  string
	roles      []string
	condition  expr
	own        bool // the principal was made by pim, so nothing of others can be there
}

// conditionFor is the condition of everything that is granted for one
// credential: until its end, and the role's own condition beside that.
func conditionFor(id domain.CredentialID, description, further string, end time.Time) expr {
	text := fmt.Sprintf("request.time < timestamp(%q)", end.UTC().Format(time.RFC3339))
	if further != "" {
		text += " && (" + further + ")"
	}
	return expr{Title: titleOf(id), Description: description, Expression: text}
}

func (g grant) apply(p *policy) (bool, error) {
	const op = "grant role"
	var add []binding
	for _, role := range g.roles {
		have := slices.ContainsFunc(p.bindings, func(b binding) bool { return b.role == role && b.is(g.condition.Title) && b.has(g.principal) })
		if have {
			continue
		}
		if !g.own && p.givenByOthers(role, g.principal) {
			return false, contract.Refused(op, "outside_pim", "your own principal already has this access outside pim: "+
				"a binding that pim did not make gives it, and ending the grant would not end that")
		}
		if n := p.conditioned(role, g.principal); n >= maxConditioned {
			return false, contract.Refused(op, "limit_conditions", "Google allows %d conditional bindings of one role and principal, and there are %d",
				maxConditioned, n)
		}
		b, err := newBinding(role, g.principal, g.condition)
		if err != nil {
			return false, err
		}
		add = append(add, b)
	}
	if err := p.room(len(add), g.principal); err != nil {
		return false, err
	}
	p.bindings = append(p.bindings, add...)
	return len(add) > 0, nil
}

// room refuses what would not fit into the policy.
func (p *policy) room(more int, principal string) error {
	const op = "grant role"
	c := p.counts()
	if more > 0 && c.principals+more > maxPrincipals {
		return contract.Refused(op, "limit_principals", "Google allows %d principals in one policy, and there are %d", maxPrincipals, c.principals)
	}
	if more > 0 && strings.HasPrefix(principal, memberGroup+":") && c.groups+more > maxGroups {
		return contract.Refused(op, "limit_groups", "Google allows %d groups and domains in one policy, and there are %d", maxGroups, c.groups)
	}
	return nil
}

// givenByOthers tells whether a binding that pim did not make gives the role.
func (p *policy) givenByOthers(role, principal string) bool {
	return slices.ContainsFunc(p.bindings, func(b binding) bool {
		ours := b.condition != nil && titleForm.MatchString(b.condition.Title)
		return b.role == role && !ours && b.has(principal)
	})
}

func (g grant) check(p *policy) error {
	for _, role := range g.roles {
		found := slices.ContainsFunc(p.bindings, func(b binding) bool {
			return b.role == role && b.is(g.condition.Title) && b.has(g.principal) && b.condition.Expression == g.condition.Expression
		})
		if !found {
			return contract.Refused("grant role", "differs", "what Google granted is not what was asked for; it is being removed")
		}
	}
	return nil
}

// takeBack removes the principal's unconditional bindings to the roles: before
// the write there were none (apply), so they are ours, without their condition.
func (g grant) takeBack(p *policy) (changed bool, err error) {
	var left []binding
	for _, b := range p.bindings {
		if !slices.Contains(g.roles, b.role) || b.condition != nil || !b.has(g.principal) {
			left = append(left, b)
			continue
		}
		changed = true
		rest, some, err := b.without(g.principal)
		if err != nil {
			return false, err
		}
		if some {
			left = append(left, rest)
		}
	}
	p.bindings = left
	return changed, nil
}

// withdrawal removes a principal from every binding with a credential's title.
// Somebody whom others added to such a binding stays.
type withdrawal struct {
	credential domain.CredentialID
	principal  string
	found      *bool // set when there was something
}

func (w withdrawal) apply(p *policy) (bool, error) {
	title := titleOf(w.credential)
	var (
		left    []binding
		changed bool
	)
	for _, b := range p.bindings {
		if !b.is(title) || !b.has(w.principal) {
			left = append(left, b)
			continue
		}
		changed = true
		rest, some, err := b.without(w.principal)
		if err != nil {
			return false, err
		}
		if some {
			left = append(left, rest)
		}
	}
	if changed {
		p.bindings = left
		*w.found = true
	}
	return changed, nil
}

func (w withdrawal) check(p *policy) error {
	title := titleOf(w.credential)
	if slices.ContainsFunc(p.bindings, func(b binding) bool { return b.is(title) && b.has(w.principal) }) {
		return contract.Refused("withdraw role", "differs", "Google still has the binding after it was removed")
	}
	return nil
}

// takeBack implements edit: there is nothing to take back.
func (withdrawal) takeBack(*policy) (changed bool, err error) { return false, nil }
