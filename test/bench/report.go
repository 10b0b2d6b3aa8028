package main

import (
	"bufio"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"golang.org/x/sys/unix"
)

// A finding is what a section found.
type finding struct {
	title, words string
	rows         []row
	plots        []plot
}

// A row is a line of a finding's table.
type row struct{ what, seen, against, ratio, target string }

func (f *finding) add(r row) { f.rows = append(f.rows, r) }

// against is a row that compares a figure of two trials.
func (r results) against(what string, t, base trial, name string, unit func(float64) string, target string) row {
	return row{what: what, seen: r.figure(t, name, unit), against: r.figure(base, name, unit),
		ratio: spread(r.ratios(t, base, name), plain), target: target}
}

// figure shows a figure.
func (r results) figure(t trial, name string, unit func(float64) string) string {
	return spread(r.values(t, name), unit)
}

// spread shows the median of what the rounds saw and, if there were several, the lowest and the highest.
func spread(values []float64, unit func(float64) string) string {
	shown := unit(median(values))
	if len(values) < 2 {
		return shown
	}
	return fmt.Sprintf("%s (%s to %s)", shown, unit(slices.Min(values)), unit(slices.Max(values)))
}

func (r row) cells() []string { return []string{r.what, r.seen, r.against, r.ratio, r.target} }

var header = []string{"what", "seen", "against", "ratio", "target"}

// print prints the table for a terminal.
func (f finding) print(out io.Writer) {
	w := tabwriter.NewWriter(out, 0, 0, 3, ' ', 0)
	fmt.Fprintf(out, "\n%s\n\n", f.title)
	fmt.Fprintln(w, strings.Join(header, "\t"))
	for _, r := range f.rows {
		fmt.Fprintln(w, strings.Join(r.cells(), "\t"))
	}
	w.Flush()
}

// markdown writes the finding as a section of a page.
func (f finding) markdown(out io.Writer) {
	fmt.Fprintf(out, "\n## %s\n\n%s\n\n", f.title, f.words)
	fmt.Fprintf(out, "| %s |\n|%s\n", strings.Join(header, " | "), strings.Repeat("---|", len(header)))
	for _, r := range f.rows {
		fmt.Fprintf(out, "| %s |\n", strings.Join(r.cells(), " | "))
	}
	for _, p := range f.plots {
		fmt.Fprintf(out, "\n![%s](%s.svg)\n", p.title, p.file)
	}
}

// write writes the page and its plots.
func (p page) write(dir, name string, done []finding) error {
	var text strings.Builder
	fmt.Fprintf(&text, "# %s\n\nWritten by `%s` (test/bench) on %s, on %s.\n\n%s\n", p.title, p.by, time.Now().Format(time.DateOnly), machine(), p.words)
	for _, f := range done {
		f.markdown(&text)
		for _, p := range f.plots {
			if err := os.WriteFile(filepath.Join(dir, p.file+".svg"), []byte(p.svg()), 0o644); err != nil {
				return err
			}
		}
	}
	return os.WriteFile(filepath.Join(dir, name+".md"), []byte(text.String()), 0o644)
}

// machine says what was measured on.
func machine() string {
	var u unix.Utsname
	if err := unix.Uname(&u); err != nil {
		return err.Error()
	}
	return fmt.Sprintf("Linux %s, %s, %s", unix.ByteSliceToString(u.Release[:]), processor(), runtime.Version())
}

// processor is what the kernel calls the processor.
func processor() string {
	f, err := os.Open("/proc/cpuinfo")
	if err != nil {
		return "an unknown processor"
	}
	defer f.Close()
	for lines := bufio.NewScanner(f); lines.Scan(); {
		if name, value, _ := strings.Cut(lines.Text(), ":"); strings.TrimSpace(name) == "host" || strings.TrimSpace(name) == "model name" {
			return strings.TrimSpace(value)
		}
	}
	return "an unknown processor"
}

func plain(v float64) string        { return fmt.Sprintf("%.2f", v) }
func whole(v float64) string        { return thousands(int(math.Round(v))) }
func mebibytes(v float64) string    { return fmt.Sprintf("%.0f MiB", v) }
func bytes(v float64) string        { return whole(v) + " bytes" }
func percent(v float64) string      { return fmt.Sprintf("%.2f %%", v) }
func seconds(s float64) string      { return fmt.Sprintf("%.2f s", s) }
func milliseconds(s float64) string { return fmt.Sprintf("%.1f ms", s*1e3) }
func microseconds(s float64) string { return fmt.Sprintf("%.0f µs", s*1e6) }

// thousands writes a number as a reader wants it: 10,000.
func thousands(n int) string {
	if n < 1000 {
		return fmt.Sprint(n)
	}
	return fmt.Sprintf("%s,%03d", thousands(n/1000), n%1000)
}
