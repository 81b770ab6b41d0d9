package aws

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
)

// Version is the policy language in which policy variables and all condition
// operators work.
const policyVersion = "2012-10-17"

// names is one or many strings of a policy; one is written without brackets,
// since sizes are counted in characters.
type names []string

// MarshalJSON implements json.Marshaler.
func (n names) MarshalJSON() ([]byte, error) {
	if len(n) == 1 {
		return encodeJSON(n[0])
	}
	return encodeJSON([]string(n))
}

// UnmarshalJSON implements json.Unmarshaler for both forms.
func (n *names) UnmarshalJSON(raw []byte) error {
	var one string
	if err := json.Unmarshal(raw, &one); err == nil {
		*n = names{one}
		return nil
	}
	var many []string
	if err := json.Unmarshal(raw, &many); err != nil {
		return errors.New("neither a string nor a list of strings")
	}
	*n = many
	return nil
}

// condition is operator → key → values.
type condition map[string]map[string]names

// statement is one statement of a policy that pim writes.
type statement struct {
	Sid         string    `json:",omitempty"`
	Effect      string    `json:",omitempty"`
	Action      names     `json:",omitempty"`
	NotAction   names     `json:",omitempty"`
	Resource    names     `json:",omitempty"`
	NotResource names     `json:",omitempty"`
	Condition   condition `json:",omitempty"`
}

// policyDoc is a policy whose statements are kept as they came.
type policyDoc struct {
	Version   string
	Statement []json.RawMessage
}

// encodeJSON writes compact JSON in which <, > and & stay one character.
func encodeJSON(v any) ([]byte, error) {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(v); err != nil {
		return nil, fmt.Errorf("encode policy: %w", err)
	}
	return bytes.TrimRight(b.Bytes(), "\n"), nil
}

// readDocument reads a policy. A single statement outside a list is accepted,
// as AWS does; an unknown top-level element is not, so that nothing that was
// approved is dropped silently.
func readDocument(text string) (policyDoc, error) {
	var raw struct {
		Version   string
		ID        string `json:"Id"`
		Statement json.RawMessage
	}
	d := json.NewDecoder(strings.NewReader(text))
	d.DisallowUnknownFields()
	if err := d.Decode(&raw); err != nil || d.More() {
		return policyDoc{}, errors.New("is not a policy document in JSON")
	}
	if raw.Version != "" && raw.Version != policyVersion {
		return policyDoc{}, fmt.Errorf("must have Version %s", policyVersion)
	}
	out := policyDoc{Version: policyVersion}
	if err := json.Unmarshal(raw.Statement, &out.Statement); err != nil {
		out.Statement = []json.RawMessage{raw.Statement}
	}
	if len(out.Statement) == 0 {
		return policyDoc{}, errors.New("has no statement")
	}
	for i, s := range out.Statement {
		compact, err := compactStatement(s)
		if err != nil {
			return policyDoc{}, err
		}
		out.Statement[i] = compact
	}
	return out, nil
}

// compactStatement checks the form of one statement and takes the white space
// out of it.
func compactStatement(raw json.RawMessage) (json.RawMessage, error) {
	var fields map[string]any
	if err := json.Unmarshal(raw, &fields); err != nil {
		return nil, errors.New("has a statement that is no JSON object")
	}
	if e, _ := fields["Effect"].(string); e != "Allow" && e != "Deny" {
		return nil, errors.New("has a statement whose Effect is neither Allow nor Deny")
	}
	for name := range fields {
		if !slices.Contains(statementFields, name) {
			return nil, errors.New("has a statement with an element that identity policies do not have")
		}
	}
	return encodeJSON(fields)
}

//nolint:gochecknoglobals // constant table
var statementFields = []string{
	"Sid", "Effect", "Action", "NotAction", "Resource", "NotResource", "Condition",
}

// add appends statements of ours.
func (d *policyDoc) add(statements ...statement) error {
	for _, s := range statements {
		raw, err := encodeJSON(s)
		if err != nil {
			return err
		}
		d.Statement = append(d.Statement, raw)
	}
	return nil
}

func (d policyDoc) String() string {
	raw, err := encodeJSON(d)
	if err != nil {
		return "" // raw messages that were read or encoded here always encode
	}
	return string(raw)
}

// policySize counts characters as IAM does for inline and managed policies:
// white space does not count.
func policySize(text string) int {
	n := 0
	for _, r := range text {
		if r != ' ' && r != '\t' && r != '\n' && r != '\r' {
			n++
		}
	}
	return n
}

// policyTime is a time as condition operators for dates read it.
func policyTime(t time.Time) string { return t.UTC().Format("2006-01-02T15:04:05Z") }
