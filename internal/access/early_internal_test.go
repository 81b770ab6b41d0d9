package access

import (
	"errors"
	"testing"

	"github.com/hashicorp/go-hclog"
)

// What breaks beside a call is an error of that call: the process is shared with
// other mounts, and whoever waits must not wait for ever.
func TestWhatBreaksBesideACallIsAnError(t *testing.T) {
	a := &Access{log: hclog.NewNullLogger()}
	if got := <-beside(a, "test", func() (int, error) { panic("broken") }); !errors.Is(got.err, errBeside) {
		t.Errorf("%+v", got)
	}
	if got := <-beside(a, "test", func() (int, error) { return 7, nil }); got.value != 7 || got.err != nil {
		t.Errorf("%+v", got)
	}
}
