// Command plugin is what make bench mounts. One binary, so that all that is
// compared runs the same runtime, transport and counters; PIM_BENCH_MODE says as
// what:
//
//	pim    the plugin itself, with a target type "null" that costs nothing
//	probe  the storage and system-view calls of pim's creds read, and nothing else
//	noop   a leased answer without any call of its own: the floor
//
// It is never released.
package main

import (
	"context"
	"fmt"
	"os"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/vault/sdk/logical"

	pim "github.com/vault-pim/vault-plugin-secrets-pim"
	"github.com/vault-pim/vault-plugin-secrets-pim/internal/provider/contract"
)

func main() {
	if err := serve(); err != nil {
		hclog.New(&hclog.LoggerOptions{}).Error("plugin shutting down", "error", err)
		os.Exit(1)
	}
}

func serve() error {
	factory, err := factoryOf(os.Getenv("PIM_BENCH_MODE"))
	if err != nil {
		return err
	}
	return pim.ServeFactory(os.Args[1:], counting(factory))
}

func factoryOf(mode string) (logical.Factory, error) {
	switch mode {
	case "pim":
		return pim.FactoryWith([]contract.Descriptor{nullDescriptor()}), nil
	case "probe":
		return probeFactory, nil
	case "noop":
		return noopFactory, nil
	}
	return nil, fmt.Errorf("PIM_BENCH_MODE is %q: want pim, probe or noop", mode)
}

// counting wraps a factory so that every call back to the host is counted, and
// so that the paths below bench/ are ours.
func counting(factory logical.Factory) logical.Factory {
	return func(ctx context.Context, conf *logical.BackendConfig) (logical.Backend, error) {
		raw := conf.StorageView
		c := &counters{}
		conf.StorageView = &countedStorage{Storage: raw, c: c}
		conf.System = &countedView{SystemView: conf.System, c: c}
		b, err := factory(ctx, conf)
		if err != nil {
			return nil, err
		}
		return &bench{Backend: b, c: c, storage: raw}, nil
	}
}
