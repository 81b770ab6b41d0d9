package aws

import (
	"context"
	"time"

	"github.com/vault-pim/vault-plugin-secrets-pim/internal/provider/contract"
)

// federate issues a federation token of the root user. Only a user with
// long-term keys can ask for one.
func (j *issuing) federate(ctx context.Context) (contract.Issued, error) {
	own, _ := parseARN(j.who.ARN)
	if _, isUser := own.userName(); !isUser {
		return contract.Issued{}, contract.Refused("federate", "not_a_user",
			"federation tokens need a root credential that is an IAM user with access keys, and no base role")
	}
	if err := j.nameFederator(ctx); err != nil {
		return contract.Issued{}, err
	}
	req, err := j.federateInput()
	if err != nil {
		return contract.Issued{}, err
	}
	s, err := j.p.cloud.Issuer.Federate(ctx, req)
	if err != nil {
		if nothingDone(err) {
			j.p.void(j.h.Credential, j.d.end())
		}
		return contract.Issued{}, failed("federate", err)
	}
	if got, ok := parseARN(s.ARN); !ok || got.account != j.h.Place || got.resource != "federated-user/"+req.Name {
		return contract.Issued{}, &contract.Error{
			Op: "federate", Code: "not_as_asked", Public: "AWS issued a token of another name than was asked for",
		}
	}
	j.p.track(j.h.Credential, j.d)
	return j.answer(ctx, s)
}

// nameFederator records the user at which the token can be denied before the
// token exists: the root credential may be another user by then.
func (j *issuing) nameFederator(ctx context.Context) error {
	if j.d.Unrevocable {
		return nil
	}
	if j.d.ARN == "" {
		j.d.ARN = j.who.ARN
		if err := j.save(); err != nil {
			return err
		}
	}
	if j.d.ARN != j.who.ARN {
		return contract.Refused("federate", "bad_handle", "the root credential is another user than when this was planned")
	}
	return j.p.reserve(ctx, j.h.Credential, j.d)
}

func (j *issuing) federateInput() (federateInput, error) {
	f := j.in.Fields
	req := federateInput{Name: sessionName(j.h.Credential), PolicyARNs: f.Strings("policy_arns")}
	var err error
	if req.Policy, err = sessionPolicy(f.String("policy_document"), req.PolicyARNs, j.p.guardOf(j.in, j.d, j.who)); err != nil {
		return req, contract.Refused("federate", "policy_size", "%s", err.Error())
	}
	if req.Tags, err = renderTags("session_tags", f.Map("session_tags"), j.in); err != nil {
		return req, err
	}
	need := j.d.end().Sub(j.p.env.Clock.Now()).Truncate(time.Second)
	req.Duration = max(minSession, min(need, maxFederation))
	return req, nil
}
