package gcp

import (
	"context"
	"crypto/rsa"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/vault-pim/vault-plugin-secrets-pim/internal/provider/contract"
	"github.com/vault-pim/vault-plugin-secrets-pim/internal/provider/remote"
	"github.com/vault-pim/vault-plugin-secrets-pim/internal/secret"
)

const (
	googleTokenURI = "https://oauth2.googleapis.com/token" //nolint:gosec // an address
	// refreshBefore is how long before its end a token of our own is replaced.
	refreshBefore = 5 * time.Minute
	kindAccount   = "service_account"
	workloadPool  = ".svc.id.goog" // ends the name of a GKE workload that goes through no service account
	kindExternal  = "external_account"
)

// keyFile is a service account's key as Google hands it out.
type keyFile struct {
	Type         string `json:"type"`
	ProjectID    string `json:"project_id"`
	PrivateKeyID string `json:"private_key_id"`
	PrivateKey   string `json:"private_key"`
	ClientEmail  string `json:"client_email"`
	ClientID     string `json:"client_id"`
	AuthURI      string `json:"auth_uri"`
	TokenURI     string `json:"token_uri"`
	AuthCertURL  string `json:"auth_provider_x509_cert_url"`
	CertURL      string `json:"client_x509_cert_url"`
	Universe     string `json:"universe_domain,omitempty"`
}

// rootKey is a key file that was read.
type rootKey struct {
	file    keyFile
	private *rsa.PrivateKey
}

// readKeyFile reads a service account key. Its token_uri must be Google's, or
// the target's own endpoint: the file does not choose where its own proof is
// sent.
func readKeyFile(raw []byte, endpoint *url.URL) (rootKey, error) {
	const op = "read credentials"
	var k rootKey
	if err := json.Unmarshal(raw, &k.file); err != nil || k.file.Type != kindAccount {
		return k, contract.Refused(op, "bad_credentials", "must be the JSON of a service account key")
	}
	block, _ := pem.Decode([]byte(k.file.PrivateKey))
	if block == nil || !accountForm.MatchString(k.file.ClientEmail) || !keyIDForm.MatchString(k.file.PrivateKeyID) {
		return k, contract.Refused(op, "bad_credentials", "lacks a private key, its id or an address")
	}
	parsed, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		parsed, err = x509.ParsePKCS1PrivateKey(block.Bytes)
	}
	private, ok := parsed.(*rsa.PrivateKey)
	if err != nil || !ok {
		return k, contract.Refused(op, "bad_credentials", "has no readable RSA key")
	}
	if own := strings.TrimRight(endpoint.String(), "/") + "/token"; k.file.TokenURI != googleTokenURI && k.file.TokenURI != own {
		return k, contract.Refused(op, "bad_credentials", "has a token_uri that is neither Google's nor the target's endpoint oauth2")
	}
	k.private = private
	return k, nil
}

// keyIdentity is the address in the credentials field, if there is one.
func (c targetConfig) keyIdentity() string {
	if c.credentials.Empty() {
		return ""
	}
	k, err := readKeyFile([]byte(c.credentials.Reveal()), c.endpoints[svcOAuth])
	if err != nil {
		return ""
	}
	return k.file.ClientEmail
}

// externalFile is a workload identity federation configuration.
type externalFile struct {
	Type      string `json:"type"`
	Audience  string `json:"audience"`
	TokenType string `json:"subject_token_type"`
	TokenURL  string `json:"token_url"`
	Account   string `json:"service_account_impersonation_url"`
	Source    struct {
		File       string          `json:"file"`
		URL        string          `json:"url"`
		Executable json.RawMessage `json:"executable"`
		AWS        string          `json:"environment_id"`
		Format     struct {
			Type  string `json:"type"`
			Field string `json:"subject_token_field_name"`
		} `json:"format"`
	} `json:"credential_source"`
}

// root is the engine's own credential as it is at this moment.
type root struct {
	key      *rootKey
	external *externalFile
	file     remote.File
	ambient  bool
}

// root reads the engine's own credential.
func (c targetConfig) root() (root, error) {
	const op = "read credentials"
	switch {
	case !c.credentials.Empty():
		k, err := readKeyFile([]byte(c.credentials.Reveal()), c.endpoints[svcOAuth])
		return root{key: &k}, err
	case c.ambient:
		return root{ambient: true}, nil
	}
	raw, err := c.file.Read()
	if err != nil {
		return root{}, contract.Refused(op, "credentials_file", "the engine's credential could not be read from its file")
	}
	var head struct {
		Type string `json:"type"`
	}
	if err := json.Unmarshal(raw, &head); err == nil && head.Type == kindExternal {
		e, err := c.readExternal(raw)
		return root{external: e, file: c.file}, err
	}
	k, err := readKeyFile(raw, c.endpoints[svcOAuth])
	return root{key: &k}, err
}

// readExternal reads a federation configuration. Only a file can be the source
// of the subject token, and only Google, or the target's own endpoint, gets it.
func (c targetConfig) readExternal(raw []byte) (*externalFile, error) {
	const op, code = "read credentials", "credentials_file"
	var e externalFile
	if err := json.Unmarshal(raw, &e); err != nil {
		return nil, contract.Refused(op, code, "the federation configuration is not readable")
	}
	own := strings.TrimRight(c.endpoints[svcSTS].String(), "/") + "/v1/token"
	switch {
	case e.Source.URL != "" || e.Source.Executable != nil || e.Source.AWS != "" || e.Source.File == "":
		return nil, contract.Refused(op, code, "the federation configuration must take its subject token from a file")
	case e.TokenURL != "https://sts.googleapis.com/v1/token" && e.TokenURL != own:
		return nil, contract.Refused(op, code, "the federation configuration has a token_url that is neither Google's nor the target's endpoint sts")
	case e.Audience == "" || e.TokenType == "":
		return nil, contract.Refused(op, code, "the federation configuration lacks audience or subject_token_type")
	case e.Account != "" && e.account() == "":
		return nil, contract.Refused(op, code, "the federation configuration impersonates something that is no service account")
	}
	return &e, nil
}

// account is the service account that the configuration goes through.
func (e *externalFile) account() string {
	_, rest, _ := strings.Cut(e.Account, "/v1/projects/-/serviceAccounts/")
	email := strings.TrimSuffix(rest, ":generateAccessToken")
	if !accountForm.MatchString(email) {
		return ""
	}
	return email
}

// tokenSource keeps the engine's token until shortly before its end.
type tokenSource struct {
	mu      sync.Mutex
	token   grantedToken
	ambient string // address of the process's own identity
}

// get gives the engine's token; anew, if Google has just refused the present
// one.
func (s *tokenSource) get(ctx context.Context, c *client, anew bool) (secret.String, error) {
	s.mu.Lock()
	have := s.token
	s.mu.Unlock()
	if !anew && !have.token.Empty() && c.env.Clock.Now().Before(have.expires.Add(-refreshBefore)) {
		return have.token, nil
	}
	// The login is the engine's own, whatever it was needed for first.
	fresh, err := c.login(remote.Unmarked(ctx))
	if err != nil {
		return secret.String{}, failure("log in", err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.token = fresh
	return fresh.token, nil
}

func (s *tokenSource) clear() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.token = grantedToken{}
}

// identity is the service account at the bottom of the chain, and the one that
// a federation configuration goes through; none for a bare federated identity.
func (s *tokenSource) identity(ctx context.Context, c *client) ([]string, error) {
	r, err := c.config.root()
	if err != nil {
		return nil, err
	}
	switch {
	case r.key != nil:
		return []string{r.key.file.ClientEmail}, nil
	case r.external != nil:
		return []string{r.external.account()}, nil
	}
	email, err := s.machine(ctx, c)
	if err != nil || strings.HasSuffix(email, workloadPool) {
		return nil, err
	}
	return []string{email}, nil
}

// machine is the address of the machine's own identity: a service account, or
// the pool of a cluster whose workloads are federated.
func (s *tokenSource) machine(ctx context.Context, c *client) (string, error) {
	s.mu.Lock()
	known := s.ambient
	s.mu.Unlock()
	if known != "" {
		return known, nil
	}
	raw, err := c.doRaw(ctx, metadataCall("email"))
	if err != nil {
		return "", err
	}
	email := strings.TrimSpace(string(raw))
	if !accountForm.MatchString(email) && !strings.HasSuffix(email, workloadPool) {
		return "", contract.Refused("read our own identity", "no_identity", "this machine has no service account")
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ambient = email
	return email, nil
}
