package attacks

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/vault-pim/vault-plugin-secrets-pim/tests/harness"
)

// raw sends a request line byte for byte, as no client library would, and follows
// redirects as curl -L does.
func raw(t *testing.T, token, method, target string, header ...string) (status int, body string) {
	t.Helper()
	for range 4 {
		var got rawAnswer
		var err error
		// A host that refuses a line before it has read all of it resets the connection,
		// now and then before its answer is through: then it is asked again, and in the
		// end nobody has got anything.
		for range 3 {
			if got, err = rawOnce(token, method, target, header); !errors.Is(err, syscall.ECONNRESET) {
				break
			}
		}
		if errors.Is(err, syscall.ECONNRESET) {
			return 0, ""
		}
		if err != nil {
			t.Fatal(err)
		}
		if got.status/100 != 3 || got.location == "" {
			return got.status, got.body
		}
		next, err := url.Parse(got.location)
		if err != nil {
			t.Fatal(err)
		}
		target = next.RequestURI()
	}
	return http.StatusLoopDetected, ""
}

type rawAnswer struct {
	status         int
	location, body string
}

func rawOnce(token, method, target string, header []string) (rawAnswer, error) {
	conn, err := net.Dial("tcp", strings.TrimPrefix(host.Addr, "http://"))
	if err != nil {
		return rawAnswer{}, err
	}
	defer conn.Close() //nolint:errcheck // everything was read from it
	lines := append([]string{method + " " + target + " HTTP/1.1", "Host: localhost", "Connection: close", "X-Vault-Token: " + token}, header...)
	body := ""
	if method != http.MethodGet && method != http.MethodHead && method != "LIST" {
		body = `{"justification":"why"}`
		lines = append(lines, fmt.Sprintf("Content-Length: %d", len(body)))
	}
	if _, err := io.WriteString(conn, strings.Join(lines, "\r\n")+"\r\n\r\n"+body); err != nil {
		return rawAnswer{}, err
	}
	resp, err := http.ReadResponse(bufio.NewReader(conn), &http.Request{Method: method})
	if err != nil {
		return rawAnswer{}, fmt.Errorf("%s %q: %w", method, target, err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	return rawAnswer{status: resp.StatusCode, location: resp.Header.Get("Location"), body: string(text)}, err
}

// spellings are other ways to write the same path: what some layer between the wire
// and the plugin might take for it.
func spellings(mount, below string) []string {
	dir, name, found := strings.Cut(below, "/")
	if !found {
		dir, name = "", below
	}
	join := func(parts ...string) string { return "/v1/" + strings.Join(parts, "/") }
	escaped := func(s, form string) string {
		var b strings.Builder
		for i := range len(s) {
			fmt.Fprintf(&b, form, s[i])
		}
		return b.String()
	}
	out := []string{join(strings.ToUpper(mount), below)}
	with := func(name string) { out = append(out, strings.ReplaceAll(join(mount, dir, name), "//", "/")) }
	for _, n := range []string{
		strings.ToUpper(name), strings.ToUpper(name[:1]) + name[1:], name[:len(name)-1] + strings.ToUpper(name[len(name)-1:]),
		name + ".", name + "%2e", name + "%20", "%20" + name, name + "+", name + "*", name + "%2a", name + "%00", name + "%00.json", name + "%09", name + "%0a", name + "%0d%0a",
		name + ";", name + ";x=1", name + "%3b", name + "%3f", name + "%3flist=true", name + "%23", name + "&", name + ",", name + ".json", name + "~", name + "%e2%80%8b", name + "%cc%81",
		escaped(name, "%%%02x"), escaped(name, "%%%02X"), escaped(name, "%%25%02x"), escaped(name, "%%u00%02x"),
		"%ef%bd" + fmt.Sprintf("%%%02x", 0x80+name[0]-'`') + name[1:], // full width
		strings.ReplaceAll(name, "-", "%e2%80%90"), strings.ReplaceAll(name, "-", "_"), strings.ReplaceAll(name, "i", "%c4%b1"),
	} {
		with(n)
	}
	if dir != "" {
		out = append(out, join(mount, strings.ToUpper(dir), name), join(mount, strings.ToUpper(dir[:1])+dir[1:], name),
			join(mount, escaped(dir, "%%%02x"), name), join(mount, dir+"%2f"+name), join(mount, dir+"%2F"+name), join(mount, dir+"%252f"+name),
			join(mount, dir+"%5c"+name), join(mount, dir+`\`+name), join(mount, dir+"%c0%af"+name), join(mount, dir+";", name), join(mount, dir+".", name))
	}
	for _, dots := range []string{"..", "%2e%2e", "%2E.", ".%2e", "%252e%252e", "%c0%ae%c0%ae", "..;", "..%00"} {
		out = append(out, join(mount, "eligible", dots, below), join(mount, below, "x", dots), join(mount, dots, mount, below),
			join(mount, "eligible%2f"+dots+"%2f"+below), join(mount, "eligible"+"/"+dots+"%2f"+below))
	}
	for _, dot := range []string{".", "%2e", "", "%2f", "//"} {
		out = append(out, join(mount, dot, below), join(mount, below, dot), "/v1/"+dot+"/"+mount+"/"+below, "/"+dot+"/v1/"+mount+"/"+below, join(mount+dot+dot, below))
	}
	out = slices.DeleteFunc(out, func(s string) bool { return s == join(mount, below) })
	return append(out, "/V1/"+mount+"/"+below, "/v1%2f"+mount+"/"+below, "/v1/"+mount+"%2f"+below, "http://other/v1/"+mount+"/"+below, "//v1/"+mount+"/"+below, "/ui/v1/"+mount+"/"+below)
}

//nolint:tparallel // alice logs in anew for every row
func TestSpellingsAgainstDeny(t *testing.T) {
	t.Parallel()
	a := begin(t, "A12", "another spelling of a path passes a policy that denies it")
	w := plain(t)
	w.role(t, "prod-admin", nil).OK(t)
	id := w.grant(t, "prod-admin", nil)
	pending, digest := w.ask(t, "prod", nil)
	for _, row := range []struct{ name, deny, method, below string }{
		{"a credential", "creds/prod-admin", http.MethodGet, "creds/prod-admin"},
		{"a credential, by a write", "creds/prod-admin", http.MethodPut, "creds/prod-admin"},
		{"a credential, below a wildcard", "creds/*", http.MethodGet, "creds/prod-admin"},
		{"a request", "request/prod-admin", http.MethodPut, "request/prod-admin"},
		{"somebody's request", "requests/*", http.MethodGet, "requests/" + id},
		{"a withdrawal", "requests/*", http.MethodDelete, "requests/" + id},
		{"the settings", "config", http.MethodGet, "config"},
		{"a role", "roles/prod-admin", http.MethodGet, "roles/prod-admin"},
		{"the auditors' list", "audit/*", "LIST", "audit/requests"},
		{"the auditors' list, denied without a slash", "audit/requests", "LIST", "audit/requests"},
		{"the auditors' view", "audit/*", http.MethodGet, "audit/requests/" + id},
		{"one's own list, denied without a slash", "requests/mine", "LIST", "requests/mine"},
		{"a target's own look", "targets/local/check", http.MethodGet, "targets/local/check"},
	} {
		t.Run(row.name, func(t *testing.T) {
			all := fmt.Sprintf("path %q { capabilities = [\"create\", \"read\", \"update\", \"delete\", \"list\", \"patch\"] }\n", w.path("*"))
			may, denied := host.Policy(t, "all", all), host.Policy(t, "all-but", all+fmt.Sprintf("path %q { capabilities = [\"deny\"] }\n", w.path(row.deny)))
			login := func(policy string) string {
				host.Root().Write(t, "auth/userpass/users/"+w.alice.Login, map[string]any{"token_policies": []string{policy}}).OK(t)
				w.alice.LogIn(t)
				return w.alice.Token
			}
			if row.method != http.MethodDelete { // a withdrawal would end the story
				status, body := raw(t, login(may), row.method, "/v1/"+w.path(row.below))
				a.seen(t, status/100 == 2, "%s %s under a policy that allows it: %d %s", row.method, row.below, status, body)
			}
			before := w.issued(t, id)
			token := login(denied)
			for _, spelling := range append([]string{"/v1/" + w.path(row.below)}, spellings(w.pim.Path, row.below)...) {
				status, body := raw(t, token, row.method, spelling)
				page := strings.Contains(body, "</html>") // the host's own, for whoever asks for no API
				a.tried(t, status/100 != 2 || page, "%s %s passes: %d %s", row.method, spelling, status, body)
			}
			if after := w.issued(t, id); after != before {
				t.Errorf("%d credentials were made on the way", after-before)
			}
		})
	}
	if state := w.state(t, id); state != "active" {
		t.Errorf("the grant is %s", state)
	}
	w.decide(t, w.bob.Actor, pending, yes(digest)).OK(t)
}

// issued is how many credentials a request ever had.
func (w *world) issued(t *testing.T, id string) int {
	t.Helper()
	list, _ := host.Root().Read(t, w.path("audit/requests/"+id)).OK(t).Data["credentials"].([]any)
	return len(list)
}

func TestSpellingsOutOfAllow(t *testing.T) {
	t.Parallel()
	a := begin(t, "A12", "another spelling leads out of the one path that a policy allows")
	w := plain(t)
	w.role(t, "dev", map[string]any{"max_credentials": 32}).OK(t)
	w.grant(t, "dev", nil)
	id := w.grant(t, "prod", nil)
	only := host.Policy(t, "only-dev", fmt.Sprintf("path %q { capabilities = [\"read\", \"list\"] }\npath %q { capabilities = [\"read\"] }\n", w.path("creds/dev"), w.path("creds/dev/*")))
	host.Root().Write(t, "auth/userpass/users/"+w.alice.Login, map[string]any{"token_policies": []string{only}}).OK(t)
	w.alice.LogIn(t)
	status, body := raw(t, w.alice.Token, http.MethodGet, "/v1/"+w.path("creds/dev"))
	a.seen(t, status == http.StatusOK, "the allowed path: %d %s", status, body)
	for _, up := range []string{"..", "%2e%2e", ".%2e", "%252e%252e", "..;", "..%2f..%2fcreds", "%2e%2e%2f%2e%2e%2fcreds", "..%5c..", "../creds", "../../" + w.pim.Path + "/creds", "%c0%ae%c0%ae"} {
		for _, slash := range []string{"/", "//", "%2f", "%252f", "/./", ";/"} {
			target := "/v1/" + w.path("creds/dev") + slash + up + "/prod"
			status, body := raw(t, w.alice.Token, http.MethodGet, target)
			a.tried(t, status != http.StatusOK, "%s passes: %d %s", target, status, body)
		}
	}
	if n := w.issued(t, id); n != 0 {
		t.Errorf("%d credentials of prod were made on the way", n)
	}
}

func TestMethodsAndHeaders(t *testing.T) {
	t.Parallel()
	a := begin(t, "A12", "another method, or a header that names one, a path or a namespace, passes a policy")
	w := plain(t)
	id := w.grant(t, "prod", nil)
	looker := host.Policy(t, "looker", fmt.Sprintf("path %q { capabilities = [\"list\"] }\npath %q { capabilities = [\"read\"] }\n", w.path("creds/prod"), w.path("eligible/prod")))
	login := func(policies ...string) string {
		host.Root().Write(t, "auth/userpass/users/"+w.alice.Login, map[string]any{"token_policies": policies}).OK(t)
		w.alice.LogIn(t)
		return w.alice.Token
	}
	token := login(looker)
	status, body := raw(t, token, http.MethodGet, "/v1/"+w.path("eligible/prod"))
	a.seen(t, status == http.StatusOK, "what the policy allows: %d %s", status, body)
	target := "/v1/" + w.path("creds/prod")
	for _, method := range []string{"GET", "get", "Get", "PUT", "POST", "PATCH", "DELETE", "HEAD", "LIST", "list", "SCAN", "TRACE", "CONNECTX", "OPTIONS", "PROPFIND"} {
		for _, query := range []string{"", "?list=true", "?list=false", "?help=1&list=1", "?request_id=" + id, "?compose=true"} {
			status, body := raw(t, token, method, target+query)
			a.tried(t, !strings.Contains(body, `"token"`), "%s %s: %d %s", method, target+query, status, body)
		}
	}
	for _, header := range []string{
		"X-HTTP-Method-Override: GET", "X-Method-Override: GET", "X-HTTP-Method: GET", "X-Original-URL: " + target, "X-Rewrite-URL: " + target,
		"X-Forwarded-For: 127.0.0.1", "X-Vault-Namespace: " + w.pim.Path + "/", "X-Vault-Namespace: root", "X-Vault-Namespace: /", "X-Vault-Request: true",
		"X-Vault-Token: " + host.Anonymous().Token, "X-Vault-Policy-Override: true", "X-Vault-No-Request-Forwarding: 1", "X-Vault-Forward: active-node",
		"X-Vault-Inconsistent: forward-active-node", "Transfer-Encoding: identity", "Authorization: Bearer " + token,
	} {
		for _, path := range []string{target, "/v1/" + w.path("eligible/prod"), "/v1/creds/prod"} {
			status, body := raw(t, token, http.MethodGet, path, header)
			a.tried(t, !strings.Contains(body, `"token"`), "%s of %s: %d %s", header, path, status, body)
		}
	}
	if n := w.issued(t, id); n != 0 {
		t.Errorf("%d credentials were made on the way", n)
	}
	a.control(t, harness.Actor.Read(host.Root().With("alice", login(w.person)), t, w.path("creds/prod")))
}

// The spellings themselves: none is the path itself, and none is missing by mistake.
func TestSpellings(t *testing.T) {
	t.Parallel()
	all := spellings("pim", "creds/prod-admin")
	for _, want := range []string{
		"/v1/PIM/creds/prod-admin", "/v1/pim/creds/PROD-ADMIN", "/v1/pim/CREDS/prod-admin", "/v1/pim/creds/prod-admin/", "/v1/pim//creds/prod-admin",
		"/v1/pim/eligible/../creds/prod-admin", "/v1/pim/eligible/%2e%2e/creds/prod-admin", "/v1/pim/creds%2fprod-admin", "/v1/pim/creds/prod-admin%00",
		"/v1/pim/creds/%70%72%6f%64%2d%61%64%6d%69%6e", "/v1/pim/creds/%ef%bd%90rod-admin",
	} {
		if !slices.Contains(all, want) {
			t.Errorf("%s is not among them", want)
		}
	}
	if slices.Contains(all, "/v1/pim/creds/prod-admin") {
		t.Error("the path itself is among them")
	}
}
