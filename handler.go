package pim

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"regexp"
	"runtime"
	"runtime/debug"
	"strings"
	"time"

	"github.com/hashicorp/vault/sdk/framework"
	"github.com/hashicorp/vault/sdk/helper/wrapping"
	"github.com/hashicorp/vault/sdk/logical"

	"github.com/vault-pim/vault-plugin-secrets-pim/internal/domain"
	"github.com/vault-pim/vault-plugin-secrets-pim/internal/fault"
	"github.com/vault-pim/vault-plugin-secrets-pim/internal/provider/contract"
)

// The texts of answers that tell nothing. Whoever runs the plugin finds the
// cause in its log.
const (
	textInternal = "internal error: the operation was not completed; see the log of the plugin"
	textUpstream = "the target did not do what was asked; see the log of the plugin"
	textWithheld = "refused; the reason is in the log of the plugin"
	dataWithheld = "[withheld]"
)

// handler stands between the host and the operations: it checks what comes in,
// and is the one place where errors become answers.
type handler struct {
	backend *framework.Backend
	answers func() bool // whether this node may answer
	program string      // the host's command line, for the commands in answers
	routes  map[*framework.Path]*route
}

// route is a path with what is needed to check calls of it.
type route struct {
	path
	match    *regexp.Regexp
	declared map[string]field
}

// newHandler declares the paths to the framework. The order matters: literal
// paths come before those with captures in their place.
func newHandler(backend *framework.Backend, answers func() bool, paths []path) (*handler, error) {
	h := &handler{backend: backend, answers: answers, program: program(), routes: make(map[*framework.Path]*route, len(paths))}
	for _, p := range paths {
		if err := p.valid(); err != nil {
			return nil, err
		}
		match, err := regexp.Compile("^" + p.pattern + "$")
		if err != nil {
			return nil, fmt.Errorf("path %s: %w", p.name, err)
		}
		r := &route{path: p, match: match, declared: map[string]field{}}
		for _, f := range p.fields {
			r.declared[f.name] = f
		}
		rendered := p.framework()
		h.routes[rendered] = r
		backend.Paths = append(backend.Paths, rendered)
	}
	return h, nil
}

func (r *route) captures(path string) map[string]string {
	out := map[string]string{}
	matches := r.match.FindStringSubmatch(path)
	for i, name := range r.match.SubexpNames() {
		if name != "" && i < len(matches) {
			out[name] = matches[i]
		}
	}
	return out
}

// HandleRequest checks what was sent to our operations and carries them out,
// past the framework, and turns a panic into an answer that tells nothing.
func (h *handler) HandleRequest(ctx context.Context, req *logical.Request) (resp *logical.Response, err error) {
	name := "none"
	defer func() {
		if p := recover(); p != nil {
			h.logPanic(p, name, req)
			resp, err = nil, logical.CodedError(http.StatusInternalServerError, textInternal)
		}
	}()
	switch req.Operation {
	case logical.ReadOperation, logical.ListOperation, logical.CreateOperation, logical.UpdateOperation, logical.DeleteOperation:
	case logical.RevokeOperation, logical.RenewOperation:
		resp, err = h.backend.HandleRequest(ctx, req)
		return resp, h.outward(req, err)
	case logical.HelpOperation:
		return h.help(ctx, req)
	default:
		return h.backend.HandleRequest(ctx, req)
	}
	r := h.routes[h.backend.Route(req.Path)]
	if r == nil {
		return nil, logical.ErrUnsupportedPath
	}
	name = r.name
	o, ok := r.operation(req.Operation)
	if !ok {
		if req.Operation == logical.ReadOperation {
			return nil, nil // reading what can only be listed finds nothing
		}
		return nil, logical.ErrUnsupportedOperation
	}
	c, err := r.check(o, req)
	if err != nil {
		return h.respond(r, o, req, nil, err)
	}
	if !h.answers() {
		return nil, logical.ErrReadOnly // the host passes it on to a node that may
	}
	a, err := o.do(ctx, c)
	return h.respond(r, o, c.Request, a, err)
}

func (r *route) operation(verb logical.Operation) (op, bool) {
	for _, o := range r.ops {
		if o.verb == verb {
			return o, true
		}
	}
	return op{}, false
}

// unchecked is what the framework would call, to which no operation is handed
// on: it knows them for the sake of help and of the API's description.
func unchecked(context.Context, *logical.Request, *framework.FieldData) (*logical.Response, error) {
	return nil, logical.CodedError(http.StatusInternalServerError, textInternal)
}

// respond is the boundary: the only place that makes responses and the only
// one that decides what of an error a caller sees.
func (h *handler) respond(r *route, o op, req *logical.Request, a *answer, err error) (*logical.Response, error) {
	if err == nil {
		var resp *logical.Response
		if a != nil {
			h.dataAsTyped(a.data, o.ok, req.MountPoint)
		}
		if resp, err = a.response(o); err == nil {
			return resp, nil
		}
	}
	f := asFault(err)
	h.logFault(f, r.name, req, err)
	switch f.Kind {
	case fault.Invalid, fault.Conflict:
		return h.errorResponse(f, req.MountPoint), nil
	case fault.Denied:
		return h.errorResponse(f, req.MountPoint), logical.ErrPermissionDenied
	case fault.Absent:
		if req.Operation == logical.ReadOperation || req.Operation == logical.ListOperation {
			return nil, nil
		}
		// Without a response the host answers a write with 204.
		return h.errorResponse(f, req.MountPoint), logical.ErrUnsupportedPath
	case fault.Upstream:
		return nil, logical.CodedError(http.StatusBadGateway, upstreamText(f))
	case fault.Internal:
	}
	return nil, logical.CodedError(http.StatusInternalServerError, textInternal)
}

// upstreamText is our own words and the target's code, never its words.
func upstreamText(f *fault.Error) string {
	if f.Public == "" || forbidden.MatchString(f.Public) {
		return textUpstream
	}
	return f.Public
}

// response renders an answer.
func (a *answer) response(o op) (*logical.Response, error) {
	if a == nil {
		return nil, nil
	}
	resp := &logical.Response{Data: a.data}
	if o.media != "" {
		return raw(o.media, a.raw), nil
	}
	if o.verb == logical.ListOperation {
		resp = logical.ListResponseWithInfo(a.keys, a.info)
		maps.Copy(resp.Data, a.data)
	}
	if a.lease != nil {
		l, err := a.lease.response(a.data)
		if err != nil {
			return nil, err
		}
		resp = l
	}
	if a.wrap > 0 {
		resp.WrapInfo = &wrapping.ResponseWrapInfo{TTL: a.wrap}
	}
	for _, w := range a.warnings {
		resp.AddWarning(w)
	}
	return resp, nil
}

// raw is an answer whose body the host passes on as it is.
func raw(media string, body []byte) *logical.Response {
	return &logical.Response{Data: map[string]any{
		logical.HTTPContentType: media, logical.HTTPRawBody: body, logical.HTTPStatusCode: http.StatusOK,
	}}
}

func (l *lease) response(data map[string]any) (*logical.Response, error) {
	if l.ttl < time.Second || l.ttl%time.Second != 0 {
		return nil, fmt.Errorf("a lease of %s is not whole seconds above zero", l.ttl)
	}
	internal := make(map[string]any, len(l.internal))
	for k, v := range l.internal {
		internal[k] = v
	}
	resp := l.secret.Response(data, internal)
	resp.Secret.TTL, resp.Secret.MaxTTL, resp.Secret.Renewable = l.ttl, l.ttl, false
	return resp, nil
}

// asFault finds out what of an error is public. What a target refused is the
// caller's to know; what went wrong with it is not.
func asFault(err error) *fault.Error {
	var f *fault.Error
	var target *contract.Error
	switch {
	case errors.As(err, &f):
		return f
	case !errors.As(err, &target):
		return fault.From(err)
	case !target.Refused:
		return fault.New(fault.Upstream, fault.CodeUpstream, textUpstream, err)
	}
	out := fault.New(fault.Conflict, fault.CodeTarget, "the target refused: "+target.Op+": "+target.Public, err)
	if targetCode.MatchString(target.Code) {
		out = out.With("target_code", target.Code)
	}
	return out
}

var targetCode = regexp.MustCompile(`^[A-Za-z0-9_.-]{1,64}$`)

// forbidden are texts on which hosts and clients act: a forwarded or repeated
// call, a dropped token. OpenBao looks for them in the texts of error
// responses.
var forbidden = regexp.MustCompile(`(?i)invalid token|overloaded|node is not the leader|cannot write to readonly storage`)

func (h *handler) errorResponse(f *fault.Error, mount string) *logical.Response {
	data := map[string]any{}
	for k, v := range f.Data {
		data[k] = withheld(v)
	}
	data["code"] = string(f.Code)
	h.dataAsTyped(data, errorFields(), mount)
	text := h.asTyped(f.Public, mount)
	if forbidden.MatchString(text) {
		text = textWithheld
	}
	return logical.ErrorResponseWithData(data, text)
}

// withheld replaces texts that must not appear, however deep.
func withheld(v any) any {
	switch v := v.(type) {
	case string:
		if forbidden.MatchString(v) {
			return dataWithheld
		}
	case []string:
		out := make([]string, len(v))
		for i, s := range v {
			if out[i] = s; forbidden.MatchString(s) {
				out[i] = dataWithheld
			}
		}
		return out
	case []any:
		out := make([]any, len(v))
		for i, x := range v {
			out[i] = withheld(x)
		}
		return out
	case map[string]any:
		out := make(map[string]any, len(v))
		for k, x := range v {
			out[k] = withheld(x)
		}
		return out
	}
	return v
}

// outward is the boundary of revocations, whose errors the host shows to
// whoever asked for one. The framework's own refusals stay as they are.
func (h *handler) outward(req *logical.Request, err error) error {
	if err == nil || errors.Is(err, logical.ErrUnsupportedOperation) || errors.Is(err, logical.ErrUnsupportedPath) {
		return err
	}
	f := asFault(err)
	h.logFault(f, "lease", req, err)
	text := f.Public
	if f.Kind == fault.Internal {
		text = textInternal
	}
	if forbidden.MatchString(text) {
		text = textWithheld
	}
	return errors.New(text)
}

// logFault writes the cause down once. Nothing that was sent is part of it.
func (h *handler) logFault(f *fault.Error, name string, req *logical.Request, err error) {
	log := h.backend.Logger().With("path", name, "operation", string(req.Operation), "request", req.ID, "code", string(f.Code))
	switch f.Kind {
	case fault.Upstream:
		log.Warn("target failed", "cause", causes(err))
	case fault.Invalid, fault.Conflict, fault.Denied, fault.Absent:
		if errors.Unwrap(err) != nil {
			log.Debug("operation refused", "cause", causes(err))
		}
	case fault.Internal:
		fallthrough
	default:
		log.Error("operation failed", "cause", causes(err))
	}
}

func (h *handler) logPanic(p any, name string, req *logical.Request) {
	kind := fmt.Sprintf("%T", p) // the value of a panic may be what was sent
	switch p := p.(type) {
	case runtime.Error:
		kind = p.Error() // the runtime's own words
	case mistake:
		kind = string(p)
	}
	h.backend.Logger().Error("panic in an operation", "path", name, "operation", string(req.Operation),
		"request", req.ID, "panic", kind, "stack", string(debug.Stack()))
}

// maxCause bounds what one error may write into the log, in bytes.
const maxCause = 4096

// causes is everything that a chain of errors says. Faults and errors of
// targets do not print their causes themselves.
func causes(err error) string {
	var texts []string
	for e := err; e != nil; e = errors.Unwrap(e) {
		if text := e.Error(); len(texts) == 0 || !strings.Contains(texts[len(texts)-1], text) {
			texts = append(texts, text)
		}
	}
	all := domain.Printable(strings.Join(texts, ": "))
	if len(all) > maxCause {
		all = strings.ToValidUTF8(all[:maxCause], "") + " …"
	}
	return all
}
