module github.com/vault-pim/vault-plugin-secrets-pim

go 1.26.0

require (
	github.com/hashicorp/go-hclog v1.6.3
	github.com/hashicorp/vault/api v1.23.0
	github.com/hashicorp/vault/sdk v0.25.1
	github.com/oklog/ulid/v2 v2.1.2
	golang.org/x/text v0.43.0
	pgregory.net/rapid v1.3.0
)
