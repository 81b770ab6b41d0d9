package pim

import (
	"encoding/json"
	"reflect"
	"testing"
	"time"

	"github.com/vault-pim/vault-plugin-secrets-pim/internal/domain"
	"github.com/vault-pim/vault-plugin-secrets-pim/internal/fault"
)

// What is taken as stages reads back as it was taken, is refused or judged
// without a panic, and never met by nobody.
func FuzzStages(f *testing.F) {
	for _, seed := range []string{
		`[{"all_of":[{"groups":["leads"]}]}]`,
		`[{"any_of":[{"approvals":2,"groups":["leads"],"after":"2h"}],"denials":2,"require_comment":true}]`,
		`[{"all_of":[{"groups":["leads"]}],"timeout":"1h","on_timeout":"approve","on_call_when":"true"}]`,
		`{"all_of":[{"approvals":"101","entities":"alias:auth/x"}]}`,
		`[[]]`, `[{"all_of":{}}]`, `[{"all_of":[{"approvals":-1}]}]`,
	} {
		f.Add(seed)
	}
	stages := field{name: "stages", typ: typeList, members: stageMembers()}
	f.Fuzz(func(t *testing.T, raw string) {
		var problems fault.Problems
		in := read([]field{stages}, map[string]any{"stages": raw}, true, "", &problems)
		if problems.Err() != nil || in.cleared["stages"] {
			return
		}
		role := domain.NewRole("x", "i")
		role.Target, role.EligibleGroups, role.Approvals = "t", []string{"g"}, 0
		role.Stages = stagesIn(in.List("stages"))
		wrong := role.Problems()
		o := domain.Evaluate(role, domain.Facts{
			Requester: domain.Party{Person: "p"}, Now: time.Unix(1e9, 0), Asked: time.Unix(0, 0),
			Judge: func(string) (bool, error) { return false, nil },
		})
		if o.Met {
			t.Fatalf("nobody approved, and it is met: %+v", o.Rules)
		}
		if len(wrong) > 0 {
			return
		}
		out, err := json.Marshal(stagesOut(role.Stages))
		if err != nil {
			t.Fatal(err)
		}
		again := read([]field{stages}, map[string]any{"stages": string(out)}, true, "", &problems)
		if err := problems.Err(); err != nil {
			t.Fatalf("what is shown cannot be written: %v", err)
		}
		if back := stagesIn(again.List("stages")); !reflect.DeepEqual(back, role.Stages) {
			t.Fatalf("%+v reads back as %+v", role.Stages, back)
		}
	})
}
