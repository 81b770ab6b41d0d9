package domain

import "time"

// RevocationList is what a target publishes of the credentials that were ended
// before their time. It is made from the records and never decided on.
type RevocationList struct {
	Number  uint64    `json:"number"`           // grows with every issue of the list
	At      time.Time `json:"at"`               // when it was written
	Next    time.Time `json:"next,omitzero"`    // when an entry falls off by itself; zero = there is none
	Entries int       `json:"entries"`          // credentials on it
	Sum     string    `json:"sum"`              // SHA-256 of Body, in hex
	Content string    `json:"content"`          // SHA-256 of what is listed, whatever number and time
	Body    []byte    `json:"body"`             // as it is served
	Strays  []Handle  `json:"strays,omitempty"` // credentials that no record is left of
}
