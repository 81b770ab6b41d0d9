// Package harness starts the real things that the acceptance tests run against:
// a host process (Vault or OpenBao) with the plugin as a process of its own, or a
// cluster of three; people, groups and machines that log in for real; PostgreSQL;
// a JWT issuer. It speaks to the host over plain HTTP, without the retries of the
// official client, so that tests see exactly what the host answers.
//
// A test package starts one host in TestMain and separates its tests by mount
// path and by names that carry the test's own suffix:
//
//	var host *harness.Host
//
//	func TestMain(m *testing.M) { os.Exit(harness.Main(m, &host, harness.Options{})) }
//
//	func TestSomething(t *testing.T) {
//		pim := host.Mount(t, harness.Plugin{})
//		alice := host.Person(t, "alice", pim.PersonPolicy(t))
//		alice.Read(t, pim.Path+"/creds/nosuch").Refused(t, 403, "access denied: ")
//	}
//
// Run single tests with -count=1 (make test does the like by -shuffle=on): the test
// cache sees neither the plugin's source nor the choice of the host ($BAO_BIN).
package harness
