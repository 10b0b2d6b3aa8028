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

func TestSpread(t *testing.T) {
	for _, tt := range []struct {
		values []float64
		want   string
	}{
		{[]float64{1.5}, "1.50"},
		{[]float64{3, 1, 2}, "2.00 (1.00 to 3.00)"},
	} {
		if got := spread(tt.values, plain); got != tt.want {
			t.Errorf("%v: %q, want %q", tt.values, got, tt.want)
		}
	}
	r := results{{"a", few}: {{"x": 6}, {"x": 2}}, {"b", few}: {{"x": 3}, {"x": 2}}}
	want := row{"what", "6.00 (2.00 to 6.00)", "3.00 (2.00 to 3.00)", "2.00 (1.00 to 2.00)", "target"}
	if got := r.against("what", trial{"a", few}, trial{"b", few}, "x", plain, "target"); got != want {
		t.Errorf("%+v, want %+v", got, want)
	}
}
