// Package gcp issues and ends access at one Google Cloud project: access
// tokens and keys of service accounts that exist for one credential only,
// tokens and keys of existing service accounts, and role bindings for the
// requester's own principal. README.md beside this file says what each of them
// does at Google. Where things are:
//
//	account.go, existing.go, binding.go   one way of issuing and ending each
//	policy.go, edits.go, desk.go          changing allow policies so that nothing of anybody else is lost
//	root.go, exchange.go                  the engine's own credential, and rotate.go its replacement
//	api.go, wire.go, resource.go          Google's APIs as the provider calls them
//	errors.go                             the only file that knows Google's error codes
//	fakegcp                               Google in memory, for tests
//
// It imports the standard library, and contract, domain, secret and clock.
// Every call goes through this package's own HTTP client, so that none follows
// a redirect, uses a proxy or leads to this machine.
package gcp
