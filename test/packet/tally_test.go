//go:build kernel

package packet

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"kube-ipvs/test/lab"
)

// A tally counts cells by columns: a protocol and a family.
type tally map[string]int

// String tells every column's number.
func (t tally) String() string {
	var out []string
	for _, column := range slices.Sorted(maps.Keys(t)) {
		out = append(out, fmt.Sprintf("%s %d", column, t[column]))
	}
	return strings.Join(out, ", ")
}

// column is where a cell is counted.
func (c cell) column() string {
	family := "IPv4"
	if c.at.Addr().Is6() {
		family = "IPv6"
	}
	return fmt.Sprintf("%v %s", c.proto, family)
}

// A wrongCell is a cell with what was wrong about it.
type wrongCell struct {
	cell      cell
	answer    lab.Answer // the last one
	complaint string
}

// totals tells how many cells there are, and how many are right and wrong of each protocol and family.
func (tt *truthTable) totals() string {
	right, wrong := 0, tally{}
	for _, n := range tt.right {
		right += n
	}
	for _, w := range tt.wrong {
		wrong[w.cell.column()]++
	}
	return fmt.Sprintf("%d cells, %d right (%v), %d wrong (%v)", right+len(tt.wrong), right, tt.right, len(tt.wrong), wrong)
}

// report tells what is wrong, by kinds: each with how often it came and one example.
func (tt *truthTable) report(t *testing.T) {
	for _, wrong := range tt.explained.wrong {
		t.Errorf("explain: %s", wrong)
	}
	count, example := tally{}, map[string]string{}
	for _, w := range tt.wrong {
		kind := fmt.Sprintf("%s, %s to %s: %s", w.cell.column(), w.cell.from, w.cell.to, w.complaint)
		count[kind]++
		example[kind] = w.cell.name
	}
	for _, kind := range slices.Sorted(maps.Keys(count)) {
		t.Errorf("%d times: %s (%s)", count[kind], kind, example[kind])
	}
}
