//go:build kernel

package packet

import (
	"context"
	"fmt"
	"os/exec"
	"strings"
	"testing"
	"time"

	"kube-ipvs/internal/inet"
	"kube-ipvs/ipvs"
	"kube-ipvs/sync/ipvsmode"
	"kube-ipvs/sync/plan"
	"kube-ipvs/test/lab"
)

// Below each step of explain is a command that shows it in the kernel. Each is run: it succeeds, or, where the step is that something
// is not so, fails.
func TestStepsShowInTheKernel(t *testing.T) {
	w := newWorld(t, lab.Config{})
	for _, mode := range []string{"divert", "bind"} {
		t.Run(mode, func(t *testing.T) {
			p := start(t, setup{bind: mode == "bind", detector: clusterCIDR})
			var asked []plan.Address
			for n, s := range []situation{situations[0], situations[2], situations[3]} { // here and elsewhere, elsewhere, none
				for policy := range 2 {
					svc := service(2*n+policy, inet.TCP)
					svc.ExternalLocal, svc.InternalLocal = policy == 1, policy == 1
					if n == 0 {
						svc.SourceRanges = append(podsFar[:2:2], nodes...)
					}
					p.set(svc, w.slices(svc.Name, inet.TCP, s.endpoints)...)
					for _, v6 := range []bool{false, true} {
						for _, to := range frontends {
							at := w.address(svc, to, v6)
							asked = append(asked, plan.Address{Addr: at.Addr(), Port: at.Port(), Protocol: inet.TCP})
						}
					}
				}
			}
			asked = append(asked, plan.Address{Addr: asked[0].Addr, Port: 1, Protocol: inet.TCP}, plan.Address{Addr: w.Client.Addr(true), Port: 1, Protocol: inet.UDP})
			p.settle()
			ran := map[string]bool{}
			for _, to := range asked {
				for _, from := range sources {
					verdicts, err := p.explain(to, w.host(from).Addr(to.Addr.Is6()))
					p.must(err)
					for _, v := range verdicts {
						for _, step := range v.Steps {
							if step.Command != "" && !ran[step.Command] {
								ran[step.Command] = true
								holdCommand(t, step.Text, step.Command)
							}
						}
					}
				}
			}
			t.Logf("%d commands", len(ran))
		})
	}
}

// holdCommand runs the command of a step.
func holdCommand(t *testing.T, text, command string) {
	t.Helper()
	isNot := strings.Contains(text, "is no frontend: ") || strings.Contains(text, "is not in")
	out, err := exec.Command("sh", "-c", command).CombinedOutput()
	if (err != nil) != isNot || !isNot && len(out) == 0 {
		t.Errorf("%s\n  $ %s\n%s(%v)", text, command, out, err)
	}
}

// The meter counts what clients send: connections, packets and bytes, by endpoint and in total.
func TestMeterCountsPackets(t *testing.T) {
	w := newWorld(t, lab.Config{})
	p := start(t, setup{detector: clusterCIDR})
	table, err := ipvs.Open()
	p.must(err)
	defer func() { p.must(table.Close()) }()
	meter := ipvsmode.Meter{Table: table}
	const connections = 7
	for n, proto := range protocols {
		svc := service(n, proto)
		p.set(svc, w.slices(svc.Name, proto, []endpoint{ready("pod1", true), ready("far1", false)})...)
		p.settle()
		for _, v6 := range []bool{false, true} {
			at := w.address(svc, toClusterIP, v6)
			fe := &plan.Frontend{Address: plan.Address{Addr: at.Addr(), Port: at.Port(), Protocol: proto}}
			for range connections {
				if a := w.Ask(context.Background(), w.host(fromPod), proto, at, lab.OwnPort()); a.Err != nil {
					t.Fatalf("%v: %v", fe.Address, a.Err)
				}
			}
			want := fmt.Sprintf("2 endpoints, %d connections, %[1]d tracked, packets and bytes both ways: true, the same in total: true", connections)
			got := ""
			for begin := time.Now(); got != want && time.Since(begin) < 10*time.Second; time.Sleep(100 * time.Millisecond) { // its own counts are older
				got = p.counted(meter, fe)
			}
			if got != want {
				t.Errorf("%v: %s, want %s", fe.Address, got, want)
			}
		}
	}
}

// counted tells what a meter has counted at a frontend with at least as many packets as connections.
func (p *proxy) counted(meter ipvsmode.Meter, fe *plan.Frontend) string {
	loads, err := meter.Loads(context.Background(), fe)
	p.must(err)
	totals, err := meter.Totals(context.Background())
	p.must(err)
	sum, tracked := ipvs.Counters{}, uint32(0)
	for _, l := range loads {
		sum, tracked = sum.Add(ipvs.Counters(l.Counters)), tracked+l.Active+l.Inactive
	}
	total := totals[fe.Address]
	return fmt.Sprintf("%d endpoints, %d connections, %d tracked, packets and bytes both ways: %v, the same in total: %v", len(loads), sum.Connections, tracked,
		sum.InPackets >= sum.Connections && sum.OutPackets >= sum.Connections && sum.InBytes > sum.InPackets && sum.OutBytes > sum.OutPackets,
		ipvs.Counters(total.Counters) == sum && total.Active+total.Inactive == tracked)
}
