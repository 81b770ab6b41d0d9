package pim

import (
	"context"
	"net/http"
	"slices"

	"github.com/hashicorp/vault/sdk/framework"
	"github.com/hashicorp/vault/sdk/logical"

	"github.com/vault-pim/vault-plugin-secrets-pim/internal/fault"
	"github.com/vault-pim/vault-plugin-secrets-pim/internal/provider/contract"
)

// errorSchema names the one schema of all refusals.
const errorSchema = "PimError"

// help answers what path-help and the host's OpenAPI document ask for. The
// framework writes the schemas of all statuses of an operation under one name,
// so that one of them, by chance, stands for all; it leaves out what is always
// there; and it lists the fields of the whole path with each operation. What
// is declared here goes into the document instead.
func (h *handler) help(ctx context.Context, req *logical.Request) (*logical.Response, error) {
	resp, err := h.backend.HandleRequest(ctx, req)
	if err != nil || resp == nil {
		return resp, err
	}
	if text, ok := resp.Data["help"].(string); ok {
		resp.Data["help"] = h.asTyped(text, req.MountPoint)
	}
	if doc, ok := resp.Data["openapi"].(*framework.OASDocument); ok {
		h.describe(doc)
	}
	return resp, nil
}

// describe corrects the document of one path or of all.
func (h *handler) describe(doc *framework.OASDocument) {
	operations := map[string]*framework.OASOperation{}
	for _, item := range doc.Paths {
		for _, o := range []*framework.OASOperation{item.Get, item.Post, item.Delete} {
			if o != nil {
				operations[o.OperationID] = o
			}
		}
	}
	doc.Components.Schemas[errorSchema] = objectSchema(errorFields())
	for _, r := range h.routes {
		for _, o := range r.ops {
			if listed := operations["pim-"+o.id()+"-"+r.name]; listed != nil {
				r.describe(o, listed, doc.Components.Schemas)
			}
		}
	}
}

// describe corrects what the document says of one operation.
func (r *route) describe(o op, listed *framework.OASOperation, schemas map[string]*framework.OASSchema) {
	listed.Description = r.description
	listed.Parameters = slices.DeleteFunc(listed.Parameters, func(p framework.OASParameter) bool {
		f, declared := r.declared[p.Name]
		return p.In == "query" && declared && !o.takesField(f)
	})
	if listed.RequestBody != nil {
		if body := schemas[referred(listed.RequestBody.Content)]; body != nil {
			for name := range body.Properties {
				if f, declared := r.declared[name]; !declared || !o.takesField(f) {
					delete(body.Properties, name)
				}
			}
		}
	}
	ok := listed.Responses[http.StatusOK]
	if ok == nil {
		return
	}
	if name := referred(ok.Content); name != "" {
		schema := objectSchema(o.ok)
		if o.more {
			schema.AdditionalProperties = true
		}
		schemas[name] = schema
	}
	for _, status := range []int{http.StatusBadRequest, http.StatusForbidden} {
		if refusal := listed.Responses[status]; refusal != nil && referred(refusal.Content) != "" {
			refusal.Content = framework.OASContent{"application/json": &framework.OASMediaTypeObject{
				Schema: &framework.OASSchema{Ref: schemaPrefix + errorSchema},
			}}
		}
	}
}

const schemaPrefix = "#/components/schemas/"

// referred is the name of the schema that a body refers to; "" = none.
func referred(c framework.OASContent) string {
	body := c["application/json"]
	if body == nil || body.Schema == nil || len(body.Schema.Ref) <= len(schemaPrefix) {
		return ""
	}
	return body.Schema.Ref[len(schemaPrefix):]
}

// objectSchema is what an answer holds.
func objectSchema(fields []field) *framework.OASSchema {
	out := &framework.OASSchema{Type: "object", Properties: map[string]*framework.OASSchema{}}
	for _, f := range fields {
		out.Properties[f.name] = f.answered()
		if f.required {
			out.Required = append(out.Required, f.name)
		}
	}
	slices.Sort(out.Required)
	return out
}

// answered is the schema of one field as answers hold it: durations are whole
// seconds there, whatever forms are taken when they are sent.
func (f field) answered() *framework.OASSchema {
	s := &framework.OASSchema{Description: f.desc, Type: "string"}
	switch f.typ {
	case contract.TypeStrings:
		s.Type, s.Items = "array", &framework.OASSchema{Type: "string"}
	case contract.TypeBool:
		s.Type = "boolean"
	case contract.TypeInt:
		s.Type = "integer"
	case contract.TypeSeconds:
		s.Type, s.Format = "integer", "seconds"
	case contract.TypeMap, typeObjects:
		s.Type = "object"
	case typeList, typeMaps:
		s.Type, s.Items = "array", &framework.OASSchema{Type: "object"}
	case typeTime:
		s.Format = "date-time"
	case contract.TypeString:
	}
	if f.name == "code" {
		for _, c := range fault.Codes() {
			s.Enum = append(s.Enum, string(c))
		}
	}
	return s
}
