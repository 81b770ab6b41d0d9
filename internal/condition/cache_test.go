package condition

import (
	"strconv"
	"sync"
	"testing"
)

func TestRolesUsedLastAreAtHand(t *testing.T) {
	t.Parallel()
	e, err := New(2)
	if err != nil {
		t.Fatal(err)
	}
	a := e.Set("a", []string{"true"}, Site{})
	b := e.Set("b", []string{"true"}, Site{})
	if e.Set("a", nil, Site{}) != a {
		t.Error("a set at hand was compiled again")
	}
	e.Set("c", []string{"true"}, Site{})
	if e.Set("a", nil, Site{}) != a {
		t.Error("the set used last but one was dropped")
	}
	if e.Set("b", []string{"true"}, Site{}) == b {
		t.Error("more sets are kept than asked for")
	}
	if n := len(e.cache.byKey); n != 2 {
		t.Errorf("%d sets are kept", n)
	}
}

func TestSetsAreSharedByManyCallers(t *testing.T) {
	t.Parallel()
	e, err := New(3)
	if err != nil {
		t.Fatal(err)
	}
	const expr = `"oncall" in requester.groups && now.getHours("Europe/Berlin") == 14`
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			for j := range 25 {
				judge := e.Set(strconv.Itoa((i+j)%5), []string{expr}, site()).Judge(alice())
				if met, err := judge(expr); !met || err != nil {
					t.Errorf("%v, %v", met, err)
				}
			}
		})
	}
	wg.Wait()
}
