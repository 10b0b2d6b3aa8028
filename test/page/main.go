// Command page serves the page for a browser about a node that there is not: the product's loop on fakes of the kernel, with
// Services, traffic and troubles. It is for the browser's tests, and for those who work on the page:
//
//	go run ./test/page -services 10000
package main

import (
	"bufio"
	"context"
	"errors"
	"flag"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/signal"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"

	"kube-ipvs/internal/page"
	"kube-ipvs/ipvs"
	"kube-ipvs/ipvs/sysctl"
	"kube-ipvs/sync/ipvsmode"
	"kube-ipvs/sync/loop"
	"kube-ipvs/sync/status"
)

func main() {
	services := flag.Int("services", 3, "number of Services")
	hostile := flag.Bool("hostile", false, "add Services with names that are markup")
	uncounted := flag.Bool("uncounted", false, "be a node whose kernel does not count traffic")
	address := flag.String("listen", "127.0.0.1:10249", "address of the page")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := serve(ctx, *services, *hostile, *uncounted, *address); err != nil && !errors.Is(err, context.Canceled) {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// serve serves the page until the context or the standard input ends. Each line of that is a change of a Service.
func serve(ctx context.Context, services int, hostile, uncounted bool, address string) error {
	w := newWorld(services, hostile)
	settings := sysctl.NewFake()
	if uncounted {
		settings = sysctl.NewFake(sysctl.Setting{Name: ipvs.RunEstimation, Value: "0"})
	}
	l := ipvsmode.New(w.config())
	mux := http.NewServeMux()
	mux.Handle(page.Path, page.New(page.Config{Node: "node1", Answers: w.answers(l, settings)}))
	listener, err := net.Listen("tcp", address)
	if err != nil {
		return err
	}
	server := &http.Server{Handler: mux, ReadHeaderTimeout: time.Second}
	parts, ctx := errgroup.WithContext(ctx)
	parts.Go(func() error { return l.Run(ctx) })
	parts.Go(func() error { return server.Serve(listener) })
	parts.Go(func() error { <-ctx.Done(); return server.Close() })
	parts.Go(func() error {
		if err := w.begin(ctx); err != nil {
			return err
		}
		fmt.Printf("http://%s%s\n", listener.Addr(), page.Path)
		return w.live(ctx)
	})
	parts.Go(func() error {
		for lines := bufio.NewScanner(os.Stdin); lines.Scan(); {
			if err := w.change(lines.Text()); err != nil {
				return err
			}
		}
		return context.Canceled
	})
	return parts.Wait()
}

// answers returns the handler of the answers about a loop. The settings tell whether the kernel counts.
func (w *world) answers(l *loop.Loop, settings sysctl.Kernel) http.Handler {
	s := status.Server{
		Loop: l, Meter: ipvsmode.Meter{Table: w.table, Settings: settings}, Node: "node1", DrainLimit: drainLimit, Pods: w.pods,
		State: func() status.Node {
			return status.Node{
				Version: "v1.2.3", Mode: "ipvs", VIPMode: "divert", Started: created, Ready: true, Synced: time.Now(),
				Conntrack: &status.Room{Entries: 31264, Limit: 262144},
			}
		},
	}
	mux := http.NewServeMux()
	s.Register(mux)
	return mux
}

// metrics are registered nowhere else.
func metrics() *ipvsmode.Metrics {
	return ipvsmode.NewMetrics(prometheus.NewRegistry(), loop.MetricsConfig{})
}
