package condition

import (
	"errors"
	"fmt"
	"maps"
	"strings"

	"cel.dev/cel-go/cel"
	"cel.dev/cel-go/common/ast"

	"github.com/vault-pim/vault-plugin-secrets-pim/internal/domain"
)

// ErrFailed is the kind of every error of a judge: the condition cannot be
// judged. Its text is ours and quotes neither the expression nor a fact.
var ErrFailed = errors.New("the condition cannot be judged")

// Set is the compiled conditions of one role. It is immutable and safe for
// concurrent use.
type Set struct {
	programs map[string]cel.Program
	broken   map[string]error
	uses     map[string]bool // variables of all
	ofToken  map[string]bool // expressions
}

// Compile compiles the conditions of one role. One that does not compile is
// part of the set and cannot be judged; Check says what is wrong with it.
func (e *Engine) Compile(exprs []string, site Site) *Set {
	s := &Set{programs: map[string]cel.Program{}, broken: map[string]error{}, uses: map[string]bool{}, ofToken: map[string]bool{}}
	for _, expr := range exprs {
		if s.programs[expr] != nil || s.broken[expr] != nil {
			continue
		}
		program, uses, err := e.program(expr, site)
		if err != nil {
			s.broken[expr] = err
			continue
		}
		s.programs[expr] = program
		s.ofToken[expr] = uses["token"]
		maps.Copy(s.uses, uses)
	}
	return s
}

// program plans an expression, and says which variables it mentions.
func (e *Engine) program(expr string, site Site) (cel.Program, map[string]bool, error) {
	checked, problems := e.compile(expr, site)
	if len(problems) > 0 {
		return nil, nil, fmt.Errorf("%w: %s", ErrFailed, strings.Join(problems, "; "))
	}
	program, err := e.env.Program(checked, cel.CostLimit(MaxCost), cel.MemoryLimit(maxValue), cel.EvalOptions(cel.OptOptimize))
	if err != nil {
		return nil, nil, fmt.Errorf("%w: it cannot be planned", ErrFailed)
	}
	uses := map[string]bool{}
	ast.PreOrderVisit(checked.NativeRep().Expr(), ast.NewExprVisitor(func(x ast.Expr) {
		if x.Kind() == ast.IdentKind {
			uses[x.AsIdent()] = true
		}
	}))
	return program, uses, nil
}

// UsesToken tells whether any condition of the set asks about the calling
// token, so that the caller looks it up only then.
func (s *Set) UsesToken() bool { return s.uses["token"] }

// OfToken tells whether one condition asks about the calling token. The token is
// known while its holder calls, and not while somebody else looks or decides.
func (s *Set) OfToken(expr string) bool { return s.ofToken[expr] }

// UsesHistory tells whether any condition of the set asks about the
// requester's recent use of the role.
func (s *Set) UsesHistory() bool { return s.uses["history"] }

// Judge judges the set's conditions over one input, each when it is asked for.
// Every error is an ErrFailed: an expression that is not of the set, a fact
// that is not there, a cost above MaxCost.
func (s *Set) Judge(in Input) domain.Judge {
	facts := &variables{in: &in}
	return func(expr string) (met bool, err error) {
		program, ok := s.programs[expr]
		if !ok {
			if err := s.broken[expr]; err != nil {
				return false, err
			}
			return false, fmt.Errorf("%w: it is not one of the role's", ErrFailed)
		}
		defer func() {
			// Nothing is known to panic; but a panic here must not be an approval
			// and must not end the process.
			if recover() != nil {
				met, err = false, fmt.Errorf("%w: it broke", ErrFailed)
			}
		}()
		out, _, err := program.Eval(facts)
		if err != nil {
			return false, fmt.Errorf("%w: %s", ErrFailed, reason(err))
		}
		met, ok = out.Value().(bool)
		if !ok {
			return false, fmt.Errorf("%w: it is neither true nor false", ErrFailed)
		}
		return met, nil
	}
}

// reason says why an evaluation failed, as far as that needs no word of the
// facts or of the expression.
func reason(err error) string {
	text := err.Error()
	for _, w := range []struct{ holds, words string }{
		{"no such key", "a key is not there"},
		{errUnset.Error(), "a fact is not set; ask has() first"},
		{"no such attribute", "a fact was not looked up"},
		{"cost limit", "it costs too much"},
		{"memory limit", "it costs too much"},
	} {
		if strings.Contains(text, w.holds) {
			return w.words
		}
	}
	return "a value is not what it must be"
}

// variables resolves the names of expressions.
type variables struct{ in *Input }

// ResolveName implements cel.Activation.
func (v *variables) ResolveName(name string) (any, bool) {
	switch name {
	case "request", "requester", "role":
		return v.in, true
	case "token":
		return v.in, v.in.Token != nil
	case "history":
		return v.in, v.in.History != nil
	case "now":
		return v.in.Now, true
	case "params":
		return v.in.Params, true
	}
	return nil, false
}

// Parent implements cel.Activation.
func (*variables) Parent() cel.Activation { return nil }
