package kubernetes

import (
	"encoding/json"
	"fmt"

	"github.com/vault-pim/vault-plugin-secrets-pim/internal/provider/contract"
	"github.com/vault-pim/vault-plugin-secrets-pim/internal/provider/remote"
	"github.com/vault-pim/vault-plugin-secrets-pim/internal/secret"
)

// kubeconfigFile is the part of a kubeconfig that one token needs. JSON is
// YAML, and fits on one line.
type kubeconfigFile struct {
	APIVersion string         `json:"apiVersion"`
	Kind       string         `json:"kind"`
	Current    string         `json:"current-context"`
	Clusters   []namedCluster `json:"clusters"`
	Users      []namedUser    `json:"users"`
	Contexts   []namedContext `json:"contexts"`
}

type namedCluster struct {
	Name    string `json:"name"`
	Cluster struct {
		Server     string `json:"server"`
		CA         []byte `json:"certificate-authority-data,omitempty"`
		ServerName string `json:"tls-server-name,omitempty"`
	} `json:"cluster"`
}

type namedUser struct {
	Name string `json:"name"`
	User struct {
		Token string `json:"token"`
	} `json:"user"`
}

type namedContext struct {
	Name    string `json:"name"`
	Context struct {
		Cluster   string `json:"cluster"`
		User      string `json:"user"`
		Namespace string `json:"namespace,omitempty"`
	} `json:"context"`
}

// kubeconfig puts the token, the address and the CA into one file for kubectl.
// Its user is named after the credential, so that files can be merged.
func (p *Provider) kubeconfig(m maker, t token) (secret.String, error) {
	ca, err := p.config.ca.read()
	if err != nil {
		return secret.String{}, &contract.Error{Op: "read ca.crt", Code: remote.CodeCertificate, Public: "the pod's CA file could not be read", Cause: err}
	}
	name := objectName(m.in.Credential)
	cluster, user, ctx := namedCluster{Name: p.target.Name}, namedUser{Name: name}, namedContext{Name: name}
	cluster.Cluster.Server, cluster.Cluster.CA = p.config.host.String(), []byte(ca.Reveal())
	cluster.Cluster.ServerName = p.config.serverName
	user.User.Token = t.value.Reveal()
	ctx.Context.Cluster, ctx.Context.User, ctx.Context.Namespace = cluster.Name, user.Name, t.namespace
	if len(m.names.Namespaces) > 0 {
		ctx.Context.Namespace = m.names.Namespaces[0]
	}
	raw, err := json.Marshal(kubeconfigFile{
		APIVersion: "v1", Kind: "Config", Current: ctx.Name,
		Clusters: []namedCluster{cluster}, Users: []namedUser{user}, Contexts: []namedContext{ctx},
	})
	if err != nil {
		return secret.String{}, fmt.Errorf("encode kubeconfig: %w", err)
	}
	return secret.New(string(raw)), nil
}
