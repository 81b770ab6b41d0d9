package condition

import (
	"fmt"

	"cel.dev/cel-go/cel"
	"cel.dev/cel-go/common/types"
)

// Bounds of one expression.
const (
	MaxExpression = 2048  // bytes
	MaxCost       = 50000 // units of CEL, as estimated when written and as spent when run

	maxNodes = 2000 // after macros are expanded
	maxDepth = 32
	maxRegex = 2000 // instructions of one compiled pattern
	maxValue = 100000
)

// Engine compiles and judges conditions. It is safe for concurrent use; a
// process needs one.
type Engine struct {
	env   *cel.Env
	zones *zones
	cache *cache
}

// New makes an engine that keeps the compiled conditions of up to size roles.
func New(size int) (*Engine, error) {
	registry, err := types.NewRegistry()
	if err != nil {
		return nil, fmt.Errorf("conditions: types: %w", err)
	}
	p := &provider{Registry: registry, objects: map[string]map[string]field{}}
	z := &zones{}
	options := append(z.options(),
		cel.CustomTypeAdapter(registry),
		cel.CustomTypeProvider(p),
		cel.Variable("now", cel.TimestampType),
		cel.Variable("params", textMap()),
		cel.DefaultUTCTimeZone(true),
		cel.StrictTimestampParsing(true),
		cel.ParserExpressionSizeLimit(MaxExpression),
		cel.ParserRecursionLimit(maxDepth),
		cel.ExpressionNodeLimit(maxNodes),
		cel.RegexProgramSizeLimit(maxRegex),
		cel.ExtendedValidations(),
		cel.ASTValidators(cel.ValidateComprehensionNestingLimit(2)),
	)
	for variable, fields := range objects() {
		p.objects[objectName(variable)] = fields
		options = append(options, cel.Variable(variable, cel.ObjectType(objectName(variable))))
	}
	e, err := cel.NewCustomEnv(options...)
	if err != nil {
		return nil, fmt.Errorf("conditions: environment: %w", err)
	}
	return &Engine{env: e, zones: z, cache: newCache(size)}, nil
}
