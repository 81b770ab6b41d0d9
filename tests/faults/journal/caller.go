package journal

import (
	"bufio"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// callerKey is the context key of the process behind a connection.
type callerKey struct{}

func caller(r *http.Request) int {
	pid, _ := r.Context().Value(callerKey{}).(int)
	return pid
}

// callerOf finds the host whose plugin is at the other end of a connection on this
// machine, as the kernel's tables have it; 0 where there are none, as outside Linux.
func (j *Target) callerOf(remote net.Addr) int {
	addr, ok := remote.(*net.TCPAddr)
	if !ok {
		return 0
	}
	inode := inodeOf(addr.Port)
	if inode == "" {
		return 0
	}
	want := "socket:[" + inode + "]"
	fds, err := filepath.Glob("/proc/[0-9]*/fd")
	if err != nil {
		return 0
	}
	for _, dir := range fds {
		entries, err := os.ReadDir(dir)
		if err != nil {
			continue // it has ended
		}
		for _, e := range entries {
			if to, err := os.Readlink(filepath.Join(dir, e.Name())); err == nil && to == want {
				pid, _ := strconv.Atoi(strings.Split(dir, "/")[2])
				return parent(pid)
			}
		}
	}
	return 0
}

// inodeOf is the socket that has a local port of 127.0.0.1 and is connected.
func inodeOf(port int) string {
	file, err := os.Open("/proc/net/tcp")
	if err != nil {
		return ""
	}
	defer file.Close() //nolint:errcheck // it was only read
	want := fmt.Sprintf("0100007F:%04X", port)
	for lines := bufio.NewScanner(file); lines.Scan(); {
		fields := strings.Fields(lines.Text())
		if len(fields) > 9 && fields[1] == want && fields[9] != "0" {
			return fields[9]
		}
	}
	return ""
}

// parent is the process that started another one; 0 if that has ended.
func parent(pid int) int {
	raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0
	}
	_, rest, _ := strings.Cut(string(raw), ") ")
	fields := strings.Fields(rest)
	if len(fields) < 2 {
		return 0
	}
	by, _ := strconv.Atoi(fields[1])
	return by
}
