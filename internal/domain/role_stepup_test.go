package domain

import (
	"slices"
	"testing"
	"time"
)

func TestWhatCountsAsAFreshLogin(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 3, 2, 9, 0, 0, 0, time.UTC)
	fresh := Role{MaxLoginAge: 900}
	at := func(ago time.Duration, path, mount string) Login { return Login{now.Add(-ago), path, mount} }
	const userpass, password = "auth/userpass/login/alice", "auth_userpass_1"
	for _, row := range []struct {
		sentence string
		role     Role
		login    Login
		want     string
	}{
		{"any token is good for a role that asks for nothing", Role{}, Login{}, ""},
		{"a login of a minute ago is fresh", fresh, at(time.Minute, userpass, password), ""},
		{"a login of exactly that age is fresh", fresh, at(15*time.Minute, userpass, password), ""},
		{"one that is a second older is not", fresh, at(15*time.Minute+time.Second, userpass, password), "the login is older than the 15m0s that the role allows"},
		{"the host's clock may be a little ahead", fresh, at(-59*time.Second, userpass, password), ""},
		{"but not far ahead", fresh, at(-61*time.Second, userpass, password), "this token was made by a login that lies in the future"},
		{"a child token is no login", fresh, at(0, "auth/token/create", "auth_token_1"), "this token was made by another token and not by a login"},
		{"nor is an orphan", fresh, at(0, "auth/token/create-orphan", "auth_token_1"), "this token was made by another token and not by a login"},
		{"nor is a token of a token role", fresh, at(0, "auth/token/create/admin", "auth_token_1"), "this token was made by another token and not by a login"},
		{"a login at a mount that is gone is none", fresh, at(0, userpass, ""), "this token was made by no login that exists"},
		{"the mount that the role asks for", Role{RequiredLogin: password}, at(0, userpass, password), ""},
		{"the mount alone has no age", Role{RequiredLogin: password}, at(9000*time.Hour, userpass, password), ""},
		{"another mount", Role{RequiredLogin: "auth_oidc_1"}, at(0, userpass, password), "this token was made by a login at another auth mount than the role asks for"},
		{"the right mount, too long ago", Role{RequiredLogin: password, MaxLoginAge: 60}, at(time.Hour, userpass, password), "the login is older than the 1m0s that the role allows"},
	} {
		if got := row.role.LoginProblem(row.login, now); got != row.want {
			t.Errorf("%s: %q, want %q", row.sentence, got, row.want)
		}
	}
}

func TestStepUpFieldsOfARole(t *testing.T) {
	t.Parallel()
	for _, row := range []struct {
		sentence string
		role     Role
		want     []string // fields with a problem
	}{
		{"nothing is asked for", Role{}, nil},
		{"a target for conditions alone", Role{TokenTarget: "local"}, nil},
		{"an age and a target", Role{TokenTarget: "local", MaxLoginAge: 900}, nil},
		{"a mount and a target", Role{TokenTarget: "local", RequiredLogin: "auth_oidc_1a2b3c4d"}, nil},
		{"an age without a target", Role{MaxLoginAge: 900}, []string{"token_target"}},
		{"a mount without a target", Role{RequiredLogin: "auth_oidc_1"}, []string{"token_target"}},
		{"no target's name", Role{TokenTarget: "Local"}, []string{"token_target"}},
		{"an age that nobody can keep", Role{TokenTarget: "local", MaxLoginAge: 9}, []string{"max_login_age"}},
		{"a negative age", Role{TokenTarget: "local", MaxLoginAge: -1}, []string{"max_login_age"}},
		{"an age beyond all bounds", Role{TokenTarget: "local", MaxLoginAge: LimitTTL + 1}, []string{"max_login_age"}},
		{"a path in place of an accessor", Role{TokenTarget: "local", RequiredLogin: "auth/oidc"}, []string{"required_login"}},
		{"the token store", Role{TokenTarget: "local", RequiredLogin: "auth_token_1a2b3c4d"}, []string{"required_login"}},
		{"the token store of a namespace", Role{TokenTarget: "local", RequiredLogin: "auth_ns_token_1a2b3c4d"}, []string{"required_login"}},
	} {
		var p problems
		row.role.checkStepUp(&p)
		var got []string
		for _, x := range p {
			got = append(got, x.Field)
		}
		if !slices.Equal(got, row.want) {
			t.Errorf("%s: %v, want %v", row.sentence, p, row.want)
		}
	}
}

func TestStepUpFieldsAreOfTheRevision(t *testing.T) {
	t.Parallel()
	plain := NewRole("prod", "x")
	for name, edit := range map[string]func(*Role){
		"token_target":   func(r *Role) { r.TokenTarget = "local" },
		"max_login_age":  func(r *Role) { r.MaxLoginAge = 900 },
		"required_login": func(r *Role) { r.RequiredLogin = "auth_oidc_1" },
	} {
		next := plain
		edit(&next)
		if next.Revision() == plain.Revision() {
			t.Errorf("%s is outside the revision", name)
		}
	}
}
