package see

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"
	"time"
	"unicode"

	"github.com/spf13/cobra"

	"kube-ipvs/sync/status"
)

// Subcommands that ask the running kube-ipvs share these options.
type asking struct {
	socket    string // the default of --socket
	namespace string
	output    string
	watch     bool
	interval  time.Duration

	// of returns the client of another node; nil: this node's kube-ipvs is asked.
	of func(context.Context) (*status.Client, error)
}

// addFlags declares the options. Formats are those of --output beside the default table.
func (a *asking) addFlags(cmd *cobra.Command, formats ...string) {
	fs := cmd.Flags()
	if a.of == nil {
		fs.StringVar(&a.socket, "socket", a.socket, "Path of the socket at which kube-ipvs answers; its own --socket.")
		fs.StringVarP(&a.namespace, "namespace", "n", "", "Namespace of the Services. Without it: all, and \"default\" for a Service without a namespace.")
	}
	fs.StringVarP(&a.output, "output", "o", "", "Format of the output: "+strings.Join(formats, ", ")+".")
	_ = cmd.RegisterFlagCompletionFunc("output", cobra.FixedCompletions(formats, cobra.ShellCompDirectiveNoFileComp))
	cmd.PreRunE = func(*cobra.Command, []string) error {
		if a.output != "" && !slices.Contains(formats, a.output) {
			return fmt.Errorf("--output=%s: is none of %s", a.output, strings.Join(formats, ", "))
		}
		return nil
	}
}

// addWatch declares the options of repetition.
func (a *asking) addWatch(cmd *cobra.Command, interval time.Duration, usage string) {
	cmd.Flags().BoolVarP(&a.watch, "watch", "w", false, usage)
	cmd.Flags().DurationVar(&a.interval, "interval", interval, "Time between two questions.")
}

func (a *asking) client(ctx context.Context) (*status.Client, error) {
	if a.of != nil {
		return a.of(ctx)
	}
	return status.NewClient(a.socket), nil
}

// serviceWords are the names of kubectl's for the resource of Services.
var serviceWords = []string{"services", "service", "svc"}

// parseService parses the name of a Service as kubectl's users write it: name, svc/name or namespace/name.
func parseService(text, namespace string) (status.Query, error) {
	q := status.Query{Namespace: namespace, Service: text}
	first, rest, isPair := strings.Cut(text, "/")
	switch {
	case !isPair:
	case slices.Contains(serviceWords, first):
		q.Service = rest
	case namespace != "" && namespace != first:
		return q, fmt.Errorf("%s is not in namespace %s", text, namespace)
	default:
		q.Namespace, q.Service = first, rest
	}
	if q.Service == "" || q.Namespace == "" && isPair && !slices.Contains(serviceWords, first) || strings.Contains(q.Service, "/") {
		return q, fmt.Errorf("%q is no name of a Service: NAME, svc/NAME or NAMESPACE/NAME", text)
	}
	q.Namespace = cmp.Or(q.Namespace, "default")
	return q, nil
}

// tabulate prints rows in columns, as kubectl does.
func tabulate(out io.Writer, rows ...[]string) error {
	w := tabwriter.NewWriter(out, 0, 8, 3, ' ', 0)
	for _, row := range rows {
		cells := make([]string, 0, len(row))
		for _, cell := range row {
			cells = append(cells, printable(cell))
		}
		fmt.Fprintln(w, strings.TrimRight(strings.Join(cells, "\t"), "\t"))
	}
	return w.Flush()
}

// printable replaces what a terminal would obey. Others write names of pods, fields of Services and answers of nodes, and not all of it is
// held to a form by the API server.
func printable(text string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsPrint(r) {
			return r
		}
		return '\uFFFD'
	}, text)
}

// printLine prints a line with the texts of others in it.
func printLine(out io.Writer, format string, texts ...any) {
	fmt.Fprintln(out, printable(fmt.Sprintf(format, texts...)))
}

// repeat calls a function once, or every interval until the context ends.
func (a *asking) repeat(ctx context.Context, do func() error) error {
	for {
		err := do()
		if a.watch && ctx.Err() != nil { // an interrupt may meet a question
			return nil
		}
		if err != nil || !a.watch {
			return err
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(a.interval):
		}
	}
}

// completeServices completes the names of Services, as NAMESPACE/NAME.
func (a *asking) completeServices(cmd *cobra.Command, _ []string, _ string) ([]cobra.Completion, cobra.ShellCompDirective) {
	client, err := a.client(cmd.Context())
	if err != nil {
		return nil, cobra.ShellCompDirectiveError
	}
	list, err := status.GetAll[status.Service](cmd.Context(), client, "services", status.Query{Namespace: a.namespace})
	if err != nil {
		return nil, cobra.ShellCompDirectiveError
	}
	var out []cobra.Completion
	for _, s := range list.Items {
		out = append(out, s.Namespace+"/"+s.Service)
	}
	return out, cobra.ShellCompDirectiveNoFileComp
}
