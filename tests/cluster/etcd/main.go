// Command etcd is the store under the API server of the cluster tests. Build it
// with scripts/cluster.sh.
package main

import (
	"os"

	"go.etcd.io/etcd/server/v3/etcdmain"
)

func main() {
	etcdmain.Main(os.Args)
}
