package aws

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/vault-pim/vault-plugin-secrets-pim/internal/clock"
	"github.com/vault-pim/vault-plugin-secrets-pim/internal/domain"
	"github.com/vault-pim/vault-plugin-secrets-pim/internal/provider/contract"
	"github.com/vault-pim/vault-plugin-secrets-pim/internal/secret"
)

// wire is an HTTP server that answers as AWS does.
type wire struct {
	*httptest.Server
	mu       sync.Mutex
	requests []wireRequest
	answer   func(r wireRequest) (status int, body string)
}

type wireRequest struct {
	Action string
	Form   url.Values
	Header http.Header
	URL    string
}

func newWire(t *testing.T, answer func(r wireRequest) (int, string)) *wire {
	t.Helper()
	w := &wire{answer: answer}
	w.Server = httptest.NewServer(http.HandlerFunc(func(out http.ResponseWriter, in *http.Request) {
		body, err := io.ReadAll(in.Body)
		if err != nil {
			t.Errorf("read request: %v", err)
		}
		form, err := url.ParseQuery(string(body))
		if err != nil {
			form = url.Values{}
		}
		r := wireRequest{Action: form.Get("Action"), Form: form, Header: in.Header, URL: in.URL.String()}
		w.mu.Lock()
		w.requests = append(w.requests, r)
		answer := w.answer
		w.mu.Unlock()
		status, text := answer(r)
		if status == http.StatusFound {
			out.Header().Set("Location", "/elsewhere")
		}
		out.Header().Set("X-Amzn-Requestid", "0a1b2c3d-4e5f-6789-abcd-ef0123456789")
		out.WriteHeader(status)
		if _, err := io.WriteString(out, text); err != nil {
			t.Errorf("answer: %v", err)
		}
	}))
	t.Cleanup(w.Close)
	return w
}

func (w *wire) count(action string) int {
	w.mu.Lock()
	defer w.mu.Unlock()
	n := 0
	for _, r := range w.requests {
		if r.Action == action {
			n++
		}
	}
	return n
}

func wireError(status int, code string) (int, string) {
	return status, `<ErrorResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/"><Error><Type>Sender</Type><Code>` + code +
		`</Code><Message>` + upstreamWords + `</Message></Error><RequestId>0a1b2c3d-4e5f-6789-abcd-ef0123456789</RequestId></ErrorResponse>`
}

func wireIdentity() (int, string) {
	return http.StatusOK, `<GetCallerIdentityResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/"><GetCallerIdentityResult>` +
		`<Arn>` + userARNOf(homeAccount, "root") + `</Arn><UserId>AIDA</UserId><Account>` + homeAccount + `</Account>` +
		`</GetCallerIdentityResult></GetCallerIdentityResponse>`
}

// onWire opens the provider as it ships, on the server.
func onWire(t *testing.T, w *wire, change func(*contract.Env, *contract.Target)) *Provider {
	t.Helper()
	target := fakeTarget(rootKey)
	target.Place = homeAccount
	target.Fields = contract.Values{
		"sts_endpoint": w.URL, "iam_endpoint": w.URL, "signin_endpoint": w.URL, "max_retries": 0, "region": "eu-west-1",
	}
	env := contract.Env{Clock: clock.System{}, Log: &memoryLog{}, AllowLocal: true, AllowAmbient: []string{Type}}
	if change != nil {
		change(&env, &target)
	}
	p, err := Descriptor().New(env, target)
	if err != nil {
		t.Fatal(err)
	}
	opened, ok := p.(*Provider)
	if !ok {
		t.Fatalf("opened a %T", p)
	}
	return closing(t, opened)
}

// What can go wrong at AWS: each gives one clear message with AWS's code and
// none of its words.
func TestFailuresOnTheWire(t *testing.T) {
	t.Parallel()
	for _, row := range []struct {
		name              string
		answer            func(wireRequest) (int, string)
		code, text        string
		refused, throttle bool
	}{
		{"throttling", func(wireRequest) (int, string) { return wireError(400, "Throttling") }, "Throttling", tooMany, false, true},
		{"too many requests", func(wireRequest) (int, string) { return wireError(429, "TooManyRequestsException") }, "TooManyRequestsException", tooMany, false, true},
		{"a failure of the service", func(wireRequest) (int, string) { return wireError(500, "ServiceFailure") }, "ServiceFailure", noAnswer, false, false},
		{"a failure without a code", func(wireRequest) (int, string) { return 503, "<html>" + upstreamWords }, "unexpected", noAnswer, false, false},
		{"a code that nobody knows", func(wireRequest) (int, string) { return wireError(400, "Brand.New-Code") }, "Brand.New-Code", badRequest, true, false},
		{"a code of a form that is no code", func(wireRequest) (int, string) { return wireError(403, "<b>"+strings.Repeat("x", 99)) }, "unexpected", notAllowed, true, false},
		{"access denied", func(wireRequest) (int, string) { return wireError(403, "AccessDenied") }, "AccessDenied", notAllowed, true, false},
		{"a malformed policy", func(wireRequest) (int, string) { return wireError(400, "MalformedPolicyDocument") }, "MalformedPolicyDocument", badPolicy, true, false},
		{"a policy that is too large once packed", func(wireRequest) (int, string) { return wireError(400, "PackedPolicyTooLarge") }, "PackedPolicyTooLarge", tooLarge, true, false},
		{"a region that is not enabled", func(wireRequest) (int, string) { return wireError(403, "RegionDisabledException") }, "RegionDisabledException", "STS is not enabled in that region for this account", false, false},
		{"a signature for another region", func(wireRequest) (int, string) { return wireError(403, "SignatureDoesNotMatch") }, "SignatureDoesNotMatch", "region is not the one of the endpoint", false, false},
		{"a key that was deleted", func(wireRequest) (int, string) { return wireError(403, "InvalidClientTokenId") }, "InvalidClientTokenId", badRoot, false, false},
		{"a redirect", func(wireRequest) (int, string) { return http.StatusFound, "" }, "UnknownError", strange, false, false},
		{"an answer that is none", func(wireRequest) (int, string) { return 200, upstreamWords }, "unexpected", strange, false, false},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			w := newWire(t, row.answer)
			_, err := onWire(t, w, nil).Place(t.Context())
			wantCode(t, err, row.code)
			e, ok := errors.AsType[*contract.Error](err)
			if !ok {
				t.Fatalf("an error of type %T", err)
			}
			if !strings.Contains(e.Public, row.text) || e.Refused != row.refused || e.Throttled != row.throttle {
				t.Errorf("%q, refused %v, throttled %v", e.Public, e.Refused, e.Throttled)
			}
			if text := fmt.Sprintf("%+v %v", err, e.Cause); strings.Contains(text, upstreamWords) || strings.Contains(text, rootSecret) {
				t.Errorf("it says too much: %s", text)
			}
			for _, r := range w.requests {
				if strings.Contains(r.URL, "elsewhere") {
					t.Error("a redirect was followed")
				}
			}
		})
	}
}

func TestAnAnswerThatDoesNotComeInTime(t *testing.T) {
	t.Parallel()
	release := make(chan struct{})
	w := newWire(t, func(wireRequest) (int, string) { <-release; return wireIdentity() })
	defer close(release)
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	_, err := onWire(t, w, nil).Place(ctx)
	wantCode(t, err, codeTimeout)
}

func TestNobodyThere(t *testing.T) {
	t.Parallel()
	w := newWire(t, func(wireRequest) (int, string) { return wireIdentity() })
	p := onWire(t, w, nil)
	w.Close()
	_, err := p.Place(t.Context())
	wantCode(t, err, codeTransport)
}

func TestTheNextSTSIsTriedWhenOneFails(t *testing.T) {
	t.Parallel()
	down := newWire(t, func(wireRequest) (int, string) { return wireError(503, "ServiceUnavailable") })
	up := newWire(t, func(wireRequest) (int, string) { return wireIdentity() })
	fallback := func(_ *contract.Env, target *contract.Target) {
		target.Fields["sts_fallback_endpoints"] = []string{up.URL}
		target.Fields["sts_fallback_regions"] = []string{"us-west-2"}
	}
	if place, err := onWire(t, down, fallback).Place(t.Context()); err != nil || place != homeAccount {
		t.Fatalf("%q, %v", place, err)
	}
	if auth := up.requests[0].Header.Get("Authorization"); !strings.Contains(auth, "/us-west-2/sts/") {
		t.Errorf("signed for another region: %s", auth)
	}
	refusing := newWire(t, func(wireRequest) (int, string) { return wireError(403, "AccessDenied") })
	asked := len(up.requests)
	if _, err := onWire(t, refusing, fallback).Place(t.Context()); codeOf(err) != "AccessDenied" || len(up.requests) != asked {
		t.Errorf("a refusal is no reason to ask elsewhere: %v", err)
	}
}

func TestCallsAreRepeatedAsOftenAsTheTargetSays(t *testing.T) {
	t.Parallel()
	w := newWire(t, func(wireRequest) (int, string) { return wireError(500, "InternalFailure") })
	p := onWire(t, w, func(_ *contract.Env, target *contract.Target) { target.Fields["max_retries"] = 2 })
	if _, err := p.Place(t.Context()); err == nil || w.count("GetCallerIdentity") != 3 {
		t.Errorf("%d calls, %v", w.count("GetCallerIdentity"), err)
	}
}

func TestAHostNameThatLeadsToLoopbackIsNotDialled(t *testing.T) {
	t.Parallel()
	w := newWire(t, func(wireRequest) (int, string) { return wireIdentity() })
	client := &http.Client{Transport: newTransport(false)}
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, w.URL, nil)
	if err != nil {
		t.Fatal(err)
	}
	res, err := client.Do(req)
	if err == nil {
		t.Errorf("answered %d", res.StatusCode)
		if err := res.Body.Close(); err != nil {
			t.Error(err)
		}
	}
	if len(w.requests) != 0 {
		t.Error("it was dialled")
	}
}

// The whole of an assumed role on the wire: what is asked for, and what is
// answered.
func TestAssumeRoleOnTheWire(t *testing.T) {
	t.Parallel()
	w := newWire(t, nil)
	w.answer = answerAssume
	p := onWire(t, w, nil)
	now := clock.System{}.Now()
	in := (&fakeAWS{clk: &hurryClock{now: now}}).ask(t, 20*time.Minute, role("external_id", "ex-1", "console", true, "revocation", "expiry_only",
		"policy_arns", []string{"arn:aws:iam::aws:policy/ReadOnlyAccess"}, "session_tags", map[string]string{"who": "{{person}}"}, "transitive_tags", []string{"who"}))
	g, err := issue(t, p, in)
	if err != nil {
		t.Fatal(err)
	}
	var asked, signin wireRequest
	for _, r := range w.requests {
		switch r.Action {
		case "AssumeRole":
			asked = r
		case "getSigninToken":
			signin = r
		}
	}
	for key, want := range map[string]string{
		"RoleArn": roleARN(homeAccount, prodRole), "SourceIdentity": "pim-" + string(in.Credential), "ExternalId": "ex-1",
		"PolicyArns.member.1.arn": "arn:aws:iam::aws:policy/ReadOnlyAccess", "Tags.member.1.Key": "who", "Tags.member.1.Value": "alice",
		"TransitiveTagKeys.member.1": "who",
	} {
		if got := asked.Form.Get(key); got != want {
			t.Errorf("%s is %q, want %q", key, got, want)
		}
	}
	if !strings.Contains(asked.Form.Get("Policy"), policyTime(in.NotAfter)) || !strings.Contains(asked.Header.Get("Authorization"), "/eu-west-1/sts/") {
		t.Errorf("policy %s, signed %s", asked.Form.Get("Policy"), asked.Header.Get("Authorization"))
	}
	if strings.Contains(signin.URL, "session-secret") || !strings.Contains(signin.Form.Get("Session"), "session-secret") {
		t.Errorf("the session travels in the address: %s", signin.URL)
	}
	data := g.issued.Data.Reveal()
	address, _ := data["console_url"].(string)
	if data["secret_key"] != "session-secret" || data["session_token"] != "session-token" || !strings.Contains(address, "SigninToken=signin-token") {
		t.Error("the answer is not what AWS gave")
	}
}

func answerAssume(r wireRequest) (int, string) {
	switch r.Action {
	case "GetCallerIdentity":
		return wireIdentity()
	case "getSigninToken":
		return http.StatusOK, `{"SigninToken":"signin-token"}`
	case "AssumeRole":
		return http.StatusOK, `<AssumeRoleResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/"><AssumeRoleResult>` +
			`<AssumedRoleUser><AssumedRoleId>AROA:x</AssumedRoleId><Arn>arn:aws:sts::` + homeAccount + `:assumed-role/` + prodRole + `/` +
			r.Form.Get("RoleSessionName") + `</Arn></AssumedRoleUser><Credentials><AccessKeyId>ASIA1111111111111111</AccessKeyId>` +
			`<SecretAccessKey>session-secret</SecretAccessKey><SessionToken>session-token</SessionToken>` +
			`<Expiration>2036-01-01T00:00:00Z</Expiration></Credentials><PackedPolicySize>6</PackedPolicySize></AssumeRoleResult></AssumeRoleResponse>`
	}
	return wireError(400, "InvalidAction")
}

func TestASessionOfAnotherRoleIsRefused(t *testing.T) {
	t.Parallel()
	w := newWire(t, func(r wireRequest) (int, string) {
		status, text := answerAssume(r)
		return status, strings.ReplaceAll(text, "assumed-role/"+prodRole, "assumed-role/other")
	})
	p := onWire(t, w, nil)
	in := (&fakeAWS{clk: &hurryClock{now: clock.System{}.Now()}}).ask(t, 20*time.Minute, role("revocation", string(domain.ExpiryOnly)))
	_, err := issue(t, p, in)
	wantCode(t, err, "not_as_asked")
}

func TestASigninThatFailsSaysNothingOfTheSession(t *testing.T) {
	t.Parallel()
	for name, answer := range map[string]func() (int, string){
		"an error":       func() (int, string) { return 400, upstreamWords },
		"an empty token": func() (int, string) { return 200, `{"SigninToken":""}` },
		"something else": func() (int, string) { return 200, upstreamWords },
		"a redirect":     func() (int, string) { return 302, "" },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWire(t, func(wireRequest) (int, string) { return answer() })
			c := &signinClient{http: &http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}, url: w.URL}
			_, err := c.SigninToken(t.Context(), session{AccessKey: "ASIA", SecretKey: secret.New("session-secret")}, time.Hour)
			if text := fmt.Sprint(err, failed("sign in", err)); err == nil || strings.Contains(text, upstreamWords) || strings.Contains(text, "session-secret") {
				t.Errorf("%v", text)
			}
		})
	}
}
