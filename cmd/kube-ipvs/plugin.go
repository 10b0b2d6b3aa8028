package main

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"kube-ipvs/sync/kube/remote"
	"kube-ipvs/sync/status"
)

// The names that make this program a plugin of kubectl: "kubectl ipvs" runs the first, and completes words with the second.
const (
	pluginName       = "kubectl-ipvs"
	pluginCompletion = "kubectl_complete-ipvs"
)

// A fleet is the nodes of a cluster, and the way to ask them. *remote.Cluster is one.
type fleet interface {
	Nodes(ctx context.Context, selector string) ([]remote.Node, error)
	Node(ctx context.Context, name string) (remote.Node, error)
	Transport(remote.Node) http.RoundTripper
}

// connect returns the cluster that flags name.
func connect(flags *remote.Flags) (fleet, error) { return flags.Connect(version) }

// A plugin is the command line of kubectl's plugin. It needs no kube-ipvs where it runs.
type plugin struct {
	flags   remote.Flags
	connect func(*remote.Flags) (fleet, error)
}

// pluginCommand returns kubectl's plugin.
func pluginCommand(connect func(*remote.Flags) (fleet, error)) *cobra.Command {
	p := &plugin{connect: connect}
	cmd := &cobra.Command{
		Use:         pluginName,
		Annotations: map[string]string{cobra.CommandDisplayNameAnnotation: "kubectl ipvs"},
		Short:       "See what kube-ipvs does on the nodes of a cluster",
		Long: `See what kube-ipvs does on the nodes of a cluster: on all of them in short, or on one in full.

It asks the API server for nodes and pods, and each node through the API server: "kube-ipvs get --raw", run in the pod of the
DaemonSet. Nothing is changed. It takes the rights to list nodes, and to list pods and to create pods/exec in the namespace of
kube-ipvs.`,
		Example: `  kubectl ipvs status
  kubectl ipvs explain svc/web -n shop --node worker-1 --from 10.244.1.5
  kubectl ipvs get endpoints svc/web -n shop --node worker-1`,
		Version:       version,
		SilenceErrors: true,
		SilenceUsage:  true,
	}
	p.flags.Add(cmd.PersistentFlags())
	cmd.AddCommand(
		p.statusCommand(),
		p.onNode(getCommand, `  kubectl ipvs get --node worker-1 -A
  kubectl ipvs get svc/web -n shop --node worker-1
  kubectl ipvs get endpoints shop/web --node worker-1 -o wide
  kubectl ipvs get drains --node worker-1 -A --watch`),
		p.onNode(explainCommand, `  kubectl ipvs explain 10.96.0.10:53/udp --node worker-1
  kubectl ipvs explain 203.0.113.33:443 --node worker-1 --from outside
  kubectl ipvs explain svc/web -n shop --node worker-1 --from 10.244.1.5`),
		p.onNode(topCommand, `  kubectl ipvs top --node worker-1 -A
  kubectl ipvs top svc/web -n shop --node worker-1 --watch`),
	)
	return cmd
}

// clusterCommand is the plugin without its name.
func clusterCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "cluster",
		Short: "See what kube-ipvs does on the nodes of a cluster: kubectl ipvs",
		Long: `This is kubectl's plugin, for where it is not installed. Linked or copied as kubectl-ipvs into a folder of $PATH, the program is the
plugin itself: "kubectl ipvs status" is "kube-ipvs cluster status".`,
		Example:            "  kube-ipvs cluster status --kubeconfig /etc/kubernetes/admin.conf",
		DisableFlagParsing: true, // the plugin parses them
		RunE: func(cmd *cobra.Command, args []string) error {
			p := pluginCommand(connect)
			p.SetArgs(args)
			p.SetOut(cmd.OutOrStdout())
			p.SetErr(cmd.ErrOrStderr())
			return p.ExecuteContext(cmd.Context())
		},
	}
}

// onNode makes a subcommand for this node one for any node.
func (p *plugin) onNode(command func(*asking) *cobra.Command, example string) *cobra.Command {
	node, all := "", false
	a := &asking{of: func(ctx context.Context) (*status.Client, error) {
		nodes, err := p.connect(&p.flags)
		if err != nil {
			return nil, err
		}
		n, err := nodes.Node(ctx, node)
		return clientOf(nodes, n), err
	}}
	cmd := command(a)
	cmd.Short, cmd.Long = elsewhere(cmd.Short), elsewhere(cmd.Long)
	cmd.Example = example
	cmd.Flags().StringVar(&node, "node", "", "Name of the node to ask.")
	cmd.Flags().BoolVarP(&all, "all-namespaces", "A", false, "Services of all namespaces.")
	_ = cmd.MarkFlagRequired("node") // fails only if there is no such flag
	_ = cmd.RegisterFlagCompletionFunc("node", p.completeNodes)
	run := cmd.RunE
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		name, isGiven, err := p.flags.Namespace()
		if err != nil {
			return err
		}
		if isGiven || !all && !slices.ContainsFunc(args, hasNamespace) {
			a.namespace = name
		}
		return run(cmd, args)
	}
	return cmd
}

// elsewhere changes the text of a subcommand for this node into that for another one.
func elsewhere(text string) string { return strings.ReplaceAll(text, "this node", "the node") }

// hasNamespace reports whether an argument is a Service's name with its namespace, as NAMESPACE/NAME is.
func hasNamespace(arg string) bool {
	first, _, isPair := strings.Cut(arg, "/")
	return isPair && !slices.Contains(serviceWords, first)
}

// clientOf returns a client of the kube-ipvs on a node.
func clientOf(nodes fleet, n remote.Node) *status.Client {
	return status.NewClientOver(nodes.Transport(n), fmt.Sprintf("node %s does not answer", n.Name))
}

// completeNodes completes the names of nodes.
func (p *plugin) completeNodes(cmd *cobra.Command, _ []string, _ string) ([]cobra.Completion, cobra.ShellCompDirective) {
	nodes, err := p.connect(&p.flags)
	if err != nil {
		return nil, cobra.ShellCompDirectiveError
	}
	list, err := nodes.Nodes(cmd.Context(), "")
	if err != nil {
		return nil, cobra.ShellCompDirectiveError
	}
	var out []cobra.Completion
	for _, n := range list {
		out = append(out, n.Name)
	}
	return out, cobra.ShellCompDirectiveNoFileComp
}
