package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"kube-ipvs/ipvs"
	"kube-ipvs/sync/plan"
	"kube-ipvs/test/kubeproxy"
	"kube-ipvs/test/lab"
)

// The proxies that are compared, each as the program that it is.
const (
	ours         = "kube-ipvs"
	ipvsMode     = kubeproxy.IPVS
	iptablesMode = kubeproxy.IPTables
)

const (
	// patience is how long a first programming may take. What takes longer fails.
	patience = 5 * time.Minute
	// besideChanges is how often an endpoint is changed in a turn.
	besideChanges = 3
	// besideTurns is how often packets are compared in a turn.
	besideTurns = 15
)

// beside measures a proxy as a program that watches an API server: how long it takes until it has programmed all that is
// there, until a new endpoint answers after it was written into the API server, and what its packets cost. The API server is
// the one of test/kubeproxy, which is nothing but lists and watches in the memory of this process.
func beside(proxy string) part {
	return func(ctx context.Context, s size) (measurement, error) {
		b, err := newSide(ctx, s)
		if err != nil {
			return measurement{}, err
		}
		return measurement{func(ctx context.Context) (figures, error) { return b.measure(ctx, proxy) }, b.close}, nil
	}
}

// A side is a laboratory whose node's proxy is a program, with an API server for it.
type side struct {
	*lab.Lab
	api    *kubeproxy.API
	target plan.Service
	stop   func() error
}

func newSide(_ context.Context, s size) (b *side, err error) {
	b = &side{target: service(s.Services - 1), stop: func() error { return nil }}
	if b.Lab, err = newLab(true); err != nil {
		return nil, err
	}
	if b.api, err = kubeproxy.NewAPI(); err != nil {
		return nil, errors.Join(err, b.Lab.Close())
	}
	objects := []kubeproxy.Object{
		kubeproxy.Node("node1", b.Node.Addr(false), b.Node.Addr(true)), kubeproxy.ServiceCIDR(serviceCIDR),
	}
	m := newMemory(s)
	for name, svc := range m.services {
		objects = append(objects, kubeproxy.Service(svc))
		for i, slice := range m.slices[name] {
			if es, ok := kubeproxy.Slice(i, slice); ok && name != b.target.Name {
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
	at := netip.AddrPortFrom(b.target.ClusterIPs[0], servicePort)
	var rates, shares []float64
	for range besideTurns {
		packets, err := compare(ctx, b.Lab, at, netip.AddrPortFrom(b.Pod("new").Addr(false), podPort))
		if err != nil {
			return nil, err
		}
		rates, shares = append(rates, packets["rate"]), append(shares, packets["share"])
	}
	var err error
	seen["rate"], seen["share"] = median(rates), median(shares)
	seen["packet"], err = b.change(ctx, at)
	return seen, err
}

// change returns the median of the times from the write into the API server until the new endpoint answers.
func (b *side) change(ctx context.Context, at netip.AddrPort) (float64, error) {
	var times []float64
	for range besideChanges {
		began := time.Now()
		if err := errors.Join(b.serve("old", "new"), b.until(ctx, at, "new", 1)); err != nil {
			return 0, err
		}
		times = append(times, time.Since(began).Seconds())
		const enough = 20 // answers in a row, and nobody believes that the other pod is asked
		if err := errors.Join(b.serve("old"), b.until(ctx, at, "old", enough)); err != nil {
			return 0, err
		}
	}
	return median(times), nil
}

// until asks until a pod has answered so many times in a row.
func (b *side) until(ctx context.Context, at netip.AddrPort, pod string, times int) error {
	for row := 0; row < times; {
		answer := b.Ask(ctx, b.Pod("asker"), ipvs.TCP, at)
		if answer.Err != nil {
			return fmt.Errorf("ask %v: %w", at, answer.Err)
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
		ClusterCIDRs: []netip.Prefix{netip.MustParsePrefix("10.244.0.0/16"), netip.MustParsePrefix("fd00:10:244::/48")},
	})
	if err != nil {
		return err
	}
	b.stop = p.Stop
	return nil
}

func (b *side) startOurs(ctx context.Context, program string) error {
	cmd := exec.Command(program, "--master="+b.api.URL(), "--kube-api-content-type=application/json", "--hostname-override=node1",
		"--cluster-cidr=10.244.0.0/16,fd00:10:244::/48")
	if err := cmd.Start(); err != nil {
		return err
	}
	b.stop = func() error { return errors.Join(cmd.Process.Signal(os.Interrupt), cmd.Wait()) }
	for {
		if done, err := programmed(ctx); done || err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("kube-ipvs has not programmed its Services: %w", ctx.Err())
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// programmed says that kube-ipvs has ended its first attempt, before which it has all that its sources have.
func programmed(ctx context.Context) (bool, error) {
	ask, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://127.0.0.1:10249/metrics", nil)
	if err != nil {
		return false, err
	}
	answer, err := http.DefaultClient.Do(ask)
	if err != nil {
		return false, ctx.Err() // it does not listen yet
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	const never = "\nkubeproxy_sync_proxy_rules_last_timestamp_seconds 0\n"
	return err == nil && !strings.Contains(string(text), never), err
}
