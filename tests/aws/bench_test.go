package aws

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/vault-pim/vault-plugin-secrets-pim/tests/harness"
	"github.com/vault-pim/vault-plugin-secrets-pim/tests/harness/poll"
)

// bench is what all tests share: moto, the second client, and the judge.
var bench struct {
	moto  string // URL
	look  *linewise
	judge *linewise
	host  *harness.Host // started by the first test that needs it
}

const startBound = 60 * time.Second

func TestMain(m *testing.M) { os.Exit(run(m)) }

func run(m *testing.M) int {
	tools, err := toolsDir()
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	stop, err := start(tools)
	code := 1
	if err != nil {
		fmt.Fprintf(os.Stderr, "start moto: %v\n", err)
	} else {
		code = m.Run()
	}
	if bench.host != nil {
		err = errors.Join(err, bench.host.Stop())
	}
	if err := errors.Join(err, stop()); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return code
}

// toolsDir is where scripts/test-aws.sh keeps moto and the judge.
func toolsDir() (string, error) {
	if dir := os.Getenv("PIM_AWS_TOOLS"); dir != "" {
		return dir, nil
	}
	root, err := harness.RepoRoot()
	if err != nil {
		return "", err
	}
	cmd := exec.Command(filepath.Join(root, "scripts", "test-aws.sh"), "--tools")
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("scripts/test-aws.sh --tools: %w", err)
	}
	return strings.TrimSpace(string(out)), nil
}

// start starts everything; stop is never nil.
func start(tools string) (stop func() error, err error) {
	var children []*exec.Cmd
	stop = func() error {
		var errs error
		for _, child := range slices.Backward(children) {
			if err := child.Process.Kill(); err != nil && !errors.Is(err, os.ErrProcessDone) {
				errs = errors.Join(errs, err)
			}
			_ = child.Wait() // it was killed
		}
		return errs
	}
	port, err := freePort()
	if err != nil {
		return stop, err
	}
	bench.moto = "http://127.0.0.1:" + port
	python := filepath.Join(tools, "python", "bin")
	moto := exec.Command(filepath.Join(python, "moto_server"), "-H", "127.0.0.1", "-p", port)
	moto.Env = append(os.Environ(), "MOTO_IAM_LOAD_MANAGED_POLICIES=true")
	if err := moto.Start(); err != nil {
		return stop, err
	}
	children = append(children, moto)
	if err := poll.Within(startBound, motoAnswers); err != nil {
		return stop, err
	}
	look := exec.Command(filepath.Join(python, "python"), filepath.Join("tools", "look.py"), bench.moto)
	judge := exec.Command("node", filepath.Join(tools, "node", "judge.mjs"))
	// The judge finds its packages beside itself.
	text, err := os.ReadFile(filepath.Join("tools", "judge.mjs"))
	if err != nil {
		return stop, err
	}
	if err := os.WriteFile(filepath.Join(tools, "node", "judge.mjs"), text, 0o600); err != nil {
		return stop, err
	}
	if bench.look, err = newLinewise(look); err != nil {
		return stop, err
	}
	children = append(children, look)
	if bench.judge, err = newLinewise(judge); err != nil {
		return stop, err
	}
	children = append(children, judge)
	return stop, nil
}

func motoAnswers() error {
	res, err := http.Get(bench.moto + "/moto-api/")
	if err != nil {
		return err
	}
	return res.Body.Close()
}

func freePort() (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	_, port, err := net.SplitHostPort(l.Addr().String())
	return port, errors.Join(err, l.Close())
}

// linewise is a process that answers one line for each line.
type linewise struct {
	mu  sync.Mutex
	in  io.Writer
	out *bufio.Reader
}

func newLinewise(cmd *exec.Cmd) (*linewise, error) {
	in, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	cmd.Stderr = os.Stderr
	return &linewise{in: in, out: bufio.NewReader(out)}, cmd.Start()
}

// ask sends one line and decodes the answer's result; an error of the answer
// is returned as a text.
func (l *linewise) ask(question, result any) (problem string, err error) {
	line, err := json.Marshal(question)
	if err != nil {
		return "", err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if _, err := l.in.Write(append(line, '\n')); err != nil {
		return "", err
	}
	raw, err := l.out.ReadBytes('\n')
	if err != nil {
		return "", err
	}
	var answer struct {
		Result json.RawMessage `json:"result"`
		Error  string          `json:"error"`
	}
	if err := json.Unmarshal(raw, &answer); err != nil {
		return "", err
	}
	if answer.Error != "" || result == nil {
		return answer.Error, nil
	}
	return "", json.Unmarshal(answer.Result, result)
}

// args are the arguments of one call.
type args = map[string]any

// call makes one call through the second client, which must work.
func call(t testing.TB, account, service, method string, a args, result any) {
	t.Helper()
	if problem := tryCall(t, account, service, method, a, result); problem != "" {
		t.Fatalf("%s %s: %s", service, method, problem)
	}
}

// tryCall returns the code of an error.
func tryCall(t testing.TB, account, service, method string, a args, result any) string {
	t.Helper()
	problem, err := bench.look.ask(map[string]any{"account": account, "service": service, "call": method, "args": a}, result)
	if err != nil {
		t.Fatal(err)
	}
	return problem
}
