package contract

import (
	"fmt"
	"strings"
)

// Refused is a refusal of ours, for good: the target was not asked, or what it
// said settles it. op is what was tried, code is of the form that Error.Code
// has; format and args are one sentence for people and hold no upstream text.
func Refused(op, code, format string, args ...any) error {
	return &Error{Op: op, Code: code, Public: fmt.Sprintf(format, args...), Refused: true}
}

// BadHandle refuses a handle; what goes on "the handle …".
func BadHandle(op, what string) error { return Refused(op, "bad_handle", "the handle %s", what) }

// BadRole refuses a role that was valid once: a newer version is stricter.
func BadRole(op string, report Report) error {
	return Refused(op, "bad_role", "the role's fields are not valid: %s", report.Fields())
}

// BadTarget refuses to open a target whose fields are not valid.
func BadTarget(report Report) error {
	return Refused("connect", "bad_target", "the target's fields are not valid: %s", report.Fields())
}

// Fields names the fields that have problems, once each and in order.
func (r Report) Fields() string {
	fields := map[string]bool{}
	for _, p := range r.Problems {
		fields[p.Field] = true
	}
	return strings.Join(SortedKeys(fields), ", ")
}
