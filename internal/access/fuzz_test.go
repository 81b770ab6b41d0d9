package access

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"unicode"
	"unique"

	"github.com/vault-pim/vault-plugin-secrets-pim/internal/domain"
)

// Whoever follows the cursor of a list sees every request once, in order, and comes
// to an end, whatever they send as a cursor or a limit; and no name forges a line.
func FuzzListCursors(f *testing.F) {
	f.Add(uint16(5), "", 2, "alice")
	f.Add(uint16(0), "x", 0, "")
	f.Add(uint16(300), "01jnb000000000000000000100", -5, "a\nb")
	f.Add(uint16(250), "\xff\x00", 1<<40, "\u202ealice\x1b[2J")
	f.Fuzz(func(t *testing.T, n uint16, after string, limit int, name string) {
		rows := make([]row, int(n)%400)
		for i := range rows {
			rows[i] = row{
				id: domain.RequestID(fmt.Sprintf("01jnb%021d", i)), state: domain.Pending,
				terms: unique.Make(terms{role: "prod", target: "local"}), requester: unique.Make(requester{name: name}),
			}
		}
		var want, seen []string
		for _, r := range rows {
			if string(r.id) > after {
				want = append(want, string(r.id))
			}
		}
		for cursor, pages := after, 0; ; pages++ {
			p := pageOf(rows, cursor, limit)
			if len(p.Keys) > MaxPage || limit > 0 && len(p.Keys) > limit || len(p.Info) != len(p.Keys) {
				t.Fatalf("a page of %d for a limit of %d, and %d rows of it", len(p.Keys), limit, len(p.Info))
			}
			if len(p.Keys) == 0 {
				break
			}
			if pages > len(rows) {
				t.Fatal("the pages do not end")
			}
			who := fmt.Sprint(p.Info[p.Keys[0]]["who"])
			if strings.IndexFunc(who, func(r rune) bool { return unicode.IsControl(r) || unicode.Is(unicode.Cf, r) }) >= 0 {
				t.Fatalf("%q is shown as %q", name, who)
			}
			seen = append(seen, p.Keys...)
			cursor = p.Keys[len(p.Keys)-1]
		}
		if !slices.Equal(seen, want) {
			t.Fatalf("page by page %v, want %v", seen, want)
		}
	})
}
