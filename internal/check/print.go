package check

import (
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
)

// findingWidth is the width of the text of a finding. A longer word has a line of its own.
const findingWidth = 96

// Print prints findings as a table in which the text of a finding, and then what to do, has as many lines as it needs.
func Print(out io.Writer, found []Finding) error {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "CHECK\tSEVERITY\tFOUND")
	for _, f := range found {
		lines := wrap(f.Found, findingWidth)
		if f.Do != "" {
			lines = append(lines, wrap("-> "+f.Do, findingWidth)...)
		}
		for i, line := range lines {
			if i == 0 {
				fmt.Fprintf(w, "%s\t%s\t%s\n", f.Check, f.Severity, line)
			} else {
				fmt.Fprintf(w, "\t\t%s\n", line)
			}
		}
	}
	return w.Flush()
}

// wrap breaks a text into lines at blanks.
func wrap(text string, width int) []string {
	var lines []string
	line := ""
	for _, word := range strings.Fields(text) {
		if line != "" && len(line)+1+len(word) > width {
			lines = append(lines, line)
			line = word
			continue
		}
		line = strings.TrimLeft(line+" "+word, " ")
	}
	return append(lines, line)
}
