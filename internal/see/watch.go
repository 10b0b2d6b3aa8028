package see

import (
	"maps"
	"slices"
)

// A line is an item as it is printed.
type line struct {
	key   string // tells items from each other
	text  string // is another one when the item has changed
	cells []string
}

// The events of --watch, in the words of kubectl get --output-watch-events.
const (
	added    = "ADDED"
	modified = "MODIFIED"
	deleted  = "DELETED"
)

// A watched list is the items that were printed last, by key.
type watched map[string]line

// next returns the rows by which the next list differs, each with its event first: an item that went has the row that was its last.
func (w watched) next(lines []line) (rows [][]string, now watched) {
	now = watched{}
	for _, l := range lines {
		now[l.key] = l
		switch before, was := w[l.key]; {
		case !was:
			rows = append(rows, append([]string{added}, l.cells...))
		case before.text != l.text:
			rows = append(rows, append([]string{modified}, l.cells...))
		}
	}
	for _, key := range slices.Sorted(maps.Keys(w)) {
		if _, is := now[key]; !is {
			rows = append(rows, append([]string{deleted}, w[key].cells...))
		}
	}
	return rows, now
}
