//go:build faults

package cases

import "os"

// scale multiplies how often a fault is made: FULL=1 is the long soak.
func scale() int {
	if os.Getenv("FULL") == "1" {
		return 50
	}
	return 5
}

// heavy is scale for cases that take minutes.
func heavy() int { return max(1, scale()/10) }
