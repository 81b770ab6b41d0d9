package gcp

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/vault-pim/vault-plugin-secrets-pim/tests/harness/poll"
)

// TestGooglesOwnLibraryLogsInWithAKeyAsItWasIssued gives the answer, unchanged,
// to Google's library for Python.
func TestGooglesOwnLibraryLogsInWithAKeyAsItWasIssued(t *testing.T) {
	o := newOffice(t)
	for _, role := range []string{"own-key", "existing-key"} {
		t.Run(role, func(t *testing.T) {
			o.Write(t, "roles/"+role, o.Auto(kinds()[role]))
			creds := o.Alice.Read(t, o.Path("creds/"+role)).OK(t)
			raw, err := base64.StdEncoding.DecodeString(creds.String(t, "private_key_data"))
			if err != nil {
				t.Fatal(err)
			}
			token := look(t, string(raw), "login")
			if email, ok := o.Valid(token); !ok || email != creds.String(t, "service_account_email") {
				t.Errorf("logged in as %q: %v", email, ok)
			}
		})
	}
}

// TestGooglesOwnLibraryAndPimShareAPolicy has Google's client library for
// Python change the policy while pim does, and looks whether each kept the
// other's.
func TestGooglesOwnLibraryAndPimShareAPolicy(t *testing.T) {
	o := newOffice(t)
	o.Write(t, "roles/robot", o.Auto(args{"service_account_email": robot, "ttl": "10m"}))
	o.Write(t, "roles/own-user", o.Auto(kinds()["own-user"]))
	o.Empower(robot)
	token := o.Alice.Read(t, o.Path("creds/robot")).OK(t).String(t, "token")
	address := o.url + "/cloudresourcemanager"
	const expression = `request.time < timestamp("2040-01-01T00:00:00Z") && resource.name != "<&>"`
	stop, leases := make(chan struct{}), make(chan []string, 1)
	go func() {
		var ids []string
		for {
			creds := o.Alice.Read(t, o.Path("creds/own-user"))
			if creds.Status == http.StatusOK {
				ids = append(ids, creds.LeaseID)
				if len(ids)%2 == 0 { // half of them end again
					host.Root().Write(t, "sys/leases/revoke", args{"lease_id": creds.LeaseID, "sync": true})
				}
			}
			select {
			case <-stop:
				leases <- ids
				return
			default:
			}
		}
	}()
	for i := range 4 {
		title := fmt.Sprintf("theirs-%d", i)
		look(t, "", "join", address, token, "projects/prod-access", "roles/compute.viewer", "user:dave@example.com", title, expression)
		if i%2 == 1 {
			look(t, "", "leave", address, token, "projects/prod-access", title)
		}
	}
	close(stop)
	t.Logf("pim issued %d meanwhile", len(<-leases))
	theirs := map[string]string{}
	for _, b := range o.Bindings(policy) {
		if b.Condition != nil && strings.HasPrefix(b.Condition.Title, "theirs-") {
			theirs[b.Condition.Title] = b.Condition.Expression
		}
	}
	if len(theirs) != 2 || theirs["theirs-0"] != expression || theirs["theirs-2"] != expression {
		t.Errorf("their bindings: %v", theirs)
	}
	if !o.Gives(policy, "user:"+aliceMail) {
		t.Error("alice has nothing")
	}
	o.Write(t, "revoke", args{"role": "own-user", "reason": "enough", "hold": 0})
	poll.Until(t, endBound, func() error {
		if left := o.usable(); len(left) > 0 {
			return fmt.Errorf("%d are left", len(left))
		}
		return nil
	})
}

// TestOnAnEmulatorByOthers has drongo stand in for Resource Manager and Cloud
// Storage. It knows projects and the policies of buckets; it knows neither
// etags that change nor conditions, service accounts only over gRPC, and asks
// nobody who they are.
func TestOnAnEmulatorByOthers(t *testing.T) {
	emulator := startDrongo(t)
	post := func(path string, body any) {
		t.Helper()
		call(t, http.MethodPost, emulator+path, body)
	}
	post("/v3/projects", args{"projectId": "prod-access"})
	post("/storage/v1/b?project=prod-access", args{"name": "prod-logs"})
	theirs := args{"role": "roles/storage.admin", "members": []string{"user:bob@example.com"}}
	call(t, http.MethodPut, emulator+"/storage/v1/b/prod-logs/iam", args{"bindings": []any{theirs}, "version": 1})

	o := newOffice(t)
	const bucket = "//storage.googleapis.com/buckets/prod-logs"
	o.Write(t, "targets/others", o.target(args{
		"managed_resources": bucket, "endpoints": o.endpoints(map[string]string{"cloudresourcemanager": emulator, "storage": emulator}),
	}))
	seen := host.Root().Read(t, o.Path("targets/others")).OK(t)
	if place := seen.String(t, "place"); place == "" || strings.Trim(place, "0123456789") != "" {
		t.Errorf("the place is %q", place)
	}
	o.Write(t, "roles/logs", o.Auto(args{
		"target": "others", "principal_source": "metadata:mail", "iam_roles": "roles/storage.objectViewer", "resources": bucket,
	}))
	creds := o.Alice.Read(t, o.Path("creds/logs")).OK(t)
	bindings := func() string {
		return string(call(t, http.MethodGet, emulator+"/storage/v1/b/prod-logs/iam?optionsRequestedPolicyVersion=3", nil))
	}
	if have := bindings(); !strings.Contains(have, "user:"+aliceMail) || !strings.Contains(have, "request.time") || !strings.Contains(have, "bob@") {
		t.Errorf("the policy: %s", have)
	}
	host.Root().Write(t, "sys/leases/revoke", args{"lease_id": creds.LeaseID, "sync": true}).OK(t)
	if have := bindings(); strings.Contains(have, "alice@") || !strings.Contains(have, "bob@") {
		t.Errorf("the policy after the end: %s", have)
	}
}

func call(t *testing.T, method, url string, body any) []byte {
	t.Helper()
	raw, err := json.Marshal(body)
	if err != nil {
		t.Fatal(err)
	}
	r, err := http.NewRequestWithContext(t.Context(), method, url, strings.NewReader(string(raw)))
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Content-Type", "application/json")
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	var out json.RawMessage
	if err := json.NewDecoder(resp.Body).Decode(&out); err != nil || resp.StatusCode != http.StatusOK {
		t.Fatalf("%s %s: %d %s %v", method, url, resp.StatusCode, out, err)
	}
	return out
}

// startDrongo runs the emulator until the test ends.
func startDrongo(t *testing.T) (url string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := l.Addr().String()
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	_, port, _ := net.SplitHostPort(address)
	cmd := exec.CommandContext(t.Context(), toolPath(t, "drongo"), "server", "--port", port)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := cmd.Process.Kill(); err != nil {
			t.Log(err)
		}
		_ = cmd.Wait() // killed, so it ends with an error
	})
	poll.Until(t, 30*time.Second, func() error {
		c, err := net.DialTimeout("tcp", address, time.Second)
		if err == nil {
			return c.Close()
		}
		return err
	})
	return "http://" + address
}
