package pim

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"time"

	"github.com/hashicorp/vault/sdk/framework"
	"github.com/hashicorp/vault/sdk/logical"

	"github.com/vault-pim/vault-plugin-secrets-pim/internal/domain"
	"github.com/vault-pim/vault-plugin-secrets-pim/internal/provider/contract"
)

// Types of fields beside those of the provider contract.
const (
	typeTime    contract.FieldType = 100 + iota // RFC 3339 with a zone; a time.Time in UTC
	typeObjects                                 // name to an object of declared members
	typeList                                    // list of objects of declared members
	typeMaps                                    // list of maps of strings
)

// field declares one thing that may be sent, or one thing that is answered.
type field struct {
	name     string
	typ      contract.FieldType
	desc     string
	required bool // sent: a write without it is refused; answered: always there
	def      any  // value of an absent field, of the Go type of typ; nil = zero value
	allowed  []string
	// sensitive marks a secret that is sent. It is read with call.Secret alone.
	sensitive bool
	// query marks a field that read, list and delete take too, as a query
	// parameter. The others belong to writes alone.
	query bool
	// command marks texts of ours that hold a command for the reader to paste.
	command bool
	// members are the fields of each object of a typeObjects or typeList.
	members []field
	// least and most bound an int or a duration in seconds, when one of them is set.
	least, most int
	// check says what is wrong with a string, with each string of a list, or
	// with a capture; "" = nothing. The text never repeats the value.
	check func(string) string
	// checkMap says what is wrong with a map as a whole; "" = nothing.
	checkMap func(map[string]string) string
}

// op is one operation of a path.
type op struct {
	verb    logical.Operation
	name    string // verb of the operation's id; "" = read, list, write or delete
	summary string
	do      func(ctx context.Context, c *call) (*answer, error)
	ok      []field // of a 200; none = the answer is an empty 204
	// media is the content type of a 200 that is no JSON but raw bytes.
	media string
	more  bool // a 200 carries fields of the target too, besides those of ok
	// statuses are the answers besides 200 and 400 that are part of the
	// operation's meaning. 500 and 502 are always possible and not listed.
	statuses []int
	// takes names the fields that this operation takes; nil = all of a write,
	// those with query of any other.
	takes []string
}

// path is one resource of the API.
type path struct {
	pattern     string // without anchors; segments by segment()
	name        string // of the resource, in operation ids: hyphenated, lower case
	help        string // one sentence
	description string
	captures    []field
	fields      []field
	ops         []op
}

// answer is what an operation has to say when it did what was asked. A nil
// answer is a 404 of a read or list, and a 204 of anything else.
type answer struct {
	data     map[string]any
	keys     []string       // of a list
	info     map[string]any // of a list: key to what is worth showing beside it
	warnings []string
	lease    *lease
	wrap     time.Duration // forced response wrapping; 0 = as the caller asked
	raw      []byte        // in place of data, for an operation with media
}

// lease makes an answer a leased one. The host turns a TTL of zero into 32
// days, one below a second into none, and numbers in internal data into
// floats: so it is whole seconds and strings, or an error.
type lease struct {
	secret   *framework.Secret
	ttl      time.Duration
	internal map[string]string
}

// segment is one path segment, captured whatever it contains: what is wrong
// with it is answered by us and not by the host.
func segment(name string) string { return "(?P<" + name + ">[^/]+)" }

// nameCapture is a capture that names a target or a role.
func nameCapture(name, desc string) field {
	return field{name: name, typ: contract.TypeString, desc: desc, required: true, check: checkName}
}

// idCapture is a capture that is an id of ours.
func idCapture(name, desc string) field {
	return field{name: name, typ: contract.TypeString, desc: desc, required: true, check: checkID}
}

func checkName(s string) string {
	if domain.ValidName(s) {
		return ""
	}
	return "must be 1 to 63 lower-case letters, digits and inner hyphens"
}

func checkID(s string) string {
	if domain.ValidID(s) {
		return ""
	}
	return "must be an id: 26 characters, digits and lower-case letters"
}

// listPageMax is the largest page of a list.
const listPageMax = 100

// pageFields are what every list takes.
func pageFields() []field {
	return []field{
		{name: "after", typ: contract.TypeString, query: true, desc: "Show what comes after this key."},
		{name: "limit", typ: contract.TypeInt, query: true, def: listPageMax, desc: "Show at most so many keys; 1 to 100.", least: 1, most: listPageMax},
	}
}

// listFields are what a list answers. With info, key_info says more about each
// key.
func listFields(info string) []field {
	out := []field{{name: "keys", typ: contract.TypeStrings, required: true, desc: "The keys of this page, in order."}}
	if info != "" {
		out = append(out, field{name: "key_info", typ: typeObjects, desc: info})
	}
	return out
}

// errorFields are the data of every answer of 400 and 403.
func errorFields() []field {
	return []field{
		{name: "code", typ: contract.TypeString, required: true, desc: "What happened, from a closed list."},
		{name: "problems", typ: contract.TypeStrings, command: true, desc: "Everything that is wrong with the input, field by field."},
		{name: "state", typ: contract.TypeString, desc: "State of the request, where there is one."},
		{name: "request_id", typ: contract.TypeString, desc: "The request, where there is one."},
		{name: "role", typ: contract.TypeString, desc: "The role."},
		{name: "approvals", typ: contract.TypeMap, desc: "Approvals: have and need."},
		{name: "waiting_for", typ: contract.TypeString, desc: "Who can decide."},
		{name: "expires_at", typ: typeTime, desc: "When the request expires."},
		{name: "opens_at", typ: typeTime, desc: "When the role may be used again, where that is known."},
		{name: "poll_after_seconds", typ: contract.TypeInt, desc: "When asking again makes sense."},
		{name: "target_code", typ: contract.TypeString, desc: "The target's own code for what it refused."},
		{name: "hold_id", typ: contract.TypeString, desc: "The hold that stands in the way."},
		{name: "live_credentials", typ: contract.TypeInt, desc: "Live credentials that stand in the way."},
		{name: "max_login_age", typ: contract.TypeInt, desc: "How old the login of the calling token may be, in seconds."},
		{name: "required_login", typ: contract.TypeString, desc: "Accessor of the auth mount to log in at."},
		{name: "next", typ: contract.TypeString, command: true, desc: "The command that helps."},
	}
}

// framework renders the path for the SDK, which describes it and never runs it.
func (p path) framework() *framework.Path {
	out := &framework.Path{
		Pattern:         p.pattern,
		HelpSynopsis:    p.help,
		HelpDescription: p.description,
		DisplayAttrs:    &framework.DisplayAttributes{OperationPrefix: "pim", OperationSuffix: p.name},
		Fields:          schemas(slices.Concat(p.captures, p.fields)),
		Operations:      map[logical.Operation]framework.OperationHandler{},
	}
	for _, o := range p.ops {
		out.Operations[o.verb] = &framework.PathOperation{
			Callback:                    unchecked,
			Summary:                     o.summary,
			Responses:                   o.responses(),
			ForwardPerformanceStandby:   true,
			ForwardPerformanceSecondary: true,
			DisplayAttrs: &framework.DisplayAttributes{
				OperationPrefix: "pim", OperationVerb: o.id(), OperationSuffix: p.name,
			},
		}
	}
	return out
}

func (o op) id() string {
	switch {
	case o.name != "":
		return o.name
	case o.verb == logical.UpdateOperation:
		return "write"
	}
	return string(o.verb)
}

func (o op) responses() map[int][]framework.Response {
	out := map[int][]framework.Response{}
	add := func(status int, desc string, fields []field) {
		r := framework.Response{Description: desc}
		if fields != nil {
			r.Fields = schemas(fields)
		}
		out[status] = []framework.Response{r}
	}
	switch {
	case o.media != "":
		out[http.StatusOK] = []framework.Response{{Description: "OK", MediaType: o.media}}
	case len(o.ok) > 0:
		add(http.StatusOK, "OK", o.ok)
	default:
		add(http.StatusNoContent, "Done; there is nothing to answer.", nil)
	}
	add(http.StatusBadRequest, "The input is wrong, or the state does not allow it. The fields are those of data.", errorFields())
	for _, status := range o.statuses {
		switch status {
		case http.StatusForbidden:
			add(status, "Not this caller, or not any more. The fields are those of data.", errorFields())
		case http.StatusNotFound:
			add(status, "No such thing, or none that the caller may know of.", nil)
		default:
			add(status, http.StatusText(status), nil)
		}
	}
	return out
}

func schemas(fields []field) map[string]*framework.FieldSchema {
	out := make(map[string]*framework.FieldSchema, len(fields))
	for _, f := range fields {
		s := &framework.FieldSchema{
			Type: f.sdkType(), Description: f.desc, Required: f.required, Query: f.query, Default: f.def,
		}
		for _, a := range f.allowed {
			s.AllowedValues = append(s.AllowedValues, a)
		}
		if f.sensitive {
			s.DisplayAttrs = &framework.DisplayAttributes{Sensitive: true}
		}
		out[f.name] = s
	}
	return out
}

func (f field) sdkType() framework.FieldType {
	switch f.typ {
	case contract.TypeString:
		return framework.TypeString
	case contract.TypeStrings:
		return framework.TypeCommaStringSlice
	case contract.TypeBool:
		return framework.TypeBool
	case contract.TypeInt:
		return framework.TypeInt
	case contract.TypeSeconds:
		return framework.TypeDurationSecond
	case contract.TypeMap:
		return framework.TypeKVPairs
	case typeTime:
		return framework.TypeTime
	case typeObjects:
		return framework.TypeMap
	case typeList, typeMaps:
		return framework.TypeSlice
	}
	return framework.TypeInvalid
}

// valid says what is wrong with the declaration itself.
func (p path) valid() error {
	seen := map[string]bool{}
	for _, f := range slices.Concat(p.captures, p.fields) {
		if seen[f.name] {
			return fmt.Errorf("path %s declares %s twice", p.name, f.name)
		}
		seen[f.name] = true
		if f.sdkType() == framework.TypeInvalid {
			return fmt.Errorf("path %s: field %s has no type", p.name, f.name)
		}
	}
	verbs := map[logical.Operation]bool{}
	for _, o := range p.ops {
		if verbs[o.verb] {
			return fmt.Errorf("path %s declares %s twice", p.name, o.verb)
		}
		verbs[o.verb] = true
		for _, name := range o.takes {
			if !seen[name] {
				return fmt.Errorf("path %s: %s takes %s, which is no field", p.name, o.verb, name)
			}
		}
	}
	return nil
}

// takesField tells whether the operation takes the field.
func (o op) takesField(f field) bool {
	if o.takes != nil {
		return slices.Contains(o.takes, f.name)
	}
	return f.query || o.writes()
}

// writes tells whether the operation is a write with a body.
func (o op) writes() bool {
	return o.verb == logical.UpdateOperation || o.verb == logical.CreateOperation
}
