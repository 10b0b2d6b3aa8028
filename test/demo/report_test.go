package main

import (
	"strings"
	"testing"
)

func TestParagraph(t *testing.T) {
	var b strings.Builder
	printer{&b}.paragraph("  ", strings.Repeat("seven77 ", 30)+strings.Repeat("x", width+10))
	for i, l := range strings.Split(strings.TrimSpace(b.String()), "\n") {
		if len(l) > width && !strings.Contains(l, "xxx") {
			t.Errorf("line %d has %d characters: %q", i, len(l), l)
		}
	}
	if n := strings.Count(b.String(), "seven77"); n != 30 {
		t.Errorf("%d words of 30", n)
	}
}
