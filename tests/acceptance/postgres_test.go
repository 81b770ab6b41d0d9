package acceptance

import (
	"context"
	"fmt"
	"maps"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/vault-pim/vault-plugin-secrets-pim/tests/harness"
	"github.com/vault-pim/vault-plugin-secrets-pim/tests/harness/poll"
)

// databases is a scene whose target reaches database engines of one server: one
// with the revocation statements of docs/database.md, others with the engine's own.
type databases struct {
	*scene
	pg           *harness.Postgres
	documented   string // mount paths of engines whose one role is reader
	undocumented string
	brief        string // whose leases end within a second
}

func newDatabases(t *testing.T) *databases {
	t.Helper()
	d := &databases{pg: harness.StartPostgres(t)}
	d.documented = host.DatabaseEngine(t, d.pg, docBlock(t, "database.md", "## Revocation statements"))
	host.Root().Write(t, d.documented+"/roles/reader", map[string]any{
		"db_name": "postgres", "default_ttl": "1h", "max_ttl": "24h",
		"creation_statements":   docBlock(t, "database.md", "## Creation statements"),
		"revocation_statements": docBlock(t, "database.md", "## Revocation statements"),
	}).OK(t)
	d.undocumented = host.DatabaseEngine(t, d.pg, "")
	d.brief = host.DatabaseEngine(t, d.pg, "")
	host.Root().Write(t, d.brief+"/roles/reader", map[string]any{"default_ttl": "1s", "max_ttl": "1s"}).OK(t)
	paths := map[string]string{}
	var policy strings.Builder
	for _, engine := range []string{d.documented, d.undocumented, d.brief} {
		paths["sys/leases/revoke/"+engine+"/creds/reader/*"] = `"update"`
		fmt.Fprintf(&policy, "path %q { capabilities = [\"read\"] }\n", engine+"/creds/reader")
	}
	d.scene = newScene(t, paths, host.Policy(t, "db-reader", policy.String()))
	return d
}

// reader is the role of docs/database.md.
func (d *databases) reader(fields map[string]any) map[string]any {
	role := map[string]any{
		"path": d.documented + "/creds/reader", "engine": "database", "ends_sessions": true,
		"ttl": "10m", "min_ttl": 1,
	}
	maps.Copy(role, fields)
	return role
}

// session is an open session of a database user.
type session struct {
	pg                 *harness.Postgres
	conn               *pgx.Conn
	username, password string
}

// open logs in with a credential and queries.
func (d *databases) open(t *testing.T, creds harness.Answer) *session {
	t.Helper()
	s := &session{pg: d.pg, username: creds.String(t, "username"), password: creds.String(t, "password")}
	conn, err := s.pg.Connect(t.Context(), s.username, s.password)
	if err != nil {
		t.Fatalf("the credential does not log in: %v", err)
	}
	t.Cleanup(func() { _ = conn.Close(context.Background()) }) // it may have been ended by the server
	s.conn = conn
	var who string
	if err := conn.QueryRow(t.Context(), "SELECT current_user").Scan(&who); err != nil || who != s.username {
		t.Fatalf("current_user = %q, %v; want %q", who, err, s.username)
	}
	return s
}

// answers tells whether the open session still answers.
func (s *session) answers(ctx context.Context) bool {
	_, err := s.conn.Exec(ctx, "SELECT 1")
	return err == nil
}

// logsIn tells whether the credential still opens a new session.
func (s *session) logsIn(ctx context.Context) bool {
	conn, err := s.pg.Connect(ctx, s.username, s.password)
	if err != nil {
		return false
	}
	return conn.Close(ctx) == nil
}

// over waits until neither is possible any more.
func (s *session) over(t *testing.T) {
	t.Helper()
	poll.Until(t, promised, func() error {
		if s.logsIn(t.Context()) {
			return fmt.Errorf("%s still logs in", s.username)
		}
		if s.answers(t.Context()) {
			return fmt.Errorf("an open session of %s still answers", s.username)
		}
		return nil
	})
}

// sql runs a statement as the server's own administrator.
func (d *databases) sql(t *testing.T, database, statement string) {
	t.Helper()
	config, err := pgx.ParseConfig(fmt.Sprintf("host=127.0.0.1 port=%d user=postgres password=%s dbname=%s sslmode=disable",
		d.pg.Port, d.pg.Password, database))
	if err != nil {
		t.Fatal(err)
	}
	conn, err := pgx.ConnectConfig(t.Context(), config)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := conn.Exec(t.Context(), statement); err != nil {
		t.Fatal(err)
	}
	if err := conn.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
}

func TestDatabaseUser(t *testing.T) {
	t.Parallel()
	d := newDatabases(t)
	for i, way := range endings() {
		t.Run("is shut out and disconnected when "+way.name, func(t *testing.T) {
			t.Parallel()
			c, role := d.cast(t), fmt.Sprintf("reader-%d", i)
			written := c.role(t, role, d.reader(map[string]any{"ttl": way.ttl})).OK(t)
			hasClass(t, written, "immediate", "")
			a := c.access(t, role)
			hasClass(t, a.creds, "immediate", "")
			s := d.open(t, a.creds)
			way.end(t, a)
			s.over(t)
			a.confirmed(t, way.state)
			host.NoTrace(t, s.password)
		})
	}
	t.Run("cannot slip in again while its sessions are ended", d.reconnects)
	t.Run("that cannot be dropped has no access, and is tried again until it is gone", d.undroppable)
	t.Run("that somebody dropped by hand is no obstacle", d.droppedByHand)
	t.Run("keeps its open sessions without the statements, and the role says so", d.survives)
	t.Run("has a lease as short as the role says", d.shortLease)
	t.Run("that ends within a second is not given out", d.blink)
	t.Run("of an engine that cannot be had leaves nothing", d.unreachable)
}

func hasClass(t *testing.T, a harness.Answer, class, survives string) {
	t.Helper()
	if a.Data["pim_revocation"] != class || a.Data["pim_revocation_survives"] != survives {
		t.Errorf("%s: want revocation %q that %q survives, got %v and %v", a.Request, class, survives,
			a.Data["pim_revocation"], a.Data["pim_revocation_survives"])
	}
}

// reconnects is what a connection pool does: whenever a session ends it opens
// another one, at once and from several sides.
func (d *databases) reconnects(t *testing.T) {
	t.Parallel()
	const pool = 4
	c := d.cast(t)
	c.role(t, "reconnects", d.reader(nil)).OK(t)
	a := c.access(t, "reconnects")
	s := d.open(t, a.creds)
	ctx, cancel := context.WithCancel(t.Context())
	var clients sync.WaitGroup
	for range pool {
		clients.Go(func() {
			for ctx.Err() == nil {
				if conn, err := d.pg.Connect(ctx, s.username, s.password); err == nil {
					_, _ = conn.Exec(ctx, "SET application_name = 'pool'")
					_, _ = conn.Exec(ctx, "SELECT pg_sleep(60)") // until the server ends it
					_ = conn.Close(context.WithoutCancel(ctx))
				}
			}
		})
	}
	poll.Until(t, settles, func() error { return d.pooled(t, pool) })
	a.bob.Write(t, a.path("grants/"+a.id+"/revoke"), nil).OK(t)
	s.over(t)
	poll.Throughout(t, time.Second, func() error { return d.pooled(t, 0) })
	cancel()
	clients.Wait()
	a.confirmed(t, "revoked")
}

// pooled compares how many sessions of the pool the server has, whoever they
// belong to: the user of one that slipped in does not exist any more.
func (d *databases) pooled(t *testing.T, want int) error {
	t.Helper()
	conn, err := d.pg.Connect(t.Context(), "postgres", d.pg.Password)
	if err != nil {
		return err
	}
	defer conn.Close(t.Context()) //nolint:errcheck // it was only read from
	var got int
	err = conn.QueryRow(t.Context(), "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'pool'").Scan(&got)
	if err == nil && got != want {
		err = fmt.Errorf("the pool has %d sessions, want %d", got, want)
	}
	return err
}

func (d *databases) undroppable(t *testing.T) {
	t.Parallel()
	c := d.cast(t)
	c.role(t, "undroppable", d.reader(nil)).OK(t)
	a := c.access(t, "undroppable")
	s := d.open(t, a.creds)
	d.sql(t, "postgres", "CREATE DATABASE elsewhere")
	d.sql(t, "elsewhere", fmt.Sprintf(`CREATE TABLE owned (id int); ALTER TABLE owned OWNER TO %q`, s.username))

	answer := host.Root().Write(t, "sys/leases/revoke", map[string]any{"lease_id": a.creds.LeaseID, "sync": true})
	if answer.Status/100 == 2 {
		t.Fatalf("the host was told that the lease has ended: %d %s", answer.Status, answer.Body)
	}
	answer.NoTrace(t, s.username)
	s.over(t)
	request := a.request(t)
	if request.Data["live_credentials"] != 1.0 || !strings.Contains(fmt.Sprint(request.Data["credentials"]), " revoking, ") ||
		!strings.Contains(fmt.Sprint(request.Data["credentials"]), "last try failed") {
		t.Errorf("the credential should be on record as revoking: %s", request.Body)
	}
	d.sql(t, "elsewhere", "DROP TABLE owned")
	a.confirmed(t, "active")
}

func (d *databases) droppedByHand(t *testing.T) {
	t.Parallel()
	c := d.cast(t)
	c.role(t, "dropped", d.reader(nil)).OK(t)
	a := c.access(t, "dropped")
	d.sql(t, "postgres", fmt.Sprintf(`DROP OWNED BY %[1]q; DROP ROLE %[1]q`, a.creds.String(t, "username")))
	a.bob.Write(t, a.path("grants/"+a.id+"/revoke"), nil).OK(t)
	a.confirmed(t, "revoked")
}

func (d *databases) survives(t *testing.T) {
	t.Parallel()
	c := d.cast(t)
	plain := map[string]any{"path": d.undocumented + "/creds/reader", "ends_sessions": false}
	for name, claim := range map[string]map[string]any{
		"revocation: is stronger":    {"revocation": "immediate"},
		"min_revocation: asks for i": {"min_revocation": "immediate"},
	} {
		fields := d.reader(plain)
		maps.Copy(fields, claim)
		c.role(t, "survives", fields).Refused(t, http.StatusBadRequest, "invalid input: "+name)
	}
	written := c.role(t, "survives", d.reader(plain)).OK(t)
	hasClass(t, written, "propagating", "open_sessions")
	if warned := strings.Join(written.Warnings, "; "); !strings.Contains(warned, "revocation is weaker than immediate") {
		t.Errorf("the role's author is not warned: %q", warned)
	}
	hasClass(t, c.alice.Read(t, c.path("eligible/survives")).OK(t), "propagating", "open_sessions")
	id, digest := c.ask(t, "survives")
	shown := c.bob.Read(t, c.path("approvals/"+id)).OK(t)
	if got := shown.String(t, "revocation"); got != "propagating; survives: open_sessions" {
		t.Errorf("the approver reads %q", got)
	}
	c.approve(t, id, digest)
	creds := c.alice.Read(t, c.path("creds/survives")).OK(t)
	hasClass(t, creds, "propagating", "open_sessions")

	s := d.open(t, creds)
	host.Root().Write(t, "sys/leases/revoke", map[string]any{"lease_id": creds.LeaseID, "sync": true}).OK(t)
	if s.logsIn(t.Context()) {
		t.Error("the user still logs in")
	}
	if !s.answers(t.Context()) {
		t.Error("the open session has ended: the class could be better than the role says")
	}
}

// blink is an engine whose leases are too short to be leased on.
func (d *databases) blink(t *testing.T) {
	t.Parallel()
	c := d.cast(t)
	c.role(t, "blink", map[string]any{"path": d.brief + "/creds/reader", "engine": "database"}).OK(t)
	id := c.grant(t, "blink")
	refused := c.alice.Read(t, c.path("creds/blink")).Refused(t, http.StatusBadRequest, "no active grant: ")
	if got := refused.String(t, "code"); got != "window_ending" {
		t.Errorf("code %q, want window_ending", got)
	}
	c.undone(t, id)
}

// undone waits until the access of the one failed issue of a request is ended.
func (c *cast) undone(t *testing.T, id string) {
	t.Helper()
	poll.Until(t, settles, func() error {
		request := host.Root().Read(t, c.path("audit/requests/"+id)).OK(t)
		if undone := fmt.Sprint(request.Data["credentials"]); !strings.Contains(undone, " ended, ") && !strings.Contains(undone, " gone, ") {
			return fmt.Errorf("the failed issue is not undone: %s", undone)
		}
		return nil
	})
}

func (d *databases) unreachable(t *testing.T) {
	t.Parallel()
	c := d.cast(t)
	for role, fields := range map[string]map[string]any{
		"a path that the token may not read": {"path": d.documented + "/creds/writer"},
		"no engine at the path":              {"path": "no-" + d.documented + "/creds/reader"},
		"another engine than the role says":  {"engine": "rabbitmq", "ends_sessions": false},
		"a path where the engine has a list": {"path": d.documented + "/roles/reader"},
	} {
		t.Run(role, func(t *testing.T) {
			t.Parallel()
			name := strings.ReplaceAll(role, " ", "-")
			c.role(t, name, d.reader(fields)).OK(t)
			id := c.grant(t, name)
			refused := c.alice.Read(t, c.path("creds/"+name)).Refused(t, http.StatusBadRequest, "the target refused: ")
			if got := refused.String(t, "code"); got != "target_refused" {
				t.Errorf("code %q, want target_refused", got)
			}
			c.undone(t, id)
		})
	}
}

// shortLease is a lease of ours that ends long before the engine's own would.
func (d *databases) shortLease(t *testing.T) {
	t.Parallel()
	c := d.cast(t)
	c.role(t, "short", d.reader(map[string]any{"ttl": "90s", "lease_ttl": "20s"})).OK(t)
	a := c.access(t, "short")
	if a.creds.LeaseDuration > 20 || a.creds.LeaseDuration < 15 || a.creds.Renewable {
		t.Errorf("want a lease of 20 s that is not renewable, got %d s, renewable %v", a.creds.LeaseDuration, a.creds.Renewable)
	}
	ends, err := time.Parse(time.RFC3339, a.creds.String(t, "pim_expires_at"))
	if err != nil || time.Until(ends) > 21*time.Second {
		t.Errorf("the credential ends at %s (%v)", ends, err)
	}
}
