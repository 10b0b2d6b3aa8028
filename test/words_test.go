package test

import (
	"cmp"
	"fmt"
	"go/parser"
	"go/token"
	"maps"
	"slices"
	"strings"
	"testing"
	"unicode"
)

// budget bounds words in 1,000 words of a package's comments: "what" in the place of a noun, and "says" in the place of
// "reports whether" or "means".
var budget = map[string]int{"what": 4, "says": 0}

// TestWordsOfComments keeps comments in nouns: of product code only, by package.
func TestWordsOfComments(t *testing.T) {
	packages := map[string][]prose{}
	for _, s := range sources(t) {
		if s.test || s.in("test") {
			continue
		}
		p, err := proseOf(s.name)
		if err != nil {
			t.Fatal(err)
		}
		packages[s.dir] = append(packages[s.dir], p)
	}
	for _, dir := range slices.Sorted(maps.Keys(packages)) {
		for _, word := range slices.Sorted(maps.Keys(budget)) {
			if text := excess(packages[dir], word, budget[word]); text != "" {
				t.Errorf("package %s: %s", dir, text)
			}
		}
	}
}

// A prose has the words of a file's comments.
type prose struct {
	name  string
	words int
	count map[string]int // by word in lower case
}

func proseOf(name string) (prose, error) {
	f, err := parser.ParseFile(token.NewFileSet(), name, nil, parser.ParseComments)
	if err != nil {
		return prose{}, err
	}
	p := prose{name: strings.TrimPrefix(name, "../"), count: map[string]int{}}
	for _, group := range f.Comments {
		for _, word := range strings.FieldsFunc(strings.ToLower(group.Text()), func(r rune) bool { return !unicode.IsLetter(r) }) {
			p.words++
			p.count[word]++
		}
	}
	return p, nil
}

// excess returns the message about a word that stands more than limit times in 1,000 words of the files, or "". A fraction
// counts as a whole, so that a short package may have the word once if the limit is not 0.
func excess(files []prose, word string, limit int) string {
	words, n := 0, 0
	for _, f := range files {
		words += f.words
		n += f.count[word]
	}
	if n <= (limit*words+999)/1000 {
		return ""
	}
	slices.SortFunc(files, func(a, b prose) int {
		return cmp.Or(cmp.Compare(b.count[word], a.count[word]), strings.Compare(a.name, b.name))
	})
	var worst []string
	for _, f := range files[:min(3, len(files))] {
		if f.count[word] > 0 {
			worst = append(worst, fmt.Sprintf("%s (%d)", f.name, f.count[word]))
		}
	}
	return fmt.Sprintf("%q %d times in %d words of comments, %d per 1,000; at most %d: use a noun. Worst: %s",
		word, n, words, n*1000/words, limit, strings.Join(worst, ", "))
}

func TestExcess(t *testing.T) {
	files := []prose{
		{name: "a.go", words: 400, count: map[string]int{"what": 1}},
		{name: "b.go", words: 200, count: map[string]int{"what": 3, "says": 1}},
	}
	for _, tt := range []struct {
		name, word string
		limit      int
		want       string
	}{
		{"at the limit", "what", 6, ""},
		{"a fraction counts as a whole", "says", 1, ""},
		{"a limit of nothing", "says", 0, `"says" 1 times in 600 words of comments, 1 per 1,000; at most 0: use a noun. Worst: b.go (1)`},
		{"the worst file first", "what", 4, `"what" 4 times in 600 words of comments, 6 per 1,000; at most 4: use a noun. Worst: b.go (3), a.go (1)`},
	} {
		if got := excess(files, tt.word, tt.limit); got != tt.want {
			t.Errorf("%s: %q, want %q", tt.name, got, tt.want)
		}
	}
}
