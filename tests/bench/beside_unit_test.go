package bench

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// What is measured beside other engines is what the page and the goals look for.
func TestTheTableBesideOthersIsAssembled(t *testing.T) {
	b := &run{t: t, plan: plan{sizes: []int{0}, mounts: 64, dir: t.TempDir()}}
	for row, engines := range map[string][]string{
		rowSession: {ownAWS, plugAWS}, rowFar: {ownAWS, plugAWS}, rowUser: {ownAWS}, rowUntried: {ownAWS, plugAWS},
		rowToken: {officialEngine, spread(64)}, rowGenerated: {officialEngine, spread(64)},
	} {
		for round := range 3 {
			for _, e := range engines {
				b.results.Add("peers", besideRow(row, 8), e, "ops/s", round, 10)
			}
			b.results.Add("peers", besideRow(row, 8), "pim", "ops/s", round, 5)
		}
	}
	if n := strings.Count(b.goals(), "| 0.50 | no |"); n != 11 {
		t.Errorf("%d goals beside other engines, want 11:\n%s", n, b.goals())
	}
	if err := b.keep(); err != nil {
		t.Fatal(err)
	}
	page, err := os.ReadFile(filepath.Join(b.dir, "tables.md"))
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"### Beside the official engines", "](img/bench-peers-ops-s.svg)",
		"| generated role, 8 clients | the official engine, 64 mounts | 10.0 |", "| IAM user, 8 clients | pim | 5.00 |",
	} {
		if !strings.Contains(string(page), want) {
			t.Errorf("the page lacks %q:\n%s", want, page)
		}
	}
}

// An API server counts calls that no engine makes.
func TestCallsOfEnginesAreCounted(t *testing.T) {
	const metrics = `# TYPE apiserver_request_total counter
apiserver_request_total{code="201",component="apiserver",dry_run="",group="",resource="serviceaccounts",scope="resource",subresource="token",verb="POST",version="v1"} 12
apiserver_request_total{code="200",component="apiserver",dry_run="",group="",resource="namespaces",scope="resource",subresource="",verb="GET",version="v1"} 5
apiserver_request_total{code="200",component="apiserver",dry_run="",group="rbac.authorization.k8s.io",resource="rolebindings",scope="resource",subresource="",verb="DELETE",version="v1"} 1e+01
apiserver_request_total{code="0",component="apiserver",dry_run="",group="rbac.authorization.k8s.io",resource="roles",scope="cluster",subresource="",verb="WATCH",version="v1"} 100
apiserver_request_total{code="200",component="apiserver",dry_run="",group="coordination.k8s.io",resource="leases",scope="resource",subresource="",verb="PUT",version="v1"} 100
apiserver_request_terminations_total{resource="roles",verb="GET"} 100
`
	if n, err := engineCalls(metrics); err != nil || n != 27 {
		t.Errorf("%v calls (%v), want 27", n, err)
	}
}
