package test

import (
	"go/parser"
	"go/token"
	"regexp"
	"strings"
	"testing"
)

// plain are the packages whose comments keep to plain English.
var plain = []string{"sync/kube", "sync/manifest", "sync/object", "sync/node", "sync/health", "sync/delta", "sync/source", "cmd"}

// TestWords limits two habits in comments, in uses per 1,000 words: a relative clause in the place of a noun (what), and
// predicates that speak (says, for which Go's phrase is "reports whether").
func TestWords(t *testing.T) {
	limits := map[string]float64{"what": 4, "says": 0, "whom": 0, "told": 0, "heard": 0}
	word := regexp.MustCompile(`[A-Za-z']+`)
	for _, dir := range plain {
		words, uses := 0, map[string]int{}
		for _, s := range sources(t) {
			if s.test || !s.in(dir) {
				continue
			}
			f, err := parser.ParseFile(token.NewFileSet(), s.name, nil, parser.ParseComments|parser.SkipObjectResolution)
			if err != nil {
				t.Fatal(err)
			}
			for _, group := range f.Comments {
				for _, w := range word.FindAllString(strings.ToLower(group.Text()), -1) {
					words++
					uses[w]++
				}
			}
		}
		if words == 0 {
			t.Errorf("%s has no comments, which cannot be", dir)
			continue
		}
		for w, limit := range limits {
			if got := 1000 * float64(uses[w]) / float64(words); got > limit {
				t.Errorf("%s: %d times %q in %d words of comments, more than %.0f in 1,000", dir, uses[w], w, words, limit)
			}
		}
	}
}
