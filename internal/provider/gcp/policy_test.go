package gcp

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/vault-pim/vault-plugin-secrets-pim/internal/domain"
	"github.com/vault-pim/vault-plugin-secrets-pim/internal/provider/contract"
	"github.com/vault-pim/vault-plugin-secrets-pim/internal/provider/gcp/fakegcp"
)

// strangers are bindings of other people, written in ways that a careless
// program changes: order of fields, blanks, escapes, unknown fields, conditions
// with signs that web pages escape.
func strangers() []string {
	return []string{
		`{"role":"roles/browser","members":["user:bob@example.com","group:ops@example.com"]}`,
		`{ "members" : [ "user:Carol@Example.com" ], "role" : "roles/compute.viewer" }`,
		`{"condition":{"expression":"request.time < timestamp(\"2030-01-01T00:00:00Z\") && \"a\" > 'b'","title":"caf\u00e9 <b>","location":"x"},` +
			`"role":"roles/compute.viewer","members":["user:dave@example.com"]}`,
		`{"role":"roles/run.invoker","members":["allUsers"],"bindingId":"future","nested":{"a":[1.0,1e3,null]}}`,
		`{"members":["deleted:user:bob@example.com?uid=123"],"role":"roles/viewer"}`,
	}
}

func TestOtherPeoplesPartsOfAPolicyStayByteForByte(t *testing.T) {
	t.Parallel()
	k := newKit(t)
	k.cloud.Observe = nil // unknown fields are not in Google's descriptions
	extra := map[string]string{
		"auditConfigs": `[{ "service":"allServices","auditLogConfigs":[{"logType":"DATA_READ"}] }]`, "somethingNew": `{"z":1,"a":"<"}`,
	}
	k.cloud.SetPolicy(projectPolicy, extra, strangers()...)
	p := k.open(t, k.target(nil))
	_, h := k.mustIssue(t, p, contract.Values{"principal_source": "metadata:m", "iam_roles": []string{"roles/compute.viewer", "roles/storage.admin"}})
	if n := len(k.cloud.Bindings(projectPolicy)); n != len(strangers())+2 {
		t.Fatalf("%d bindings after two were added", n)
	}
	k.mustEnd(t, p, h)
	var left []string
	for _, b := range k.cloud.Bindings(projectPolicy) {
		left = append(left, b.Raw)
	}
	if !slices.Equal(left, strangers()) {
		t.Errorf("bindings of others changed:\n%s\n%s", strings.Join(left, "\n"), strings.Join(strangers(), "\n"))
	}
}

func TestAPolicyIsWrittenAsItWasRead(t *testing.T) {
	t.Parallel()
	raw := `{"etag":"BwX7=","somethingNew":{"z":1, "a":"<&"},"bindings":[` + strings.Join(strangers(), ",") + `],"version":1}`
	p, err := parsePolicy([]byte(raw))
	if err != nil {
		t.Fatal(err)
	}
	out, err := p.encode()
	if err != nil {
		t.Fatal(err)
	}
	want := `{"etag":"BwX7=","somethingNew":{"z":1, "a":"<&"},"version":3,"bindings":[` + strings.Join(strangers(), ",") + `]}`
	if string(out) != want {
		t.Errorf("written:\n%s\nread:\n%s", out, want)
	}
	for name, bad := range map[string]string{
		"no etag": `{"bindings":[]}`, "an empty etag": `{"etag":"","bindings":[]}`,
	} {
		p, err := parsePolicy([]byte(bad))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := p.encode(); err == nil {
			t.Errorf("a policy with %s was written", name)
		}
	}
	for name, bad := range map[string]string{
		"no object": `[]`, "cut off": `{"etag":"x"`, "bindings that are none": `{"bindings":{}}`, "a binding that is none": `{"bindings":["x"]}`,
	} {
		if _, err := parsePolicy([]byte(bad)); !errors.Is(err, errPolicy) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestSomebodyAddedToOurBindingStaysInIt(t *testing.T) {
	t.Parallel()
	k := newKit(t)
	p := k.open(t, k.target(nil))
	_, h := k.mustIssue(t, p, contract.Values{"principal_source": "metadata:m", "iam_roles": []string{"roles/compute.viewer"}})
	ours := k.cloud.Bindings(projectPolicy)[0].Raw
	k.cloud.SetPolicy(projectPolicy, nil) // another etag
	found := false
	addMember := func(p *policy) {
		p.bindings[0].members = append(p.bindings[0].members, "user:bob@example.com")
		p.bindings[0].raw = []byte(strings.Replace(ours, `"user:alice@example.com"`, `"user:alice@example.com","user:bob@example.com"`, 1))
	}
	if err := p.desk.change(t.Context(), p.config.managed[0], anyEdit(func(p *policy) (bool, error) {
		addMember(p)
		found = true
		return true, nil
	})); err != nil || !found {
		t.Fatal(err)
	}
	k.mustEnd(t, p, h)
	left := k.cloud.Bindings(projectPolicy)
	if len(left) != 1 || !slices.Equal(left[0].Members, []string{"user:bob@example.com"}) || left[0].Condition.Expression == "" {
		t.Errorf("what is left: %+v", left)
	}
}

// anyEdit is an edit that nobody checks.
type anyEdit func(*policy) (bool, error)

func (e anyEdit) apply(p *policy) (bool, error) { return e(p) }
func (anyEdit) check(*policy) error             { return nil }
func (anyEdit) takeBack(*policy) (bool, error)  { return false, nil }

// TestAHundredAtOnceLoseNothing has a hundred credentials issued and revoked on
// one policy, from two processes, while somebody else writes to it too.
func TestAHundredAtOnceLoseNothing(t *testing.T) {
	t.Parallel()
	const many = 100
	k := newKit(t)
	k.cloud.SetPolicy(projectPolicy, nil, `{"role":"roles/browser","members":["user:bob@example.com"]}`)
	k.cloud.Invade(projectPolicy, 15)
	processes := []*Provider{k.open(t, k.target(nil)), k.open(t, k.target(nil))}
	fields := contract.Values{"principal_source": "metadata:m", "iam_roles": []string{"roles/compute.viewer"}}
	handles := make([]domain.Handle, many)
	var wg sync.WaitGroup
	for i := range many {
		in := k.input(t, fields)
		in.Principal = fmt.Sprintf("user:person-%d@example.com", i)
		p := processes[i%2]
		handles[i] = k.plan(t, p, in)
		wg.Go(func() {
			if _, _, err := k.issue(t, p, in, handles[i]); err != nil {
				t.Errorf("issue %d: %v", i, err)
			}
		})
	}
	wg.Wait()
	for i := range many {
		if who := fmt.Sprintf("user:person-%d@example.com", i); !k.cloud.Gives(projectPolicy, who) {
			t.Errorf("%s has no binding", who)
		}
	}
	issued := k.cloud.Writes(projectPolicy)
	k.cloud.Invade(projectPolicy, 15)
	for i := range many {
		wg.Go(func() {
			if ended, err := processes[(i+1)%2].Revoke(t.Context(), handles[i]); err != nil || !ended.Done() {
				t.Errorf("revoke %d: %+v, %v", i, ended, err)
			}
		})
	}
	wg.Wait()
	strangers := 0
	for _, b := range k.cloud.Bindings(projectPolicy) {
		if b.Role != "roles/browser" {
			t.Errorf("left over: %s", b.Raw)
		}
		strangers++
	}
	if strangers != 1+30 {
		t.Errorf("others have %d bindings, not 31", strangers)
	}
	t.Logf("writes of the policy: %d to issue, %d to revoke", issued, k.cloud.Writes(projectPolicy)-issued)
	if issued > many {
		t.Errorf("%d writes for %d issues", issued, many)
	}
}

func TestOneBadEditDoesNotFailTheOthers(t *testing.T) {
	t.Parallel()
	k := newKit(t)
	p := k.open(t, k.target(nil))
	fields := contract.Values{"principal_source": "metadata:m", "iam_roles": []string{"roles/compute.viewer"}}
	var wg sync.WaitGroup
	for i := range 20 {
		in := k.input(t, fields)
		in.Principal = fmt.Sprintf("user:person-%d@example.com", i)
		if i%5 == 0 {
			in.Principal = fmt.Sprintf("user:nobody-%d@example.com", i)
		}
		h := k.plan(t, p, in)
		wg.Go(func() {
			_, _, err := k.issue(t, p, in, h)
			if bad := i%5 == 0; (err != nil) != bad {
				t.Errorf("person %d: %v", i, err)
			}
		})
	}
	wg.Wait()
	if n := len(k.cloud.Bindings(projectPolicy)); n != 16 {
		t.Errorf("%d bindings, not 16", n)
	}
}

// TestWhoWaitsGoesOnWhenTheWriterLeaves ends the context of whoever writes for
// others while it writes.
func TestWhoWaitsGoesOnWhenTheWriterLeaves(t *testing.T) {
	t.Parallel()
	api := &slowPolicies{entered: make(chan struct{}), goOn: make(chan struct{})}
	k := newKit(t)
	d := newDesk(api, k.clk, k.surroundings().pace)
	ctx, cancel := context.WithCancel(t.Context())
	r := resource("cloudresourcemanager.googleapis.com/projects/prod-access")
	first, second := make(chan error, 1), make(chan error, 1)
	add := anyEdit(func(p *policy) (bool, error) { return true, nil })
	go func() { first <- d.change(ctx, r, add) }()
	<-api.entered
	go func() { second <- d.change(t.Context(), r, add) }()
	for !d.waiting(r) { // bounded by the test's own timeout
		runtime.Gosched()
	}
	cancel()
	close(api.goOn)
	if err := <-first; !errors.Is(err, context.Canceled) {
		t.Errorf("the writer that left: %v", err)
	}
	if err := <-second; err != nil {
		t.Errorf("who waited: %v", err)
	}
	if len(d.lines) != 0 {
		t.Error("a line is left")
	}
}

func (d *desk) waiting(r resource) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.lines[r] != nil && len(d.lines[r].waiting) > 0
}

// slowPolicies holds the first reader until told.
type slowPolicies struct {
	once          sync.Once
	entered, goOn chan struct{}
}

func (s *slowPolicies) policy(ctx context.Context, _ resource) (*policy, error) {
	s.once.Do(func() {
		close(s.entered)
		<-s.goOn
	})
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	return &policy{fields: object{{"etag", []byte(`"x"`)}}}, nil
}

func (s *slowPolicies) writePolicy(ctx context.Context, _ resource, p *policy) (*policy, error) {
	return p, ctx.Err()
}

func TestLimitsAreCheckedBeforeTheWriteWithTheNumber(t *testing.T) {
	t.Parallel()
	user := contract.Values{"principal_source": "metadata:m", "iam_roles": []string{"roles/compute.viewer"}}
	group := contract.Values{"principal_source": "metadata:m", "member_type": "group", "iam_roles": []string{"roles/compute.viewer"}}
	conditional := func(n int) string {
		return fmt.Sprintf(`{"role":"roles/compute.viewer","members":["user:alice@example.com"],`+
			`"condition":{"title":"pim-%026d","expression":"request.time < timestamp(\"2030-01-01T00:00:%02dZ\")"}}`, n, n)
	}
	members := func(kind string, n int) string {
		var list []string
		for i := range n {
			list = append(list, fmt.Sprintf(`"%s:m%d@example.com"`, kind, i))
		}
		return `{"role":"roles/browser","members":[` + strings.Join(list, ",") + `]}`
	}
	var twenty []string
	for i := range 20 {
		twenty = append(twenty, conditional(i))
	}
	for name, row := range map[string]struct {
		fields contract.Values
		have   []string
		code   string
		number string
	}{
		"twenty conditional bindings of the same role and person": {user, twenty, "limit_conditions", "there are 20"},
		"fifteen hundred principals":                              {user, []string{members("user", 1500)}, "limit_principals", "there are 1500"},
		"two hundred and fifty groups":                            {group, []string{members("group", 250)}, "limit_groups", "there are 250"},
		"the role by a binding of others": {
			user, []string{`{"role":"roles/compute.viewer","members":["user:ALICE@example.com"]}`}, "outside_pim", "already has this access outside pim",
		},
		"the role by a conditional binding of others": {
			user,
			[]string{`{"role":"roles/compute.viewer","members":["user:alice@example.com"],"condition":{"title":"week","expression":"true"}}`},
			"outside_pim", "already has this access outside pim",
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			k := newKit(t)
			k.cloud.SetPolicy(projectPolicy, nil, row.have...)
			p := k.open(t, k.target(nil))
			in := k.input(t, row.fields)
			if row.fields.String("member_type") == memberGroup {
				in.Principal = "group:admins@example.com"
			}
			_, h, err := k.issue(t, p, in, k.plan(t, p, in))
			wantError(t, err, row.code, row.number)
			if n := k.cloud.Writes(projectPolicy); n != 0 {
				t.Errorf("%d writes", n)
			}
			k.mustEnd(t, p, h)
			if len(k.cloud.Bindings(projectPolicy)) != len(row.have) {
				t.Error("the policy changed")
			}
		})
	}
}

// wantError looks for a code and words of ours, and that Google's own words are
// not in it.
func wantError(t testing.TB, err error, code, words string) {
	t.Helper()
	own, ok := errors.AsType[*contract.Error](err)
	if !ok {
		t.Fatalf("no error of ours: %v", err)
	}
	if own.Code != code || !strings.Contains(own.Public, words) || own.Op == "" {
		t.Errorf("error %q, not code %s with %q", own.Error(), code, words)
	}
	if text := fmt.Sprintf("%v %+v %#v", err, own.Cause, err); strings.Contains(text, fakegcp.UpstreamWords) {
		t.Errorf("Google's own words got out: %s", text)
	}
}
