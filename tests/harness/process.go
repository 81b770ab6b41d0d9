package harness

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"syscall"
	"time"
)

// process is a child with its output in a file. It leads a process group, so that
// stopping it also stops what it started (the plugin).
type process struct {
	cmd  *exec.Cmd
	log  string
	done chan struct{} // closed when the child is gone
}

func startProcess(logFile string, cmd *exec.Cmd) (*process, error) {
	out, err := os.OpenFile(logFile, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, err
	}
	defer out.Close() //nolint:errcheck // the child has its own copy
	cmd.Stdout, cmd.Stderr = out, out
	if cmd.SysProcAttr == nil {
		cmd.SysProcAttr = &syscall.SysProcAttr{}
	}
	cmd.SysProcAttr.Setpgid = true
	dieWithParent(cmd.SysProcAttr)
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	p := &process{cmd: cmd, log: logFile, done: make(chan struct{})}
	go func() {
		defer close(p.done)
		_ = cmd.Wait() // how it ended is in its log; it is expected to be killed
	}()
	return p, nil
}

// running tells whether the child still is there.
func (p *process) running() error {
	select {
	case <-p.done:
		return fmt.Errorf("%s ended: %s", p.cmd.Path, p.cmd.ProcessState)
	default:
		return nil
	}
}

// grace is how long a child has to end by itself. Nothing that it could still save
// is of use to anybody, and a host that has just stepped down takes ten seconds.
const grace = 3 * time.Second

// stop asks the child to end, and kills its whole group when it does not within
// the grace, or when it leaves somebody behind.
func (p *process) stop(sig syscall.Signal) error {
	group := -p.cmd.Process.Pid
	if err := p.cmd.Process.Signal(sig); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return err
	}
	select {
	case <-p.done:
	case <-time.After(grace):
	}
	if err := syscall.Kill(group, syscall.SIGKILL); err != nil && !errors.Is(err, syscall.ESRCH) {
		return err
	}
	<-p.done
	return nil
}

// tail returns the last lines of the log, from byte offset from on, without what
// Raft says twice a second.
func (p *process) tail(from int64, lines int) string {
	raw, err := os.ReadFile(p.log)
	if err != nil {
		return err.Error()
	}
	raw = raw[min(from, int64(len(raw))):]
	rows := slices.DeleteFunc(bytes.Split(bytes.TrimSpace(raw), []byte("\n")), func(row []byte) bool {
		return bytes.Contains(row, []byte("[DEBUG] storage.raft: using "))
	})
	if len(rows) > lines {
		rows = rows[len(rows)-lines:]
	}
	return string(bytes.Join(rows, []byte("\n")))
}

// size is where the log ends now.
func (p *process) size() int64 {
	info, err := os.Stat(p.log)
	if err != nil {
		return 0
	}
	return info.Size()
}
