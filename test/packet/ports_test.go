//go:build kernel

package packet

import (
	"context"
	"net/netip"
	"os"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"kube-ipvs/internal/inet"
	"kube-ipvs/sync/plan"
	"kube-ipvs/test/lab"
)

// Connections from the node, whose own ports and those that they are masqueraded with may have the numbers of node ports,
// get their answers: no node port takes a reply for a request.
func TestNodePortsTakeNoReplies(t *testing.T) {
	const nodePorts, connections = 2000, 1000
	const rangeFile = "/proc/sys/net/ipv4/ip_local_port_range"
	w := newWorld(t, lab.Config{})
	was, err := os.ReadFile(rangeFile)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.WriteFile(rangeFile, was, 0); err != nil {
			t.Error(err)
		}
	})
	if err := os.WriteFile(rangeFile, []byte("30000 31999"), 0); err != nil {
		t.Fatal(err)
	}
	p := start(t, setup{detector: clusterCIDR})
	svc := service(1, inet.TCP)
	svc.ExternalIPs, svc.LoadBalancerIPs, svc.Ports = nil, nil, nil
	for i := range nodePorts {
		svc.Ports = append(svc.Ports, plan.Port{Name: "p", Proto: inet.TCP, Port: uint16(1 + i), NodePort: uint16(30000 + i)})
	}
	p.set(svc, w.slices(svc.Name, inet.TCP, []endpoint{ready("pod1", true), ready("far1", false)})...)
	p.settle()
	var failed, inRange atomic.Int64
	var wg sync.WaitGroup
	begin := time.Now()
	for range 8 {
		wg.Go(func() {
			for i := range connections / 8 {
				// One Service port a family: two connections from one port to two of them could meet at one endpoint, and IPVS
				// tells replies apart by endpoint and client.
				at := netip.AddrPortFrom(svc.ClusterIPs[i%2], 1)
				a := w.Ask(context.Background(), w.Node, inet.TCP, at, lab.Wait(5*time.Second))
				if a.Err != nil {
					failed.Add(1)
				}
				if p := a.Source.Port(); p >= 30000 && p < 30000+nodePorts {
					inRange.Add(1)
				}
			}
		})
	}
	wg.Wait()
	t.Logf("%d connections in %v: %d failed; %d seen from the number of a node port", connections, time.Since(begin).Round(time.Millisecond), failed.Load(), inRange.Load())
	if failed.Load() > 0 {
		t.Errorf("%d of %d connections failed", failed.Load(), connections)
	}
}
