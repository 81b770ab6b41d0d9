// Package kubernetes tests the Kubernetes provider against a real API server
// and etcd, which scripts/cluster.sh builds or finds. They listen on loopback,
// with RBAC, an audit log and service account tokens as every cluster has them.
//
// The provider reaches its cluster through a proxy that can see, cut and fail
// its calls; everything else (people, issued credentials, the tests' own looks)
// goes straight to the API server.
package kubernetes
