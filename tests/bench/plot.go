package bench

import (
	"fmt"
	"html"
	"strings"
)

// palette is distinguishable for people who see red and green alike.
func palette() []string {
	return []string{"#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00"}
}

const (
	plotHeight = 260.0
	barWidth   = 26.0
	gap        = 34.0
	left       = 70.0
	top        = 46.0
)

// Plot draws one metric of a table as bars, grouped by case, each with the span
// of its rounds, as an SVG file's text.
func (r *Results) Plot(table, metric, title string) string {
	in := func(p Point) bool { return p.Table == table && p.Metric == metric }
	rows := unique(r.Points, func(p Point) (string, bool) { return p.Row, in(p) })
	series := unique(r.Points, func(p Point) (string, bool) { return p.Series, in(p) })
	most := 0.0
	for _, p := range r.Points {
		if in(p) {
			most = max(most, p.Value)
		}
	}
	if most == 0 {
		most = 1
	}
	group := float64(len(series))*barWidth + gap
	width := left + group*float64(len(rows)) + 20
	width = max(width, left+float64(len(series))*120)
	var b strings.Builder
	fmt.Fprintf(&b, `<svg xmlns="http://www.w3.org/2000/svg" width="%.0f" height="%.0f" font-family="sans-serif" font-size="12">`+"\n", width, top+plotHeight+44)
	fmt.Fprintf(&b, `<rect width="100%%" height="100%%" fill="white"/><text x="10" y="16" font-size="14">%s</text>`+"\n", html.EscapeString(title))
	legend(&b, series)
	axis(&b, most, metric, width)
	for i, row := range rows {
		x := left + gap/2 + float64(i)*group
		for k, s := range series {
			if sp, ok := r.Of(table, row, s, metric); ok {
				bar(&b, x+float64(k)*barWidth, sp, most, palette()[k%len(palette())])
			}
		}
		fmt.Fprintf(&b, `<text x="%.0f" y="%.0f" text-anchor="middle">%s</text>`+"\n",
			x+float64(len(series))*barWidth/2, top+plotHeight+18, html.EscapeString(row))
	}
	b.WriteString("</svg>\n")
	return b.String()
}

func legend(b *strings.Builder, series []string) {
	for k, s := range series {
		x := left + float64(k)*120
		fmt.Fprintf(b, `<rect x="%.0f" y="26" width="12" height="12" fill="%s"/><text x="%.0f" y="36">%s</text>`+"\n",
			x, palette()[k%len(palette())], x+17, html.EscapeString(s))
	}
}

func axis(b *strings.Builder, most float64, metric string, width float64) {
	for i := range 5 {
		share := float64(i) / 4
		y := top + plotHeight*(1-share)
		fmt.Fprintf(b, `<line x1="%.0f" y1="%.1f" x2="%.0f" y2="%.1f" stroke="#ddd"/><text x="%.0f" y="%.1f" text-anchor="end">%s</text>`+"\n",
			left, y, width-10, y, left-6, y+4, digits(most*share))
	}
	fmt.Fprintf(b, `<text x="14" y="%.0f" transform="rotate(-90 14 %.0f)" text-anchor="middle">%s</text>`+"\n",
		top+plotHeight/2, top+plotHeight/2, html.EscapeString(metric))
}

func bar(b *strings.Builder, x float64, s Spread, most float64, colour string) {
	y := func(v float64) float64 { return top + plotHeight*(1-v/most) }
	fmt.Fprintf(b, `<rect x="%.1f" y="%.1f" width="%.1f" height="%.1f" fill="%s"/>`,
		x, y(s.Median), barWidth-4, top+plotHeight-y(s.Median), colour)
	middle := x + (barWidth-4)/2
	fmt.Fprintf(b, `<line x1="%.1f" y1="%.1f" x2="%.1f" y2="%.1f" stroke="black"/>`+"\n", middle, y(s.Low), middle, y(s.High))
}
