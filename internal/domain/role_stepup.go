package domain

import (
	"strings"
	"time"
)

// MinLoginAge is the shortest max_login_age: the host tells the time of a login
// in whole seconds, and a person needs a moment between login and request.
const MinLoginAge Seconds = 10

// clockSkew is how far ahead of ours the host's clock may be. It is the same
// machine, or one that shares a cluster with it.
const clockSkew = time.Minute

// Login is how a calling token came about.
type Login struct {
	Created time.Time
	Path    string // that made it
	Mount   string // accessor of the auth mount of that path; "" = none
}

// StepUp tells whether the role asks for a fresh login, or for one at a certain
// auth mount.
func (r Role) StepUp() bool { return r.MaxLoginAge > 0 || r.RequiredLogin != "" }

// LoginProblem says why a login is not what the role asks for, or "".
func (r Role) LoginProblem(l Login, now time.Time) string {
	if !r.StepUp() {
		return ""
	}
	age := now.Sub(l.Created)
	switch {
	case strings.HasPrefix(l.Path, "auth/token/"):
		return "this token was made by another token and not by a login"
	case l.Mount == "":
		return "this token was made by no login that exists"
	case r.RequiredLogin != "" && l.Mount != r.RequiredLogin:
		return "this token was made by a login at another auth mount than the role asks for"
	case r.MaxLoginAge > 0 && age < -clockSkew:
		return "this token was made by a login that lies in the future"
	case r.MaxLoginAge > 0 && age > r.MaxLoginAge.Duration():
		return "the login is older than the " + r.MaxLoginAge.Duration().String() + " that the role allows"
	}
	return ""
}

func (r Role) checkStepUp(p *problems) {
	if r.TokenTarget != "" && !ValidName(r.TokenTarget) {
		p.add("token_target", "is not a target's name")
	}
	if r.TokenTarget == "" && r.StepUp() {
		p.add("token_target", "is required with max_login_age and required_login: the target of type host through which the calling token is looked up")
	}
	if r.MaxLoginAge != 0 && (r.MaxLoginAge < MinLoginAge || r.MaxLoginAge > LimitTTL) {
		p.add("max_login_age", "must be 0 or from "+MinLoginAge.Duration().String()+" to "+LimitTTL.Duration().String())
	}
	switch {
	case r.RequiredLogin == "":
	case !accessorPattern.MatchString(r.RequiredLogin):
		p.add("required_login", "must be the accessor of an auth mount")
	case strings.HasPrefix(r.RequiredLogin, "auth_token_"), strings.HasPrefix(r.RequiredLogin, "auth_ns_token_"):
		p.add("required_login", "is the accessor of the token store, where nobody logs in")
	}
}
