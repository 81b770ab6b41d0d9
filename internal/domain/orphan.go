package domain

import "time"

// Orphan is something at a target that carries our tag and is on no record.
type Orphan struct {
	Credential CredentialID `json:"credential"` // by its tag
	Target     string       `json:"target"`
	Request    RequestID    `json:"request,omitempty"` // by its tag
	What       string       `json:"what"`              // kind and name, for people
	FoundAt    time.Time    `json:"found_at"`          // when a sweep first listed it
	Problem    string       `json:"problem,omitempty"` // code of the last try to end it, if that failed
	// A sweep has ended its access and could not clear it away yet: Rest is
	// what is left, due at Due.
	EndedAt time.Time `json:"ended_at,omitzero"`
	Rest    *Handle   `json:"rest,omitempty"`
	Due     time.Time `json:"due,omitzero"`
}

// TargetSweep is what the last sweep of one target came to.
type TargetSweep struct {
	Begun   time.Time `json:"begun"`
	Done    time.Time `json:"done,omitzero"`
	Boot    string    `json:"boot"` // the process that ran it
	Found   int       `json:"found,omitempty"`
	Ended   int       `json:"ended,omitempty"`
	Problem string    `json:"problem,omitempty"` // why it did not come to its end, in our words
	NoList  bool      `json:"no_list,omitempty"` // the target's type cannot list
}

// Orphans is the outcome of the last sweep of each target.
type Orphans struct {
	Sweeps map[string]TargetSweep `json:"sweeps,omitempty"` // by target
	List   []Orphan               `json:"list,omitempty"`   // in order of their ids
}

// MaxOrphans is how many orphans are listed; more than these are only counted.
const MaxOrphans = 300

// MaxOrphanText bounds an orphan's What in bytes.
const MaxOrphanText = 200

// Of returns what is listed of a target.
func (o Orphans) Of(target string) []Orphan {
	var out []Orphan
	for _, x := range o.List {
		if x.Target == target {
			out = append(out, x)
		}
	}
	return out
}
