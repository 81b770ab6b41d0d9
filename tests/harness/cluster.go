package harness

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/vault-pim/vault-plugin-secrets-pim/tests/harness/poll"
)

// Cluster is three nodes with Raft storage on loopback. Every node is a Host;
// they share identity, mounts, policies and the root token.
type Cluster struct {
	Nodes []*Host
}

const clusterSize = 3

// errNoVote says that the host's autopilot promotes nobody. Once in some hundred
// starts that of Vault 1.21.0 says nothing any more once its settings were written.
var errNoVote = errors.New("not every node has a vote")

// StartCluster runs three nodes and waits until all of them serve. They end with
// the test. Nodes that are given no vote are started over, once.
func StartCluster(t testing.TB, o Options) *Cluster {
	t.Helper()
	c := &Cluster{}
	t.Cleanup(func() {
		if err := c.stop(); err != nil {
			t.Error(err)
		}
	})
	err := c.start(t, o)
	if errors.Is(err, errNoVote) {
		t.Logf("the cluster is started over: %v", err)
		if err = c.stop(); err == nil {
			c.Nodes = nil
			err = c.start(t, o)
		}
	}
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// start runs the nodes of a cluster that has none.
func (c *Cluster) start(t testing.TB, o Options) error {
	t.Helper()
	ports, err := FreePorts(2 * clusterSize)
	if err != nil {
		return err
	}
	for i := range clusterSize {
		node, err := prepare()
		if err != nil {
			return err
		}
		if i > 0 {
			node.site = c.Nodes[0].site
		}
		c.Nodes = append(c.Nodes, node)
		if err := node.startRaft(o, i, ports); err != nil {
			return err
		}
		node.showLogOnFailure(t)
		if i == 0 {
			if err := node.initialise(); err != nil {
				return err
			}
		}
		if err := node.unseal(); err != nil {
			return err
		}
	}
	first := c.Nodes[0]
	return errors.Join(c.electable(), first.enableAudit(), first.enableKV())
}

// stop ends all nodes before it removes any of their files: a node that takes over
// opens the audit file anew.
func (c *Cluster) stop() error {
	errs := make([]error, 2*len(c.Nodes))
	var halts sync.WaitGroup
	for i, node := range c.Nodes {
		halts.Go(func() { errs[i] = node.halt() })
	}
	halts.Wait()
	for i, node := range c.Nodes {
		errs[len(c.Nodes)+i] = node.Stop()
	}
	return errors.Join(errs...)
}

// startRaft runs node i; ports holds the listener and the cluster port of each.
func (h *Host) startRaft(o Options, i int, ports []int) error {
	join := ""
	if i > 0 {
		join = fmt.Sprintf("  retry_join {\n    leader_api_addr = \"http://127.0.0.1:%d\"\n  }\n", ports[0])
	}
	storage, err := h.raftStanza(i, join)
	if err != nil {
		return err
	}
	return h.serve(o, storage, ports[2*i], ports[2*i+1])
}

// raftStanza is the storage of node i; more are further lines of it.
func (h *Host) raftStanza(i int, more string) (string, error) {
	data := filepath.Join(h.dir, "raft")
	if err := os.Mkdir(data, 0o700); err != nil {
		return "", err
	}
	return fmt.Sprintf(`
storage "raft" {
  path    = %q
  node_id = "node-%d"
  # Elections within some seconds instead of ten. A leader that two busy processors
  # keep from its followers for less than a second and a half keeps its office.
  performance_multiplier = 3
  # A new node has a vote after a second or two instead of ten.
  autopilot_reconcile_interval = "500ms"
  autopilot_update_interval    = "500ms"
%s}`, data, i, more), nil
}

// serve runs a server that is no development server.
func (h *Host) serve(o Options, storage string, listen, cluster int) error {
	h.Addr = fmt.Sprintf("http://127.0.0.1:%d", listen)
	config := fmt.Sprintf(`%s
listener "tcp" {
  address         = "127.0.0.1:%d"
  cluster_address = "127.0.0.1:%d"
  tls_disable     = true
}
api_addr         = %q
cluster_addr     = "https://127.0.0.1:%d"
plugin_directory = %q
disable_mlock    = true
%s`, storage, listen, cluster, h.Addr, cluster, h.site.plugins, h.auditStanza())
	file := filepath.Join(h.dir, "host.hcl")
	if err := os.WriteFile(file, []byte(config), 0o600); err != nil {
		return err
	}
	return h.run(o, "server", "-config="+file)
}

// initialise makes the first node of a cluster, with one unseal key.
func (h *Host) initialise() error {
	var made struct {
		Keys  []string `json:"keys"`
		Token string   `json:"root_token"`
	}
	answer, err := h.Anonymous().Do(context.Background(), http.MethodPut, "sys/init",
		map[string]any{"secret_shares": 1, "secret_threshold": 1}, nil)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(answer.Body, &made); err != nil || len(made.Keys) != 1 {
		return fmt.Errorf("init: %d %s", answer.Status, answer.Body)
	}
	h.site.rootToken, h.site.unsealKey = made.Token, made.Keys[0]
	return nil
}

// unseal gives the node its key and waits until it serves. The key is given until
// it is taken and not once more: a node that is unsealed while it joins would
// stand by twice, and one of the two would swallow a later step-down.
func (h *Host) unseal() error {
	err := poll.Within(startBound, func() error {
		answer, err := h.Anonymous().Do(context.Background(), http.MethodPut, "sys/unseal", map[string]any{"key": h.site.unsealKey}, nil)
		if err == nil && answer.Status != http.StatusOK {
			err = fmt.Errorf("unseal: %d %s", answer.Status, answer.Body)
		}
		return err
	})
	if err != nil {
		return err
	}
	return poll.Within(startBound, h.serves)
}

// electable makes every node a voter: a new one has no vote for its first ten
// seconds, and until then nobody can take over from the first node.
func (c *Cluster) electable() error {
	first := c.Nodes[0]
	err := first.admin(http.MethodPut, "sys/storage/raft/autopilot/configuration",
		map[string]any{"server_stabilization_time": "1s"})
	if err != nil {
		return err
	}
	const within = 30 * time.Second // it takes some seconds
	err = poll.Within(within, func() error {
		answer, err := first.Root().Do(context.Background(), http.MethodGet, "sys/storage/raft/configuration", nil, nil)
		if err != nil {
			return err
		}
		if voters := strings.Count(string(answer.Body), `"voter":true`); voters != clusterSize {
			return fmt.Errorf("%d of %d nodes have a vote", voters, clusterSize)
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("%w: %w", errNoVote, err)
	}
	return nil
}

// serves tells whether the node is the leader or a standby that knows one.
func (h *Host) serves() error {
	answer, err := h.Anonymous().Do(context.Background(), http.MethodGet, "sys/health", nil, nil)
	if err != nil {
		return err
	}
	if answer.Status != http.StatusOK && answer.Status != http.StatusTooManyRequests {
		return fmt.Errorf("%s is not ready: %d %s", h.Addr, answer.Status, answer.Body)
	}
	leader, err := h.leader()
	if err == nil && leader == "" {
		err = fmt.Errorf("%s knows no leader", h.Addr)
	}
	return err
}

func (h *Host) leader() (addr string, err error) {
	answer, err := h.Anonymous().Do(context.Background(), http.MethodGet, "sys/leader", nil, nil)
	if err != nil {
		return "", err
	}
	var body struct {
		Leader string `json:"leader_address"`
	}
	err = json.Unmarshal(answer.Body, &body)
	return strings.TrimSuffix(body.Leader, "/"), err
}

// enableKV mounts the KV store that development mode has by itself.
func (h *Host) enableKV() error {
	return h.admin(http.MethodPut, "sys/mounts/secret",
		map[string]any{"type": "kv", "options": map[string]string{"version": "2"}})
}

// Leader waits until all nodes agree on a leader and forward to it, and returns
// it.
func (c *Cluster) Leader(t testing.TB) *Host {
	t.Helper()
	var found *Host
	poll.Until(t, startBound, func() error {
		found = nil
		for _, node := range c.Nodes {
			addr, err := node.leader()
			if err != nil {
				return err
			}
			if found == nil {
				found = c.node(addr)
			}
			if found == nil || found.Addr != addr {
				return errors.New("the nodes do not agree on a leader")
			}
		}
		for _, node := range c.Nodes {
			if err := node.forwards(); err != nil {
				return err
			}
		}
		return nil
	})
	return found
}

func (c *Cluster) node(addr string) *Host {
	for _, node := range c.Nodes {
		if node.Addr == addr {
			return node
		}
	}
	return nil
}

// forwards tells whether the node takes a write, itself or through the leader; for
// a moment after an election it only redirects. OpenBao's standbys answer reads by
// themselves, so a read would show nothing.
func (h *Host) forwards() error {
	return h.admin(http.MethodDelete, "sys/policies/acl/no-such-policy", nil)
}

// Standbys are the nodes besides the leader.
func (c *Cluster) Standbys(t testing.TB) []*Host {
	t.Helper()
	leader := c.Leader(t)
	standbys := make([]*Host, 0, clusterSize-1)
	for _, node := range c.Nodes {
		if node != leader {
			standbys = append(standbys, node)
		}
	}
	return standbys
}

// StepDown makes the leader give up and waits for another one, which it returns.
// On a busy machine the old one may win the election once more; then it has to
// give up again.
func (c *Cluster) StepDown(t testing.TB) *Host {
	t.Helper()
	before := c.Leader(t)
	for range 5 {
		before.Root().Write(t, "sys/step-down", nil).OK(t)
		err := poll.Within(20*time.Second, func() error {
			if c.Leader(t) == before {
				return errors.New("the old leader leads")
			}
			return nil
		})
		if err == nil {
			return c.Leader(t)
		}
	}
	t.Fatal("the leader has stepped down five times, and still leads")
	return nil
}
