package main

import (
	"context"
	"fmt"
	"os/exec"
	"strings"
)

// listSuite returns the names of all tests of SIG Network that the suite's program has.
func listSuite(ctx context.Context, program string) ([]string, error) {
	output, err := exec.CommandContext(ctx, program, "--list-tests").Output()
	if err != nil {
		return nil, fmt.Errorf("list the suite's tests: %w", err)
	}
	var names []string
	for line := range strings.Lines(string(output)) {
		// A line is "FILE:LINE: NAME".
		if i := strings.Index(line, "[sig-network]"); i >= 0 {
			names = append(names, strings.TrimSpace(line[i:]))
		}
	}
	return names, nil
}
