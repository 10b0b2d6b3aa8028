package cli

import (
	"bytes"
	"errors"
	"fmt"
	"testing"

	"github.com/spf13/cobra"
)

// The exit status and the last words are those of the error, however deep it is.
func TestRun(t *testing.T) {
	for _, tt := range []struct {
		name string
		err  error
		exit int
		want string
	}{
		{"all is well", nil, 0, ""},
		{"a failure", errors.New("no node"), Failed, "kubectl x: no node\n"},
		{"a finding", Exit(3, nil), 3, ""},
		{"trouble", Troubled(errors.New("no answer")), Trouble, "kubectl x: no answer\n"},
		{"no trouble", Troubled(nil), 0, ""},
		{"within another error", fmt.Errorf("ask: %w", Troubled(errors.New("no answer"))), Trouble, "kubectl x: no answer\n"},
	} {
		cmd := &cobra.Command{
			Use: "kubectl-x", Annotations: map[string]string{cobra.CommandDisplayNameAnnotation: "kubectl x"},
			SilenceErrors: true, SilenceUsage: true, RunE: func(*cobra.Command, []string) error { return tt.err },
		}
		var out, problems bytes.Buffer
		if exit := Run(t.Context(), cmd, []string{}, &out, &problems); exit != tt.exit || out.String()+problems.String() != tt.want {
			t.Errorf("%s: exit status %d, %q, want %d, %q", tt.name, exit, out.String()+problems.String(), tt.exit, tt.want)
		}
	}
}

func TestEncode(t *testing.T) {
	for _, tt := range []struct{ format, want string }{{"json", "{\n  \"name\": \"a\"\n}\n"}, {"yaml", "name: a\n"}} {
		var out bytes.Buffer
		if err := Encode(&out, tt.format, map[string]string{"name": "a"}); err != nil || out.String() != tt.want {
			t.Errorf("%s: %v %q, want %q", tt.format, err, out.String(), tt.want)
		}
	}
}
