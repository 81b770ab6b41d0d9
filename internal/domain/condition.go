package domain

import "errors"

// ErrNotNow is a Judge's answer to a condition over the calling token when it is
// not the requester who calls: it is judged when they do, before anything is
// filed or issued.
var ErrNotNow = errors.New("it is judged when the requester calls")

// Judge tells how one condition of a role comes out for the request at hand.
// An error means that the condition cannot be judged (a missing key, a spent
// budget, an unknown expression): whoever asks treats it as failed, so that a
// deny rule denies and everything else stays unmet. A Judge answers the same
// for the same expression as often as it is asked.
type Judge func(expr string) (bool, error)
