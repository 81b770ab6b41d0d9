package harness

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/vault-pim/vault-plugin-secrets-pim/tests/harness/poll"
)

// Postgres is a database server of its own, on a free port, with its files in a
// temporary directory.
type Postgres struct {
	Port     int
	Password string // of the superuser postgres

	dir  string
	proc *process
}

// StartPostgres runs a server for the time of the test.
func StartPostgres(t testing.TB) *Postgres {
	t.Helper()
	pg, err := newPostgres()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := pg.stop(); err != nil {
			t.Error(err)
		}
	})
	if err := pg.start(); err != nil {
		t.Fatal(err)
	}
	return pg
}

// postgresTool finds a program of PostgreSQL. Debian keeps the server's programs
// off the PATH.
func postgresTool(name string) (string, error) {
	found, err := filepath.Glob("/usr/lib/postgresql/*/bin/" + name)
	if err != nil {
		return "", err
	}
	if len(found) > 0 {
		return found[len(found)-1], nil
	}
	path, err := exec.LookPath(name)
	if err != nil {
		return "", fmt.Errorf("PostgreSQL is missing, install it with: apt-get install postgresql (%w)", err)
	}
	return path, nil
}

func newPostgres() (*Postgres, error) {
	ports, err := FreePorts(1)
	if err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp("", "pim-postgres-")
	if err != nil {
		return nil, err
	}
	return &Postgres{Port: ports[0], Password: short(), dir: dir}, nil
}

// command runs a program of PostgreSQL as the user postgres when the tests run as
// root, because the server refuses root.
func (pg *Postgres) command(name string, args ...string) (*exec.Cmd, error) {
	path, err := postgresTool(name)
	if err != nil {
		return nil, err
	}
	cmd := exec.CommandContext(context.Background(), path, args...)
	cmd.Dir = pg.dir
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "LC_ALL=C"}
	if os.Geteuid() != 0 {
		return cmd, nil
	}
	owner, err := user.Lookup("postgres")
	if err != nil {
		return nil, err
	}
	uid, err := strconv.ParseUint(owner.Uid, 10, 32)
	if err != nil {
		return nil, err
	}
	gid, err := strconv.ParseUint(owner.Gid, 10, 32)
	if err != nil {
		return nil, err
	}
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}}
	return cmd, os.Chown(pg.dir, int(uid), int(gid))
}

func (pg *Postgres) start() error {
	data, password := filepath.Join(pg.dir, "data"), filepath.Join(pg.dir, "password")
	initdb, err := pg.command("initdb", "-D", data, "-U", "postgres", "-A", "scram-sha-256", "--no-sync", "--pwfile", password)
	if err != nil {
		return err
	}
	if err := os.WriteFile(password, []byte(pg.Password), 0o644); err != nil { // another user reads it, in a directory of its own
		return err
	}
	if out, err := initdb.CombinedOutput(); err != nil {
		return fmt.Errorf("initdb: %w\n%s", err, out)
	}
	server, err := pg.command("postgres", "-D", data, "-h", "127.0.0.1", "-p", strconv.Itoa(pg.Port), "-k", pg.dir, "-c", "fsync=off")
	if err != nil {
		return err
	}
	pg.proc, err = startProcess(filepath.Join(pg.dir, "postgres.log"), server)
	if err != nil {
		return err
	}
	return poll.Within(startBound, func() error {
		conn, err := pg.Connect(context.Background(), "postgres", pg.Password)
		if err != nil {
			return errors.Join(err, pg.proc.running())
		}
		return conn.Close(context.Background())
	})
}

func (pg *Postgres) stop() error {
	var err error
	if pg.proc != nil {
		err = pg.proc.stop(syscall.SIGINT) // "fast" shutdown: sessions are ended
	}
	return errors.Join(err, os.RemoveAll(pg.dir))
}

// Connect logs in over TCP, as anybody holding the credential would.
func (pg *Postgres) Connect(ctx context.Context, username, password string) (*pgx.Conn, error) {
	address := url.URL{
		Scheme: "postgres", User: url.UserPassword(username, password),
		Host: "127.0.0.1:" + strconv.Itoa(pg.Port), Path: "postgres", RawQuery: "sslmode=disable",
	}
	return pgx.Connect(ctx, address.String())
}

// Statements for the host's database engine. DropAndDisconnect is what makes a
// revocation immediate: without it the open sessions of a dropped user live on.
const (
	CreateReader = `CREATE ROLE "{{name}}" WITH LOGIN PASSWORD '{{password}}' VALID UNTIL '{{expiration}}';` +
		` GRANT pg_read_all_data TO "{{name}}";`
	DropAndDisconnect = `REVOKE pg_read_all_data FROM "{{name}}";` +
		` ALTER ROLE "{{name}}" NOLOGIN;` +
		` SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = '{{name}}';` +
		` DROP ROLE IF EXISTS "{{name}}";`
)

// DatabaseEngine mounts the host's database engine, connects it to the server and
// defines one role "reader". revocation are its revocation statements, empty for
// the engine's own. It returns the mount path.
func (h *Host) DatabaseEngine(t testing.TB, pg *Postgres, revocation string) string {
	t.Helper()
	root, path := h.Root(), "database-"+short()
	root.Write(t, "sys/mounts/"+path, map[string]any{"type": "database"}).OK(t)
	root.Write(t, path+"/config/postgres", map[string]any{
		"plugin_name": "postgresql-database-plugin", "allowed_roles": "reader",
		"connection_url": fmt.Sprintf("postgresql://{{username}}:{{password}}@127.0.0.1:%d/postgres?sslmode=disable", pg.Port),
		"username":       "postgres", "password": pg.Password,
	}).OK(t)
	role := map[string]any{
		"db_name": "postgres", "creation_statements": CreateReader, "default_ttl": "1h", "max_ttl": "24h",
	}
	if revocation != "" {
		role["revocation_statements"] = revocation
	}
	root.Write(t, path+"/roles/reader", role).OK(t)
	t.Cleanup(func() {
		if err := h.admin("DELETE", "sys/mounts/"+path, nil); err != nil {
			t.Errorf("unmounting the database engine: %v", err)
		}
	})
	return path
}
