package faults

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"maps"
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
	src := source{set: token.NewFileSet(), carriers: map[string]int{}, found: map[string]bool{}}
	for _, file := range files {
		if strings.HasSuffix(file, "_test.go") {
			continue
		}
		parsed, err := parser.ParseFile(src.set, file, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		src.files = append(src.files, parsed)
	}
	if err := src.search(); err != nil {
		t.Fatal(err)
	}
	return slices.Sorted(maps.Keys(src.found))
}

// source is the code of the use cases. Carriers are the methods of Access that write
// a record and take the name of the step: two steps, one on each side of the write.
type source struct {
	set      *token.FileSet
	files    []*ast.File
	carriers map[string]int // name → which argument is the step
	found    map[string]bool
}

func (s *source) search() (err error) {
	for _, file := range s.files {
		for _, d := range file.Decls {
			if f, ok := d.(*ast.FuncDecl); ok && f.Recv != nil {
				s.carrier(f)
			}
		}
	}
	for _, file := range s.files {
		ast.Inspect(file, func(n ast.Node) bool {
			if call, ok := n.(*ast.CallExpr); ok && (!s.step(call) || !s.write(call)) {
				err = fmt.Errorf("%s: the name of this step is no literal", s.set.Position(call.Pos()))
			}
			return true
		})
	}
	return err
}

// carrier notes a method of Access with a parameter called step.
func (s *source) carrier(f *ast.FuncDecl) {
	if star, ok := f.Recv.List[0].Type.(*ast.StarExpr); !ok || fmt.Sprint(star.X) != "Access" {
		return
	}
	n := 0
	for _, field := range f.Type.Params.List {
		for _, name := range field.Names {
			if name.Name == "step" {
				s.carriers[f.Name.Name] = n
			}
			n++
		}
	}
}

// step handles a.step("name"); false means that it cannot be read.
func (s *source) step(call *ast.CallExpr) bool {
	method, ok := call.Fun.(*ast.SelectorExpr)
	if !ok || method.Sel.Name != "step" || len(call.Args) != 1 {
		return true
	}
	text, known := literal(call.Args[0])
	if known {
		s.found[text] = true
	}
	return known || prefixed(call.Args[0])
}

// write handles a call of a carrier; false means that it cannot be read.
func (s *source) write(call *ast.CallExpr) bool {
	method, ok := call.Fun.(*ast.SelectorExpr)
	if !ok {
		return true
	}
	at, carries := s.carriers[method.Sel.Name]
	if on, ok := method.X.(*ast.Ident); !carries || !ok || on.Name != "a" || len(call.Args) <= at {
		return true
	}
	text, known := literal(call.Args[at])
	if known {
		s.found["before put "+text], s.found["after put "+text] = true, true
	}
	passed, ok := call.Args[at].(*ast.Ident)
	return known || ok && passed.Name == "step"
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
