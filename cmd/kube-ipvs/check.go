package main

import (
	"context"
	"fmt"
	"io"
	"slices"

	"github.com/spf13/cobra"

	"kube-ipvs/internal/check"
	"kube-ipvs/internal/cli"
	"kube-ipvs/internal/config"
	"kube-ipvs/sync/ipvsmode"
	"kube-ipvs/sync/kube"
)

func checkCommand() *cobra.Command {
	var flags *config.Flags
	output := ""
	cmd := &cobra.Command{
		Use:   "check",
		Short: "Examine this node: what kube-ipvs needs, and what others do that it would meet",
		Long: `Examine this node before kube-ipvs is installed, and after. Nothing is changed.

The flags are those of kube-ipvs itself: give those with which it runs, or will run. Each finding has a severity:
ok, note, warning (something may fail, or later), error (kube-ipvs cannot start, or cannot serve), or unknown (it could
not be examined), and what to do.

Exit status: 1 if there is an error, or else 2 if something could not be examined, or else 0.`,
		Example: `  kube-ipvs check --cluster-cidr=10.244.0.0/16 --kubeconfig=/etc/kubernetes/kubelet.conf
  kube-ipvs check -o json | jq '.findings[] | select(.severity == "error")'`,
		Args: func(cmd *cobra.Command, args []string) error { return cli.Troubled(noArguments(cmd, args)) },
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg, err := loadFor(cmd, flags)
			if err != nil {
				return cli.Troubled(err)
			}
			if !slices.Contains(checkFormats, output) {
				return cli.Troubled(fmt.Errorf("--output=%s: must be table, json or yaml", output))
			}
			found := examine(cmd.Context(), cfg)
			if err := printFindings(cmd.OutOrStdout(), output, found); err != nil {
				return cli.Troubled(err)
			}
			if status := check.Status(found); status != 0 {
				return cli.Exit(status, nil)
			}
			return nil
		},
	}
	cmd.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return cli.Troubled(err) })
	flags = addServeFlags(cmd)
	cmd.Flags().StringVarP(&output, "output", "o", "table", "Format of the output: table, json or yaml.")
	return cmd
}

// examine runs all checks against the configuration.
func examine(ctx context.Context, cfg *config.Config) []check.Finding {
	connection, want := connectionTo(cfg), wanted(cfg)
	if cfg.Manifests == "" {
		want.API, want.InCluster, want.NoAPI = connection.URL()
	}
	return check.Run(ctx, check.NewNode(cfg.ProcSys, func(ctx context.Context) (check.APIAnswer, error) {
		p, err := connection.Probe(ctx)
		return check.APIAnswer(p), err
	}), want)
}

// wanted returns the part of a configuration that checks compare a node with, without the API server.
func wanted(cfg *config.Config) check.Wanted {
	marks := ipvsmode.MarksFor(cfg.Masquerade.Bit)
	w := check.Wanted{
		Modules: modulesFor(cfg), Settings: keptSettings(cfg), Bits: marks.Masquerade | marks.Divert | marks.Own, PodRanges: cfg.DetectLocal.ClusterCIDRs,
	}
	if cfg.DetectLocal.Mode == config.BridgeInterface {
		w.PodBridge = cfg.DetectLocal.Interface
	}
	if cfg.Healthz.IsValid() {
		w.Ports = append(w.Ports, check.Port{For: "healthz", At: cfg.Healthz})
	}
	if cfg.Metrics.IsValid() {
		w.Ports = append(w.Ports, check.Port{For: "metrics", At: cfg.Metrics})
	}
	return w
}

// connectionTo returns the connection to the API server.
func connectionTo(cfg *config.Config) kube.Connection {
	return kube.Connection{
		Kubeconfig: cfg.API.Kubeconfig, Master: cfg.API.Master, Kubelet: cfg.API.KubeletKubeconfig, QPS: cfg.API.QPS, Burst: cfg.API.Burst,
		ContentType: cfg.API.ContentType, Accept: cfg.API.AcceptContentTypes, Version: version,
	}
}

// A checkReport is the output for machines.
type checkReport struct {
	APIVersion string          `json:"apiVersion"` // changes if a field changes its meaning or goes
	Kind       string          `json:"kind"`
	Status     int             `json:"status"` // the exit status
	Findings   []check.Finding `json:"findings"`
}

// checkFormats are those of --output.
var checkFormats = []string{"table", "json", "yaml"}

// printFindings prints findings in one of the formats.
func printFindings(out io.Writer, format string, found []check.Finding) error {
	if format == "table" {
		return check.Print(out, found)
	}
	return cli.Encode(out, format, checkReport{"kube-ipvs/v1", "CheckReport", check.Status(found), found})
}
