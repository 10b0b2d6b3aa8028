package see

import (
	"fmt"
	"io"
	"net/netip"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"kube-ipvs/internal/cli"
	"kube-ipvs/sync/loop"
	"kube-ipvs/sync/status"
)

// origins are the words that --from takes in the place of an address.
var origins = []string{loop.FromPod.String(), loop.FromNode.String(), loop.FromOutside.String()}

// explainCommand tells a packet's way.
func explainCommand(a *asking) *cobra.Command {
	var from string
	var short bool
	cmd := &cobra.Command{
		Use:   "explain ADDRESS:PORT[/PROTO] | svc/NAME",
		Short: "Tell the way of a packet to an address, step by step",
		Long: `Tell the way of the first packet of a connection to an address, step by step: is the address a frontend, which policy
holds, which endpoints may get the connection, does the endpoint see the source, and why it is refused or dropped if it is.
Below each step is the command that shows it in the kernel. Of a Service all frontends are explained, in short.

It is told from the state that the running kube-ipvs has programmed. Rules of others, such as network policies, are not
looked at. Established connections keep the way of their first packet.`,
		Example: `  kube-ipvs explain 10.96.0.10:53/udp
  kube-ipvs explain [fd00:10:96::a]:443 --from fd00:10:244:1::5
  kube-ipvs explain 203.0.113.33:443 --from outside
  kube-ipvs explain svc/web -n shop`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			q, err := parseExplain(args[0], a.namespace)
			if err != nil {
				return err
			}
			short = q.Service != "" && !cmd.Flags().Changed("short") || short
			if from != "" && !slices.Contains(origins, from) {
				if q.From, err = netip.ParseAddr(from); err != nil {
					return fmt.Errorf("--from=%s: neither an IP address nor one of %s", from, strings.Join(origins, ", "))
				}
				from = ""
			}
			client, err := a.client(cmd.Context())
			if err != nil {
				return err
			}
			list, err := status.GetAll[status.Explanation](cmd.Context(), client, "explain", q)
			if err != nil {
				return err
			}
			for i := range list.Items {
				keepWays(&list.Items[i], from)
			}
			if a.output != "" {
				return cli.Encode(cmd.OutOrStdout(), a.output, list)
			}
			return printExplanations(cmd.OutOrStdout(), list.Items, short)
		},
	}
	cmd.ValidArgsFunction = a.completeServices
	a.addFlags(cmd, "json", "yaml")
	cmd.Flags().StringVar(&from, "from", "", "Where the packet comes from: an IP address, or one of "+strings.Join(origins, ", ")+". Without it: all of these.")
	cmd.Flags().BoolVar(&short, "short", false, "Tell the outcome without the steps; the default for a Service.")
	return cmd
}

func parseExplain(text, namespace string) (status.Query, error) {
	if _, err := status.ParseAddress(text); err == nil {
		return status.Query{To: text}, nil
	} else if strings.Contains(text, ":") { // no name has a colon
		return status.Query{}, err
	}
	return parseService(text, namespace)
}

// keepWays keeps the ways from an origin; empty: from all.
func keepWays(x *status.Explanation, origin string) {
	if origin != "" {
		x.Ways = slices.DeleteFunc(x.Ways, func(w status.Way) bool { return w.Origin != origin })
	}
}

func printExplanations(out io.Writer, list []status.Explanation, short bool) error {
	for i, x := range list {
		if i > 0 {
			fmt.Fprintln(out)
		}
		if err := printExplanation(out, x, short); err != nil {
			return err
		}
	}
	return nil
}

func printExplanation(out io.Writer, x status.Explanation, short bool) error {
	printLine(out, "%s", heading(x))
	for _, w := range x.Ways {
		if short {
			printLine(out, "  From %s: %s", sender(w), outcome(w))
			continue
		}
		fmt.Fprintln(out)
		printLine(out, "From %s: %s", sender(w), outcome(w))
		for i, s := range w.Steps {
			printLine(out, "  %d. %s", i+1, s.Text)
			if s.Command != "" {
				printLine(out, "       $ %s", s.Command)
			}
		}
		if err := printStops(out, w.Endpoints); err != nil {
			return err
		}
	}
	if len(x.Others) > 0 {
		fmt.Fprintln(out, "\nNo new connections:")
		var rows [][]string
		for _, e := range x.Others {
			rows = append(rows, []string{"  " + e.Address, dash(e.Pod), dash(e.Node), e.Reason})
		}
		if err := tabulate(out, rows...); err != nil {
			return err
		}
	}
	for _, p := range x.Problems {
		fmt.Fprintln(out)
		printLine(out, "Problem of the Service: %s", p)
	}
	return nil
}

func heading(x status.Explanation) string {
	if x.Service == "" {
		return x.Address + ": no Service has it"
	}
	text := fmt.Sprintf("%s: %s of %s, %s", x.Address, x.Kind, x.Service, x.State)
	if x.Reason != "" {
		text += " (" + x.Reason + ")"
	}
	return text
}

// sender returns the source of a way in words.
func sender(w status.Way) string {
	origin := map[string]string{origins[0]: "a pod", origins[1]: "this node", origins[2]: "outside"}[w.Origin]
	if w.From != "" {
		return fmt.Sprintf("%s (%s)", w.From, origin)
	}
	return origin
}

// outcome returns the outcome of a way in a line.
func outcome(w status.Way) string {
	n := len(w.Endpoints)
	if n == 0 {
		return w.Outcome
	}
	if n == 1 {
		return fmt.Sprintf("%s to %s, source %s", w.Outcome, w.Endpoints[0].Address, w.Endpoints[0].Source)
	}
	text := fmt.Sprintf("%s to one of %d endpoints", w.Outcome, n)
	if chance := w.Endpoints[0].Chance; chance != "" {
		text += ", each " + chance
	}
	kept := slices.IndexFunc(w.Endpoints, func(s status.Stop) bool { return s.Source == "kept" })
	hairpin := slices.IndexFunc(w.Endpoints, func(s status.Stop) bool { return s.Source != "kept" })
	switch {
	case kept < 0:
		return text + ", source masqueraded"
	case hairpin >= 0:
		return text + fmt.Sprintf(", source kept (but masqueraded to itself, %s)", w.Endpoints[hairpin].Address)
	}
	return text + ", source kept"
}

func printStops(out io.Writer, stops []status.Stop) error {
	if len(stops) == 0 {
		return nil
	}
	rows := [][]string{{"  ENDPOINT", "POD", "NODE", "CHANCE", "SOURCE"}}
	for _, s := range stops {
		rows = append(rows, []string{"  " + s.Address, dash(s.Pod), dash(s.Node), dash(s.Chance), s.Source})
	}
	return tabulate(out, rows...)
}
