// Kube-ipvs is an IPVS service proxy for Kubernetes: it replaces kube-proxy --proxy-mode=ipvs.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"runtime"
	"syscall"

	"github.com/spf13/pflag"
	cliflag "k8s.io/component-base/cli/flag"
	logsapi "k8s.io/component-base/logs/api/v1"
	"k8s.io/klog/v2"

	"kube-ipvs/internal/config"
)

// version is set when a release is built: -ldflags "-X main.version=v1.2.3".
var version = "devel"

// failed is the exit status of every failure, as kube-proxy has it; the last lines of output give the reason.
const failed = 1

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	os.Exit(program(ctx, os.Args[1:], os.Stdout, os.Stderr))
}

// program is main without the process: it returns the exit status.
func program(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	fs := pflag.NewFlagSet("kube-ipvs", pflag.ContinueOnError)
	fs.SetOutput(stderr)
	fs.Usage = func() {
		fmt.Fprintf(stderr, "kube-ipvs: an IPVS service proxy for Kubernetes\n\nUsage: kube-ipvs [flags]\n\n%s", fs.FlagUsages())
	}
	flags := config.AddFlags(fs)
	err := fs.Parse(args)
	switch {
	case errors.Is(err, pflag.ErrHelp):
		return 0
	case err == nil:
		err = noArguments(fs.Args())
	}
	if err == nil {
		err = do(ctx, fs, flags, stdout)
	}
	if err != nil {
		fmt.Fprintf(stderr, "kube-ipvs: %v\n", err)
		return failed
	}
	return 0
}

// noArguments rejects arguments other than flags. Empty ones pass, as with kube-proxy: scripts produce them.
func noArguments(args []string) error {
	for _, arg := range args {
		if arg != "" {
			return fmt.Errorf("unexpected argument %q: kube-ipvs takes flags only", arg)
		}
	}
	return nil
}

// do loads the configuration and performs its action.
func do(ctx context.Context, fs *pflag.FlagSet, flags *config.Flags, stdout io.Writer) error {
	cfg, notes, err := flags.Load()
	if err != nil {
		return err
	}
	switch cfg.Action {
	case config.ShowVersion:
		printVersion(stdout, cfg.RawVersion)
		return nil
	case config.WriteConfig:
		return writeConfig(cfg, stdout)
	}
	if err := logsapi.ValidateAndApply(&cfg.Logging, cfg.LoggingGates()); err != nil {
		return err
	}
	cliflag.PrintFlags(fs)
	for _, n := range notes {
		klog.FromContext(ctx).Info("Configuration: "+n.Message, "setting", n.Setting, "value", n.Value)
	}
	switch cfg.Action {
	case config.Cleanup:
		return clean(ctx, cfg, stdout)
	case config.InitOnly:
		return initialize(ctx, cfg)
	}
	return serve(ctx, cfg)
}

// printVersion prints the version in a line, or raw: with the compiler's version and the platform.
func printVersion(stdout io.Writer, raw bool) {
	if raw {
		fmt.Fprintln(stdout, "kube-ipvs", version, runtime.Version(), runtime.GOOS+"/"+runtime.GOARCH)
		return
	}
	fmt.Fprintln(stdout, "kube-ipvs", version)
}
