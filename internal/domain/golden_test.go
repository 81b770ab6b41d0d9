package domain

import (
	"bytes"
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"testing"
	"time"
)

var update = flag.Bool("update", false, "write the golden files of this package")

// fullRole and fullRequest have every field set, so that the golden files name
// every key that records were ever written with.
func fullRole() Role {
	r := testRole()
	r.Description, r.Owner, r.Labels = "Administrator of production", "team-a", map[string]string{"team": "a"}
	r.EligibleEntities, r.ApproverEntities = []string{uuid(1)}, []string{"alias:auth_userpass_1/bob"}
	r.AutoApprove, r.LeaseTTL, r.ReuseWindow, r.WrapTTL, r.ClaimWithin = true, 900, 60, 120, 7200
	r.JustificationPattern, r.RequireTicket, r.TicketPattern = ".{10,}", true, "OPS-[0-9]+"
	r.AutoRequest, r.AutoRequestAgain, r.Composite, r.MinRevocation = true, true, true, Propagating
	r.Params = map[string]Param{
		"branch": {Pattern: "[a-z]+", Allowed: []string{"main"}, Required: true, Default: "main", Sensitive: true},
	}
	r.Fields = map[string]any{"path": "database/creds/prod", "ttl": float64(60)}
	r.Pins = map[string]string{"leads": "id-of-leads"}
	r.Free, r.MaxExtension = map[string]any{"max_retries": 3.0}, 7200
	r.SeriesMax, r.SeriesWithin = 20, 86400
	threshold := Threshold{Approvals: 2, Groups: []string{"leads"}, Entities: []string{uuid(3)}, When: "request.ticket != ''", After: 600}
	r.Stages = []Stage{{
		Name: "leads", AllOf: []Threshold{threshold}, AnyOf: []Threshold{threshold}, Denials: 2, RequireComment: true,
		Timeout: 900, OnTimeout: OnTimeoutEscalate, Fallback: []Threshold{threshold}, OnCallWhen: "'on-call' in requester.groups",
	}}
	r.DenyGroups, r.DenyEntities = []string{"contractors"}, []string{uuid(4)}
	r.EligibleUntil = map[string]time.Time{"engineers": at("720h")}
	r.AutoApproveWhen, r.DenyWhen = "role.name == 'x'", "role.name == 'y'"
	r.Require = []Requirement{{Name: "ticket", When: "request.ticket != ''", Message: "name a ticket"}}
	r.AllowedWindows = []Window{{Days: []string{"mon"}, From: "09:00", To: "17:00", Zone: "Europe/Vienna"}}
	r.Enforce, r.ObserveUntil = EnforceObserve, at("720h")
	r.FreezeWindows = []Freeze{{From: at("0s"), Until: at("1h"), Reason: "change freeze"}}
	r.BreakGlass = BreakGlass{
		BreakGlassGroups: []string{"on-call"}, BreakGlassTTL: 1800, BreakGlassMax: 2, BreakGlassLimitPerson: 3,
		BreakGlassLimitRole: 9, BreakGlassPeriod: 86400, BreakGlassRotate: true, ReviewDeadline: 3600,
		ReviewerGroups: []string{"security"}, ReviewerEntities: []string{uuid(2)},
	}
	r.Editors = []Editor{{Person: "email:carol@example.com", Entity: uuid(3), At: t0}}
	r.TokenTarget, r.MaxLoginAge, r.RequiredLogin = "local", 900, "auth_oidc_1"
	return r
}

func fullRequest(t *testing.T) Request {
	t.Helper()
	ask := asked()
	ask.Ticket, ask.Principal, ask.Auto, ask.ClaimWithin = "OPS-1", "alice@example.com", true, 7200
	ask.Params, ask.FirstRead, ask.StartTime = map[string]string{"branch": "main"}, true, at("30m")
	ask.Requester.Machine = true
	r := File(ask, 24*3600, t0)
	r, err := r.Decide(Decision{By: party("bob"), Verdict: Approve, Comment: "fine", TTL: 1800, Digest: "d1"}, at("1h"))
	if err != nil {
		t.Fatal(err)
	}
	r = must(t, r, r.Grant(met(1800), at("1h")), at("1h"))
	r = must(t, r, Event{Kind: Started}, at("61m"))
	r = mustCredential(t, r.Plan(planned(10), at("62m")), 10, at("63m"), CredIssued, CredEndAsked)
	r, err = r.Edit(CredentialID(id(10)), func(c *Credential) {
		c.Attempts, c.Problem, c.RefusedAfter, c.Due = 2, "Timeout", 1500, at("70m")
		c.Boot, c.Call = "boot-1", "call-1"
		c.Nonces = []Nonce{{ID: "n1", Until: at("2h")}}
		c.Handle.Shared = "binding-1"
		c.AccessAt, c.GoneAt = at("71m"), at("72m")
	})
	if err != nil {
		t.Fatal(err)
	}
	r.Decisions[0].Stage, r.Stage, r.Reconsider, r.ReviewOwed = 1, 1, at("2h"), "nobody answered in time"
	r.Observed = "would have waited"
	r.Series = &Series{Count: 3, Each: []map[string]string{{"branch": "main"}}}
	r.Extensions = []Extension{{
		TTL: 600, Justification: "not done", Digest: "d2", FiledAt: at("70m"), ExpiresAt: at("90m"), State: Active,
		Stage: 1, Decisions: slices.Clone(r.Decisions), From: at("80m"), Granted: 600,
	}}
	r.Extensions[0].Decisions[0].By.Machine = true
	r.Times.TargetConfirmed, r.Times.FirstRefused = at("71m"), at("71m30s")
	bob := party("bob")
	r.Glass = &Glass{Event: id(20), Heard: at("61m"), HeardBy: "siem", Rotate: RotationOwed, RotateDue: at("90m"), Tries: 1}
	r.Review = &Review{
		Why: "break-glass", Owed: at("60m"), Deadline: at("72h"), Groups: []string{"security"}, Entities: []string{uuid(2)},
		Pins: map[string]string{"security": "id-of-security"}, Verdict: Justified, By: &bob, Comment: "fine", At: at("2h"),
	}
	r.Fed = 3
	return must(t, r, Event{Kind: Killed, By: party("carol"), Reason: "incident"}, at("80m"))
}

func TestRecordsKeepTheirShape(t *testing.T) {
	for name, value := range map[string]any{"role": fullRole(), "request": fullRequest(t)} {
		t.Run(name, func(t *testing.T) {
			if empty := unset(reflect.ValueOf(value), name); len(empty) > 0 {
				t.Fatalf("the golden file would not show %v", empty)
			}
			got, err := json.MarshalIndent(value, "", "  ")
			if err != nil {
				t.Fatal(err)
			}
			got = append(got, '\n')
			file := filepath.Join("testdata", name+".golden.json")
			if *update {
				if err := os.WriteFile(file, got, 0o600); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(got, want) {
				t.Fatalf("records in storage look otherwise (rename nothing; new fields: go test -update):\n%s", got)
			}
			back := reflect.New(reflect.TypeOf(value))
			if err := json.Unmarshal(want, back.Interface()); err != nil {
				t.Fatal(err)
			}
			again, err := json.MarshalIndent(back.Interface(), "", "  ")
			if err != nil || !bytes.Equal(append(again, '\n'), want) {
				t.Fatalf("not the same after storage: %s (%v)", again, err)
			}
		})
	}
}

// unset lists the fields that have no value, by path.
func unset(v reflect.Value, path string) []string {
	var out []string
	switch v.Kind() {
	case reflect.Struct:
		if v.Type().PkgPath() == "time" {
			break
		}
		for i := range v.NumField() {
			out = append(out, unset(v.Field(i), path+"."+v.Type().Field(i).Name)...)
		}
		return out
	case reflect.Slice:
		if v.Len() > 0 && v.Type().Elem().Kind() == reflect.Struct && path != "request.History.Entries" {
			return unset(v.Index(0), path+"[0]")
		}
	default:
	}
	onlyWhenFolded := path == "request.History.Base" || path == "request.History.Folded"
	byMachine := path == "request.Decisions[0].By.Machine" // a machine never decides
	if v.IsZero() && !onlyWhenFolded && !byMachine {
		out = append(out, path)
	}
	return out
}

func TestHistoryIsIntactAfterStorage(t *testing.T) {
	raw, err := json.Marshal(fullRequest(t))
	if err != nil {
		t.Fatal(err)
	}
	var back Request
	if err := json.Unmarshal(raw, &back); err != nil {
		t.Fatal(err)
	}
	if !back.History.Intact() {
		t.Fatal("the chain broke in storage")
	}
}
