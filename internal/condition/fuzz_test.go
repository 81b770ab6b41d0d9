package condition

import (
	"errors"
	"testing"
	"time"
)

// FuzzCondition: no text makes the engine panic or take long, and what passes
// Check is judged the same way twice.
func FuzzCondition(f *testing.F) {
	for _, seed := range []string{
		"true", `"oncall" in requester.groups`, `request.ttl < duration("1h") || has(params.env)`, `((((`, `a{b:c}`,
		`requester.groups.all(a, requester.groups.exists(b, b == a))`, `now.getHours("Europe/Berlin") > 8`, `'\u0000'`,
		`request.justification.matches("(a|aa)+$")`, `[[[[1]]]] == [[[[2]]]]`, `{"a": 1}["b"] == 1`, `int(request.ticket) > 0`,
		`requester.metadata.map(k, requester.metadata[k]).exists(v, v.contains("x"))`, `token.age > request.age`, `1 / 0 == 1`,
		`9223372036854775807 + 1 > 0`, `b"\xff" == b"a"`, `type(1) == int`, `timestamp(params.env) < now`, "x\ny\tz", `- - - -1 < 1`,
	} {
		f.Add(seed)
	}
	e := engine(f)
	f.Fuzz(func(t *testing.T, expr string) {
		start := time.Now() //nolint:forbidigo // a bound on real time is the point
		set := e.Compile([]string{expr}, site())
		judge := set.Judge(alice())
		met, err := judge(expr)
		again, errAgain := judge(expr)
		if met != again || (err == nil) != (errAgain == nil) {
			t.Errorf("not the same twice: %v %v, %v %v", met, err, again, errAgain)
		}
		if err != nil && (met || !errors.Is(err, ErrFailed)) {
			t.Errorf("met with an error, or another error: %v %v", met, err)
		}
		//nolint:forbidigo // as above; the detectors slow things down
		if took := time.Since(start); took > 2*time.Second {
			t.Errorf("took %v", took)
		}
	})
}
