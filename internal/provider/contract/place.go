package contract

import "errors"

// ErrPlace is the cause of every refusal of a target that is not the place it
// is pinned to, or that a handle names. Nothing was changed there, and nothing
// counts as gone.
var ErrPlace = errors.New("the target is not the place it was")

// PlaceError refuses op because the target proved to be another place.
func PlaceError(op string) error {
	return &Error{
		Op: op, Code: "place_changed", Refused: true, Cause: ErrPlace,
		Public: "the target is another place than the one it is pinned to; nothing was done there",
	}
}
