package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"kube-ipvs/ipvs"
	"kube-ipvs/sync/plan"
	"kube-ipvs/test/child"
	"kube-ipvs/test/kubeproxy"
	"kube-ipvs/test/lab"
	"kube-ipvs/test/wire"
)

// The proxies that are compared, each as the program that it is.
const (
	ours         = "kube-ipvs"
	ipvsMode     = kubeproxy.IPVS
	iptablesMode = kubeproxy.IPTables
)

const (
	// patience is how long a first programming may take. What takes longer fails.
	patience = 15 * time.Minute
	// changing is for how long an endpoint comes and goes.
	changing = 20 * time.Second
	// besideTurns is how often packets are compared in a turn.
	besideTurns = 15
)

// beside measures a proxy as a program that watches an API server: how long it takes until it has programmed all that is
// there, until a new endpoint answers after it was written into the API server, and what its packets cost. The API server is
// the one of test/kubeproxy, which is nothing but lists and watches in the memory of this process.
func beside(proxy string) part {
	return func(ctx context.Context, s size) (measurement, error) {
		l, err := newLab(true)
		if err != nil {
			return measurement{}, err
		}
		b, err := newSide(l, s)
		if err != nil {
			return measurement{}, err
		}
		return measurement{func(ctx context.Context) (figures, error) { return b.measure(ctx, proxy) }, b.close}, nil
	}
}

// A side is a laboratory whose node's proxy is a program, with an API server for it.
type side struct {
	*lab.Lab
	size   size
	api    *kubeproxy.API
	target plan.Service
	pid    int
	stop   func() error
}

// newSide gives a laboratory an API server. After an error the laboratory is closed.
func newSide(l *lab.Lab, s size) (b *side, err error) {
	b = &side{Lab: l, size: s, target: service(s.Services - 1), stop: func() error { return nil }}
	if b.api, err = kubeproxy.NewAPI(); err != nil {
		return nil, errors.Join(err, b.Lab.Close())
	}
	objects := []kubeproxy.Object{
		kubeproxy.Node("node1", b.Node.Addr(false), b.Node.Addr(true)), kubeproxy.ServiceCIDR(serviceCIDR),
	}
	for n := range s.Services {
		svc := service(n)
		objects = append(objects, kubeproxy.Service(svc))
		for i, slice := range slicesOf(svc.Name, endpoints(n, s.Endpoints)) {
			if es, ok := kubeproxy.Slice(i, slice); ok && svc.Name != b.target.Name {
				objects = append(objects, es)
			}
		}
	}
	if err := errors.Join(b.api.Set(objects...), b.serve("old")); err != nil {
		return nil, errors.Join(err, b.close())
	}
	return b, nil
}

func (b *side) close() error { return errors.Join(b.stop(), b.api.Close(), b.Lab.Close()) }

// serve writes into the API server which pods serve the target.
func (b *side) serve(pods ...string) error {
	var all []plan.Endpoint
	for _, pod := range pods {
		all = append(all, ready(b.Pod(pod).Addr(false), "node1"))
	}
	es, _ := kubeproxy.Slice(0, slicesOf(b.target.Name, all)[0])
	return b.api.Set(es)
}

func (b *side) measure(ctx context.Context, proxy string) (figures, error) {
	began := time.Now()
	limited, done := context.WithTimeout(ctx, patience)
	defer done()
	if err := b.start(limited, proxy); err != nil {
		return nil, err
	}
	seen := figures{"seconds": time.Since(began).Seconds()}
	var err error
	// How long the attempts to program took that there were until then: they begin when all has been read.
	if seen["synced"], err = child.Metric(ctx, "kubeproxy_sync_proxy_rules_duration_seconds"); err != nil {
		return nil, err
	}
	if seen["resident"], _, err = residentMiB(b.pid); err != nil {
		return nil, err
	}
	return seen, errors.Join(b.packets(ctx, seen), b.changes(ctx, seen), b.weigh(ctx, seen))
}

// frontend is where the target is asked.
func (b *side) frontend() netip.AddrPort {
	return netip.AddrPortFrom(b.target.ClusterIPs[0], servicePort)
}

func (b *side) packets(ctx context.Context, seen figures) error {
	packets, err := compare(ctx, b.Lab, besideTurns, b.frontend(), netip.AddrPortFrom(b.Pod("new").Addr(false), podPort))
	maps.Copy(seen, packets)
	return err
}

// changes lets an endpoint come and go, at least once, and sees how long it takes from the write into the API server until
// the new endpoint answers.
func (b *side) changes(ctx context.Context, seen figures) error {
	var times []float64
	for first := time.Now(); time.Since(first) < changing; {
		began := time.Now()
		if err := errors.Join(b.serve("old", "new"), b.until(ctx, "new", 1)); err != nil {
			return err
		}
		times = append(times, time.Since(began).Seconds())
		const enough = 20 // answers in a row, and nobody believes that the other pod is asked
		if err := errors.Join(b.serve("old"), b.until(ctx, "old", enough)); err != nil {
			return err
		}
	}
	seen["packet"], seen["changes"] = median(times), 2*float64(len(times))
	return nil
}

// weigh sees what memory the proxy has after all that, and last, since that collects its garbage, what lives on its heap.
func (b *side) weigh(ctx context.Context, seen figures) error {
	var err1 error
	seen["residentLater"], seen["peak"], err1 = residentMiB(b.pid)
	text, err2 := child.Get(ctx, "http://"+child.Metrics+"/debug/pprof/heap?gc=1&debug=1")
	if err := errors.Join(err1, err2); err != nil {
		return err
	}
	const name = "# HeapAlloc = "
	_, after, _ := strings.Cut(text, name)
	value, _, _ := strings.Cut(after, "\n")
	heap, err := strconv.ParseFloat(value, 64)
	if err != nil {
		return fmt.Errorf("%s in the heap profile: %w", name, err)
	}
	seen["heap"], seen["each"] = heap/(1<<20), heap/float64(b.size.reals())
	return nil
}

// until asks until a pod has answered so many times in a row.
func (b *side) until(ctx context.Context, pod string, times int) error {
	for row := 0; row < times; {
		answer := b.Ask(ctx, b.Pod("asker"), ipvs.TCP, b.frontend())
		if answer.Err != nil {
			return fmt.Errorf("ask %v: %w", b.frontend(), answer.Err)
		}
		row++
		if answer.Who != pod {
			row = 0
		}
	}
	return nil
}

// start starts the proxy and waits until it has programmed what there is.
func (b *side) start(ctx context.Context, proxy string) error {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	bin := filepath.Dir(self)
	if proxy == ours {
		return b.startOurs(ctx, filepath.Join(bin, "kube-ipvs"))
	}
	p, err := kubeproxy.Start(ctx, b.api, kubeproxy.Config{
		Program: filepath.Join(bin, "kube-proxy"), Mode: proxy, Node: "node1", Log: "/run/kube-proxy-" + proxy + ".log",
		ClusterCIDRs: wire.PodCIDRs,
		Flags:        []string{"--profiling"},
	})
	if err != nil {
		return err
	}
	b.pid, b.stop = p.Pid(), p.Stop
	return nil
}

// startOurs starts kube-ipvs and waits until it has ended its first attempt, before which it has all that its sources have.
func (b *side) startOurs(ctx context.Context, program string) error {
	p := &child.Program{Path: program, Log: "/run/kube-ipvs.log", Args: []string{
		"--master=" + b.api.URL(), "--kube-api-content-type=application/json", "--hostname-override=node1",
		"--cluster-cidr=10.244.0.0/16,fd00:10:244::/48", "--profiling",
	}}
	if err := p.Start(); err != nil {
		return err
	}
	b.pid, b.stop = p.Pid(), p.Stop
	const pause = 20 * time.Millisecond
	began := time.Now()
	if err := p.Until(ctx, pause, func() bool { return child.Synced(ctx, began) }); err != nil {
		return errors.Join(err, p.LastWords())
	}
	return nil
}
