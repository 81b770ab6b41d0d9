package aws

import (
	"context"
	"fmt"
	"net/url"
	"time"

	"github.com/vault-pim/vault-plugin-secrets-pim/internal/provider/contract"
	"github.com/vault-pim/vault-plugin-secrets-pim/internal/secret"
)

// answer is a session as its holder gets it, with the time from which on it is
// of no use: its own end or the window's, whichever comes first.
func (j *issuing) answer(ctx context.Context, s session) (contract.Issued, error) {
	end := j.d.end()
	if s.Expires.Before(end) {
		end = s.Expires
	}
	data := map[string]any{
		"access_key": s.AccessKey, "secret_key": s.SecretKey.Reveal(), "session_token": s.SessionToken.Reveal(),
		"security_token": s.SessionToken.Reveal(), "arn": s.ARN, "expiration": end.Format(time.RFC3339),
	}
	if j.in.Fields.Bool("console") {
		link, err := j.consoleURL(ctx, s, end)
		if err != nil {
			return contract.Issued{}, err
		}
		data["console_url"] = link
	}
	composite, err := credentialProcess(s.AccessKey, s.SecretKey, s.SessionToken, end)
	if err != nil {
		return contract.Issued{}, err
	}
	return contract.Issued{
		Handle: j.h, Data: secret.NewMap(data), NotAfter: end,
		Composite: map[string]secret.String{compositeProcess: composite},
	}, nil
}

// compositeProcess is what the credential_process setting of the AWS CLI and
// SDKs reads.
const compositeProcess = "aws_credential_process"

func credentialProcess(key string, sec, token secret.String, end time.Time) (secret.String, error) {
	raw, err := encodeJSON(struct {
		Version         int
		AccessKeyID     string `json:"AccessKeyId"`
		SecretAccessKey string
		SessionToken    string `json:",omitempty"`
		Expiration      string
	}{1, key, sec.Reveal(), token.Reveal(), end.UTC().Format(time.RFC3339)})
	if err != nil {
		return secret.String{}, fmt.Errorf("compose credential_process: %w", err)
	}
	return secret.New(string(raw)), nil
}

// consoleURL is a link that opens the console as the session. Its own length is
// never set above what is left of the window; a federated user's and a chained
// role's may not be set at all, and last as long as the session.
func (j *issuing) consoleURL(ctx context.Context, s session, end time.Time) (string, error) {
	life := end.Sub(j.p.env.Clock.Now()).Truncate(time.Second)
	own, _ := parseARN(j.who.ARN)
	if _, chained := own.sessionRole(); chained || j.d.Kind != kindRole || life < minSession {
		life = 0
	}
	token, err := j.p.cloud.Signin.SigninToken(ctx, s, life)
	if err != nil {
		return "", failed("make console sign-in", err)
	}
	q := url.Values{
		"Action": {"login"}, "Issuer": {"pim"}, "Destination": {j.p.set.consoleHome()}, "SigninToken": {token.Reveal()},
	}
	return j.p.set.signinURL() + "/federation?" + q.Encode(), nil
}

func (s settings) consoleHome() string {
	switch partitionOf(s.Region) {
	case "aws-cn":
		return "https://console.amazonaws.cn/"
	case "aws-us-gov":
		return "https://console.amazonaws-us-gov.com/"
	}
	return "https://console.aws.amazon.com/"
}
