// Package condition judges the conditions of a role: short expressions in CEL
// over the request, the requester, the calling token, the role, the time, the
// parameters and the requester's recent use of the role.
//
// It is pure: no I/O, no clock, and the same input gives the same answer. It
// fails closed: whatever cannot be judged is an error, and whoever asks treats
// an error as a denial or as unmet. What an expression may cost is bounded
// twice, when it is written and when it is run.
//
// It imports the standard library, cel-go and domain.
package condition
