// Command kube-apiserver is the API server of the Kubernetes version that this
// directory's go.mod pins. The Kubernetes provider is tested against it, not
// against an imitation. Build it with scripts/cluster.sh.
package main

import (
	"os"

	"k8s.io/component-base/cli"
	"k8s.io/kubernetes/cmd/kube-apiserver/app"
)

func main() {
	os.Exit(cli.Run(app.NewAPIServerCommand()))
}
