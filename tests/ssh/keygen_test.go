package ssh

import (
	"crypto/ed25519"
	crand "crypto/rand"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/vault-pim/vault-plugin-secrets-pim/internal/krl"
)

func newSigner(t *testing.T) ssh.Signer {
	t.Helper()
	_, key, err := ed25519.GenerateKey(crand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	signer, err := ssh.NewSignerFromKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return signer
}

// oracle asks ssh-keygen which certificates a list revokes.
type oracle struct {
	dir    string
	ca     ssh.Signer
	holder ssh.PublicKey
	files  map[string]string // content to file
}

func newOracle(t *testing.T) *oracle {
	t.Helper()
	return &oracle{dir: t.TempDir(), ca: newSigner(t), holder: newSigner(t).PublicKey(), files: map[string]string{}}
}

// cert writes a certificate and returns its file.
func (o *oracle) cert(t *testing.T, ca ssh.Signer, serial uint64, keyID string) string {
	t.Helper()
	name := fmt.Sprintf("%x-%d-%s", ca.PublicKey().Marshal()[40:44], serial, keyID)
	if file, ok := o.files[name]; ok {
		return file
	}
	c := &ssh.Certificate{
		Key: o.holder, Serial: serial, CertType: ssh.UserCert, KeyId: keyID, ValidPrincipals: []string{"deploy"},
		ValidBefore: uint64(time.Now().Add(time.Hour).Unix()),
	}
	if err := c.SignCert(crand.Reader, ca); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(o.dir, fmt.Sprintf("%d-cert.pub", len(o.files)))
	write(t, file, string(ssh.MarshalAuthorizedKey(c)))
	o.files[name] = file
	return file
}

// revoked returns those of the files that ssh-keygen calls revoked by a list.
func (o *oracle) revoked(t *testing.T, raw []byte, files []string) []string {
	t.Helper()
	list := filepath.Join(o.dir, "list")
	if err := os.WriteFile(list, raw, 0o600); err != nil {
		t.Fatal(err)
	}
	out, err := exec.CommandContext(t.Context(), "ssh-keygen", append([]string{"-Q", "-f", list}, files...)...).CombinedOutput()
	var bad []string
	lines := strings.Split(strings.TrimSpace(string(out)), "\n")
	if len(lines) != len(files) {
		t.Fatalf("ssh-keygen: %v\n%s", err, out)
	}
	for i, line := range lines {
		switch {
		case strings.HasSuffix(line, ": REVOKED"):
			bad = append(bad, files[i])
		case !strings.HasSuffix(line, ": ok"):
			t.Fatalf("ssh-keygen says %q", line)
		}
	}
	return bad
}

// sets are serials that look like what a CA draws, or like nothing of the kind.
func sets(random *rand.Rand) map[string][]uint64 {
	draw := func(n int, low, spread uint64) []uint64 {
		out := make([]uint64, n)
		for i := range out {
			out[i] = low + random.Uint64N(spread)
		}
		return out
	}
	run := func(low, n uint64) []uint64 {
		var out []uint64
		for s := low; s < low+n; s++ {
			out = append(out, s)
		}
		return out
	}
	return map[string][]uint64{
		"none":                     nil,
		"one":                      draw(1, 1, math.MaxUint64-1),
		"random ones":              draw(300, 1, math.MaxUint64-1),
		"a crowded part":           draw(300, 1<<40, 1000),
		"crowded, then far apart":  append(draw(100, 1, 300), draw(50, 1<<50, 1<<60)...),
		"runs of many lengths":     slices.Concat(run(10, 1), run(100, 2), run(200, 3), run(1000, 300), run(5000, 20)),
		"the smallest and largest": {1, 2, 3, 5, math.MaxUint64, math.MaxUint64 - 1, math.MaxUint64 - 2, math.MaxUint64 - 4},
		"more than one bitmap":     draw(4000, 7, 40000),
	}
}

func TestSSHKeygenReadsOurListsAsTheyAreMeant(t *testing.T) {
	t.Parallel()
	for round := range uint64(3) {
		random := rand.New(rand.NewPCG(round, 7))
		for name, serials := range sets(random) {
			t.Run(fmt.Sprintf("%s %d", name, round), func(t *testing.T) {
				t.Parallel()
				o := newOracle(t)
				raw, err := krl.List{
					Number: round + 1, Generated: time.Now(), Comment: "pim",
					CAs: []krl.CA{{Key: o.ca.PublicKey().Marshal(), Serials: serials}},
				}.Marshal()
				if err != nil {
					t.Fatal(err)
				}
				var files, want []string
				for _, serial := range near(serials) {
					file := o.cert(t, o.ca, serial, "somebody")
					files = append(files, file)
					if slices.Contains(serials, serial) {
						want = append(want, file)
					}
				}
				if got := o.revoked(t, raw, files); !slices.Equal(got, want) {
					t.Errorf("of %d certificates ssh-keygen calls %d revoked, want %d", len(files), len(got), len(want))
				}
			})
		}
	}
}

// near picks serials of a set and their neighbours, each once.
func near(serials []uint64) []uint64 {
	out := []uint64{1, 1 << 33, math.MaxUint64}
	for i, s := range serials {
		if i%(1+len(serials)/80) == 0 {
			out = append(out, s, s-1, s+1)
		}
	}
	slices.Sort(out)
	return slices.DeleteFunc(slices.Compact(out), func(s uint64) bool { return s == 0 })
}

func TestSSHKeygenBindsEntriesToTheirCA(t *testing.T) {
	o := newOracle(t)
	other := newSigner(t)
	raw, err := krl.List{CAs: []krl.CA{
		{Key: o.ca.PublicKey().Marshal(), Serials: []uint64{5, 6}, KeyIDs: []string{"pim-lost"}},
		{Key: other.PublicKey().Marshal(), Serials: []uint64{9}},
	}}.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	files := []string{
		o.cert(t, o.ca, 5, "a"), o.cert(t, o.ca, 9, "b"), o.cert(t, other, 5, "c"), o.cert(t, other, 9, "d"),
		o.cert(t, o.ca, 77, "pim-lost"), o.cert(t, other, 77, "pim-lost"), o.cert(t, o.ca, 78, "pim-los"),
	}
	want := []string{files[0], files[3], files[4]}
	if got := o.revoked(t, raw, files); !slices.Equal(got, want) {
		t.Errorf("revoked are %v, want %v", got, want)
	}
}
