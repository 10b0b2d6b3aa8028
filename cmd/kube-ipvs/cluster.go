package main

import (
	"github.com/spf13/cobra"

	"kube-ipvs/internal/see"
)

// clusterCommand is the plugin without its name.
func clusterCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "cluster",
		Short: "See what kube-ipvs does on the nodes of a cluster: kubectl ipvs",
		Long: `This is kubectl's plugin, for where it is not installed, such as on a node: "kubectl ipvs status" is
"kube-ipvs cluster status".`,
		Example:            "  kube-ipvs cluster status --kubeconfig /etc/kubernetes/admin.conf",
		DisableFlagParsing: true, // the plugin parses them
		RunE: func(cmd *cobra.Command, args []string) error {
			p := see.Plugin(version)
			p.SetArgs(args)
			p.SetOut(cmd.OutOrStdout())
			p.SetErr(cmd.ErrOrStderr())
			return p.ExecuteContext(cmd.Context())
		},
	}
}
