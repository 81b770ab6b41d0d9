// Package azure issues and ends access at one Microsoft Entra tenant and the
// Azure subscriptions below it: service principals that exist for one
// credential only, passwords of existing applications, and role assignments
// and group memberships for the requester's own account. README.md beside this
// file says what each of them does there. Where things are:
//
//	issue_*.go, revoke_*.go   one way of issuing and ending each
//	graph*.go, arm.go         the calls to Microsoft Graph and Azure Resource Manager
//	login.go, rotate.go       the engine's own credential, and its replacement
//	guard.go                  what no role may reach: the engine's own identity
//	errors.go                 the only file that knows the cloud's error codes
//
// It imports the Azure SDK's azcore, azidentity and armauthorization, and
// contract, domain, secret and clock. Every call goes through this package's
// own transport, so that none follows a redirect, uses a proxy or leads to this
// machine.
package azure
