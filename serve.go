package pim

import (
	"math"
	"os"

	"github.com/hashicorp/go-hclog"
	goplugin "github.com/hashicorp/go-plugin"
	"github.com/hashicorp/vault/api"
	"github.com/hashicorp/vault/sdk/helper/pluginutil"
	"github.com/hashicorp/vault/sdk/logical"
	"github.com/hashicorp/vault/sdk/plugin"
	"google.golang.org/grpc"
)

// workers carry out calls of the host one after the other. A goroutine for each
// call begins with a small stack and copies it several times on the way down; a
// worker's has mostly grown already (golang/go#18138). A call that finds all of them
// busy gets a goroutine of its own.
const workers = 16

// window is how much the host may send with its calls, in bytes, before the plugin
// has taken some of it; a larger message takes a round trip more. Where it is not
// fixed, gRPC finds it out by a ping for nearly each call. What the plugin asks of
// the host goes over another connection, whose window the SDK leaves to gRPC.
const window = 1 << 20

// Serve runs the plugin's process until the host ends it. args are the
// process's arguments without its name; an error means that it never served.
func Serve(args []string) error { return ServeFactory(args, Factory) }

// ServeFactory is Serve of another backend in the same kind of process. It is the
// SDK's plugin.ServeMultiplex, which takes no options of the server, with workers and
// windows.
func ServeFactory(args []string, factory logical.Factory) error {
	meta := &api.PluginAPIClientMeta{}
	if err := meta.FlagSet().Parse(args); err != nil {
		return err
	}
	if err := pluginutil.OptionallyEnableMlock(); err != nil {
		return err
	}
	easeCollector()
	logger := hclog.New(&hclog.LoggerOptions{Level: hclog.Trace, Output: os.Stderr, JSONFormat: true})
	goplugin.Serve(&goplugin.ServeConfig{
		HandshakeConfig:  plugin.HandshakeConfig,
		VersionedPlugins: protocols(factory, logger),
		TLSProvider:      api.VaultPluginTLSProvider(meta.GetTLSConfig()),
		Logger:           logger,
		GRPCServer: func(opts []grpc.ServerOption) *grpc.Server {
			return goplugin.DefaultGRPCServer(append(opts,
				grpc.MaxRecvMsgSize(math.MaxInt32), grpc.MaxSendMsgSize(math.MaxInt32),
				grpc.NumStreamWorkers(workers), grpc.InitialWindowSize(window), grpc.InitialConnWindowSize(window)))
		},
	})
	return nil
}

// protocols are the versions of the plugin protocol that a host may ask for. From 5
// on one process serves many mounts.
func protocols(factory logical.Factory, logger hclog.Logger) map[int]goplugin.PluginSet {
	out := map[int]goplugin.PluginSet{}
	for _, version := range []int{3, 4, 5} {
		out[version] = goplugin.PluginSet{plugin.BackendPluginName: &plugin.GRPCBackendPlugin{
			Factory: factory, MultiplexingSupport: version >= 5, Logger: logger,
		}}
	}
	return out
}
