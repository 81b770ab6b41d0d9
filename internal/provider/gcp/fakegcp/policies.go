package fakegcp

import (
	"bytes"
	"encoding/json"
	"net/http"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

const (
	maxPrincipals  = 1500
	maxConditioned = 20
)

var timestamp = regexp.MustCompile(`request\.time < timestamp\("([^"]+)"\)`)

// policy is an allow policy. Bindings are kept as they were written.
type policy struct {
	etag     int
	bindings []json.RawMessage
	made     map[string]time.Time // when a binding was first there
	extra    map[string]json.RawMessage
	invade   int // so many writes meet somebody else's first
}

// Binding is a binding as tests read it.
type Binding struct {
	Role      string   `json:"role"`
	Members   []string `json:"members"`
	Condition *struct {
		Title       string `json:"title"`
		Description string `json:"description"`
		Expression  string `json:"expression"`
	} `json:"condition"`
	Raw string `json:"-"`
}

func readBinding(raw json.RawMessage) Binding {
	var b Binding
	if err := json.Unmarshal(raw, &b); err != nil {
		return Binding{Raw: string(raw)}
	}
	b.Raw = string(raw)
	return b
}

func (c *Cloud) newPolicy(service, name string) {
	c.policies[service+"/"+name] = &policy{etag: 1, made: map[string]time.Time{}, extra: map[string]json.RawMessage{}}
}

// SetPolicy puts other people's bindings and fields into a policy.
func (c *Cloud) SetPolicy(name string, extra map[string]string, bindings ...string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	p := c.policies[name]
	p.etag++
	for k, v := range extra {
		p.extra[k] = json.RawMessage(v)
	}
	for _, b := range bindings {
		p.add(json.RawMessage(b), time.Time{})
	}
}

func (p *policy) add(raw json.RawMessage, at time.Time) {
	p.bindings = append(p.bindings, raw)
	if _, ok := p.made[string(raw)]; !ok {
		p.made[string(raw)] = at
	}
}

// Invade has somebody else write between the next n reads and writes.
func (c *Cloud) Invade(name string, n int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.policies[name].invade = n
}

// Bindings lists a policy's bindings.
func (c *Cloud) Bindings(name string) []Binding {
	c.mu.Lock()
	defer c.mu.Unlock()
	var out []Binding
	for _, raw := range c.policies[name].bindings {
		out = append(out, readBinding(raw))
	}
	return out
}

// Writes counts the accepted writes of a policy.
func (c *Cloud) Writes(name string) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.writes[name]
}

func (p *policy) rename(from, to string) {
	for i, raw := range p.bindings {
		renamed := json.RawMessage(bytes.ReplaceAll(raw, []byte(strconv.Quote(from)), []byte(strconv.Quote(to))))
		p.made[string(renamed)] = p.made[string(raw)]
		p.bindings[i] = renamed
	}
}

// policyCall serves the calls on the policy of one resource.
func (c *Cloud) policyCall(v *visit, prefix, readMethod string) (any, *refusal) {
	rest := strings.TrimPrefix(v.path, prefix)
	at := strings.LastIndexByte(rest, ':')
	if at < 0 {
		return nil, notFound()
	}
	name, verb := v.service+"/"+rest[:at], rest[at+1:]
	p := c.policies[name]
	if p == nil {
		return nil, c.hidden("resourcemanager.projects.getIamPolicy")
	}
	switch {
	case verb == "getIamPolicy" && v.method == readMethod:
		version, err := strconv.Atoi("0" + v.arg("options.requestedPolicyVersion"))
		if readMethod == http.MethodPost {
			var in struct {
				Options struct {
					Version int `json:"requestedPolicyVersion"`
				} `json:"options"`
			}
			if wrong := v.decode(&in); wrong != nil {
				return nil, wrong
			}
			version = in.Options.Version
		}
		if err != nil {
			return nil, invalid("bad version")
		}
		return c.readPolicy(v, p, version)
	case verb == "setIamPolicy" && v.method == http.MethodPost:
		var in struct {
			Policy json.RawMessage `json:"policy"`
		}
		if wrong := v.decode(&in); wrong != nil {
			return nil, wrong
		}
		return c.writePolicy(v, name, p, in.Policy, refuse(http.StatusConflict, "ABORTED", "concurrent policy changes"))
	case verb == "testIamPermissions" && v.method == http.MethodPost:
		var in struct {
			Permissions []string `json:"permissions"`
		}
		if wrong := v.decode(&in); wrong != nil {
			return nil, wrong
		}
		return granted(c.test(v, p, in.Permissions)), nil
	}
	return nil, notFound()
}

// storage has other paths for the same things.
func (c *Cloud) storage(v *visit) (any, *refusal) {
	rest := strings.TrimPrefix(v.path, "storage/v1/b/")
	bucket, what, _ := strings.Cut(rest, "/")
	name := "storage/buckets/" + bucket
	p := c.policies[name]
	switch {
	case p == nil:
		return nil, notFound()
	case what == "iam" && v.method == http.MethodGet:
		version, err := strconv.Atoi("0" + v.arg("optionsRequestedPolicyVersion"))
		if err != nil {
			return nil, invalid("bad version")
		}
		return c.readPolicy(v, p, version)
	case what == "iam" && v.method == http.MethodPut:
		return c.writePolicy(v, name, p, v.body, refuse(http.StatusPreconditionFailed, "", "conditionNotMet"))
	case what == "iam/testPermissions" && v.method == http.MethodGet:
		return granted(c.test(v, p, v.query["permissions"])), nil
	}
	return nil, notFound()
}

// readPolicy hides conditions from whoever does not ask for version 3.
func (c *Cloud) readPolicy(v *visit, p *policy, version int) (any, *refusal) {
	if wrong := c.need(v, "resourcemanager.projects.getIamPolicy"); wrong != nil {
		return nil, wrong
	}
	return c.render(p, version), nil
}

// render writes a policy by hand, so that bindings leave as they came.
func (c *Cloud) render(p *policy, version int) []byte {
	shown := 1
	var list [][]byte
	for i, raw := range p.bindings {
		b := readBinding(raw)
		switch {
		case b.Condition == nil:
		case version < 3:
			raw = encode(map[string]any{"role": b.Role + "_withcond_" + strconv.Itoa(i), "members": b.Members})
		default:
			shown = 3
		}
		list = append(list, raw)
	}
	var out bytes.Buffer
	out.WriteString(`{"version":` + strconv.Itoa(shown) + `,"etag":"` + etagOf(p.etag) + `","bindings":[`)
	out.Write(bytes.Join(list, []byte(",")))
	out.WriteString("]")
	for _, k := range sortedKeys(p.extra) {
		out.WriteString("," + strconv.Quote(k) + ":")
		out.Write(p.extra[k])
	}
	out.WriteString("}")
	return out.Bytes()
}

func etagOf(n int) string { return "BwX" + strconv.Itoa(n) + "=" }

func (c *Cloud) writePolicy(v *visit, name string, p *policy, raw json.RawMessage, conflict *refusal) (any, *refusal) {
	if wrong := c.need(v, "resourcemanager.projects.setIamPolicy"); wrong != nil {
		return nil, wrong
	}
	if p.invade > 0 {
		p.invade--
		p.etag++
		p.add(json.RawMessage(`{"members":["user:stranger-`+strconv.Itoa(p.etag)+`@example.com"],"role":"roles/browser"}`), time.Time{})
	}
	var in struct {
		Etag     string            `json:"etag"`
		Version  int               `json:"version"`
		Bindings []json.RawMessage `json:"bindings"`
	}
	if err := json.Unmarshal(raw, &in); err != nil {
		return nil, invalid("no policy")
	}
	if in.Etag != etagOf(p.etag) {
		return nil, conflict
	}
	if wrong := c.judge(in.Version, in.Bindings); wrong != nil {
		return nil, wrong
	}
	p.etag++
	before := p.made
	p.bindings, p.made = nil, map[string]time.Time{}
	for _, b := range in.Bindings {
		if c.faults.bare {
			read := readBinding(b)
			b = encode(map[string]any{"role": read.Role, "members": read.Members})
		}
		at, had := before[string(b)]
		if !had {
			at = c.clk.Now()
		}
		p.add(b, at)
	}
	c.writes[name]++
	return c.render(p, 3), nil
}

// judge refuses policies that Google does.
func (c *Cloud) judge(version int, list []json.RawMessage) *refusal {
	principals, conditioned := 0, map[string]int{}
	for _, raw := range list {
		b := readBinding(raw)
		if wrong := c.judgeBinding(version, b); wrong != nil {
			return wrong
		}
		for _, m := range b.Members {
			principals++
			if b.Condition != nil {
				conditioned[b.Role+" "+strings.ToLower(m)]++
			}
		}
	}
	if principals > maxPrincipals {
		return invalid("too many principals")
	}
	for _, n := range conditioned {
		if n > maxConditioned {
			return invalid("too many conditional bindings")
		}
	}
	return nil
}

func (c *Cloud) judgeBinding(version int, b Binding) *refusal {
	basic := []string{"roles/owner", "roles/editor", "roles/viewer"}
	switch {
	case b.Role == "" || len(b.Members) == 0 || strings.HasPrefix(b.Role, "roles/unknown"):
		return invalid("bad binding")
	case b.Condition != nil && (version != 3 || b.Condition.Expression == "" || slices.Contains(basic, b.Role)):
		return invalid("conditions are not possible here")
	}
	for _, m := range b.Members {
		email, isAccount := strings.CutPrefix(m, "serviceAccount:")
		if (isAccount && !c.known(c.accounts[email], c.lag.Members)) || strings.HasPrefix(m, "user:nobody") {
			return invalid("Service account or user " + m + " does not exist.")
		}
	}
	return nil
}

// test lists which permissions the caller has.
func (c *Cloud) test(v *visit, p *policy, list []string) []string {
	return slices.DeleteFunc(slices.Clone(list), func(permission string) bool {
		if v.caller.engine {
			return c.faults.denied[permission]
		}
		return !c.gives(p, "serviceAccount:"+v.caller.email, permission)
	})
}

// gives tells whether a policy gives somebody a permission now; "" is any.
func (c *Cloud) gives(p *policy, member, permission string) bool {
	now := c.clk.Now()
	return slices.ContainsFunc(p.bindings, func(raw json.RawMessage) bool {
		b := readBinding(raw)
		if !slices.Contains(b.Members, member) || now.Before(p.made[string(raw)].Add(c.lag.Grants)) {
			return false
		}
		if b.Condition != nil {
			m := timestamp.FindStringSubmatch(b.Condition.Expression)
			if m != nil {
				until, err := time.Parse(time.RFC3339, m[1])
				if err != nil || !now.Before(until) {
					return false
				}
			}
		}
		return permission == "" || slices.Contains(c.roles[b.Role], permission)
	})
}

// Gives tells whether the policy of a resource gives a principal any role now.
func (c *Cloud) Gives(name, member string) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.gives(c.policies[name], member, "")
}
