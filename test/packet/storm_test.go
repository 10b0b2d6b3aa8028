//go:build kernel

package packet

import (
	"context"
	"net/netip"
	"testing"
	"time"

	"kube-ipvs/internal/inet"
	"kube-ipvs/ipvs"
	"kube-ipvs/sync/loop"
	"kube-ipvs/sync/plan"
	"kube-ipvs/test/lab"
)

// stormLimit is how long an unrelated change may take in a storm: much more than it takes on one busy processor.
const stormLimit = 5 * time.Second

// TestStormInTheKernel changes a thousand Services a second for a while, and then 2,000 Services at once. What an unrelated
// change takes meanwhile is printed; in the end the kernel has the last state.
func TestStormInTheKernel(t *testing.T) {
	w := newWorld(t, lab.Config{})
	p := start(t, setup{detector: clusterCIDR, lookInterval: loop.LookInterval})
	const many, rate, long = 2000, 1000, time.Minute
	plain := func(n int) plan.Service {
		svc := service(n, inet.TCP)
		svc.ClusterIPs, svc.ExternalIPs, svc.LoadBalancerIPs, svc.Ports[0].NodePort = svc.ClusterIPs[:1], nil, nil, 0
		return svc
	}
	set := func(n int, pods ...string) {
		var all []endpoint
		for _, pod := range pods {
			all = append(all, ready(pod, pod != "far1"))
		}
		svc := plain(n)
		p.set(svc, w.slices(svc.Name, inet.TCP, all)...)
	}
	programmed := func(n int, want ...string) time.Duration {
		t.Helper()
		key := ipvs.AddrKey(inet.TCP, w.address(plain(n), toClusterIP, false))
		for begin := time.Now(); ; time.Sleep(2 * time.Millisecond) {
			entry, err := p.cfg.IPVS.ReadServer(context.Background(), key)
			right := err == nil && len(entry.Reals) == len(want)
			for _, pod := range want {
				_, there := entry.Reals[netip.AddrPortFrom(w.Pod(pod).Addr(false), podPort)]
				right = right && there
			}
			if right {
				return time.Since(begin)
			}
			if time.Since(begin) > time.Minute {
				t.Fatalf("%v has %v, %v after a minute; want %v", key, entry.Reals, err, want)
			}
		}
	}
	for n := range many + 1 {
		set(n, "pod1", "pod2")
	}
	programmed(many, "pod1", "pod2")
	p.settle()

	turn := func(i int) []string {
		return [][]string{{"pod1"}, {"pod1", "pod2"}, {"pod2", "far1"}}[i%3]
	}
	var slowest time.Duration
	begin, changes, probes := time.Now(), 0, 0
	for time.Since(begin) < long {
		due := int(time.Since(begin) * rate / time.Second)
		for ; changes < due; changes++ {
			set(changes%many, turn(changes)...)
		}
		if int(time.Since(begin)/time.Second) >= probes {
			probes++
			set(many, turn(probes)...)
			slowest = max(slowest, programmed(many, turn(probes)...))
		}
		time.Sleep(time.Millisecond)
	}
	t.Logf("%d changes in %v; each second one more, of which the slowest took %v", changes, long, slowest.Round(time.Millisecond))
	if slowest > stormLimit {
		t.Errorf("an unrelated change took %v", slowest)
	}
	begin = time.Now()
	for n := range many {
		set(n, "far1")
	}
	for n := range many {
		programmed(n, "far1")
	}
	t.Logf("a rollout of %d Services at once took %v", many, time.Since(begin).Round(time.Millisecond))
	p.settle()
}
