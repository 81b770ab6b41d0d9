package condition

import (
	"fmt"
	"slices"
	"strings"

	"cel.dev/cel-go/cel"
	"cel.dev/cel-go/common"
	"cel.dev/cel-go/common/ast"
	"cel.dev/cel-go/common/overloads"
	"cel.dev/cel-go/common/types"

	"github.com/vault-pim/vault-plugin-secrets-pim/internal/domain"
)

// Site is the role that an expression stands in.
type Site struct {
	Token  bool     // the role has a token_target, so that token is known
	Params []string // names of the role's declared parameters
}

// Check reports everything that is wrong with an expression, each with its
// line and column. No text of the expression is in it.
func (e *Engine) Check(expr string, site Site) []string {
	_, problems := e.compile(expr, site)
	return problems
}

// compile parses, type-checks and inspects an expression.
func (e *Engine) compile(expr string, site Site) (*cel.Ast, []string) {
	switch {
	case strings.TrimSpace(expr) == "":
		return nil, []string{"is empty"}
	case len(expr) > MaxExpression:
		return nil, []string{fmt.Sprintf("longer than %d bytes", MaxExpression)}
	}
	// What is seen is what is judged. Lines may be broken and indented.
	if why := domain.CheckText(strings.NewReplacer("\n", " ", "\t", " ").Replace(expr), MaxExpression); why != "" {
		return nil, []string{why}
	}
	checked, issues := e.env.Compile(expr)
	if issues.Err() != nil {
		return nil, inOurWords(issues.Errors())
	}
	var p found
	if checked.OutputType() != cel.BoolType {
		p.add(common.NoLocation, "the whole must be true or false")
	}
	e.inspect(checked, site, &p)
	if len(p.list) == 0 {
		e.checkCost(checked, &p)
	}
	return checked, p.texts()
}

// inspect refuses what type-checks and is still not for conditions.
func (e *Engine) inspect(checked *cel.Ast, site Site, p *found) {
	tree := checked.NativeRep()
	at := func(x ast.Expr) common.Location { return tree.SourceInfo().GetStartLocation(x.ID()) }
	facts := objects()
	ofField := map[int64]bool{} // what a field is taken of, which is seen before it
	ast.PreOrderVisit(tree.Expr(), ast.NewExprVisitor(func(x ast.Expr) {
		switch x.Kind() {
		case ast.IdentKind:
			switch name := x.AsIdent(); {
			case name == "token" && !site.Token:
				p.add(at(x), "token is known to roles with a token_target alone")
			case facts[name] != nil && !ofField[x.ID()]:
				p.add(at(x), "one of its fields is needed here")
			}
		case ast.StructKind:
			p.add(at(x), "objects cannot be made")
		case ast.ComprehensionKind:
			if name := x.AsComprehension().IterVar(); facts[name] != nil || name == "params" || name == "now" {
				p.add(at(x), "what goes through a list must not be called like a variable")
			}
		case ast.SelectKind:
			s := x.AsSelect()
			ofField[s.Operand().ID()] = true
			e.checkParam(s.Operand(), s.FieldName(), site, p, at(x))
		case ast.CallKind:
			e.inspectCall(x.AsCall(), site, p, at(x))
		default:
		}
	}))
}

func (e *Engine) inspectCall(c ast.CallExpr, site Site, p *found, at common.Location) {
	args := c.Args()
	switch name := c.FunctionName(); {
	case name == "_[_]" && len(args) == 2:
		if key, ok := literal(args[1]); ok {
			e.checkParam(args[0], key, site, p, at)
		}
	case name == overloads.Matches && len(args) > 0:
		// A pattern that somebody else may choose is a rule that they may choose.
		if _, ok := literal(args[len(args)-1]); !ok {
			p.add(at, "the pattern of matches must be written out")
		}
	case c.IsMemberFunction() && len(args) == 1 && isCalendar(name):
		if zone, ok := literal(args[0]); !ok || !e.zones.load(zone) {
			p.add(at, "the time zone must be written out, as a name of the IANA database or UTC")
		}
	}
}

func isCalendar(name string) bool {
	return slices.ContainsFunc(calendars(), func(c calendar) bool { return c.function == name })
}

// checkParam refuses parameters that the role does not declare: they would
// never be there.
func (e *Engine) checkParam(operand ast.Expr, key string, site Site, p *found, at common.Location) {
	if operand.Kind() == ast.IdentKind && operand.AsIdent() == "params" && !slices.Contains(site.Params, key) {
		p.add(at, "the role declares no such parameter")
	}
}

func literal(x ast.Expr) (string, bool) {
	if x.Kind() != ast.LiteralKind {
		return "", false
	}
	s, ok := x.AsLiteral().(types.String)
	return string(s), ok
}

// found gathers problems, each once.
type found struct{ list []problem }

type problem struct {
	line, column int // 0 = the whole
	text         string
}

func (f *found) add(at common.Location, text string) {
	p := problem{text: text}
	if at != common.NoLocation && at.Line() > 0 {
		p.line, p.column = at.Line(), at.Column()+1
	}
	if !slices.Contains(f.list, p) {
		f.list = append(f.list, p)
	}
}

// maxProblems bounds an answer; what is beyond is mostly the parser's echo of
// what came before.
const maxProblems = 16

func (f *found) texts() []string {
	var out []string
	for i, p := range f.list {
		switch {
		case i == maxProblems:
			return append(out, "and more")
		case p.line == 0:
			out = append(out, p.text)
		default:
			out = append(out, fmt.Sprintf("line %d, column %d: %s", p.line, p.column, p.text))
		}
	}
	return out
}

// inOurWords turns the issues of CEL, which quote the expression, into our
// words.
func inOurWords(issues []*cel.Error) []string {
	var f found
	for _, i := range issues {
		f.add(i.Location, wordsFor(i.Message))
	}
	return f.texts()
}

// wordsFor maps the beginnings of what CEL says.
func wordsFor(message string) string {
	for _, w := range []struct{ begins, words string }{
		{"Syntax error", "not valid syntax"},
		{"undeclared reference", "no such variable or function"},
		{"undefined field", "no such field"},
		{"found no matching overload", "the operator or function does not take values of these types"},
		{"expected type", "a value of another type is needed here"},
		{"expression of type", "only lists and maps can be gone through"},
		{"type '", "this has no fields"},
		{"comprehension exceeds", "all, exists, exists_one, filter and map may be nested once"},
		{"unsupported syntax", "not valid syntax"},
		{"invalid argument to has", "has() takes a field or key with a dot"},
		{"argument must be a simple name", "what goes through a list must be a simple name"},
		{"invalid matches argument", "not a valid RE2 pattern"},
		{"invalid duration argument", "not a duration"},
		{"invalid timestamp argument", "not a time in the form of RFC 3339"},
		{"regex program", "the pattern is too large"},
		{"expression node count", "too many parts"},
		{"expression recursion limit", "nested too deeply"},
		{"max recursion depth", "nested too deeply"},
		{"expression code point size", "too long"},
	} {
		if strings.HasPrefix(message, w.begins) {
			return w.words
		}
	}
	return "not valid"
}
