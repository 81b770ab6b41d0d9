package faults

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/vault-pim/vault-plugin-secrets-pim/tests/harness"
)

// steps are the names that the use cases give to what a crash could separate, as
// their source has them: a step that is added there is one here.
func steps(t *testing.T) []string {
	t.Helper()
	root, err := harness.RepoRoot()
	if err != nil {
		t.Fatal(err)
	}
	files, err := filepath.Glob(filepath.Join(root, "internal", "access", "*.go"))
	if err != nil {
		t.Fatal(err)
	}
	found := map[string]bool{}
	for _, file := range files {
		if strings.HasSuffix(file, "_test.go") {
			continue
		}
		if err := stepsOf(file, found); err != nil {
			t.Fatal(err)
		}
	}
	out := make([]string, 0, len(found))
	for s := range found {
		out = append(out, s)
	}
	slices.Sort(out)
	return out
}

// armedElsewhere are the texts of other suites that let the process die: their
// providers come to steps that the kinds here do not.
func armedElsewhere(t *testing.T) map[string]bool {
	t.Helper()
	root, err := harness.RepoRoot()
	if err != nil {
		t.Fatal(err)
	}
	files, err := filepath.Glob(filepath.Join(root, "tests", "*", "*_test.go"))
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]bool{}
	for _, file := range files {
		raw, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if filepath.Base(filepath.Dir(file)) == "faults" || !strings.Contains(string(raw), ".CrashAt(") {
			continue
		}
		parsed, err := parser.ParseFile(token.NewFileSet(), file, raw, 0)
		if err != nil {
			t.Fatal(err)
		}
		ast.Inspect(parsed, func(n ast.Node) bool {
			if e, ok := n.(ast.Expr); ok {
				if text, known := literal(e); known {
					out[text] = true
				}
			}
			return true
		})
	}
	return out
}

// stepsOf finds a.step("name") and a.save(…, "name"), which is two steps around
// one write.
func stepsOf(file string, found map[string]bool) (err error) {
	set := token.NewFileSet()
	parsed, err := parser.ParseFile(set, file, nil, 0)
	if err != nil {
		return err
	}
	ast.Inspect(parsed, func(n ast.Node) bool {
		call, ok := n.(*ast.CallExpr)
		if !ok || len(call.Args) == 0 {
			return true
		}
		name, ok := call.Fun.(*ast.SelectorExpr)
		if !ok || name.Sel.Name != "step" && name.Sel.Name != "save" {
			return true
		}
		last := call.Args[len(call.Args)-1]
		text, known := literal(last)
		switch {
		case !known && name.Sel.Name == "step" && prefixed(last):
			// the two steps of save itself
		case !known:
			err = fmt.Errorf("%s: the name of this step is no literal", set.Position(call.Pos()))
		case name.Sel.Name == "step":
			found[text] = true
		default:
			found["before put "+text], found["after put "+text] = true, true
		}
		return true
	})
	return err
}

func literal(e ast.Expr) (string, bool) {
	lit, ok := e.(*ast.BasicLit)
	if !ok || lit.Kind != token.STRING {
		return "", false
	}
	s, err := strconv.Unquote(lit.Value)
	return s, err == nil
}

// prefixed tells whether an expression is one of the two that save builds.
func prefixed(e ast.Expr) bool {
	sum, ok := e.(*ast.BinaryExpr)
	if !ok {
		return false
	}
	text, ok := literal(sum.X)
	return ok && (text == "before put " || text == "after put ")
}
