//go:build kernel && neighbours

package packet

import (
	"context"
	"flag"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"kube-ipvs/internal/inet"
	"kube-ipvs/sync/ipvsmode"
	"kube-ipvs/sync/loop"
	"kube-ipvs/sync/plan"
	"kube-ipvs/test/lab"
	"kube-ipvs/test/neighbours"
)

var (
	rowsFolder = flag.String("rows", "", "`folder` that gets a line of the table for each neighbour")
	binFolder  = flag.String("bin", "", "`folder` of the programs that the neighbours are built into")
)

// A neighbour is a program beside the proxy, and what is asked with it.
type neighbour struct {
	name  string
	start func(*neighbours.Place) neighbours.Neighbour
	// services are what the neighbour asks itself.
	services func(*world, *proxy)
	// edit changes the Services that are asked.
	edit func(*world, *plan.Service)
	// alone are the sources that can ask without the neighbour; nil: all.
	alone []source
	// more is asked beside it, too; nil: nothing.
	more func(*neighbourhood, *testing.T)
}

// beside are the neighbours that run in the test kernel.
var beside = []neighbour{
	{name: "keepalived", start: neighbours.NewKeepalived},
	{name: "ufw", start: neighbours.NewUFW},
	{name: "portmap", start: neighbours.NewPortmap},
	{name: "portmap under load balancers", start: neighbours.NewServiceLB, edit: (*world).balanced},
	{name: "WireGuard", start: neighbours.NewWireGuard},
	{name: "NodeLocal DNSCache", start: neighbours.NewNodeLocal, services: (*world).dns},
	{name: "Calico's Felix", start: neighbours.NewFelix, more: (*neighbourhood).policies},
	{name: "MetalLB", start: neighbours.NewMetalLB, edit: (*world).announced, alone: []source{fromPod, fromEndpoint, fromNode}},
}

// nft are the neighbours that need a kernel which has nft whole.
var nft = []neighbour{
	{name: "firewalld", start: neighbours.NewFirewalld},
}

// TestNeighboursNFT is TestNeighbours in the emulated machine.
func TestNeighboursNFT(t *testing.T) {
	for i, n := range nft {
		t.Run(n.name, func(t *testing.T) { n.run(t, len(beside)+i) })
	}
}

// TestNeighbours holds the proxy to the truth table's core before a neighbour is there, beside it, after its restart, after the
// proxy's own start beside it, and after its removal; and the neighbour to its own work.
func TestNeighbours(t *testing.T) {
	for i, n := range beside {
		t.Run(n.name, func(t *testing.T) { n.run(t, i) })
	}
}

// A neighbourhood is a neighbour, a world and a proxy.
type neighbourhood struct {
	neighbour
	*world
	p    *proxy
	n    neighbours.Neighbour
	row  []string
	lost bool // the neighbour did not do its own work
}

func (n neighbour) run(t *testing.T, number int) {
	ctx := context.Background()
	h := &neighbourhood{neighbour: n, world: newWorld(t, lab.Config{})}
	place := &neighbours.Place{Lab: h.Lab, Dir: t.TempDir(), Bin: *binFolder}
	h.n = n.start(place)
	t.Cleanup(func() {
		if err := place.Close(); err != nil {
			t.Error(err)
		}
	})
	version, err := h.n.Version(ctx)
	if err != nil {
		t.Fatal(err)
	}
	h.row = []string{n.name, version, h.n.How()}
	h.p = start(t, setup{detector: clusterCIDR, lookInterval: loop.LookInterval})
	t.Cleanup(func() {
		if err := h.n.Remove(context.Background()); err != nil {
			t.Error(err)
		}
	})
	if n.services != nil {
		n.services(h.world, h.p)
	}
	h.phase(t, "before", false, nil)
	h.phase(t, "beside", true, h.n.Start)
	h.phase(t, "after its restart", true, func(ctx context.Context) error {
		if err := h.n.Stop(ctx); err != nil {
			return err
		}
		return h.n.Start(ctx)
	})
	h.phase(t, "proxy started after it", true, h.again)
	if n.more != nil {
		h.lost = !t.Run("more", func(t *testing.T) { n.more(h, t) }) || h.lost
	}
	h.phase(t, "after its removal", false, h.n.Remove)
	h.write(t, number)
}

// mendTime is how long the proxy has to mend what a neighbour broke that starts, ends or is reloaded: firewalld flushes all tables.
const mendTime = 3 * time.Second

// phase changes something about the neighbour and asks.
func (h *neighbourhood) phase(t *testing.T, name string, there bool, change func(context.Context) error) {
	t.Run(name, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(context.Background(), 3*time.Minute)
		defer cancel()
		cell := "–"
		defer func() { h.row = append(h.row, cell) }()
		if change != nil {
			if err := change(ctx); err != nil {
				cell = "it did not start or end"
				t.Fatal(err)
			}
			time.Sleep(mendTime)
		}
		if there {
			if err := h.n.Works(ctx); err != nil {
				h.lost = true
				t.Errorf("its own work: %v", err)
			}
		}
		table := newTable(h.world, h.p, rule{inside: byCIDR})
		table.situations, table.exchanges = situations[:1], 3
		if h.edit != nil {
			table.edit = func(svc *plan.Service) { h.edit(h.world, svc) }
		}
		if !there && h.alone != nil {
			table.sources = h.alone
		}
		table.fill(t, []inet.Protocol{inet.TCP, inet.UDP})
		right := 0
		for _, n := range table.right {
			right += n
		}
		cell = fmt.Sprintf("%d of %d", right, right+len(table.wrong))
		table.report(t)
	})
}

// again removes all that is the proxy's and starts it, so that its rules come after the neighbour's.
func (h *neighbourhood) again(ctx context.Context) error {
	h.p.halt()
	err := ipvsmode.Clean(ctx, h.p.cfg.Kernel)
	h.p.run()
	h.p.queue.Synced()
	h.p.settle()
	return err
}

// write writes the neighbour's line of the table.
func (h *neighbourhood) write(t *testing.T, number int) {
	own := "works"
	if h.lost {
		own = "does not work"
	}
	line := "| " + strings.Join(append(h.row, own), " | ") + " |\n"
	t.Log(line)
	if *rowsFolder == "" {
		return
	}
	if err := os.WriteFile(filepath.Join(*rowsFolder, fmt.Sprintf("%02d.row", number)), []byte(line), 0o644); err != nil {
		t.Fatal(err)
	}
}

// announced gives a Service load-balancer IPs that are in the LAN.
func (w *world) announced(svc *plan.Service) {
	n := int(svc.Ports[0].NodePort)
	svc.LoadBalancerIPs = []netip.Addr{neighbours.Announced(n, false), neighbours.Announced(n, true)}
}

// balanced gives a Service the node's addresses as load-balancer IPs, as load balancers that are pods with host ports do.
func (w *world) balanced(svc *plan.Service) {
	svc.LoadBalancerIPs = []netip.Addr{w.Node.Addr(false), w.Node.Addr(true)}
	svc.Ports[0].Port = neighbours.BalancedPort(int(svc.Ports[0].NodePort))
}

// dns is the Service of the cluster's DNS.
func (w *world) dns(p *proxy) {
	svc := plan.Service{Name: plan.Name{Namespace: "kube-system", Name: "dns"}, ClusterIPs: []netip.Addr{neighbours.DNS}}
	slice := plan.Slice{Service: svc.Name}
	for name, proto := range map[string]inet.Protocol{"dns": inet.UDP, "dns-tcp": inet.TCP} {
		svc.Ports = append(svc.Ports, plan.Port{Name: name, Proto: proto, Port: 53})
		slice.Ports = append(slice.Ports, plan.SlicePort{Name: name, Proto: proto, Port: 53})
	}
	slice.Endpoints = []plan.Endpoint{{Addr: w.Pod("pod2").Addr(false), Node: "node1", Ready: true, Serving: true}}
	p.set(svc, slice)
	p.settle()
}
