package fakeazure

import "testing"

func TestTheJudgeRefusesWhatGraphDoesNotDescribe(t *testing.T) {
	t.Parallel()
	for name, s := range map[string]Seen{
		"an address that is none":     {Method: "GET", Path: "/v1.0/applicationz"},
		"a method that is none there": {Method: "PUT", Path: "/v1.0/applications/x"},
		"a query that is none there":  {Method: "GET", Path: "/v1.0/groups/x", Query: map[string][]string{"$filter": {"a"}}},
		"a property that is none":     {Method: "GET", Path: "/v1.0/groups/x", Query: map[string][]string{"$select": {"nonesuch"}}},
		"a field that is none":        {Method: "POST", Path: "/v1.0/applications/x/removePassword", Body: []byte(`{"key":"a"}`)},
		"a field of another type":     {Method: "PATCH", Path: "/v1.0/servicePrincipals/x", Body: []byte(`{"accountEnabled":"no"}`)},
		"a body where none belongs":   {Method: "DELETE", Path: "/v1.0/applications/x", Body: []byte(`{}`)},
		"a body that is no object":    {Method: "POST", Path: "/v1.0/applications/x/addPassword", Body: []byte(`[]`)},
	} {
		s.Service = Graph
		if len(Judge([]Seen{s})) == 0 {
			t.Errorf("%s was let through", name)
		}
	}
}
