package pim

import (
	"os"
	"runtime/debug"

	"github.com/hashicorp/vault/api"
	"github.com/hashicorp/vault/sdk/plugin"
)

// Serve runs the plugin's process until the host ends it. args are the
// process's arguments without its name; an error means that it never served.
func Serve(args []string) error {
	CollectLess()
	meta := &api.PluginAPIClientMeta{}
	if err := meta.FlagSet().Parse(args); err != nil {
		return err
	}
	return plugin.ServeMultiplex(&plugin.ServeOpts{
		BackendFactoryFunc: Factory,
		TLSProviderFunc:    api.VaultPluginTLSProvider(meta.GetTLSConfig()),
	})
}

// heapGrowth is by how many percent the heap may grow before it is collected,
// where GOGC does not say otherwise. What lives is small and what every call
// leaves behind is large: with the runtime's own 100 a tenth of the processor time
// of a credential goes into collecting.
const heapGrowth = 250

// CollectLess has garbage collected less often than the runtime would. It is for
// a process whose only task is the plugin.
func CollectLess() {
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(heapGrowth)
	}
}
