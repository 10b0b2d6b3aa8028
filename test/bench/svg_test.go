package main

import (
	"encoding/xml"
	"errors"
	"io"
	"strings"
	"testing"
)

// A plot is well-formed, whatever is written in it, and its longest bar ends inside.
func TestPlot(t *testing.T) {
	p := plot{title: "a < b & c", unit: "ms"}
	p.bar("no time", 0)
	p.bar("<long>", 12345.6)
	text := p.svg()
	for d := xml.NewDecoder(strings.NewReader(text)); ; {
		_, err := d.Token()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatalf("%v in\n%s", err, text)
		}
	}
	for _, want := range []string{"a &lt; b &amp; c", "12,346 ms", `width="370.0"`, `width="1.0"`} {
		if !strings.Contains(text, want) {
			t.Errorf("no %s in\n%s", want, text)
		}
	}
}

func TestQuantile(t *testing.T) {
	values := []float64{5, 1, 4, 2, 3}
	for share, want := range map[float64]float64{0: 1, 0.5: 3, 0.99: 5, 1: 5} {
		if got := quantile(values, share); got != want {
			t.Errorf("quantile %v is %v, want %v", share, got, want)
		}
	}
	if got := thousands(1_234_567) + thousands(89); got != "1,234,56789" {
		t.Error(got)
	}
}
