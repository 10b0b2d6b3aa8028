package main

import (
	"bytes"
	"strings"
	"testing"
)

// The plugin is a subcommand. All help is about kubectl ipvs, as that is what its users type.
func TestHelpOfThePlugin(t *testing.T) {
	for _, line := range []string{"", "status", "get", "explain", "top"} {
		var out, problems bytes.Buffer
		exit := program(t.Context(), append([]string{"cluster"}, strings.Fields(line+" --help")...), &out, &problems)
		text := out.String()
		if exit != 0 || !strings.Contains(text, "\n  kubectl ipvs "+line) || strings.Contains(text, "  kube-ipvs ") || strings.Contains(text, "this node") {
			t.Errorf("help of %q: exit status %d\n%s%s", line, exit, text, problems.String())
		}
	}
}
