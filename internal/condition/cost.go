package condition

import (
	"fmt"

	"cel.dev/cel-go/cel"
	"cel.dev/cel-go/common"
	"cel.dev/cel-go/common/cost"
)

// checkCost refuses an expression whose cost may exceed the bound although the
// facts are no larger than assumed.
func (e *Engine) checkCost(checked *cel.Ast, p *found) {
	estimate, err := e.env.EstimateCost(checked, sizes(objects()))
	switch {
	case err != nil:
		p.add(common.NoLocation, "its cost cannot be estimated")
	case estimate.Max > MaxCost:
		p.add(common.NoLocation, fmt.Sprintf("may cost more than %d units; go through fewer things, or write it as several conditions", MaxCost))
	}
}

// sizes answers how large facts are assumed to be.
type sizes map[string]map[string]field

// EstimateCallCost implements cost.Estimator: the standard costs.
func (sizes) EstimateCallCost(string, string, *cost.AstNode, []cost.AstNode) *cost.CallEstimate {
	return nil
}

// EstimateSize implements cost.Estimator.
func (s sizes) EstimateSize(node cost.AstNode) *cost.SizeEstimate {
	path := node.Path()
	if len(path) == 0 {
		return nil
	}
	if path[0] == "params" {
		return upTo([]uint64{manyPairs, sizeText}, path[1:])
	}
	if len(path) < 2 {
		return nil
	}
	f, ok := s[path[0]][path[1]]
	if !ok || f.most == 0 {
		return nil
	}
	if path[1] == "aliases" {
		return upTo([]uint64{f.most, f.item, sizeValue}, path[2:])
	}
	return upTo([]uint64{f.most, f.item}, path[2:])
}

// upTo picks the size at a depth; a map's keys are names.
func upTo(levels []uint64, below []string) *cost.SizeEstimate {
	if len(below) >= len(levels) {
		return nil
	}
	most := levels[len(below)]
	if len(below) > 0 && below[len(below)-1] == "@keys" {
		most = sizeName
	}
	return &cost.SizeEstimate{Min: 0, Max: most}
}
