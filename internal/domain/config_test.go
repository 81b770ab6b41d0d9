package domain

import (
	"reflect"
	"strings"
	"testing"
)

func TestRoleProblems(t *testing.T) {
	long := strings.Repeat("x", 2049)
	params := func(name string, p Param) func(*Role) { return func(r *Role) { r.Params = map[string]Param{name: p} } }
	const between = "must be from 1s to 8784h0m0s"
	rows := []struct {
		name string
		edit func(*Role)
		want []FieldProblem
	}{
		{"a minimal role is right", func(*Role) {}, nil},
		{"a role needs a target", func(r *Role) { r.Target = "" }, []FieldProblem{{"target", "is required"}}},
		{"a target has a name", func(r *Role) { r.Target = "Prod" }, []FieldProblem{{"target", "is not a target's name"}}},
		{"somebody must be eligible", func(r *Role) { r.EligibleGroups = nil }, []FieldProblem{{"eligible_groups", "nobody is eligible: name eligible_groups or eligible_entities"}}},
		{"eligible by entity is enough", func(r *Role) { r.EligibleGroups, r.EligibleEntities = nil, []string{uuid(1)} }, nil},
		{"nobody is eligible by wildcard", func(r *Role) { r.EligibleGroups = []string{"*"} }, []FieldProblem{{"eligible_groups", "must name one group exactly, without wildcards"}}},
		{"nobody approves by wildcard", func(r *Role) { r.ApproverGroups = []string{"leads", "*"} }, []FieldProblem{{"approver_groups", "must name one group exactly, without wildcards"}}},
		{"an empty approver is none", func(r *Role) { r.ApproverGroups = []string{""} }, []FieldProblem{{"approver_groups", "must not be empty"}}},
		{"entities are not named by name", func(r *Role) { r.ApproverEntities = []string{"bob"} }, []FieldProblem{{"approver_entities", "must be an entity id or alias:<mount accessor>/<alias name>"}}},
		{"somebody must approve", func(r *Role) { r.ApproverGroups = nil }, []FieldProblem{{"approver_groups", "nobody can approve: name approver_groups or approver_entities"}}},
		{"zero approvals say auto_approve", func(r *Role) { r.Approvals = 0 }, []FieldProblem{{"approvals", "must be at least 1; a role without approvals says auto_approve=true"}}},
		{"approvals are not negative", func(r *Role) { r.Approvals = -1 }, []FieldProblem{{"approvals", "must be at least 1; a role without approvals says auto_approve=true"}}},
		{"more approvals than anybody counts", func(r *Role) { r.Approvals = 101 }, []FieldProblem{{"approvals", "must be at most 100"}}},
		{"more approvals than named entities", func(r *Role) { r.ApproverGroups, r.ApproverEntities, r.Approvals = nil, []string{uuid(1)}, 2 }, []FieldProblem{{"approvals", "asks for more approvals than there are approver_entities"}}},
		{"a role may approve by itself", func(r *Role) { r.AutoApprove, r.ApproverGroups = true, nil }, nil},
		{"then it has no approvers", func(r *Role) { r.AutoApprove = true }, []FieldProblem{{"auto_approve", "a role that approves by itself has no approvers"}}},
		{"and takes no approvals", func(r *Role) { r.AutoApprove, r.ApproverGroups, r.Approvals = true, nil, 2 }, []FieldProblem{{"approvals", "a role with auto_approve=true takes no approvals"}}},
		{"a window is longer than zero", func(r *Role) { r.TTL = 0 }, []FieldProblem{{"ttl", between}, {"ttl", "is shorter than min_ttl"}}},
		{"a window is not endless", func(r *Role) { r.TTL, r.MaxTTL = LimitTTL+1, LimitTTL+1 }, []FieldProblem{{"ttl", between}, {"max_ttl", between}}},
		{"the default is within the longest", func(r *Role) { r.TTL = r.MaxTTL + 1 }, []FieldProblem{{"ttl", "is longer than max_ttl"}}},
		{"the default is not below the shortest", func(r *Role) { r.TTL = 30 }, []FieldProblem{{"ttl", "is shorter than min_ttl"}}},
		{"the shortest is within the longest", func(r *Role) { r.MinTTL = r.MaxTTL + 1 }, []FieldProblem{{"min_ttl", "is longer than max_ttl"}}},
		{"a lease is not below the shortest", func(r *Role) { r.LeaseTTL = 59 }, []FieldProblem{{"lease_ttl", "is shorter than min_ttl"}}},
		{"a lease is not negative", func(r *Role) { r.LeaseTTL = -1 }, []FieldProblem{{"lease_ttl", "must be from 0s to 8784h0m0s"}}},
		{"reuse is short", func(r *Role) { r.ReuseWindow = 301 }, []FieldProblem{{"reuse_window", "must be from 0s to 5m0s"}}},
		{"a start is one of two", func(r *Role) { r.Start = "now" }, []FieldProblem{{"start", "must be approval or first_read"}}},
		{"a first read needs a time to claim", func(r *Role) { r.Start = StartFirstRead }, []FieldProblem{{"claim_within", between}}},
		{"a time to claim needs a first read", func(r *Role) { r.ClaimWithin = 60 }, []FieldProblem{{"claim_within", "goes with start=first_read only"}}},
		{"a first read with a time to claim", func(r *Role) { r.Start, r.ClaimWithin = StartFirstRead, 60 }, nil},
		{"at least one grant", func(r *Role) { r.MaxActive = 0 }, []FieldProblem{{"max_active", "must be from 1 to 100"}}},
		{"at most 32 credentials", func(r *Role) { r.MaxCredentials = 33 }, []FieldProblem{{"max_credentials", "must be from 1 to 32"}}},
		{"a read may file requests, with a justification or without", func(r *Role) { r.AutoRequest = true }, nil},
		{"nor unwrap", func(r *Role) { r.AutoRequest, r.RequireJustification, r.WrapTTL = true, false, 60 }, []FieldProblem{{"wrap_ttl", "is refused with auto_request: clients that template cannot read wrapped answers"}}},
		{"again needs once", func(r *Role) { r.AutoRequestAgain = true }, []FieldProblem{{"auto_request_again", "goes with auto_request only"}}},
		{"texts are short", func(r *Role) { r.Description, r.Owner = long, "a\nb" }, []FieldProblem{{"description", "longer than 2048 bytes"}, {"owner", "has control or bidirectional characters"}}},
		{"labels are plain", func(r *Role) { r.Labels = map[string]string{"a": "b\x00"} }, []FieldProblem{{"labels", "have a key or value that is too long or not plain text"}}},
		{"patterns compile", func(r *Role) { r.JustificationPattern, r.TicketPattern = "(", ")" }, []FieldProblem{{"justification_pattern", "not a valid RE2 pattern"}, {"ticket_pattern", "not a valid RE2 pattern"}}},
		{"a class is one of three", func(r *Role) { r.MinRevocation = "soon" }, []FieldProblem{{"min_revocation", "must be immediate, propagating or expiry_only"}}},
		{"a parameter by pattern", params("branch", Param{Pattern: "[a-z]+", Default: "main"}), nil},
		{"a parameter by list", params("branch", Param{Allowed: []string{"main"}, Default: "main"}), nil},
		{"a parameter by neither", params("branch", Param{}), []FieldProblem{{"params.branch", "declares either a pattern or allowed values"}}},
		{"a parameter by both", params("branch", Param{Pattern: "a", Allowed: []string{"a"}}), []FieldProblem{{"params.branch", "declares either a pattern or allowed values"}}},
		{"a parameter whose default is refused", params("branch", Param{Pattern: "[a-z]+", Default: "A"}), []FieldProblem{{"params.branch", "its default does not match its pattern"}}},
		{"a parameter whose default is not listed", params("branch", Param{Allowed: []string{"a"}, Default: "b"}), []FieldProblem{{"params.branch", "its default is not among the allowed values"}}},
		{"a parameter with a broken pattern", params("branch", Param{Pattern: "("}), []FieldProblem{{"params.branch", "not a valid RE2 pattern"}}},
		{"a parameter's name is plain and not repeated", params("Hunter2 secret", Param{Pattern: "a"}), []FieldProblem{{"params", "a name is 1 to 63 of a-z, 0-9 and _, and starts with a letter"}}},
		{
			"everything at once, in one order",
			func(r *Role) {
				r.Target, r.EligibleGroups, r.ApproverGroups, r.TTL, r.MaxActive = "", nil, nil, 9*3600, 0
				r.Params = map[string]Param{"b": {}, "a": {}, "c": {}}
			},
			[]FieldProblem{
				{"target", "is required"},
				{"eligible_groups", "nobody is eligible: name eligible_groups or eligible_entities"},
				{"approver_groups", "nobody can approve: name approver_groups or approver_entities"},
				{"ttl", "is longer than max_ttl"},
				{"max_active", "must be from 1 to 100"},
				{"params.a", "declares either a pattern or allowed values"},
				{"params.b", "declares either a pattern or allowed values"},
				{"params.c", "declares either a pattern or allowed values"},
			},
		},
	}
	for _, row := range rows {
		t.Run(row.name, func(t *testing.T) {
			r := NewRole("prod-admin", "incarnation-1")
			r.Target, r.EligibleGroups, r.ApproverGroups = "prod", []string{"engineers"}, []string{"leads"}
			row.edit(&r)
			if got := r.Problems(); !reflect.DeepEqual(got, row.want) {
				t.Fatalf("got  %v\nwant %v", got, row.want)
			}
		})
	}
}

func TestMatchName(t *testing.T) {
	rows := []struct {
		name, pattern, text string
		want                bool
	}{
		{"a name matches itself", "prod", "prod", true},
		{"and no longer one", "prod", "prod-admin", false},
		{"a star stands for anything", "team-a-*", "team-a-db", true},
		{"for nothing too", "team-a-*", "team-a-", true},
		{"in the middle", "team-*-db", "team-a-b-db", true},
		{"what comes before must match", "*-db", "x-dbs", false},
		{"a dot is a dot", "a.c", "abc", false},
		{"an empty pattern matches nothing", "", "prod", false},
		{"a star alone matches all", "*", "prod", true},
	}
	for _, row := range rows {
		if got := MatchName(row.pattern, row.text); got != row.want {
			t.Errorf("%s: %v", row.name, got)
		}
	}
}

func TestHoldsCover(t *testing.T) {
	scope := Scope{Person: "email:alice@example.com", Entity: uuid(1), Role: "prod-admin", Target: "prod", Ticket: "OPS-1"}
	rows := []struct {
		name string
		hold Hold
		when string
		want bool
	}{
		{"a hold on everything", Hold{Kind: HoldAll}, "1h", true},
		{"on the entity", Hold{Kind: HoldPerson, Value: uuid(1)}, "1h", true},
		{"on another entity of the person", Hold{Kind: HoldPerson, Value: uuid(2), Person: scope.Person}, "1h", true},
		{"on another person", Hold{Kind: HoldPerson, Value: uuid(2), Person: "email:bob@example.com"}, "1h", false},
		{"on the role", Hold{Kind: HoldRole, Value: "prod-admin"}, "1h", true},
		{"on another role", Hold{Kind: HoldRole, Value: "prod"}, "1h", false},
		{"on the target", Hold{Kind: HoldTarget, Value: "prod"}, "1h", true},
		{"on another target", Hold{Kind: HoldTarget, Value: "prod-admin"}, "1h", false},
		{"on the ticket", Hold{Kind: HoldTicket, Value: "OPS-1"}, "1h", true},
		{"on another ticket", Hold{Kind: HoldTicket, Value: "OPS-2"}, "1h", false},
		{"before its end", Hold{Kind: HoldAll, Until: at("2h")}, "1h59m59s", true},
		{"at its end", Hold{Kind: HoldAll, Until: at("2h")}, "2h", false},
		{"of a kind that a newer version wrote", Hold{Kind: "country", Value: "x"}, "1h", true},
	}
	for _, row := range rows {
		t.Run(row.name, func(t *testing.T) {
			if got := row.hold.Covers(scope, at(row.when)); got != row.want {
				t.Fatalf("covers: %v", got)
			}
		})
	}
	for _, kind := range []HoldKind{HoldPerson, HoldRole, HoldTarget, HoldTicket} {
		if (Hold{Kind: kind}).Covers(Scope{}, t0) {
			t.Errorf("a hold on no %s covers what has none", kind)
		}
	}
}

func TestTargetRevision(t *testing.T) {
	base := Target{Name: "prod", Incarnation: "i1", Type: "host", Place: "cluster-1", Fields: map[string]any{"address": "https://127.0.0.1:8200"}}
	rows := []struct {
		name string
		edit func(*Target)
		same bool
	}{
		{"nothing", func(*Target) {}, true},
		{"the description", func(t *Target) { t.Description = "x" }, true},
		{"a rotated root", func(t *Target) { t.RotationID, t.RotatedAt = "r1", at("1h") }, true},
		{"a field that is no security field", func(t *Target) { t.Free = map[string]any{"max_retries": 3} }, true},
		{"limits", func(t *Target) { t.MaxLive, t.AllowedRoles = 5, []string{"a"} }, true},
		{"the address", func(t *Target) { t.Fields = map[string]any{"address": "https://192.0.2.1"} }, false},
		{"the place", func(t *Target) { t.Place = "cluster-2" }, false},
		{"the type", func(t *Target) { t.Type = "aws" }, false},
		{"a recreation", func(t *Target) { t.Incarnation = "i2" }, false},
	}
	for _, row := range rows {
		t.Run(row.name, func(t *testing.T) {
			other := base
			row.edit(&other)
			if same := other.Revision() == base.Revision(); same != row.same {
				t.Fatalf("the same revision: %v", same)
			}
		})
	}
}

func TestDefaults(t *testing.T) {
	r := NewRole("prod-admin", "i1")
	if r.Approvals != 1 || r.TTL != 3600 || r.MaxTTL != 8*3600 || r.RequestTTL != 24*3600 || r.MinTTL != 60 ||
		r.MaxActive != 1 || r.MaxCredentials != 10 || !r.RequireJustification || r.Start != StartApproval || r.AutoApprove {
		t.Errorf("a role starts as %+v", r)
	}
	c := DefaultConfig()
	if c.PersonMaxOpen != 20 || c.MachineMaxOpen != 500 || c.MaxOpen != 5000 || c.IssueRate != 30 || c.MachineIssueRate != 600 ||
		c.HoldTTL != 3600 || c.RetentionHuman != 30*86400 || c.RetentionAuto != 72*3600 || c.ReapInterval != 10 {
		t.Errorf("a mount starts as %+v", c)
	}
	if !LooksLikeID(uuid(1)) || LooksLikeID("leads") {
		t.Error("ids are not told from names")
	}
}
