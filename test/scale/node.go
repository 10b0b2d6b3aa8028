package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"runtime"
	"strings"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"
	"k8s.io/client-go/kubernetes"

	"kube-ipvs/internal/inet"
	"kube-ipvs/sync/ipvsmode"
	"kube-ipvs/sync/kube"
	"kube-ipvs/sync/loop"
	"kube-ipvs/sync/plan"
)

// A reading is what a node has cost since it started.
type reading struct {
	In, Out, Requests int64   // its connections to the API server
	Changes           int64   // changes of Services and endpoints that its source has told the loop
	CPU               float64 // seconds
	Heap, Resident    float64 // bytes, after a garbage collection; only of the command "weigh"
}

// minus returns what it has cost since a reading before.
func (r reading) minus(before reading) reading {
	return reading{In: r.In - before.In, Out: r.Out - before.Out, Requests: r.Requests - before.Requests,
		Changes: r.Changes - before.Changes, CPU: r.CPU - before.CPU}
}

// An observed queue counts the source's changes.
type observed struct {
	*loop.Queue
	changes atomic.Int64
}

func (o *observed) ServiceChanged(name plan.Name) {
	o.changes.Add(1)
	o.Queue.ServiceChanged(name)
}

func (o *observed) EndpointsChanged(name plan.Name) {
	o.changes.Add(1)
	o.Queue.EndpointsChanged(name)
}

// A node is the program's source and loop, with its client's configuration, on a kernel that does what it is asked.
type node struct {
	wire   wire
	queue  observed
	source *kube.Source
	synced chan struct{} // closed after the first sync
}

// node is the process of a node. It prints a reading when it has programmed everything, and one for each line of input.
func (o options) node(ctx context.Context, in io.Reader, out io.Writer) error {
	kube.SetFeatures(map[string]bool{"WatchListClient": o.watchList})
	config, err := kube.Connection{Kubeconfig: o.kubeconfig, QPS: 5, Burst: 10}.Config()
	if err != nil {
		return err
	}
	n := &node{queue: observed{Queue: loop.NewQueue()}, synced: make(chan struct{})}
	n.wire.under(config)
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		return err
	}
	n.source = kube.New(kube.Config{Client: client, NodeName: nodeName(0), NodeWait: 30 * time.Second}, &n.queue)
	ctx, cancel := context.WithCancel(ctx)
	parts, ctx := errgroup.WithContext(ctx)
	parts.Go(func() error { return n.source.Run(ctx) })
	parts.Go(func() error { return n.loop().Run(ctx) })
	parts.Go(func() error {
		defer cancel()
		return n.obey(ctx, in, json.NewEncoder(out))
	})
	if err := parts.Wait(); !errors.Is(err, context.Canceled) {
		return err
	}
	return nil
}

func (n *node) loop() *loop.Loop {
	first := true
	return ipvsmode.New(ipvsmode.Config{
		Config: loop.Config{
			Source: n.source, Queue: n.queue.Queue, Plan: plan.Config{Scheduler: "rr"},
			Node: func(context.Context) (plan.Node, []netip.Prefix, error) {
				return plan.Node{Name: nodeName(0)}, n.source.ServiceCIDRs(), nil
			},
			Health: func(plan.Name, *plan.Health) {}, Report: func(plan.Name, []plan.Problem) {},
			Converged: func(err error) {
				if first && err == nil {
					first = false
					close(n.synced)
				}
			},
		},
		Kernel:   ipvsmode.WillingKernel(),
		Families: []inet.Family{inet.IPv4, inet.IPv6}, Marks: ipvsmode.MarksFor(14), DrainLimit: time.Minute,
		Metrics: ipvsmode.NewMetrics(prometheus.NewRegistry(), loop.MetricsConfig{}),
	})
}

// obey answers commands until there are no more.
func (n *node) obey(ctx context.Context, in io.Reader, out *json.Encoder) error {
	select {
	case <-n.synced:
	case <-ctx.Done():
		return ctx.Err()
	}
	lines := bufio.NewScanner(in)
	for command := ""; ; command = lines.Text() {
		r, err := n.answer(command)
		if err == nil {
			err = out.Encode(r)
		}
		if err != nil || !lines.Scan() {
			return errors.Join(err, lines.Err())
		}
	}
}

func (n *node) answer(command string) (r reading, err error) {
	switch command {
	case "", "read":
	case "cut":
		n.wire.cut()
	case "weigh":
		if r.Heap, r.Resident, err = weigh(); err != nil {
			return r, err
		}
	default:
		return r, fmt.Errorf("unknown command %q", command)
	}
	r.In, r.Out, r.Requests, r.Changes = n.wire.in.Load(), n.wire.out.Load(), n.wire.requests.Load(), n.queue.changes.Load()
	r.CPU, err = cpuTime()
	return r, err
}

// cpuTime is the CPU time of this process in seconds, the kernel's work for it included.
func cpuTime() (float64, error) {
	var u unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &u); err != nil {
		return 0, os.NewSyscallError("getrusage", err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano()).Seconds(), nil
}

// weigh returns the live heap, and the greatest resident memory so far.
func weigh() (heap, resident float64, err error) {
	runtime.GC()
	runtime.GC() // what has a finalizer, or was swept late
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return 0, 0, err
	}
	_, after, found := strings.Cut(string(status), "VmHWM:")
	if !found {
		return 0, 0, errors.New("/proc/self/status has no VmHWM")
	}
	if _, err := fmt.Sscan(after, &resident); err != nil {
		return 0, 0, fmt.Errorf("VmHWM: %w", err)
	}
	return float64(m.HeapAlloc), resident * 1024, nil
}
