// Command vault-plugin-secrets-pim is the plugin's process. The host starts
// it; by hand it does nothing.
package main

import (
	"os"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/vault/api"
	"github.com/hashicorp/vault/sdk/plugin"

	pim "github.com/vault-pim/vault-plugin-secrets-pim"
)

func main() {
	meta := &api.PluginAPIClientMeta{}
	if err := meta.FlagSet().Parse(os.Args[1:]); err != nil {
		fatal(err)
	}
	tls := api.VaultPluginTLSProvider(meta.GetTLSConfig())
	err := plugin.ServeMultiplex(&plugin.ServeOpts{BackendFactoryFunc: pim.Factory, TLSProviderFunc: tls})
	if err != nil {
		fatal(err)
	}
}

func fatal(err error) {
	hclog.New(&hclog.LoggerOptions{}).Error("plugin shutting down", "error", err)
	os.Exit(1)
}
