package main

import (
	"fmt"
	"math"
)

// size shows bytes.
func size(bytes float64) string { return scaled(bytes, "B") }

func rate(bytes float64) string { return scaled(bytes, "B/s") }

// scaled shows three digits of a number, with the prefix of its unit.
func scaled(v float64, unit string) string {
	for _, prefix := range []string{"", "k", "M", "G"} {
		if math.Abs(v) < 999.5 {
			return digits(v) + " " + prefix + unit
		}
		v /= 1000
	}
	return digits(v) + " T" + unit
}

// span shows seconds.
func span(seconds float64) string {
	switch s := math.Abs(seconds); {
	case s < 0.9995e-3:
		return digits(seconds*1e6) + " µs"
	case s < 0.9995:
		return digits(seconds*1e3) + " ms"
	case s < 120:
		return digits(seconds) + " s"
	case s < 7200:
		return digits(seconds/60) + " min"
	}
	return digits(seconds/3600) + " h"
}

// digits shows a number with three digits, as far as they count.
func digits(v float64) string {
	switch a := math.Abs(v); {
	case a < 0.0005:
		return "0"
	case a < 9.995:
		return fmt.Sprintf("%.2f", v)
	case a < 99.95:
		return fmt.Sprintf("%.1f", v)
	}
	return count(v)
}

// count shows a number as a reader wants it: 10,000.
func count(v float64) string {
	n := int(math.Round(v))
	if n < 0 {
		return "-" + count(-v)
	}
	if n < 1000 {
		return fmt.Sprint(n)
	}
	return fmt.Sprintf("%s,%03d", count(float64(n/1000)), n%1000)
}

func percent(v float64) string { return fmt.Sprintf("%+.1f %%", v) }
