package access_test

import (
	"testing"

	"go.uber.org/goleak"
)

// Every process that a test started has stopped, and nothing of it runs on.
func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }
