//go:build kernel

package packet

import (
	"context"
	"errors"
	"net/netip"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"kube-ipvs/internal/inet"
	"kube-ipvs/ipvs"
	"kube-ipvs/test/lab"
)

// refusalLimit is within what time a connection is refused, and synAgain when a SYN that is not answered is sent again.
const (
	refusalLimit = 100 * time.Millisecond
	synAgain     = time.Second
)

// A Service that has nobody for new connections refuses them at once, wherever it is asked, and IPVS is not asked: it would write a line
// into the kernel's log, for each.
func TestRefusals(t *testing.T) {
	for _, tt := range []struct {
		mode string
		bind bool
	}{{"divert", false}, {"bind", true}} {
		t.Run(tt.mode, func(t *testing.T) {
			st := newStage(t, setup{detector: clusterCIDR, bind: tt.bind})
			for _, proto := range protocols {
				st.play("no endpoints, "+proto.String(), proto, func(st *stage) {
					st.endpoints()
					st.refuses()
				})
			}
			for _, proto := range []inet.Protocol{inet.TCP, inet.SCTP} {
				st.play("endpoints that drain, "+proto.String(), proto, (*stage).refusesWhileDraining)
			}
			st.play("the log", inet.TCP, (*stage).complains)
		})
	}
}

// refuses asks from everywhere at everything. An ICMP message, which is all that others than TCP get, may be one too many a second.
func (st *stage) refuses() {
	st.t.Helper()
	st.must(clearKernelLog())
	slowest := time.Duration(0)
	for _, v6 := range []bool{false, true} {
		for _, to := range frontends {
			for _, from := range []source{fromPod, fromNode, fromOutside} {
				at := st.address(st.svc, to, v6)
				least, most, fates := st.refusal(from, at)
				slowest = max(slowest, most)
				if st.proto == inet.TCP && (least > refusalLimit || most >= synAgain || fates != "refused") || strings.Contains(fates, "answered") {
					st.t.Errorf("%s to %v: %s after %v to %v, want it refused within %v", from, at, fates, least, most, refusalLimit)
				}
			}
		}
	}
	st.t.Logf("the slowest took %v", slowest.Round(time.Millisecond))
	for _, line := range st.complaints() {
		st.t.Errorf("in the kernel's log: %s", line)
	}
}

// refusal returns what came of three requests, and after what times at least and at most: the machine may be busy.
func (st *stage) refusal(from source, at netip.AddrPort) (least, most time.Duration, fates string) {
	wait := 3 * time.Second
	if st.proto != inet.TCP {
		wait = 100 * time.Millisecond
	}
	least = wait
	for range 3 {
		begin := time.Now()
		a := st.Ask(context.Background(), st.host(from), st.proto, at, lab.Wait(wait))
		took := time.Since(begin)
		least, most = min(least, took), max(most, took)
		if f := fate(a); !strings.Contains(fates, f) {
			fates = strings.TrimPrefix(fates+", "+f, ", ")
		}
	}
	return least, most, fates
}

// refusesWhileDraining leaves each virtual server an endpoint of weight 0, which keeps its connections.
func (st *stage) refusesWhileDraining() {
	st.endpoints(ready("pod1", true))
	var lines []line
	for _, v6 := range []bool{false, true} {
		for _, to := range frontends {
			lines = append(lines, st.dial(fromOutside, st.address(st.svc, to, v6)))
		}
	}
	st.endpoints(state("pod1", down))
	if r, ok := st.look(st.real("pod1", false)); !ok || r.Weight != 0 {
		st.t.Errorf("pod1 is %+v, %v; want weight 0", r, ok)
	}
	st.refuses()
	for _, c := range lines {
		st.holds(c)
	}
}

// complains lets IPVS complain, of a virtual server that is none of ours: what would be in the log is seen.
func (st *stage) complains() {
	at := netip.AddrPortFrom(st.Node.Addr(false), 39999)
	key := ipvs.AddrKey(inet.TCP, at)
	st.must(clearKernelLog())
	st.must(errors.Join(st.cfg.IPVS.Do(context.Background(), []ipvs.Op{{Verb: ipvs.AddServer, Key: key, Server: ipvs.Server{Scheduler: "rr"}}})...))
	st.Ask(context.Background(), st.Client, inet.TCP, at, lab.Wait(time.Second))
	st.must(errors.Join(st.cfg.IPVS.Do(context.Background(), []ipvs.Op{{Verb: ipvs.DelServer, Key: key}})...))
	if got := st.complaints(); len(got) == 0 {
		st.t.Error("IPVS had no server to choose, and nothing is in the kernel's log")
	}
}

// Commands of syslog(2).
const (
	readLog  = 3
	clearLog = 5
)

// clearKernelLog hides what is in the kernel's log by now.
func clearKernelLog() error {
	_, err := unix.Klogctl(clearLog, nil)
	return err
}

// complaints are the lines of the kernel's log in which IPVS finds no server.
func (st *stage) complaints() (out []string) {
	st.t.Helper()
	log := make([]byte, 1<<20)
	n, err := unix.Klogctl(readLog, log)
	st.must(err)
	for line := range strings.Lines(string(log[:n])) {
		if strings.Contains(line, "no destination available") {
			out = append(out, strings.TrimSpace(line))
		}
	}
	return out
}
