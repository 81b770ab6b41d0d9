package pim

import "github.com/vault-pim/vault-plugin-secrets-pim/internal/domain"

// stepUpFields are what a role asks of the calling token.
func stepUpFields() []roleField {
	return []roleField{
		roleString("token_target", "Target of type host through which the calling token is looked up, for max_login_age, required_login and conditions over token.", func(r *domain.Role) *string { return &r.TokenTarget }),
		roleSeconds("max_login_age", "How old the login of the calling token may be; 0 = any age. A token made by another token never will do.", func(r *domain.Role) *domain.Seconds { return &r.MaxLoginAge }),
		roleString("required_login", "Accessor of the auth mount at which the caller must have logged in.", func(r *domain.Role) *string { return &r.RequiredLogin }),
	}
}
