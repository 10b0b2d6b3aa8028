// Kube-ipvs is an IPVS service proxy for Kubernetes: it replaces kube-proxy --proxy-mode=ipvs.
package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"runtime"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	cliflag "k8s.io/component-base/cli/flag"
	logsapi "k8s.io/component-base/logs/api/v1"
	"k8s.io/klog/v2"

	"kube-ipvs/internal/cli"
	"kube-ipvs/internal/config"
	"kube-ipvs/internal/see"
)

// version is set when a release is built: -ldflags "-X main.version=v1.2.3".
var version = "devel"

func main() {
	cli.Main(command(), os.Args[1:])
}

// command returns the command line: without a subcommand it is the proxy, with kube-proxy's flags.
func command() *cobra.Command {
	var flags *config.Flags
	cmd := &cobra.Command{
		Use:           "kube-ipvs",
		Short:         "An IPVS service proxy for Kubernetes",
		Args:          noArguments,
		SilenceErrors: true,
		SilenceUsage:  true,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return do(cmd.Context(), cmd.Flags(), flags, cmd.OutOrStdout())
		},
	}
	flags = config.AddFlags(cmd.Flags())
	cmd.AddCommand(see.Commands(config.DefaultSocket)...)
	cmd.AddCommand(checkCommand(), diffCommand(), handBackCommand(), clusterCommand())
	return cmd
}

// noArguments rejects arguments other than flags and subcommands. Empty ones pass, as with kube-proxy: scripts produce them.
func noArguments(_ *cobra.Command, args []string) error {
	for _, arg := range args {
		if arg != "" {
			return fmt.Errorf("unexpected argument %q: neither a flag nor a subcommand", arg)
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
	if err := logsapi.ValidateAndApply(&cfg.Logging, cfg.Gates); err != nil {
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
	case config.DryRun:
		return diff(ctx, cfg, stdout)
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
