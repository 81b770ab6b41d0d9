package aws

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/aws/smithy-go"

	"github.com/vault-pim/vault-plugin-secrets-pim/internal/clock"
	"github.com/vault-pim/vault-plugin-secrets-pim/internal/provider/contract"
	"github.com/vault-pim/vault-plugin-secrets-pim/internal/secret"
)

// upstreamWords are in every error text of the fake: they must never get out.
const upstreamWords = "User: arn:aws:iam::111111111111:user/root is not authorized to perform this"

func awsError(code string) error {
	return &smithy.GenericAPIError{Code: code, Message: upstreamWords}
}

// hurryClock is a clock on which waiting costs no time: whoever waits moves it.
// With runFreely it is an ordinary clock that began at another time.
type hurryClock struct {
	mu    sync.Mutex
	now   time.Time
	began time.Time // by the system's clock; zero = whoever waits moves it
}

func (c *hurryClock) runFreely() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.began = clock.System{}.Now()
}

func (c *hurryClock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.began.IsZero() {
		return c.now.Add(clock.System{}.Now().Sub(c.began))
	}
	return c.now
}

func (c *hurryClock) advance(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(max(d, 0))
}

func (c *hurryClock) After(d time.Duration) <-chan time.Time {
	c.mu.Lock()
	free := !c.began.IsZero()
	c.mu.Unlock()
	if free {
		return clock.System{}.After(d)
	}
	c.advance(d)
	ch := make(chan time.Time, 1)
	ch <- c.Now()
	return ch
}

// fakePrincipal is a role or user with its policies.
type fakePrincipal struct {
	info     userInfo // of a user
	arn      string
	inline   map[string]string
	attached []string // policy ARNs
	groups   []string
	keys     []fakeKey
	extras   []extra
	visible  time.Time // before that, calls do not know it
}

type fakeKey struct {
	pair    keyPair
	created time.Time
	probes  int // that fail before it works
}

// fakeSession is what STS gave out.
type fakeSession struct {
	session
	name           string // of the role or federating user
	kind           holderKind
	sourceIdentity string
	userID         string
	policy         string
	policyARNs     []string
	tags           map[string]string
	issued         time.Time
}

// fakeAccount is one AWS account.
type fakeAccount struct {
	id         string
	users      map[string]*fakePrincipal
	roles      map[string]*fakePrincipal
	policies   map[string][]string // ARN → versions, the last one in force
	sessions   []*fakeSession
	maxSession time.Duration
}

// fakeFault makes matching calls go wrong.
type fakeFault struct {
	op    string // "" = every call
	err   error
	after bool // it takes effect and the answer is lost
	times int  // < 0 = always
}

// fakeAWS is all of AWS in memory: it enforces names, sizes and quotas, and
// judges policies. It is the oracle of the tests.
type fakeAWS struct {
	clk *hurryClock

	mu        sync.Mutex
	accounts  map[string]*fakeAccount
	center    *fakeCenter
	watch     func(after bool)
	broken    bool
	faults    []*fakeFault
	calls     []string
	serial    int
	keyProbes int           // how often a new key fails at first
	lag       time.Duration // how long a new user is unknown
	between   func()        // runs before each call takes effect
	stale     func() bool   // tells whether a read of a policy sees the one before
	before    map[string]string
}

const (
	homeAccount  = "111111111111"
	otherAccount = "222222222222"
	rootKey      = "AKIAROOTROOTROOTROOT"
	rootSecret   = "root-secret-of-the-target"
	otherKey     = "AKIAOTHEROTHEROTHERX"
	prodRole     = "prod-admin"
)

func roleARN(account, name string) string { return "arn:aws:iam::" + account + ":role/" + name }
func userARNOf(account, name string) string {
	return "arn:aws:iam::" + account + ":user/" + name
}

// newFakeAWS has two accounts, each with a user "root" that pim uses and the
// roles prod-admin and prod-reader.
func newFakeAWS() *fakeAWS {
	w := &fakeAWS{
		clk:      &hurryClock{now: time.Date(2026, 3, 1, 10, 20, 30, 0, time.UTC)},
		accounts: map[string]*fakeAccount{}, before: map[string]string{}, keyProbes: 2,
	}
	for id, key := range map[string]string{homeAccount: rootKey, otherAccount: otherKey} {
		a := &fakeAccount{
			id: id, users: map[string]*fakePrincipal{}, roles: map[string]*fakePrincipal{}, policies: map[string][]string{},
			maxSession: maxRoleSession,
		}
		w.accounts[id] = a
		a.users["root"] = &fakePrincipal{
			info: userInfo{Name: "root", Path: "/", ARN: userARNOf(id, "root"), Tags: map[string]string{}},
			arn:  userARNOf(id, "root"), inline: map[string]string{"own": allowAllPolicy},
			keys: []fakeKey{{pair: keyPair{ID: key, Secret: secret.New(rootSecret)}, created: w.clk.Now()}},
		}
		for _, name := range []string{prodRole, "prod-reader", "pim-base", "pim-revoker"} {
			a.roles[name] = &fakePrincipal{arn: roleARN(id, name), inline: map[string]string{"own": allowAllPolicy}}
		}
	}
	w.center = newFakeCenter()
	return w
}

const allowAllPolicy = `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"*","Resource":"*"}]}`

// call is the one way into the fake.
func (w *fakeAWS) call(ctx context.Context, op string, effect func() error) error {
	w.watched(false)
	if err := ctx.Err(); err != nil {
		return err
	}
	if f := w.hook(); f != nil {
		f()
	}
	err := w.act(op, effect)
	w.watched(true)
	if ctx.Err() != nil {
		return ctx.Err()
	}
	return err
}

func (w *fakeAWS) hook() func() {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.between
}

func (w *fakeAWS) act(op string, effect func() error) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.calls = append(w.calls, op)
	if w.broken {
		return awsError("ServiceFailure")
	}
	for _, f := range w.faults {
		if f.times == 0 || (f.op != "" && f.op != op) {
			continue
		}
		f.times--
		if f.after {
			if err := effect(); err != nil {
				return err
			}
		}
		return f.err
	}
	return effect()
}

func (w *fakeAWS) watched(after bool) {
	w.mu.Lock()
	see := w.watch
	w.mu.Unlock()
	if see != nil {
		see(after)
	}
}

// fail makes the next times calls of one kind fail.
func (w *fakeAWS) fail(op, code string, times int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.faults = append(w.faults, &fakeFault{op: op, err: awsError(code), times: times})
}

// count tells how often one kind of call reached the fake.
func (w *fakeAWS) count(op string) int {
	w.mu.Lock()
	defer w.mu.Unlock()
	n := 0
	for _, c := range w.calls {
		if c == op {
			n++
		}
	}
	return n
}

// dial opens the fake as dialAWS opens AWS.
func (w *fakeAWS) dial(_ contract.Env, s settings) (*cloud, error) {
	root := &fakeCaller{w: w, key: s.Root}
	issuer, revoker := root, root
	if s.BaseRole != "" {
		issuer = &fakeCaller{w: w, key: s.Root, role: s.BaseRole}
		revoker = issuer
	}
	if s.RevokerRole != "" {
		revoker = &fakeCaller{w: w, key: s.Root, role: s.RevokerRole}
	}
	return &cloud{
		Root: root, Issuer: issuer, Revoker: revoker, Center: fakeCenterCaller{w}, Rails: fakeCenterCaller{w}, Signin: fakeSignin{w},
		As: func(ctx context.Context, k keyPair) (identity, error) {
			return (&fakeCaller{w: w, key: k}).Identify(ctx)
		},
	}, nil
}

// owner finds whose key it is. The caller holds mu.
func (w *fakeAWS) owner(k keyPair) (*fakeAccount, *fakePrincipal, error) {
	for _, a := range w.accounts {
		for _, u := range a.users {
			for i := range u.keys {
				if u.keys[i].pair.ID != k.ID {
					continue
				}
				if u.keys[i].pair.Secret.Reveal() != k.Secret.Reveal() {
					return nil, nil, awsError("SignatureDoesNotMatch")
				}
				if u.keys[i].probes > 0 {
					u.keys[i].probes--
					return nil, nil, awsError("InvalidClientTokenId")
				}
				return a, u, nil
			}
		}
	}
	return nil, nil, awsError("InvalidClientTokenId")
}

// fakeSignin trades sessions for tokens.
type fakeSignin struct{ w *fakeAWS }

// SigninToken implements signinAPI.
func (f fakeSignin) SigninToken(ctx context.Context, s session, d time.Duration) (secret.String, error) {
	var out secret.String
	err := f.w.call(ctx, "getSigninToken", func() error {
		if d != 0 && (d < minSession || d > maxRoleSession) {
			return errors.New(upstreamWords)
		}
		out = secret.New("signin-token-of-" + s.AccessKey + "-" + d.String())
		return nil
	})
	return out, err
}

// find returns the principal that a holder names. The caller holds mu.
func (w *fakeAWS) find(a *fakeAccount, h holder) (*fakePrincipal, error) {
	list := a.roles
	if h.Kind == userHolder {
		list = a.users
	}
	p := list[h.Name]
	if p == nil || w.clk.Now().Before(p.visible) {
		return nil, awsError("NoSuchEntity")
	}
	return p, nil
}

func without(list []string, x string) []string {
	return slices.DeleteFunc(list, func(y string) bool { return y == x })
}

func lastPart(arn string) string { return arn[strings.LastIndex(arn, "/")+1:] }
