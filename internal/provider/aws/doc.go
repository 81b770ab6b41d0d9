// Package aws issues and ends access at one AWS account: role sessions, IAM
// users, federation tokens, and assignments in IAM Identity Center.
//
// What makes it different is the end. A role session cannot be called back at
// AWS, so every session is given a name of its own (its SourceIdentity) and a
// session policy that denies everything from the end of the window on; ending
// one early writes that name into a policy of the role that denies it. Where
// things are:
//
//	guard.go, policy.go       what every credential is forbidden, as policy documents (pure)
//	ledger.go, shards.go      the content of the revocation policies (pure)
//	denier.go, batch.go       writing them so that no deny is lost
//	assumed_role.go, iam_user.go, federation.go, identity_center.go   one credential type each
//	cloud.go                  AWS as the provider calls it; sdk_*.go is that on the AWS SDK
//	errors.go                 the only file that knows the error codes of AWS
//
// It imports the standard library, the AWS SDK, and contract, domain, secret
// and clock.
package aws
