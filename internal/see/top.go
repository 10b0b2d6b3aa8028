package see

import (
	"context"
	"fmt"
	"io"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"kube-ipvs/internal/cli"
	"kube-ipvs/sync/status"
)

// topCommand prints traffic.
func topCommand(a *asking) *cobra.Command {
	limit := 0
	cmd := &cobra.Command{
		Use:   "top [svc/NAME]",
		Short: "Show connections, packets and bytes a second",
		Long: `Show the connections, packets and bytes a second of Services, the busiest first; of one Service by frontend and endpoint.
IPVS counts them. Its counters are read twice, --interval apart. IPVS brings them up to date every two seconds: an interval should be
a multiple of that, and a short one is inexact. A node whose kube-ipvs was started with --ipvs-estimation=off counts no traffic:
rates are "-" then, and a sentence above the table tells why.
Of connections of pods and nodes to a frontend with an external Local policy, IPVS sees only the first packet where endpoints are both
on this node and elsewhere.`,
		Example: `  kube-ipvs top
  kube-ipvs top svc/web -n shop --watch
  kube-ipvs top -n shop --interval 10s`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			q := status.Query{Namespace: a.namespace}
			if len(args) > 0 {
				var err error
				if q, err = parseService(args[0], a.namespace); err != nil {
					return err
				}
			}
			return a.top(cmd.Context(), cmd.OutOrStdout(), q, limit)
		},
	}
	cmd.ValidArgsFunction = a.completeServices
	a.addFlags(cmd, "json", "yaml")
	a.addWatch(cmd, 4*time.Second, "Print again every interval, until interrupted.")
	cmd.Flags().IntVar(&limit, "limit", 20, "Lines to print; 0: all.")
	return cmd
}

func (a *asking) top(ctx context.Context, out io.Writer, q status.Query, limit int) error {
	client, err := a.client(ctx)
	if err != nil {
		return err
	}
	first, err := status.Get[status.Traffic](ctx, client, "traffic", q)
	if err != nil {
		return err
	}
	reading := status.Next(nil, first)
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(a.interval):
		}
		now, err := status.Get[status.Traffic](ctx, client, "traffic", q)
		if err != nil {
			return err
		}
		reading = status.Next(&reading, now)
		rates := status.List[status.Rate]{TypeMeta: now.TypeMeta, Node: now.Node, Time: now.Time, Uncounted: reading.Uncounted, Items: reading.Rates}
		if limit > 0 && len(rates.Items) > limit {
			rates.Items = rates.Items[:limit]
		}
		if a.output != "" {
			err = cli.Encode(out, a.output, rates)
		} else {
			err = printRates(out, rates, q.Service != "")
		}
		if err != nil || !a.watch {
			return err
		}
	}
}

func printRates(out io.Writer, rates status.List[status.Rate], byEndpoint bool) error {
	if rates.Uncounted != "" {
		printLine(out, "%s", rates.Uncounted)
	}
	header := []string{"NAMESPACE", "SERVICE"}
	if byEndpoint {
		header = []string{"FRONTEND", "ENDPOINT", "POD"}
	}
	rows := [][]string{append(header, "ACTIVE", "CLOSING", "CONN/S", "PACKETS/S IN", "OUT", "BYTES/S IN", "OUT")}
	for _, r := range rates.Items {
		row := []string{r.Namespace, r.Service}
		if byEndpoint {
			row = []string{r.Frontend, r.Endpoint, dash(r.Pod)}
		}
		row = append(row, strconv.Itoa(int(r.Active)), strconv.Itoa(int(r.Inactive)))
		rows = append(rows, append(row, perSecond(r.PerSecond)...))
	}
	return tabulate(out, rows...)
}

// perSecond returns the cells of traffic.
func perSecond(p *status.PerSecond) []string {
	if p == nil {
		return []string{"-", "-", "-", "-", "-"}
	}
	return []string{
		fmt.Sprintf("%.1f", p.Connections), fmt.Sprintf("%.0f", p.InPackets), fmt.Sprintf("%.0f", p.OutPackets),
		bytesOf(p.InBytes), bytesOf(p.OutBytes),
	}
}

// bytesOf returns a number of bytes with a unit: "12Ki".
func bytesOf(n float64) string {
	for _, unit := range []string{"", "Ki", "Mi", "Gi"} {
		if n < 1024 {
			return fmt.Sprintf("%.0f%s", n, unit)
		}
		n /= 1024
	}
	return fmt.Sprintf("%.0fTi", n)
}
