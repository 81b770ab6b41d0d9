// Package domain holds the rules: states, quorum, digest, time limits, and who
// is who. It is pure: values in, values out, without I/O and without a clock.
// It imports the standard library, x/text and ulid.
package domain
