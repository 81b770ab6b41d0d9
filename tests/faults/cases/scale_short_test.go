//go:build !faults

package cases

// scale multiplies how often a fault is made.
func scale() int { return 1 }
