package bench

import (
	"fmt"
	"net/http"
	"testing"
)

const (
	team       = "team-a"
	deployer   = "deployer" // an account of the team
	officialK8 = "vault-plugin-secrets-kubernetes"
	rulesK8    = `[{"apiGroups": [""], "resources": ["configmaps"], "verbs": ["get", "list"]}]`
)

// besideKubernetes compares with the official engine for Kubernetes, a plugin in a
// process of its own as pim is, at one API server. That engine keeps the limit of
// its client library: five calls a second for each API group of a mount, once ten
// are spent. So it is measured twice: as one mount, and as many that take turns,
// which never reach the limit.
func (b *run) besideKubernetes(t *testing.T, w *world) {
	t.Helper()
	c := startCluster(t)
	paths := w.officialKubernetes(c, b.mounts)
	pim := w.released(map[string]any{
		"type": "kubernetes", "host": c.addr, "ca_cert": c.ca, "token": c.token, "token_namespaces": "*",
	})
	official := func(role string) []peer {
		return []peer{
			w.peer(officialEngine, officialK8, http.MethodPut, "creds/"+role, paths[0]),
			w.peer(spread(b.mounts), officialK8, http.MethodPut, "creds/"+role, paths[1:]...),
		}
	}
	b.beside(w, rowToken, c.endpoint(), b.besides, append(official("token"),
		pim.peer("token", true, map[string]any{"service_account_name": deployer, "service_account_namespace": team})))
	b.beside(w, rowGenerated, c.endpoint(), b.besides, append(official("generated"),
		pim.peer("generated", true, map[string]any{"generated_role_rules": rulesK8, "namespaces": team})))
}

const officialEngine = "the official engine"

// spread is the name of so many mounts of the official engine that take turns.
func spread(mounts int) string { return fmt.Sprintf("%s, %d mounts", officialEngine, mounts) }

// officialKubernetes installs the official engine, and mounts it once and then so
// many times more, all in one process.
func (w *world) officialKubernetes(c *cluster, more int) []string {
	w.t.Helper()
	w.install(officialK8)
	root := w.host.Root()
	var paths []string
	for i := range 1 + more {
		path := w.mountEngine(fmt.Sprintf("official-%d", i), officialK8)
		w.write(root, path+"/config", map[string]any{
			"kubernetes_host": c.addr, "kubernetes_ca_cert": c.ca, "service_account_jwt": c.token, "disable_local_ca_jwt": true,
		})
		for name, fields := range map[string]map[string]any{
			"token":     {"service_account_name": deployer},
			"generated": {"generated_role_rules": `{"rules": ` + rulesK8 + `}`},
		} {
			fields["allowed_kubernetes_namespaces"], fields["token_default_ttl"] = team, "1h"
			w.write(root, path+"/roles/"+name, fields)
		}
		paths = append(paths, path)
	}
	return paths
}
