// Package cli is how command lines run and end, and what they print for machines.
package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"
	"sigs.k8s.io/yaml"
)

// Exit statuses.
const (
	// Failed is that of every failure, as kube-proxy has it; the last lines of output give the reason.
	Failed = 1
	// Trouble is, as of diff(1), that of a command whose 1 is a finding: it could not look.
	Trouble = 2
)

// Main is the main function of a program: it runs a command line until it ends, or until SIGTERM or SIGINT end its context.
func Main(cmd *cobra.Command, args []string) {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
	defer stop()
	os.Exit(Run(ctx, cmd, args, os.Stdout, os.Stderr))
}

// Run runs a command line without the process, and returns the exit status.
func Run(ctx context.Context, cmd *cobra.Command, args []string, stdout, stderr io.Writer) int {
	cmd.SetArgs(args)
	cmd.SetOut(stdout)
	cmd.SetErr(stderr)
	err := cmd.ExecuteContext(ctx)
	if err == nil {
		return 0
	}
	ended := exit{Failed, err}
	errors.As(err, &ended)
	if ended.error != nil {
		fmt.Fprintf(stderr, "%s: %v\n", cmd.DisplayName(), ended.error)
	}
	return ended.status
}

// An exit is the end of a command with an exit status of its own.
type exit struct {
	status int
	error
}

// Exit returns the error by which a command ends with an exit status of its own. Without an error there is nothing to print.
func Exit(status int, err error) error { return exit{status, err} }

// Troubled returns an error with the exit status Trouble, or nil.
func Troubled(err error) error {
	if err == nil {
		return nil
	}
	return Exit(Trouble, err)
}

// Encode prints an answer for machines: as YAML if that is the format, or else as JSON.
func Encode(out io.Writer, format string, answer any) error {
	if format == "yaml" {
		text, err := yaml.Marshal(answer)
		if err == nil {
			_, err = fmt.Fprintf(out, "%s", text)
		}
		return err
	}
	e := json.NewEncoder(out)
	e.SetIndent("", "  ")
	return e.Encode(answer)
}
