package test

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// Links in the documentation lead to files that exist, and to headings in them.
func TestLinksLeadSomewhere(t *testing.T) {
	for _, doc := range docs(t) {
		for _, m := range regexp.MustCompile(`\]\(([^)\s]+)\)`).FindAllStringSubmatch(read(t, doc), -1) {
			path, heading, _ := strings.Cut(m[1], "#")
			to := doc
			if path != "" {
				to = filepath.Join(filepath.Dir(doc), path)
			}
			switch _, err := os.Stat(to); {
			case strings.Contains(m[1], "://"):
			case err != nil:
				t.Errorf("%s links to %s: %v", doc, m[1], err)
			case heading != "" && !anchors(read(t, to))[heading]:
				t.Errorf("%s links to %s, which has no such heading", doc, m[1])
			}
		}
	}
}

// anchors are the names by which links lead to the headings of a page: lower-case, without punctuation, with hyphens for blanks.
func anchors(page string) map[string]bool {
	out := map[string]bool{}
	page = regexp.MustCompile("(?s)```.*?```").ReplaceAllString(page, "")
	for _, m := range regexp.MustCompile(`(?m)^#+ (.*)$`).FindAllStringSubmatch(page, -1) {
		name := regexp.MustCompile(`[^\pL\pN_ -]`).ReplaceAllString(strings.ToLower(m[1]), "")
		out[strings.ReplaceAll(name, " ", "-")] = true
	}
	return out
}
