package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"

	"kube-ipvs/test/cluster"
)

// A bed is a control plane that is measured.
type bed struct {
	cluster    *cluster.Cluster
	client     *kubernetes.Clientset // of the administrator
	kubeconfig string
	idle       float64 // the API server's CPU time for nothing: seconds a second
}

// onBed calls do with a control plane with some nodes and nothing else.
func onBed(ctx context.Context, do func(*bed) error) (err error) {
	dir, err := os.MkdirTemp("", "scale-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	etcd, err := cluster.Build(ctx, "etcd")
	if err != nil {
		return err
	}
	c, err := cluster.Start(ctx, cluster.Config{Etcd: etcd})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, c.Close()) }()
	b := &bed{cluster: c, kubeconfig: filepath.Join(dir, "kubeconfig")}
	if b.client, err = c.AdminClient(); err != nil {
		return err
	}
	admin, err := c.Admin()
	if err != nil {
		return err
	}
	if err := errors.Join(admin.WriteKubeconfig(b.kubeconfig), createNodes(ctx, c)); err != nil {
		return err
	}
	return do(b)
}

// measure makes all measurements.
func measure(ctx context.Context, sizes [3]int) (f figures, err error) {
	f.On = machine()
	if f.Rollouts, err = measureRollouts(ctx); err != nil {
		return f, fmt.Errorf("rollouts: %w", err)
	}
	return f, onBed(ctx, func(b *bed) (err error) {
		if f.Events, f.Deliveries, err = b.events(ctx); err != nil {
			return fmt.Errorf("events: %w", err)
		}
		before := 0
		for i, size := range sizes {
			progress("%d Services", size)
			if err := fill(ctx, b.client, before, size); err != nil {
				return fmt.Errorf("fill: %w", err)
			}
			before = size
			if f.Sizes[i], err = b.size(ctx, size); err != nil {
				return fmt.Errorf("%d Services: %w", size, err)
			}
		}
		progress("restart")
		f.Restart, err = b.restart(ctx, f.Sizes[2].Streamed.Bytes)
		return err
	})
}

func progress(format string, args ...any) {
	fmt.Fprintf(os.Stderr, "%s "+format+"\n", append([]any{time.Now().Format(time.TimeOnly)}, args...)...)
}

// startNode starts a node that reads by a watch or by lists.
func (b *bed) startNode(ctx context.Context, streams bool) (*part, error) {
	return begin(ctx, "node", "-kubeconfig", b.kubeconfig, "-watch-list="+strconv.FormatBool(streams))
}

// served calls do and returns the CPU time that it took the API server, without what that does for nothing.
func (b *bed) served(do func() error) (seconds float64, err error) {
	before, err := serverCPU(b.cluster)
	if err != nil {
		return 0, err
	}
	begin := time.Now()
	if err := do(); err != nil {
		return 0, err
	}
	after, err := serverCPU(b.cluster)
	return after - before - b.idle*time.Since(begin).Seconds(), err
}

// rounds is how often a first read is measured: the mean counts.
const rounds = 3

// size measures nodes at one size of the cluster.
func (b *bed) size(ctx context.Context, services int) (s sized, err error) {
	s.Services = services
	if err := b.settle(ctx); err != nil {
		return s, err
	}
	if s.Listed, err = b.firsts(ctx, false); err != nil {
		return s, err
	}
	if s.Streamed, err = b.firsts(ctx, true); err != nil {
		return s, err
	}
	n, err := b.startNode(ctx, true)
	if err != nil {
		return s, err
	}
	defer func() { err = errors.Join(err, n.End()) }()
	r, err := n.ask("weigh")
	if err != nil {
		return s, err
	}
	s.Heap, s.Resident = r.Heap, r.Resident
	if r, err = n.quiet(ctx); err != nil {
		return s, err
	}
	s.Requests = float64(r.Requests)
	if s.Idle, err = standIdle(ctx, n); err != nil {
		return s, err
	}
	if s.Change, err = b.changes(ctx, n, serviceName(services/2), nodeChanges); err != nil {
		return s, err
	}
	s.Cut, err = cut(ctx, n)
	return s, err
}

// settle waits until the API server has done with what was written, and measures what it does for nothing.
func (b *bed) settle(ctx context.Context) error {
	const seconds = 5
	b.idle = 0
	for last := 0.0; ; {
		used, err := b.served(func() error { return sleep(ctx, seconds*time.Second) })
		if err != nil {
			return err
		}
		if rate := used / seconds; last == 0 || rate < last*0.7 {
			last = rate
		} else {
			b.idle = min(rate, last)
			return nil
		}
	}
}

func sleep(ctx context.Context, d time.Duration) error {
	select {
	case <-time.After(d):
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// firsts measures the first read of a node, some times.
func (b *bed) firsts(ctx context.Context, streams bool) (mean first, err error) {
	for range rounds {
		var n *part
		served, err := b.served(func() (err error) {
			n, err = b.startNode(ctx, streams)
			return err
		})
		if err != nil {
			return mean, err
		}
		if err := n.End(); err != nil {
			return mean, err
		}
		mean.Bytes += float64(n.first.In+n.first.Out) / rounds
		mean.NodeCPU += n.first.CPU / rounds
		mean.ServerCPU += served / rounds
	}
	return mean, nil
}

// standIdle measures a minute in which nothing changes.
func standIdle(ctx context.Context, n *part) (traffic, error) {
	before, err := n.ask("read")
	if err != nil {
		return traffic{}, err
	}
	if err := sleep(ctx, time.Minute); err != nil {
		return traffic{}, err
	}
	after, err := n.ask("read")
	return trafficOf(after.minus(before)), err
}

const (
	nodeChanges  = 300
	eventChanges = 30
)

// changes measures a node while one endpoint of a Service changes, again and again: what one change costs.
func (b *bed) changes(ctx context.Context, n *part, service string, times int) (c changed, err error) {
	list, err := b.client.DiscoveryV1().EndpointSlices(namespace).List(ctx, metav1.ListOptions{LabelSelector: "kubernetes.io/service-name=" + service})
	if err != nil {
		return c, err
	}
	if len(list.Items) != 1 {
		return c, fmt.Errorf("%d slices of %s, want 1", len(list.Items), service)
	}
	before, err := n.ask("read")
	if err != nil {
		return c, err
	}
	if err := change(ctx, b.client, list.Items[0].Name, times); err != nil {
		return c, err
	}
	after, err := n.until(ctx, func(r reading) bool { return r.Changes >= before.Changes+int64(times) })
	cost := after.minus(before)
	return changed{
		Endpoints: len(list.Items[0].Endpoints), Events: float64(cost.Changes) / float64(times),
		Bytes: float64(cost.In) / float64(times), NodeCPU: cost.CPU / float64(times),
	}, err
}

// cut ends a node's connection and measures until it watches again.
func cut(ctx context.Context, n *part) (traffic, error) {
	before, err := n.ask("read")
	if err != nil {
		return traffic{}, err
	}
	if _, err := n.ask("cut"); err != nil {
		return traffic{}, err
	}
	if _, err := n.until(ctx, func(r reading) bool { return r.Requests >= before.Requests+watches }); err != nil {
		return traffic{}, err
	}
	after, err := n.quiet(ctx)
	return trafficOf(after.minus(before)), err
}

// watches are a node's: Services, EndpointSlices, its Node and ServiceCIDRs.
const watches = 4

// restart lets the API server start anew, after a change of which no watch has heard, and measures until the node has read
// everything again, which was so many bytes the first time: the new API server has no history.
func (b *bed) restart(ctx context.Context, all float64) (t traffic, err error) {
	n, err := b.startNode(ctx, true)
	if err != nil {
		return t, err
	}
	defer func() { err = errors.Join(err, n.End()) }()
	before, err := n.quiet(ctx)
	if err != nil {
		return t, err
	}
	unheard := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: "unheard"}}
	if _, err := b.client.CoreV1().ConfigMaps(namespace).Create(ctx, unheard, metav1.CreateOptions{}); err != nil {
		return t, err
	}
	if err := b.cluster.StopServer(); err != nil {
		return t, err
	}
	if err := b.cluster.StartServer(ctx); err != nil {
		return t, err
	}
	if _, err := n.until(ctx, func(r reading) bool { return float64(r.In-before.In) > all/2 }); err != nil {
		return t, err
	}
	after, err := n.quiet(ctx)
	return trafficOf(after.minus(before)), err
}
