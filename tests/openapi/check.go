package openapi

import (
	"fmt"
	"math"
	"slices"
	"strconv"
	"time"
)

// Check says everything in which an answer differs from what is declared: a status
// that is not listed, fields that are missing, unknown or of another type. data is
// that of the host's envelope, nil if there is none.
func (d *Document) Check(o *Operation, status int, data map[string]any) []string {
	if status >= 500 {
		return nil // always possible, and never listed
	}
	response, listed := o.Responses[strconv.Itoa(status)]
	if !listed {
		if status/100 == 4 && data == nil {
			return nil // the host's own: its policies, its routes
		}
		return []string{fmt.Sprintf("status %d is not declared", status)}
	}
	schema, declared := d.Resolve(response.Body)
	switch {
	case data == nil && declared && status/100 == 2:
		return []string{"nothing is answered, although fields are declared"}
	case data == nil:
		return nil
	case !declared && status/100 == 2:
		return []string{"something is answered, although nothing is declared"}
	case !declared:
		return nil
	}
	return schema.differs("", data)
}

// differs compares a value with its schema.
func (s Schema) differs(at string, value any) []string {
	if s.Type == "object" {
		object, ok := value.(map[string]any)
		if !ok {
			return []string{fmt.Sprintf("%s is no object but %T", at, value)}
		}
		return s.objectDiffers(at, object)
	}
	if wrong := s.scalarDiffers(value); wrong != "" {
		return []string{at + " " + wrong}
	}
	if list, ok := value.([]any); ok && s.Items != nil {
		for _, item := range list {
			if wrong := s.Items.scalarDiffers(item); wrong != "" {
				return []string{at + " has an item that " + wrong}
			}
		}
	}
	return nil
}

func (s Schema) objectDiffers(at string, object map[string]any) []string {
	var out []string
	for _, name := range s.Required {
		if object[name] == nil {
			out = append(out, at+name+" is missing")
		}
	}
	for name, value := range object {
		property, known := s.Properties[name]
		switch {
		case known && value != nil:
			out = append(out, property.differs(at+name, value)...)
		case !known && len(s.Properties) > 0 && !s.More:
			out = append(out, at+name+" is not declared")
		}
	}
	slices.Sort(out)
	return out
}

// scalarDiffers says what is wrong with a value that is no object; "" if nothing is.
func (s Schema) scalarDiffers(value any) string {
	ok := true
	switch s.Type {
	case "string":
		var text string
		if text, ok = value.(string); ok && s.Format == "date-time" {
			_, err := time.Parse(time.RFC3339, text)
			ok = err == nil
		}
	case "integer":
		var n float64
		n, ok = value.(float64)
		ok = ok && n == math.Trunc(n)
	case "boolean":
		_, ok = value.(bool)
	case "array":
		_, ok = value.([]any)
	}
	if !ok {
		return fmt.Sprintf("is no %s%s but %v", s.Type, map[bool]string{true: " (" + s.Format + ")"}[s.Format != ""], value)
	}
	if len(s.Enum) > 0 && !slices.Contains(s.Enum, value) {
		return fmt.Sprintf("is %v, which is not on its list", value)
	}
	return ""
}
