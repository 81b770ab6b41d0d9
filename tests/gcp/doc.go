// Package gcp tests the gcp provider with the plugin as a process on a real
// host. Google is internal/provider/gcp/fakegcp on a loopback socket, whose
// every call is judged by Google's own descriptions; beside it others have
// their say: Google's own libraries for Python log in with what was issued and
// change the same policies, and an emulator by third parties stands in for the
// services that it knows. scripts/test-gcp.sh installs those.
package gcp
