package main

import (
	"slices"
	"testing"
)

func TestOutcomes(t *testing.T) {
	const log = `=== RUN   TestDrain
--- FAIL: TestDrain (9.00s)
    --- PASS: TestDrain/tcp (1.00s)
        --- PASS: TestDrain/udp/IPv4 (1.00s)
        --- FAIL: TestDrain/udp/IPv6 (1.00s)
    --- FAIL: TestDrain/udp (1.00s)
--- PASS: TestUDP (1.00s)
`
	passed, failed := outcomes(log)
	if passed != 3 || !slices.Equal(failed, []string{"TestDrain/udp/IPv6"}) {
		t.Errorf("%d passed, %q failed", passed, failed)
	}
}

func TestResult(t *testing.T) {
	for want, r := range map[string]result{
		"7 tests":                         {Passed: true, Tests: 7},
		"8 of 9; **failed:** TestTruth/a": {Tests: 1, Failed: []string{"TestTruth/a"}, Cells: 8, Asked: 9},
		"**did not end**; 7 tests":        {Tests: 7},
	} {
		if got := r.String(); got != want {
			t.Errorf("%+v: %s, want %s", r, got, want)
		}
	}
}
