// Kube-ipvs is an IPVS service proxy for Kubernetes: it takes the place of kube-proxy --proxy-mode=ipvs.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/pflag"
	logsapi "k8s.io/component-base/logs/api/v1"
	_ "k8s.io/component-base/logs/json/register" // --logging-format=json
)

// version is set when a release is built: -ldflags "-X main.version=v1.2.3".
var version = "devel"

// Exit statuses.
const (
	failed = 1 // something went wrong; the last line says what
	misuse = 2 // the flags are wrong; nothing was done
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	os.Exit(program(ctx, os.Args[1:], os.Stdout, os.Stderr))
}

// program is main without the process: it returns the exit status.
func program(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	var o options
	logging := logsapi.NewLoggingConfiguration()
	fs := pflag.NewFlagSet("kube-ipvs", pflag.ContinueOnError)
	fs.SetOutput(stderr)
	fs.Usage = func() {
		fmt.Fprintf(stderr, "kube-ipvs: an IPVS service proxy for Kubernetes\n\nUsage: kube-ipvs [flags]\n\n%s", fs.FlagUsages())
	}
	o.register(fs)
	logsapi.AddFlags(logging, fs)
	err := fs.Parse(args)
	switch {
	case errors.Is(err, pflag.ErrHelp):
		return 0
	case err == nil && fs.NArg() > 0:
		err = fmt.Errorf("unexpected argument %q: kube-ipvs takes flags only", fs.Arg(0))
	case err == nil && o.version:
		fmt.Fprintln(stdout, "kube-ipvs", version)
		return 0
	}
	if err == nil {
		err = o.validate()
	}
	if err == nil {
		err = logsapi.ValidateAndApply(logging, nil)
	}
	if err != nil {
		fmt.Fprintf(stderr, "kube-ipvs: %v\n", err)
		return misuse
	}
	if err := o.do(ctx, stdout); err != nil {
		fmt.Fprintf(stderr, "kube-ipvs: %v\n", err)
		return failed
	}
	return 0
}

func (o *options) do(ctx context.Context, stdout io.Writer) error {
	if o.cleanup {
		return o.clean(ctx, stdout)
	}
	return o.serve(ctx)
}
