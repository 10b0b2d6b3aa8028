package see

import (
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"k8s.io/apimachinery/pkg/util/duration"

	"kube-ipvs/internal/cli"
	"kube-ipvs/sync/kube/remote"
	"kube-ipvs/sync/status"
)

// The exit statuses of status beside 0, as check has them.
const (
	wrong     = 1 // something is wrong
	unknowing = 2 // nothing that was asked is wrong, and not everything could be asked
)

// statusCommand sums up all nodes.
func (p *plugin) statusCommand() *cobra.Command {
	selector, output, s := "", "", survey{}
	cmd := &cobra.Command{
		Use:   "status [NODE...]",
		Short: "Sum up kube-ipvs on all nodes, and whether they agree",
		Long: `Sum up kube-ipvs on all nodes, or on some: a line each, also for nodes without a pod, and those that do not answer.

    STATE        Ready, NotReady, NoAnswer, NoPod or NotLinux, with the REASON
    SERVICES     that the node knows
    FRONTENDS    addresses and ports that are on, of those that the node wants to have on
    ENDPOINTS    of all frontends
    PENDING      changes that are not programmed yet
    LAG          how long the oldest of them has waited
    SYNCED       since everything was last programmed; while nothing changes, it gets older
    REPAIRED     external changes of what kube-ipvs owns that were repaired since its start
    NOT SERVED   parts of Services that cannot be used or served
    CONFLICTS    of them, addresses and ports that several Services want, or somebody else has
    DRAINING     endpoints that get no new connections, and still have some

Then the Services on which nodes disagree: which ones were told something else than most, or nothing, and for longer than a change
takes from node to node. Nodes of different versions are not compared with each other.

Exit status: 1 if a node is NotReady or has no pod, if its kernel refuses changes, or if nodes disagree; or else 2 if a node or
the API server could not be asked; or else 0.`,
		Example: `  kubectl ipvs status
  kubectl ipvs status worker-1 worker-2 -o wide
  kubectl ipvs status -l topology.kubernetes.io/zone=a
  kubectl ipvs status -o json | jq -r '.nodes[] | select(.state != "Ready") | .name'`,
		RunE: func(cmd *cobra.Command, args []string) error {
			if output != "" && !slices.Contains(statusFormats, output) {
				return cli.Troubled(fmt.Errorf("--output=%s: is none of %s", output, strings.Join(statusFormats, ", ")))
			}
			if s.parallel < 1 || s.lag <= 0 {
				return cli.Troubled(fmt.Errorf("--parallel=%d, --lag=%v: must be more than 0", s.parallel, s.lag))
			}
			var err error
			if s.nodes, err = p.connect(&p.flags); err != nil {
				return cli.Troubled(err)
			}
			list, err := s.nodes.Nodes(cmd.Context(), selector)
			if err != nil {
				return cli.Troubled(err)
			}
			if list, err = only(list, args); err != nil {
				return cli.Troubled(err)
			}
			s.begin = time.Now()
			found := s.ask(cmd.Context(), list)
			if err := cmd.Context().Err(); err != nil { // an interrupt is not what nodes answer
				return cli.Troubled(err)
			}
			if err := printStatus(cmd.OutOrStdout(), output, s.lag, found); err != nil {
				return cli.Troubled(err)
			}
			if code := exitStatus(found); code != 0 {
				return cli.Exit(code, nil)
			}
			return nil
		},
		ValidArgsFunction: p.completeNodes,
	}
	cmd.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return cli.Troubled(err) })
	cmd.Flags().StringVarP(&selector, "selector", "l", "", "Labels of the nodes, such as -l zone=a.")
	cmd.Flags().StringVarP(&output, "output", "o", "", "Format of the output: "+strings.Join(statusFormats, ", ")+".")
	cmd.Flags().IntVar(&s.parallel, "parallel", 16, "Nodes that are asked at once.")
	cmd.Flags().DurationVar(&s.lag, "lag", 30*time.Second, "How long a change of a Service may take to reach all nodes: nodes are not compared by younger ones.")
	_ = cmd.RegisterFlagCompletionFunc("output", cobra.FixedCompletions(statusFormats, cobra.ShellCompDirectiveNoFileComp))
	return cmd
}

// statusFormats are those of --output beside the default table.
var statusFormats = []string{"wide", "json", "yaml"}

// only returns the nodes of some names, or all if there are none. A name that is none is an error.
func only(list []remote.Node, names []string) ([]remote.Node, error) {
	if len(names) == 0 {
		return list, nil
	}
	var out []remote.Node
	var errs []error
	for _, name := range names {
		i := slices.IndexFunc(list, func(n remote.Node) bool { return n.Name == name })
		if i < 0 {
			errs = append(errs, fmt.Errorf("no node %s", name))
			continue
		}
		out = append(out, list[i])
	}
	return out, errors.Join(errs...)
}

// exitStatus returns the exit status.
func exitStatus(found status.ClusterStatus) int {
	code := 0
	switch {
	case len(found.Disagreements) > 0:
		return wrong
	case len(found.NotCompared) > 0:
		code = unknowing
	}
	for _, n := range found.Nodes {
		switch {
		case n.State == status.NotReady, n.State == status.NoPod, n.Status != nil && n.Status.Refused > 0:
			return wrong
		case n.State == status.NoAnswer && code == 0:
			code = unknowing
		}
	}
	return code
}

// printStatus prints in one of the formats.
func printStatus(out io.Writer, format string, lag time.Duration, found status.ClusterStatus) error {
	if format == "json" || format == "yaml" {
		return cli.Encode(out, format, found)
	}
	if err := printNodes(out, format == "wide", found.Nodes); err != nil {
		return err
	}
	return printAgreement(out, lag, found)
}

func printNodes(out io.Writer, wide bool, nodes []status.NodeStatus) error {
	rows := [][]string{{
		"NODE", "STATE", "VERSION", "MODE", "SERVICES", "FRONTENDS", "ENDPOINTS", "PENDING", "LAG", "SYNCED", "REPAIRED", "NOT SERVED", "CONFLICTS", "DRAINING",
	}}
	if wide {
		rows[0] = append(rows[0], "REFUSED", "AGE", "POD")
	}
	rows[0] = append(rows[0], "REASON")
	for _, n := range nodes {
		rows = append(rows, nodeRow(n, wide))
	}
	return tabulate(out, rows...)
}

// nodeRow returns the cells of a node.
func nodeRow(n status.NodeStatus, wide bool) []string {
	row := []string{n.Name, string(n.State)}
	if x := n.Status; x != nil {
		lag, synced := "-", "never"
		if !x.Waits.IsZero() {
			lag = duration.HumanDuration(n.Time.Sub(x.Waits))
		}
		if !x.Synced.IsZero() {
			synced = age(n.Time, x.Synced)
		}
		row = append(row, x.Version, x.Mode+"/"+x.VIPMode, strconv.Itoa(x.Services), fmt.Sprintf("%d/%d", x.Programmed, x.Frontends), strconv.Itoa(x.Endpoints),
			strconv.Itoa(x.Pending+x.Changed), lag, synced, strconv.Itoa(x.Repaired), strconv.Itoa(x.Unserved), strconv.Itoa(x.Conflicts), strconv.Itoa(x.Draining))
		if wide {
			row = append(row, strconv.Itoa(x.Refused), age(n.Time, x.Started), n.Pod)
		}
		return append(row, dash(n.Reason))
	}
	row = append(row, slices.Repeat([]string{"-"}, 12)...)
	if wide {
		row = append(row, "-", "-", dash(n.Pod))
	}
	return append(row, dash(n.Reason))
}

// mostNamed is the number of nodes that a line names.
const mostNamed = 5

// printAgreement prints how many nodes are in which state, and the Services on which they disagree.
func printAgreement(out io.Writer, lag time.Duration, found status.ClusterStatus) error {
	count := map[status.NodeState]int{}
	for _, n := range found.Nodes {
		count[n.State]++
	}
	var states []string
	for _, s := range []status.NodeState{status.Ready, status.NotReady, status.NoAnswer, status.NoPod, status.NotLinux} {
		if count[s] > 0 {
			states = append(states, fmt.Sprintf("%d %s", count[s], s))
		}
	}
	fmt.Fprintf(out, "\n%d nodes: %s.\n", len(found.Nodes), dash(strings.Join(states, ", ")))
	if n := found.NotCompared; len(n) > 0 {
		printLine(out, "Services were not compared on %s: no answer.", someOf(n))
	}
	if len(found.Disagreements) == 0 {
		if len(found.NotCompared) == 0 && count[status.Ready]+count[status.NotReady] > 1 {
			fmt.Fprintf(out, "Nodes of one version agree on all Services that had not changed for %v when the first node was asked.\n", lag)
		}
		return nil
	}
	fmt.Fprintln(out, "They disagree on Services:")
	rows := [][]string{{"NAMESPACE", "SERVICE", "DIFFERENCE", "ON NODES", "COMPARED WITH"}}
	for _, d := range found.Disagreements {
		rows = append(rows, []string{d.Namespace, d.Service, string(d.How), someOf(d.Nodes), d.Than})
	}
	return tabulate(out, rows...)
}

// someOf names the first of many nodes, and counts the others.
func someOf(nodes []string) string {
	if more := len(nodes) - mostNamed; more > 0 {
		return fmt.Sprintf("%s and %d others", strings.Join(nodes[:mostNamed], ", "), more)
	}
	return strings.Join(nodes, ", ")
}
