package aws

import (
	"context"
	"errors"
	"net"
	"net/http"
	"net/netip"
	"os"
	"syscall"
	"time"

	awssdk "github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/aws/retry"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/credentials/ec2rolecreds"
	"github.com/aws/aws-sdk-go-v2/credentials/endpointcreds"
	"github.com/aws/aws-sdk-go-v2/credentials/stscreds"
	"github.com/aws/aws-sdk-go-v2/feature/ec2/imds"
	"github.com/aws/aws-sdk-go-v2/service/iam"
	"github.com/aws/aws-sdk-go-v2/service/identitystore"
	"github.com/aws/aws-sdk-go-v2/service/organizations"
	"github.com/aws/aws-sdk-go-v2/service/ssoadmin"
	"github.com/aws/aws-sdk-go-v2/service/sts"

	"github.com/vault-pim/vault-plugin-secrets-pim/internal/provider/contract"
)

// dialAWS opens AWS itself. It makes no call.
func dialAWS(_ contract.Env, s settings) (*cloud, error) {
	transport := newTransport(s.AllowLocal)
	client := &http.Client{
		Transport: transport,
		// A redirect would carry a signed request, or a secret, somewhere else.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	base := awssdk.Config{
		Region: s.Region, HTTPClient: client,
		Retryer: func() awssdk.Retryer {
			return retry.NewStandard(func(o *retry.StandardOptions) {
				o.MaxAttempts, o.MaxBackoff = s.Retries+1, 2*time.Second
			})
		},
	}
	root := base.Copy()
	root.Credentials = awssdk.NewCredentialsCache(s.rootProvider(base))
	issuer := s.assuming(root, s.BaseRole, "pim-base")
	revoker := s.assuming(issuer, s.RevokerRole, "pim-revoker")
	center := issuer.Copy()
	center.Region = s.CenterRegion
	return &cloud{
		Root: s.account(root), Issuer: s.account(issuer), Revoker: s.account(revoker),
		Center: &sdkCenter{
			sso: ssoadmin.NewFromConfig(center, func(o *ssoadmin.Options) { o.BaseEndpoint = endpoint(s.CenterEndpoint) }),
			dir: identitystore.NewFromConfig(center, func(o *identitystore.Options) { o.BaseEndpoint = endpoint(s.StoreEndpoint) }),
		},
		Rails:  &sdkRails{organizations.NewFromConfig(issuer, func(o *organizations.Options) { o.BaseEndpoint = endpoint(s.OrgEndpoint) })},
		Signin: &signinClient{http: client, url: s.signinURL()},
		As: func(ctx context.Context, k keyPair) (identity, error) {
			other := base.Copy()
			other.Credentials = credentials.NewStaticCredentialsProvider(k.ID, k.Secret.Reveal(), "")
			return s.account(other).Identify(ctx)
		},
		Close: transport.CloseIdleConnections,
	}, nil
}

func endpoint(url string) *string {
	if url == "" {
		return nil
	}
	return &url
}

// newTransport dials no local address unless that is allowed, whatever a name
// resolves to, and uses no proxy.
func newTransport(allowLocal bool) *http.Transport {
	dialer := &net.Dialer{
		Timeout: 5 * time.Second,
		Control: func(_, address string, _ syscall.RawConn) error {
			to, err := netip.ParseAddrPort(address)
			if err != nil || (!allowLocal && isLocalAddress(to.Addr())) {
				return errors.New("the address is local, which is not allowed")
			}
			return nil
		},
	}
	return &http.Transport{
		DialContext: dialer.DialContext, ForceAttemptHTTP2: true, MaxIdleConnsPerHost: 32,
		IdleConnTimeout: 90 * time.Second, TLSHandshakeTimeout: 5 * time.Second, ResponseHeaderTimeout: 15 * time.Second,
	}
}

// assuming is cfg with the credentials of a role that it assumes; without a
// role it is cfg. The session has no source identity: it would stay on every
// session that is made with it, and those need their own.
func (s settings) assuming(cfg awssdk.Config, role, name string) awssdk.Config {
	if role == "" {
		return cfg
	}
	out := cfg.Copy()
	out.Credentials = awssdk.NewCredentialsCache(stscreds.NewAssumeRoleProvider(
		s.stsClient(cfg, stsPlace{s.STSRegion, s.STSEndpoint}), role,
		func(o *stscreds.AssumeRoleOptions) {
			o.RoleSessionName = name
			o.ExternalID = endpoint(s.ExternalID)
		}))
	return out
}

func (s settings) stsClient(cfg awssdk.Config, at stsPlace) *sts.Client {
	return sts.NewFromConfig(cfg, func(o *sts.Options) {
		o.Region, o.BaseEndpoint = at.Region, endpoint(at.Endpoint)
	})
}

func (s settings) account(cfg awssdk.Config) *sdkAccount {
	a := &sdkAccount{
		iam: iam.NewFromConfig(cfg, func(o *iam.Options) { o.BaseEndpoint = endpoint(s.IAMEndpoint) }),
		sts: []*sts.Client{s.stsClient(cfg, stsPlace{s.STSRegion, s.STSEndpoint})},
	}
	for _, place := range s.Fallback {
		a.sts = append(a.sts, s.stsClient(cfg, place))
	}
	return a
}

var errNoEnvironment = errors.New("the environment of the plugin has no AWS credentials")

// rootProvider finds the root credential where the target says it is.
func (s settings) rootProvider(base awssdk.Config) awssdk.CredentialsProvider {
	switch s.Source {
	case sourceEnvironment:
		return awssdk.CredentialsProviderFunc(func(context.Context) (awssdk.Credentials, error) {
			c := awssdk.Credentials{
				AccessKeyID: os.Getenv("AWS_ACCESS_KEY_ID"), SecretAccessKey: os.Getenv("AWS_SECRET_ACCESS_KEY"),
				SessionToken: os.Getenv("AWS_SESSION_TOKEN"), Source: sourceEnvironment,
			}
			if !c.HasKeys() {
				return c, errNoEnvironment
			}
			return c, nil
		})
	case sourceInstance:
		return ec2rolecreds.New(func(o *ec2rolecreds.Options) { o.Client = imds.New(imds.Options{}) })
	case sourceContainer:
		return containerProvider()
	case sourceWebIdentity:
		anonymous := base.Copy()
		anonymous.Credentials = awssdk.AnonymousCredentials{}
		return stscreds.NewWebIdentityRoleProvider(
			s.stsClient(anonymous, stsPlace{s.STSRegion, s.STSEndpoint}), s.WebRole, tokenFile{s.FileRoot, s.WebFile},
			func(o *stscreds.WebIdentityRoleOptions) { o.RoleSessionName = "pim" })
	}
	return credentials.NewStaticCredentialsProvider(s.Root.ID, s.Root.Secret.Reveal(), "")
}

// tokenFile reads the web identity token afresh each time: whoever provides it
// replaces it before it ends.
type tokenFile struct{ root, name string }

// GetIdentityToken implements stscreds.IdentityTokenRetriever.
func (t tokenFile) GetIdentityToken() ([]byte, error) { return readFile(t.root, t.name) }

// containerProvider reads the credentials that ECS or EKS offer a container,
// from the address in the environment.
func containerProvider() awssdk.CredentialsProvider {
	address := os.Getenv("AWS_CONTAINER_CREDENTIALS_FULL_URI")
	if path := os.Getenv("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI"); address == "" && path != "" {
		address = "http://169.254.170.2" + path
	}
	return endpointcreds.New(address, func(o *endpointcreds.Options) {
		o.AuthorizationToken = os.Getenv("AWS_CONTAINER_AUTHORIZATION_TOKEN")
		if file := os.Getenv("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE"); file != "" {
			o.AuthorizationTokenProvider = endpointcreds.TokenProviderFunc(func() (string, error) {
				data, err := os.ReadFile(file) //nolint:gosec // the environment of the plugin names it, not a user
				return string(data), err
			})
		}
	})
}

// signinURL is where console sign-in tokens are made.
func (s settings) signinURL() string {
	if s.SigninEndpoint != "" {
		return s.SigninEndpoint
	}
	switch partitionOf(s.Region) {
	case "aws-cn":
		return "https://signin.amazonaws.cn"
	case "aws-us-gov":
		return "https://signin.amazonaws-us-gov.com"
	}
	return "https://signin.aws.amazon.com"
}

// partitionOf tells which of AWS's separate worlds a region belongs to.
func partitionOf(region string) string {
	switch {
	case len(region) > 3 && region[:3] == "cn-":
		return "aws-cn"
	case len(region) > 7 && region[:7] == "us-gov-":
		return "aws-us-gov"
	}
	return "aws"
}
