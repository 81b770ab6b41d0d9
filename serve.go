package pim

import (
	"github.com/hashicorp/vault/api"
	"github.com/hashicorp/vault/sdk/logical"
	"github.com/hashicorp/vault/sdk/plugin"
)

// Serve runs the plugin's process until the host ends it. args are the
// process's arguments without its name; an error means that it never served.
func Serve(args []string) error { return ServeFactory(args, Factory) }

// ServeFactory is Serve of another backend in the same kind of process.
func ServeFactory(args []string, factory logical.Factory) error {
	meta := &api.PluginAPIClientMeta{}
	if err := meta.FlagSet().Parse(args); err != nil {
		return err
	}
	easeCollector()
	return plugin.ServeMultiplex(&plugin.ServeOpts{
		BackendFactoryFunc: factory,
		TLSProviderFunc:    api.VaultPluginTLSProvider(meta.GetTLSConfig()),
	})
}
