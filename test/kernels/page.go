package main

import (
	_ "embed"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// head is what the page has before its table.
//
//go:embed head.md
var head string

// writePage writes docs/kernels.md from the results that there are for the programs as they are now.
func (o options) writePage() error {
	var b strings.Builder
	b.WriteString(head + "\n| Linux | Debian | iptables | CPUs |")
	for _, c := range columns {
		b.WriteString(" " + c.name + " |")
	}
	b.WriteString("\n|---|---|---|--:|" + strings.Repeat("---|", len(columns)) + "\n")
	for _, m := range machines() {
		row, release, err := o.row(m)
		if err != nil {
			return err
		}
		fmt.Fprintf(&b, "| %s | %s | %s | %d |%s\n", release, m.suite, m.tables(), m.cpus, row)
	}
	b.WriteString("\n" + chosen())
	return os.WriteFile(filepath.Join(o.docs, "kernels.md"), []byte(b.String()), 0o644)
}

// row returns the cells of a machine in the table, and the release of its kernel.
func (o options) row(m machine) (row, release string, err error) {
	release = m.name
	for _, col := range columns {
		c := cell{m, col}
		r, known, err := o.load(c)
		switch {
		case err != nil:
			return "", "", err
		case known:
			row += fmt.Sprintf(" %v, %.0f min |", r, max(1, r.Seconds/60))
			release = r.Release
		case m.has(col):
			row += " not run yet |"
		default:
			row += " – |"
		}
	}
	return row, release, nil
}

// chosen tells which tests the columns are.
func chosen() string {
	var b strings.Builder
	b.WriteString("The columns are these tests of [test/packet](../test/packet):\n\n")
	for _, c := range columns {
		fmt.Fprintf(&b, "- %s: `%s`\n", c.name, c.run)
	}
	return b.String()
}
