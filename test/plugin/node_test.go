//go:build cluster

package plugin_test

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"k8s.io/client-go/kubernetes"

	"kube-ipvs/internal/inet"
	"kube-ipvs/ipvs"
	"kube-ipvs/sync/ipvsmode"
	"kube-ipvs/sync/kube"
	"kube-ipvs/sync/loop"
	"kube-ipvs/sync/plan"
	"kube-ipvs/sync/status"
)

// A node is a kube-ipvs that watches the API server, on fakes of a kernel, and answers at a socket.
type node struct {
	socket  string
	deafen  context.CancelFunc // it hears of nothing any more
	unready atomic.Pointer[string]
}

// newNode runs a kube-ipvs on a node of a number, with an address and in a zone of its own.
func newNode(t *testing.T, client kubernetes.Interface, number int) *node {
	t.Helper()
	name := fmt.Sprintf("node%d", number)
	queue := loop.NewQueue()
	source := kube.New(kube.Config{Client: client, NodeName: name}, queue)
	n := &node{socket: filepath.Join(t.TempDir(), "socket")}
	own := []netip.Addr{netip.AddrFrom4([4]byte{192, 0, 2, byte(number)})}
	table, families := new(ipvs.Fake), []inet.Family{inet.IPv4, inet.IPv6}
	l := ipvsmode.New(ipvsmode.Config{
		Config: loop.Config{
			Source: source, Queue: queue, Plan: plan.Config{Scheduler: "rr"},
			Node: func(context.Context) (plan.Node, []netip.Prefix, error) {
				return plan.Node{Name: name, Zone: fmt.Sprintf("zone%d", number), Own: own, Addresses: own, Primary: own}, source.ServiceCIDRs(), nil
			},
			Health: func(plan.Name, *plan.Health) {}, Report: func(plan.Name, []plan.Problem) {}, Converged: func(error) {},
		},
		Kernel:   ipvsmode.FakeKernel(table),
		Families: families, Marks: ipvsmode.MarksFor(14), DrainLimit: time.Minute, Metrics: ipvsmode.NewMetrics(prometheus.NewRegistry(), loop.MetricsConfig{Families: families}),
	})
	server := status.Server{Loop: l, Meter: ipvsmode.Meter{Table: table}, Node: name, State: func() status.Node {
		out := status.Node{Version: "v1.2.3", Mode: "ipvs", VIPMode: "divert", Started: time.Now(), Ready: true}
		if reason := n.unready.Load(); reason != nil {
			out.Ready, out.Reason = false, *reason
		}
		return out
	}}
	n.serve(t, &server)
	ctx, stop := context.WithCancel(t.Context())
	var listening context.Context
	listening, n.deafen = context.WithCancel(ctx)
	ended := make(chan struct{}, 2)
	go func() { _ = source.Run(listening); ended <- struct{}{} }()
	go func() { _ = l.Run(ctx); ended <- struct{}{} }()
	t.Cleanup(func() { stop(); <-ended; <-ended })
	return n
}

// serve answers at the socket until the test ends.
func (n *node) serve(t *testing.T, s *status.Server) {
	t.Helper()
	l, err := net.Listen("unix", n.socket)
	if err != nil {
		t.Fatal(err)
	}
	mux := http.NewServeMux()
	s.Register(mux)
	server := &http.Server{Handler: mux}
	go func() { _ = server.Serve(l) }()
	t.Cleanup(func() { _ = server.Close() })
}
