package see

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"k8s.io/apimachinery/pkg/util/duration"

	"kube-ipvs/internal/cli"
	"kube-ipvs/sync/status"
)

// getCommand prints the Services of this node.
func getCommand(a *asking) *cobra.Command {
	raw := ""
	cmd := &cobra.Command{
		Use:   "get [services|endpoints|frontends|drains] [NAME]",
		Short: "Show what this node serves",
		Long: `Show what this node serves, as the running kube-ipvs has it, and the connections as IPVS counts them.

    services    one line for each Service: is it served as requested?
    frontends   its addresses and ports, and why one is not served: another Service has it, another program, no endpoint
    endpoints   its endpoints, and why one gets no new connections: not ready, terminating, on another node, in another zone
    drains      endpoints that get no new connections, and still have some

A Service is named as kubectl names it: NAME, svc/NAME or NAMESPACE/NAME. Its pods are named if it is the only one.`,
		Example: `  kube-ipvs get
  kube-ipvs get svc/web -n shop
  kube-ipvs get endpoints shop/web -o wide
  kube-ipvs get frontends -n shop
  kube-ipvs get drains --watch
  kube-ipvs get services -o json | jq '.items[] | select(.state != "Served")'`,
		Args: cobra.MaximumNArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			if raw != "" {
				return a.getRaw(cmd.Context(), cmd.OutOrStdout(), raw)
			}
			resource, q, err := parseGet(args, a.namespace)
			if err != nil {
				return err
			}
			q.Loads = true
			return a.get(cmd.Context(), cmd.OutOrStdout(), resource, q)
		},
	}
	cmd.ValidArgsFunction = func(cmd *cobra.Command, args []string, text string) ([]cobra.Completion, cobra.ShellCompDirective) {
		if len(args) == 0 {
			return resourceNames(), cobra.ShellCompDirectiveNoFileComp
		}
		return a.completeServices(cmd, args, text)
	}
	a.addFlags(cmd, "wide", "json", "yaml")
	a.addWatch(cmd, 2*time.Second, "Print what comes, changes and goes, each with an EVENT, until interrupted.")
	cmd.Flags().StringVar(&raw, "raw", "", "Print the answer to a request as it comes, such as /v1alpha1/nodes.")
	return cmd
}

// getRaw prints the answer to a request as it comes. An answer that is a failure is one.
func (a *asking) getRaw(ctx context.Context, out io.Writer, path string) error {
	if !strings.HasPrefix(path, "/") {
		return fmt.Errorf("--raw=%s: must be a path such as /v1alpha1/nodes", path)
	}
	client, err := a.client(ctx)
	if err != nil {
		return err
	}
	response, err := client.Raw(ctx, path)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	if _, err := io.Copy(out, response.Body); err != nil {
		return err
	}
	if response.StatusCode != http.StatusOK {
		return cli.Exit(cli.Failed, nil)
	}
	return nil
}

// resources are the resources of get, by all their names.
var resources = []struct {
	name    string
	aliases []string
}{
	{"services", serviceWords},
	{"endpoints", []string{"endpoints", "endpoint", "ep"}},
	{"frontends", []string{"frontends", "frontend", "fe"}},
	{"drains", []string{"drains", "drain"}},
}

func resourceNames() []cobra.Completion {
	var out []cobra.Completion
	for _, r := range resources {
		out = append(out, r.name)
	}
	return out
}

// parseGet parses the arguments of get: a resource, a name, both, or neither.
func parseGet(args []string, namespace string) (resource string, q status.Query, err error) {
	resource, q = "services", status.Query{Namespace: namespace}
	if len(args) == 0 {
		return resource, q, nil
	}
	found := false
	for _, r := range resources {
		if slices.Contains(r.aliases, args[0]) {
			resource, found, args = r.name, true, args[1:]
			break
		}
	}
	switch {
	case found && len(args) == 0:
		return resource, q, nil
	case !found && !strings.Contains(args[0], "/") || len(args) > 1:
		return "", q, fmt.Errorf("%q is none of services, endpoints, frontends, drains, and no name such as svc/NAME", args[0])
	}
	q, err = parseService(args[0], namespace)
	return resource, q, err
}

func (a *asking) get(ctx context.Context, out io.Writer, resource string, q status.Query) error {
	switch resource {
	case "endpoints":
		return show(ctx, out, a, resource, q, endpointView)
	case "frontends":
		return show(ctx, out, a, resource, q, frontendView)
	case "drains":
		return show(ctx, out, a, resource, q, drainView)
	}
	return show(ctx, out, a, resource, q, serviceView)
}

// A view prints items of a type in columns.
type view[T any] struct {
	header, wide []string
	row          func(item T, now time.Time) (cells, wide []string)
	key          func(T) string // tells items from each other
}

// show prints the items of a resource; with --watch, later those that are new, have changed or have gone.
func show[T any](ctx context.Context, out io.Writer, a *asking, resource string, q status.Query, v view[T]) error {
	client, err := a.client(ctx)
	if err != nil {
		return err
	}
	var before watched // nil: nothing was printed
	var first time.Time
	return a.repeat(ctx, func() error {
		list, err := status.GetAll[T](ctx, client, resource, q)
		if before != nil && errors.Is(err, status.ErrNotFound) { // the one Service went, and may come back
			list, err = status.List[T]{}, nil
		}
		if err != nil {
			return err
		}
		if a.output == "json" || a.output == "yaml" {
			return cli.Encode(out, a.output, list)
		}
		if before == nil {
			first = list.Time
		}
		lines := v.lines(a, list, first)
		rows, now := before.next(lines)
		if before == nil {
			rows = append([][]string{append([]string{"EVENT"}, a.cells(v.header, v.wide)...)}, rows...)
			if len(lines) == 0 {
				fmt.Fprintf(out, "No %s found.\n", resource)
				if !a.watch {
					return nil
				}
			}
		}
		before = now
		if !a.watch {
			for i := range rows {
				rows[i] = rows[i][1:]
			}
		}
		return tabulate(out, rows...)
	})
}

// lines returns the items of a list as they are printed, and compares them as they would be printed at one moment: age is no change.
func (v view[T]) lines(a *asking, list status.List[T], moment time.Time) []line {
	var out []line
	for _, item := range list.Items {
		out = append(out, line{v.key(item), strings.Join(a.cells(v.row(item, moment)), "\t"), a.cells(v.row(item, list.Time))})
	}
	return out
}

// cells returns the cells of a row, with the wide ones if they are asked for.
func (a *asking) cells(cells, wide []string) []string {
	if a.output == "wide" {
		return append(cells[:len(cells):len(cells)], wide...)
	}
	return cells
}

var serviceView = view[status.Service]{
	header: []string{"NAMESPACE", "NAME", "STATE", "FRONTENDS", "ENDPOINTS", "DRAINING", "CONNECTIONS", "AGE"},
	wide:   []string{"CLOSING", "REASON"},
	key:    func(s status.Service) string { return s.Namespace + " " + s.Service },
	row: func(s status.Service, now time.Time) (cells, wide []string) {
		active, inactive := connections(s.Load)
		return []string{
			s.Namespace, s.Service, string(s.State), fmt.Sprintf("%d/%d", s.Served, s.Frontends), fmt.Sprintf("%d/%d", s.Ready, s.Endpoints),
			strconv.Itoa(s.Draining), active, age(now, s.Created),
		}, []string{inactive, dash(s.Reason)}
	},
}

var endpointView = view[status.Endpoint]{
	header: []string{"NAMESPACE", "SERVICE", "PORT", "ENDPOINT", "POD", "NODE", "WEIGHT", "CONNECTIONS", "STATE", "REASON"},
	wide:   []string{"CLOSING"},
	key: func(e status.Endpoint) string {
		return strings.Join([]string{e.Namespace, e.Service, e.Port, e.Address}, " ")
	},
	row: func(e status.Endpoint, _ time.Time) (cells, wide []string) {
		active, inactive := connections(e.Load)
		return []string{
			e.Namespace, e.Service, dash(e.Port), e.Address, dash(e.Pod), dash(e.Node), weight(e.Load), active, string(e.State), dash(e.Reason),
		}, []string{inactive}
	},
}

var frontendView = view[status.Frontend]{
	header: []string{"NAMESPACE", "SERVICE", "FRONTEND", "KIND", "POLICY", "ENDPOINTS", "CONNECTIONS", "STATE", "REASON"},
	wide:   []string{"CLOSING", "SOURCES SEEN", "AFFINITY", "SOURCE RANGES"},
	key: func(f status.Frontend) string {
		return strings.Join([]string{f.Namespace, f.Service, f.Address, f.Kind}, " ")
	},
	row: func(f status.Frontend, _ time.Time) (cells, wide []string) {
		endpoints := strconv.Itoa(f.Endpoints)
		if f.Internal != nil {
			endpoints += fmt.Sprintf(", %d internal", *f.Internal)
		}
		active, inactive := connections(f.Load)
		return []string{
			f.Namespace, f.Service, f.Address, f.Kind, f.Policy, endpoints, active, string(f.State), dash(f.Reason),
		}, []string{inactive, f.Source, dash(f.Affinity), dash(strings.Join(f.SourceRanges, ","))}
	},
}

var drainView = view[status.Drain]{
	header: []string{"NAMESPACE", "SERVICE", "FRONTEND", "ENDPOINT", "POD", "CONNECTIONS", "CLOSING", "SINCE", "ENDS IN", "REASON"},
	key: func(d status.Drain) string {
		return strings.Join([]string{d.Namespace, d.Service, d.Frontend, d.Address}, " ")
	},
	row: func(d status.Drain, now time.Time) (cells, wide []string) {
		active, inactive := connections(d.Load)
		since, ends := "-", "-"
		if !d.Since.IsZero() {
			since, ends = age(now, d.Since), duration.HumanDuration(max(0, d.Ends.Sub(now)))
		}
		return []string{d.Namespace, d.Service, d.Frontend, d.Address, dash(d.Pod), active, inactive, since, ends, d.Reason}, nil
	},
}

func connections(l *status.Load) (active, inactive string) {
	if l == nil {
		return "-", "-"
	}
	return strconv.Itoa(int(l.Active)), strconv.Itoa(int(l.Inactive))
}

func weight(l *status.Load) string {
	if l == nil || l.Weight == nil {
		return "-"
	}
	return strconv.Itoa(int(*l.Weight))
}

// age returns the time since a moment as kubectl prints it.
func age(now, since time.Time) string {
	if since.IsZero() {
		return "<unknown>"
	}
	return duration.HumanDuration(now.Sub(since))
}

// dash replaces an empty cell.
func dash(s string) string { return cmp.Or(s, "-") }
