package aws

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/vault-pim/vault-plugin-secrets-pim/internal/clock"
	"github.com/vault-pim/vault-plugin-secrets-pim/internal/provider/providertest"
	"github.com/vault-pim/vault-plugin-secrets-pim/tests/harness"
	"github.com/vault-pim/vault-plugin-secrets-pim/tests/harness/poll"
)

// stray makes a user by hand that carries all our tags and is on no record, as
// if it had been planned some time ago.
func (o *office) stray(t *testing.T, tag string, age time.Duration) (id string) {
	t.Helper()
	id = providertest.NewID(t, clock.System{}.Now().Add(-age))
	tags := []args{{"Key": "pim:credential", "Value": id}, {"Key": "pim:target", "Value": tag}}
	call(t, o.account, "iam", "create_user", args{"UserName": "pim-" + id, "Path": "/pim/", "Tags": tags}, nil)
	call(t, o.account, "iam", "create_access_key", args{"UserName": "pim-" + id}, nil)
	return id
}

// orphans/ lists a stray that was made by hand, and nothing that is live, young,
// of another mount, or somebody else's.
func TestOrphansAreListed(t *testing.T) {
	o := newOffice(t, harness.Race)
	tag := o.targetTag(t)
	other := o.beside(t, harness.Plugin{Variant: harness.Race})
	o.auto(t, "user", args{"credential_type": "iam_user", "policy_document": allowAll})
	live := o.ready(t, "user")
	old, young := o.stray(t, tag, time.Hour), o.stray(t, tag, time.Minute)
	foreign := o.stray(t, "prod-00000000", time.Hour)
	call(t, o.account, "iam", "create_user", args{"UserName": "pim-by-hand", "Path": "/pim/"}, nil)

	if status := o.Sweep(t, args{"target": "prod"}); !strings.Contains(string(status.Body), "prod: done") || !strings.Contains(string(status.Body), "1 found, 0 ended") {
		t.Errorf("%s", status.Body)
	}
	o.Orphans(t, old)
	one := bench.host.Root().Read(t, o.Path("orphans/"+old)).OK(t)
	if one.Data["what"] != "IAM user /pim/pim-"+old || one.Data["target"] != "prod" || one.Data["access_ended_at"] != "" {
		t.Errorf("%s", one.Body)
	}
	other.Sweep(t, nil)
	other.Orphans(t)

	// What a sweep finds for the first time it does not end.
	late := o.stray(t, tag, time.Hour)
	o.Sweep(t, args{"end": true})
	o.Orphans(t, late)
	for id, want := range map[string]bool{old: false, young: true, foreign: true, late: true} {
		if problem := tryCall(t, o.account, "iam", "get_user", args{"UserName": "pim-" + id}, nil); (problem == "") != want {
			t.Errorf("the user of %s: %q, want it there: %v", id, problem, want)
		}
	}
	if problem := tryCall(t, o.account, "iam", "get_user", args{"UserName": "pim-by-hand"}, nil); problem != "" {
		t.Errorf("a user without our tags: %s", problem)
	}
	if !o.usable(t, live) {
		t.Error("a live credential was ended")
	}
	if gone := bench.host.Root().Read(t, o.Path("orphans/"+old)); gone.Status != http.StatusNotFound {
		t.Errorf("%d %s", gone.Status, gone.Body)
	}
}

// Users are issued and ended while sweeps run with end=true all the time: none
// that is live is ever listed.
func TestSweepsNeverListWhatIsLive(t *testing.T) {
	o := newOffice(t, harness.Race)
	o.auto(t, "user", args{"credential_type": "iam_user", "policy_document": allowAll})
	var mine []harness.Answer
	for range 4 {
		if status := bench.host.Root().Write(t, o.Path("orphans/sweep"), args{"end": true}); status.Status != http.StatusOK && status.Data["code"] != "busy" {
			t.Fatalf("%d %s", status.Status, status.Body)
		}
		creds := o.ready(t, "user")
		mine = append(mine, creds)
		o.Orphans(t)
		if len(mine)%2 == 0 {
			bench.host.Root().Write(t, "sys/leases/revoke", args{"lease_id": creds.LeaseID, "sync": true}).OK(t)
			mine = mine[:len(mine)-1]
		}
		o.Swept(t)
		o.Orphans(t)
	}
	for _, creds := range mine {
		if !o.usable(t, creds) {
			t.Error("a live credential was ended")
		}
	}
}

// targetTag is what users of this mount's target carry, seen on one of them.
func (o *office) targetTag(t *testing.T) string {
	t.Helper()
	o.auto(t, "user", args{"credential_type": "iam_user", "policy_document": allowAll})
	creds := o.ready(t, "user")
	var tags struct{ Tags []struct{ Key, Value string } }
	call(t, o.account, "iam", "list_user_tags", args{"UserName": creds.String(t, "username")}, &tags)
	for _, tag := range tags.Tags {
		if tag.Key == "pim:target" {
			return tag.Value
		}
	}
	t.Fatal("users do not say whose they are")
	return ""
}

// A user that carries our tags and is on no record is found and deleted by the
// sweep after a restore.
func TestAStrayIsSwept(t *testing.T) {
	o := newOffice(t, harness.Race)
	const id = "01kjmekwdgbtqakvbp2svn3b3z"
	tags := []args{{"Key": "pim:credential", "Value": id}, {"Key": "pim:target", "Value": o.targetTag(t)}}
	call(t, o.account, "iam", "create_user", args{"UserName": "pim-" + id, "Path": "/pim/", "Tags": tags}, nil)
	call(t, o.account, "iam", "create_access_key", args{"UserName": "pim-" + id}, nil)
	call(t, o.account, "iam", "create_user", args{"UserName": "pim-by-hand", "Path": "/pim/"}, nil)
	o.Write(t, "rotate-epoch", nil)
	began := clock.System{}.Now()
	poll.Until(t, endBound, func() error { return o.left(t, nil) })
	t.Logf("MEASURED the stray was gone %.1f s after rotate-epoch", clock.System{}.Now().Sub(began).Seconds())
	if problem := tryCall(t, o.account, "iam", "get_user", args{"UserName": "pim-by-hand"}, nil); problem != "" {
		t.Errorf("a user without our tags: %s", problem)
	}
}
