package see

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

// A fleet is the nodes of a cluster, and the way to ask them. *remote.Cluster is one.
type fleet interface {
	Nodes(ctx context.Context, selector string) ([]remote.Node, error)
	Node(ctx context.Context, name string) (remote.Node, error)
	Transport(remote.Node) http.RoundTripper
}

// A plugin is the command line of kubectl's plugin. It needs no kube-ipvs where it runs.
type plugin struct {
	flags   remote.Flags
	connect func(*remote.Flags) (fleet, error)
}

// Plugin returns the command line of kubectl's plugin. Version is the program's.
func Plugin(version string) *cobra.Command {
	return pluginCommand(version, func(flags *remote.Flags) (fleet, error) { return flags.Connect(version) })
}

func pluginCommand(version string, connect func(*remote.Flags) (fleet, error)) *cobra.Command {
	p := &plugin{connect: connect}
	cmd := &cobra.Command{
		Use:         "kubectl-ipvs",
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
