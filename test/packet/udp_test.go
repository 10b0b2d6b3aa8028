//go:build kernel

package packet

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"kube-ipvs/internal/inet"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// A client that keeps its port stays with an endpoint that still serves. It is served by another one soon after its own serves no more,
// wherever it is and whatever it asks, and no other client notices.
func TestUDP(t *testing.T) {
	st := newStage(t, setup{detector: clusterCIDR})
	const strangers = 5000
	st.must(addStrangers(strangers))
	defer func() { st.must(netlink.ConntrackTableFlush(netlink.ConntrackTable)) }()
	local := func(st *stage) { st.svc.ExternalLocal = true }
	sticky := func(st *stage) { st.svc.Affinity = 3 * time.Hour }
	st.play("cluster IP", inet.UDP, func(st *stage) { st.moveTalkers(toClusterIP, false) })
	st.play("node port, IPv6", inet.UDP, func(st *stage) { st.moveTalkers(toNodePort, true) })
	st.play("node port, Local", inet.UDP, func(st *stage) { st.moveTalkers(toNodePort, false) }, local)
	st.play("external IP, Local, IPv6", inet.UDP, func(st *stage) { st.moveTalkers(toExternalIP, true) }, local)
	st.play("cluster IP, affinity", inet.UDP, func(st *stage) { st.moveTalkers(toClusterIP, false) }, sticky)
	st.play("node port, older than the Service", inet.UDP, func(st *stage) { st.awaitService(toNodePort) })
	st.play("external IP, older than the Service", inet.UDP, func(st *stage) { st.awaitService(toExternalIP) })
	left := 0
	for _, f := range st.tracked() {
		if f.Forward.DstIP.Equal(strangerFrontend.Addr().AsSlice()) {
			left++
		}
	}
	t.Logf("%d flows of others are left of %d", left, strangers)
	if left != strangers {
		t.Error("that is not all")
	}
}

// A phase is a time in which one endpoint, all or none went away, or all came back.
type phase struct {
	what, pod  string
	begin, end time.Time
	none, back bool
}

// mostLost is how many datagrams a client may lose that moves: one whose answer finds the way back forgotten, and one that
// finds the old way without an endpoint. Where the way takes less than the time between two, it is one of them.
const mostLost = 2

// phaseTime is how long clients talk after a change.
const phaseTime = 1500 * time.Millisecond

// onTheWay is how long a datagram and its answer may take on a busy machine. What is sent so shortly before a change is not
// judged.
const onTheWay = 200 * time.Millisecond

// moveTalkers lets endpoints go while clients talk to them from everywhere.
func (st *stage) moveTalkers(to frontend, v6 bool) {
	var talkers []*talker
	for _, from := range []source{fromPod, fromNode, fromOutside} {
		talker, err := talk(string(from), st.host(from), st.address(st.svc, to, v6))
		st.must(err)
		st.t.Cleanup(func() { talker.conn.Close() })
		talkers = append(talkers, talker)
	}
	time.Sleep(phaseTime)
	var phases []phase
	for _, p := range []struct {
		phase
		to []endpoint
	}{
		{phase{what: "pod1 terminates, and serves"}, without("pod1", state("pod1", going))},
		{phase{what: "pod1 serves no more", pod: "pod1"}, without("pod1", state("pod1", down))},
		{phase{what: "pod2 is unready, pod1 is back", pod: "pod2"}, without("pod2", state("pod2", down))},
		{phase{what: "far1 is removed", pod: "far1"}, without("far1")},
		{phase{what: "all are removed", none: true}, nil},
		{phase{what: "all are back", back: true}, allReady},
		{phase{what: "pod1 terminates, and serves"}, without("pod1", state("pod1", going))},
		{phase{what: "pod1 is removed", pod: "pod1"}, without("pod1")},
		{phase{what: "pod2 is removed, pod1 is back", pod: "pod2"}, without("pod2")},
	} {
		p.begin = time.Now()
		st.change(p.to...)
		time.Sleep(phaseTime)
		p.end = time.Now().Add(-onTheWay)
		phases = append(phases, p.phase)
		if p.pod != "" {
			st.clean(p.pod)
		} else if p.none {
			st.clean(serving...)
		}
	}
	time.Sleep(time.Second) // the last answers may be on their way
	for _, talker := range talkers {
		st.must(talker.close())
	}
	for _, p := range phases {
		st.judgePhase(p, talkers)
	}
	st.remove(st.svc.Name)
	st.settle()
	st.clean(serving...)
}

// awaitService lets a client outside and a pod talk to an address before a Service is there, and go on. Its endpoint is
// on another node: what is not masqueraded does not come back.
func (st *stage) awaitService(to frontend) {
	st.remove(st.svc.Name)
	st.settle()
	var talkers []*talker
	for _, from := range []source{fromOutside, fromPod} {
		talker, err := talk(string(from), st.host(from), st.address(st.svc, to, false))
		st.must(err)
		st.t.Cleanup(func() { talker.conn.Close() })
		talkers = append(talkers, talker)
	}
	time.Sleep(phaseTime)
	begin := time.Now()
	st.change(ready("far1", false))
	time.Sleep(moveLimit + phaseTime)
	end := time.Now().Add(-onTheWay)
	time.Sleep(time.Second) // the last answers may be on their way
	for _, talker := range talkers {
		st.must(talker.close())
		r, first := talker.between(begin.Add(moveLimit), end, true), talker.between(begin, end, true)
		st.t.Logf("%s is answered after %v", talker.name, first.moved.Round(time.Millisecond))
		if r.by["far1"] == 0 || r.lost > 0 {
			st.t.Errorf("%s: a second after the Service came: %+v", talker.name, r)
		}
	}
}

// judgePhase says who moved when, and what was lost.
func (st *stage) judgePhase(p phase, talkers []*talker) {
	moved, lost, sent, slowest := 0, 0, 0, time.Duration(0)
	for _, talker := range talkers {
		r := talker.between(p.begin, p.end, p.back)
		sent += r.sent
		concerned := p.back || p.pod != "" && r.before == p.pod
		switch {
		case p.none:
			continue // to be refused is all that clients can have
		case p.back:
			r.lost = r.later
		}
		lost += r.lost
		late := concerned && (r.moved == 0 || r.moved > time.Second || r.last == p.pod)
		noticed := !concerned && (r.moved > 0 || r.lost > 0)
		if late || noticed || r.lost > mostLost {
			st.t.Errorf("%s: %s: concerned=%v %+v", p.what, talker.name, concerned, r)
		}
		if r.moved > 0 {
			moved++
			slowest = max(slowest, r.moved)
		}
	}
	st.t.Logf("%s: %d of %d clients moved, the slowest after %v; %d of %d datagrams lost", p.what, moved, len(talkers),
		slowest.Round(time.Millisecond), lost, sent)
}

// clean fails the test if flows of the Service still go to pods, in one of the kernel's tables, after the second that a
// client has to move. IPVS lets go of connections a moment later than of their real server (expire_nodest_conn_work).
func (st *stage) clean(pods ...string) {
	st.t.Helper()
	var left []string
	for end := time.Now().Add(moveLimit); ; time.Sleep(20 * time.Millisecond) {
		if left = st.flowsTo(pods); len(left) == 0 || time.Now().After(end) {
			break
		}
	}
	for _, flow := range left {
		st.t.Error(flow)
	}
}

// flowsTo describes the Service's flows of UDP that still go to pods. A test before may have left closed connections over TCP to the same
// node port.
func (st *stage) flowsTo(pods []string) (out []string) {
	st.t.Helper()
	conns, err := os.ReadFile("/proc/net/ip_vs_conn")
	st.must(err)
	flows := st.tracked()
	for _, pod := range pods {
		for _, v6 := range []bool{false, true} {
			addr := st.Pod(pod).Addr(v6)
			for line := range bytes.Lines(conns) {
				if f := bytes.Fields(line); len(f) > 6 && string(f[0]) == "UDP" && string(f[5]) == inProc(addr) {
					out = append(out, fmt.Sprintf("%s still has a connection in IPVS: %s", pod, bytes.TrimSpace(line)))
				}
			}
			to := st.frontends(v6)
			for _, f := range flows {
				if f.Forward.Protocol != unix.IPPROTO_UDP {
					continue
				}
				dst, _ := netip.AddrFromSlice(f.Forward.DstIP)
				if f.Reverse.SrcIP.Equal(addr.AsSlice()) && slices.Contains(to, netip.AddrPortFrom(dst.Unmap(), f.Forward.DstPort)) {
					out = append(out, fmt.Sprintf("%s still has a tracked flow: %v", pod, f))
				}
			}
		}
	}
	return out
}

// frontends is where the Service is reached.
func (st *stage) frontends(v6 bool) []netip.AddrPort {
	var out []netip.AddrPort
	for _, to := range []frontend{toClusterIP, toNodePort, toExternalIP, toLoadBalancer} {
		out = append(out, st.address(st.svc, to, v6))
	}
	return out
}

// inProc is an address as /proc/net/ip_vs_conn writes it.
func inProc(a netip.Addr) string {
	if a.Is4() {
		return strings.ToUpper(hex.EncodeToString(a.AsSlice()))
	}
	return a.StringExpanded()
}

var strangerFrontend = netip.MustParseAddrPort("10.96.200.200:53")

// addStrangers tracks flows that are none of ours, to the address and port of an endpoint.
func addStrangers(n int) error {
	h, err := netlink.NewHandle(unix.NETLINK_NETFILTER)
	if err != nil {
		return err
	}
	defer h.Close()
	server := netip.MustParseAddrPort("10.244.1.11:8080")
	for i := range n {
		client := netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 9, byte(i >> 8), byte(i)}), 4000)
		err := h.ConntrackCreate(netlink.ConntrackTable, unix.AF_INET, &netlink.ConntrackFlow{
			FamilyType: unix.AF_INET, TimeOut: 900, Forward: tuple(client, strangerFrontend), Reverse: tuple(server, client),
		})
		if err != nil {
			return fmt.Errorf("track a flow: %w", err)
		}
	}
	return nil
}

func tuple(from, to netip.AddrPort) netlink.IPTuple {
	return netlink.IPTuple{
		Protocol: unix.IPPROTO_UDP, SrcIP: from.Addr().AsSlice(), SrcPort: from.Port(), DstIP: to.Addr().AsSlice(), DstPort: to.Port(),
	}
}

// tracked lists the tracked flows.
func (st *stage) tracked() []*netlink.ConntrackFlow {
	st.t.Helper()
	v4, err := netlink.ConntrackTableList(netlink.ConntrackTable, unix.AF_INET)
	st.must(err)
	v6, err := netlink.ConntrackTableList(netlink.ConntrackTable, unix.AF_INET6)
	st.must(err)
	return append(v4, v6...)
}
