package aws

import (
	"testing"
	"time"

	"github.com/vault-pim/vault-plugin-secrets-pim/internal/provider/contract"
	"github.com/vault-pim/vault-plugin-secrets-pim/internal/secret"
)

// rootKeys lists the ids of the root user's keys.
func (w *fakeAWS) rootKeys() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	var out []string
	for _, k := range w.accounts[homeAccount].users["root"].keys {
		out = append(out, k.pair.ID)
	}
	return out
}

// withRoot opens an instance with other root keys.
func (w *fakeAWS) withRoot(t *testing.T, keys map[string]secret.String) *Provider {
	t.Helper()
	return w.open(t, func(target *contract.Target) { target.Secrets = keys })
}

const stageID = "01kjmekwdgbtqakvbp2svn3b3z"

func TestRotationInTwoPhases(t *testing.T) {
	t.Parallel()
	w := newFakeAWS()
	w.keyProbes = 6
	old := map[string]secret.String{"access_key": secret.New(rootKey), "secret_key": secret.New(rootSecret)}
	staged, err := w.open(t, nil).StageRoot(noCancel, stageID)
	if err != nil {
		t.Fatal(err)
	}
	if keys := w.rootKeys(); len(keys) != 2 || staged["access_key"].Reveal() == rootKey || staged["secret_key"].Empty() {
		t.Fatalf("keys %v", keys)
	}
	fresh := w.withRoot(t, staged)
	if place, err := fresh.Place(noCancel); err != nil || place != homeAccount {
		t.Fatalf("the staged key must work when it is handed over: %q, %v", place, err)
	}
	for range 2 { // the second time is after a crash
		if err := fresh.CommitRoot(noCancel, stageID, old); err != nil {
			t.Fatal(err)
		}
		if keys := w.rootKeys(); len(keys) != 1 || keys[0] != staged["access_key"].Reveal() {
			t.Fatalf("keys %v", keys)
		}
	}
	if tags := w.accounts[homeAccount].users["root"].info.Tags; len(tags) > 0 {
		t.Errorf("tags are left: %v", tags)
	}
}

func TestRotationThatWasCutIsAbandoned(t *testing.T) {
	t.Parallel()
	for _, row := range []struct {
		name  string
		fault *fakeFault
		keys  int // besides ours, after the cut
	}{
		{"before the key was made", &fakeFault{op: "CreateKey", err: awsError("ServiceUnavailable"), times: 1}, 0},
		{"after the key was made and before its answer", &fakeFault{op: "CreateKey", err: awsError("ServiceUnavailable"), after: true, times: 1}, 1},
		{"while the key was tried", &fakeFault{op: "GetCallerIdentity", err: awsError("ServiceUnavailable"), times: -1}, 1},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			w := newFakeAWS()
			p := w.open(t, nil)
			if row.fault.op == "GetCallerIdentity" {
				// The first one tells who the root user is.
				w.between = func() {
					if w.count("CreateKey") > 0 {
						w.mu.Lock()
						if len(w.faults) == 0 {
							w.faults = append(w.faults, row.fault)
						}
						w.mu.Unlock()
					}
				}
			} else {
				w.faults = append(w.faults, row.fault)
			}
			if _, err := p.StageRoot(noCancel, stageID); err == nil {
				t.Fatal("it was not cut")
			}
			if n := len(w.rootKeys()) - 1; n != row.keys {
				t.Fatalf("%d keys besides ours", n)
			}
			w.mu.Lock()
			w.faults, w.between = nil, nil
			w.mu.Unlock()
			for range 2 {
				if err := w.open(t, nil).AbandonRoot(noCancel, stageID, nil); err != nil {
					t.Fatal(err)
				}
				if keys := w.rootKeys(); len(keys) != 1 || keys[0] != rootKey {
					t.Fatalf("keys %v", keys)
				}
			}
			if _, err := w.open(t, nil).StageRoot(noCancel, stageID); err != nil {
				t.Errorf("the next rotation: %v", err)
			}
		})
	}
}

func TestAKeyThatIsNotOursIsNeverDeletedByARotation(t *testing.T) {
	t.Parallel()
	w := newFakeAWS()
	p := w.open(t, nil)
	u := w.accounts[homeAccount].users["root"]
	u.keys = append(u.keys, fakeKey{pair: keyPair{ID: "AKIASOMEBODYELSESKEY", Secret: secret.New("x")}, created: w.clk.Now().Add(-time.Hour)})
	_, err := p.StageRoot(noCancel, stageID)
	wantCode(t, err, "two_keys")
	u.info.Tags[tagRotation] = stageID + "@" + "1772360000" // a stale mark
	if err := p.AbandonRoot(noCancel, "01kjmekwdgbtqakvbp2svn0000", nil); err != nil {
		t.Fatal(err)
	}
	u.info.Tags[tagRotation] = stageID + "@" + "99999999999"
	if err := p.AbandonRoot(noCancel, stageID, nil); err != nil {
		t.Fatal(err)
	}
	if len(w.rootKeys()) != 2 {
		t.Error("somebody else's key is gone")
	}
}

func TestRotationsThatAreRefused(t *testing.T) {
	t.Parallel()
	w := newFakeAWS()
	p := w.open(t, nil)
	same := map[string]secret.String{"access_key": secret.New(rootKey)}
	wantCode(t, p.CommitRoot(noCancel, stageID, same), "same_key")
	wantCode(t, p.CommitRoot(noCancel, stageID, nil), "same_key")
	wantCode(t, p.AbandonRoot(noCancel, stageID, same), "same_key")
	ambient := w.open(t, func(target *contract.Target) {
		target.Fields["root_credential"], target.Secrets = sourceEnvironment, nil
	})
	_, err := ambient.StageRoot(noCancel, stageID)
	wantCode(t, err, "not_static")
	if keys := w.rootKeys(); len(keys) != 1 || keys[0] != rootKey {
		t.Errorf("keys %v", keys)
	}
}

func TestRotationActsOnTheRootUserBehindABaseRole(t *testing.T) {
	t.Parallel()
	w := newFakeAWS()
	p := w.open(t, func(target *contract.Target) {
		target.Fields["base_role_arn"] = roleARN(otherAccount, "pim-base")
		target.Place = otherAccount
	})
	if place, err := p.Place(noCancel); err != nil || place != otherAccount {
		t.Fatalf("%q, %v", place, err)
	}
	if _, err := p.StageRoot(noCancel, stageID); err != nil || len(w.rootKeys()) != 2 {
		t.Errorf("%v, keys %v", err, w.rootKeys())
	}
}
