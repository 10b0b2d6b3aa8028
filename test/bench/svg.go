package main

import (
	"fmt"
	"html"
	"strings"
)

// A plot is bars, one below the other, each with its label and its value.
type plot struct {
	file, title, unit string
	bars              []bar
}

type bar struct {
	label string
	value float64
}

func (p *plot) bar(label string, value float64) { p.bars = append(p.bars, bar{label, value}) }

// The measures of a plot, in pixels.
const (
	width     = 720
	titleRoom = 40
	barHeight = 22
	barPitch  = 32
	labelRoom = 260 // left of the bars
	valueRoom = 90  // right of the longest
)

// svg draws the plot. The longest bar takes all the room that there is.
func (p plot) svg() string {
	longest := 0.0
	for _, b := range p.bars {
		longest = max(longest, b.value)
	}
	height := titleRoom + len(p.bars)*barPitch + 10
	var out strings.Builder
	fmt.Fprintf(&out, `<svg xmlns="http://www.w3.org/2000/svg" width="%d" height="%d" viewBox="0 0 %[1]d %[2]d" font-family="sans-serif" font-size="13">
<rect width="%[1]d" height="%[2]d" fill="#ffffff"/>
<text x="12" y="24" font-size="15" font-weight="bold" fill="#222222">%[3]s</text>
`, width, height, html.EscapeString(p.title))
	for i, b := range p.bars {
		length := 0.0
		if longest > 0 {
			length = max(1, b.value/longest*(width-labelRoom-valueRoom))
		}
		top := titleRoom + i*barPitch
		middle := top + barHeight/2 + 5
		fmt.Fprintf(&out, `<text x="%d" y="%d" text-anchor="end" fill="#222222">%s</text>
<rect x="%d" y="%d" width="%.1f" height="%d" fill="#3b6ea5"/>
<text x="%.1f" y="%d" fill="#222222">%s</text>
`, labelRoom-8, middle, html.EscapeString(b.label), labelRoom, top, length, barHeight, labelRoom+length+8, middle, html.EscapeString(short(b.value)+" "+p.unit))
	}
	return out.String() + "</svg>\n"
}

// short writes a value with about three digits.
func short(v float64) string {
	switch {
	case v >= 100:
		return thousands(int(v + 0.5))
	case v >= 10:
		return fmt.Sprintf("%.1f", v)
	}
	return fmt.Sprintf("%.2f", v)
}
