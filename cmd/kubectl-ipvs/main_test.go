package main

import (
	"slices"
	"testing"
)

// By another name kubectl asks it to complete words.
func TestArguments(t *testing.T) {
	for _, tt := range []struct {
		name string
		want []string
	}{
		{"/usr/local/bin/kubectl-ipvs", []string{"status"}},
		{"kubectl-ipvs.exe", []string{"status"}},
		{"/usr/local/bin/kubectl_complete-ipvs", []string{"__complete", "status"}},
		{"kubectl_complete-ipvs.exe", []string{"__complete", "status"}},
	} {
		if got := arguments([]string{tt.name, "status"}); !slices.Equal(got, tt.want) {
			t.Errorf("%s: %v, want %v", tt.name, got, tt.want)
		}
	}
}
