package pim

import (
	"context"
	"net/http"
	"slices"
	"testing"

	"github.com/hashicorp/vault/sdk/framework"
	"github.com/hashicorp/vault/sdk/logical"

	"github.com/vault-pim/vault-plugin-secrets-pim/internal/fault"
	"github.com/vault-pim/vault-plugin-secrets-pim/internal/provider/contract"
)

func TestCommandsNameTheMountAndTheProgram(t *testing.T) {
	const text = "no active grant: run: vault write pim/request/x; a vault, pim/ and shrimpim/ are words"
	for _, row := range []struct{ name, openBao, mount, want string }{
		{"Vault, usual mount", "", "pim/", "no active grant: run: vault write pim/request/x; a vault, pim/ and shrimpim/ are words"},
		{"Vault, own mount", "", "teams/a/", "no active grant: run: vault write teams/a/request/x; a vault, teams/a/ and shrimpim/ are words"},
		{"OpenBao", "2.6.2", "pim/", "no active grant: run: bao write pim/request/x; a vault, pim/ and shrimpim/ are words"},
		{"a mount with signs of a replacement", "", "$1/", "no active grant: run: vault write $1/request/x; a vault, $1/ and shrimpim/ are words"},
		{"no mount known", "", "", text},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Setenv("BAO_VERSION", row.openBao)
			b := newBench(t, door(failing(fault.New(fault.Conflict, fault.CodeNoGrant, text, nil).With("next", text).With("role", "pim/x"))))
			req := &logical.Request{Operation: logical.ReadOperation, Path: "door", MountPoint: row.mount, Storage: &logical.InmemStorage{}}
			resp, err := b.HandleRequest(context.Background(), req)
			if err != nil {
				t.Fatal(err)
			}
			got, data := errorOf(t, resp)
			if got != row.want || data["next"] != row.want {
				t.Errorf("\ngot  %s\nand  %s\nwant %s", got, data["next"], row.want)
			}
			if data["role"] != "pim/x" {
				t.Errorf("a field that holds no command was rewritten to %s", data["role"])
			}
		})
	}
}

func TestOnlyDeclaredCommandsOfAnswersAreRewritten(t *testing.T) {
	p := door(func(context.Context, *call) (*answer, error) {
		return &answer{data: map[string]any{"next": "vault read pim/x", "command": "vault read pim/y"}}, nil
	})
	p.ops[0].ok = []field{command("next", "The command that comes next.")}
	b := newBench(t, p)
	resp, err := b.HandleRequest(context.Background(), &logical.Request{
		Operation: p.ops[0].verb, Path: "door", MountPoint: "own/", Storage: &logical.InmemStorage{},
	})
	if err != nil {
		t.Fatal(err)
	}
	if resp.Data["next"] != "vault read own/x" || resp.Data["command"] != "vault read pim/y" {
		t.Errorf("got %v; a field of a target must stay as it is", resp.Data)
	}
}

func TestOpenAPITellsSuccessFromRefusal(t *testing.T) {
	var seen []*call
	plants := path{
		pattern: "plants/" + segment("name"), name: "plant", help: "One plant.", description: "Grows.",
		captures: []field{nameCapture("name", "Name of the plant.")},
		fields: []field{
			{name: "height", typ: contract.TypeInt, desc: "In centimetres."},
			{name: "dry_run", typ: contract.TypeBool, query: true, desc: "Change nothing."},
		},
		ops: []op{
			{verb: logical.ReadOperation, summary: "Read.", ok: []field{always(integer("height", "In centimetres."))}, statuses: []int{http.StatusForbidden}, takes: []string{}, do: failing(nil)},
			{verb: logical.UpdateOperation, summary: "Write.", ok: []field{{name: "age", typ: contract.TypeSeconds, desc: "Age."}}, takes: []string{"height"}, more: true, do: failing(nil)},
		},
	}
	b := newBench(t, garden(&seen), plants)
	resp, err := b.send(t, logical.HelpOperation, "plants/rose", nil)
	if err != nil {
		t.Fatal(err)
	}
	doc, ok := resp.Data["openapi"].(*framework.OASDocument)
	if !ok {
		t.Fatalf("no OpenAPI but %T", resp.Data["openapi"])
	}
	item, schemas := doc.Paths["/plants/{name}"], doc.Components.Schemas
	read := schemas[referred(item.Get.Responses[http.StatusOK].Content)]
	if read.Properties["height"] == nil || !slices.Equal(read.Required, []string{"height"}) || read.AdditionalProperties != nil {
		t.Errorf("the answer of a read is %+v", read)
	}
	for _, status := range []int{http.StatusBadRequest, http.StatusForbidden} {
		if name := referred(item.Get.Responses[status].Content); name != errorSchema {
			t.Errorf("a refusal with %d has the schema %q", status, name)
		}
	}
	if code := schemas[errorSchema].Properties["code"]; len(code.Enum) != len(fault.Codes()) {
		t.Errorf("the list of codes is open: %v", code.Enum)
	}
	if len(item.Get.Parameters) != 0 {
		t.Errorf("a read that takes nothing lists %+v", item.Get.Parameters)
	}
	write := schemas[referred(item.Post.Responses[http.StatusOK].Content)]
	if write.Properties["age"].Type != "integer" || write.AdditionalProperties != true {
		t.Errorf("the answer of a write is %+v", write)
	}
	if body := schemas[referred(item.Post.RequestBody.Content)]; len(body.Properties) != 1 || body.Properties["height"] == nil {
		t.Errorf("a write takes %+v", body)
	}
}
