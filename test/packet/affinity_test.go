//go:build kernel

package packet

import (
	"context"
	"net/netip"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"kube-ipvs/internal/inet"
	"kube-ipvs/ipvs"
	"kube-ipvs/sync/loop"
	"kube-ipvs/test/lab"
)

// moveLimit is within what time a client must have moved when its endpoint is gone.
const moveLimit = time.Second

// A client stays with its endpoint as long as the endpoint is there and its time is not up. The time begins anew with each
// connection, and does not end before IPVS has forgotten the last one: the entry that remembers the client lives as long as
// those of its connections (n_control in ip_vs_conn_expire, net/netfilter/ipvs/ip_vs_conn.c).
func TestAffinity(t *testing.T) {
	st := newStage(t, setup{detector: clusterCIDR, lookInterval: loop.LookInterval})
	for _, proto := range []inet.Protocol{inet.TCP, inet.UDP} {
		hours := func(st *stage) { st.svc.Affinity = 3 * time.Hour }
		st.play(proto.String()+" stays", proto, (*stage).stays, hours)
		st.play(proto.String()+" moves", proto, (*stage).movesWithEndpoints, hours)
		st.play(proto.String()+" stays, Local", proto, (*stage).stays, hours, func(st *stage) { st.svc.ExternalLocal = true })
	}
	st.play("timeout", inet.TCP, (*stage).affinityTimeout, func(st *stage) { st.svc.Affinity = 12 * time.Second })
	st.play("change", inet.TCP, (*stage).affinityChanges)
	st.play("another time", inet.TCP, (*stage).affinityTimes)
	st.play("setting", inet.TCP, (*stage).affinitySetting, func(st *stage) { st.svc.Affinity = 3 * time.Hour })
}

// whoAnswers asks over a new connection.
func (st *stage) whoAnswers(from source, to netip.AddrPort) string {
	st.t.Helper()
	a := st.Ask(context.Background(), st.host(from), st.proto, to, lab.Wait(3*time.Second))
	st.must(a.Err)
	return a.Who
}

// sticks fails the test unless a client stays with an endpoint.
func (st *stage) sticks(from source, to netip.AddrPort, who string) {
	st.t.Helper()
	for range 2 * len(allReady) {
		if got := st.whoAnswers(from, to); got != who {
			st.t.Errorf("%s asked %v: %s answered, want %s", from, to, got, who)
		}
	}
}

func (st *stage) stays() {
	seen := map[string]bool{}
	for _, v6 := range []bool{false, true} {
		for _, to := range frontends {
			for _, from := range []source{fromPod, fromNode, fromOutside} {
				at := st.address(st.svc, to, v6)
				who := st.whoAnswers(from, at)
				st.sticks(from, at, who)
				seen[who] = true
			}
		}
	}
	if len(seen) < 2 {
		st.t.Errorf("all clients are with %v", seen)
	}
}

// movesWithEndpoints lets the endpoint of a client go in every way.
func (st *stage) movesWithEndpoints() {
	for what, as := range map[string]func(string, bool) endpoint{"terminates": going, "is unready": down, "is removed": nil} {
		for _, v6 := range []bool{false, true} {
			at := st.frontend(v6)
			who := st.whoAnswers(fromPod, at)
			to := without(who)
			if as != nil {
				to = append(to, state(who, as))
			}
			begin, failed := time.Now(), 0
			st.change(to...)
			for moved := false; !moved && time.Since(begin) < 10*moveLimit; {
				a := st.Ask(context.Background(), st.host(fromPod), st.proto, at, lab.Wait(moveLimit/4))
				moved = a.Err == nil && a.Who != who
				if a.Err != nil {
					failed++
				}
			}
			took := time.Since(begin)
			st.t.Logf("%s: a client moved after %v, %d lost", what, took.Round(time.Millisecond), failed)
			if took > moveLimit || failed > 1 || failed > 0 && st.proto == inet.TCP {
				st.t.Errorf("want %v at most, and one datagram or no connection lost", moveLimit)
			}
			st.sticks(fromPod, at, st.whoAnswers(fromPod, at))
			st.endpoints(allReady...)
		}
	}
}

// affinityTimeout asks often enough to stay, and then not. The connections are reset, so that IPVS forgets them after ten
// seconds (tcp_timeouts in ip_vs_proto_tcp.c): where it still knows one when the time is up, it looks again after a minute.
func (st *stage) affinityTimeout() {
	at := st.frontend(false)
	port := uint16(firstPort)
	ask := func() string {
		port++
		a := st.Ask(context.Background(), st.host(fromPod), st.proto, at, lab.Wait(3*time.Second), lab.From(netip.AddrPortFrom(netip.Addr{}, port)))
		st.must(a.Err)
		return a.Who
	}
	who := ask()
	for range 2 {
		time.Sleep(st.svc.Affinity * 2 / 3)
		if got := ask(); got != who {
			st.t.Errorf("%s answered within the time, want %s", got, who)
		}
	}
	time.Sleep(st.svc.Affinity + 2*time.Second)
	if got := ask(); got == who { // it is somebody else's turn
		st.t.Errorf("%s answered when the time was up, want somebody else", got)
	}
}

// affinityChanges turns affinity on, changes its time and turns it off, all while a connection goes on.
func (st *stage) affinityChanges() {
	at := st.frontend(false)
	c := st.dial(fromPod, at)
	for _, affinity := range []time.Duration{3 * time.Second, 3 * time.Hour, time.Minute, 0} {
		st.svc.Affinity = affinity
		st.endpoints(allReady...)
		entry, err := st.cfg.IPVS.ReadServer(context.Background(), ipvs.AddrKey(st.proto, at))
		st.must(err)
		if want := uint32(affinity.Seconds()); entry.Server.Timeout != want || len(entry.Reals) != len(allReady) {
			st.t.Errorf("affinity %v: %v with %d endpoints", affinity, entry.Server, len(entry.Reals))
		}
		st.holds(c)
		if affinity != 0 {
			st.sticks(fromPod, at, st.whoAnswers(fromPod, at))
		}
	}
	seen := map[string]bool{}
	for range 2 * len(allReady) {
		seen[st.whoAnswers(fromPod, at)] = true
	}
	if len(seen) != len(allReady) {
		st.t.Errorf("without affinity: a client was with %v, want all", seen)
	}
}

// affinityTimes shortens the time and makes it longer. A client that was there before keeps its endpoint and its old time: IPVS sets it
// when it remembers the client (ip_vs_sched_persist in net/netfilter/ipvs/ip_vs_core.c) and has no means to change it later, also not
// by turning affinity off in between. Clients that come after the change have the new time.
func (st *stage) affinityTimes() {
	const long, short = 3 * time.Hour, time.Minute
	at := st.frontend(false)
	times := func(affinity time.Duration, want map[source]time.Duration) {
		st.svc.Affinity = affinity
		st.endpoints(allReady...)
		for from, limit := range want {
			st.sticks(from, at, st.whoAnswers(from, at))
			left := st.remembered(st.host(from).Addr(false), at)
			st.t.Logf("affinity %v: %s is remembered for %v", affinity, from, left)
			if left > limit || left < limit-30*time.Second {
				st.t.Errorf("want %v", limit)
			}
		}
	}
	times(long, map[source]time.Duration{fromPod: long})
	who := st.whoAnswers(fromPod, at)
	times(short, map[source]time.Duration{fromPod: long, fromFarPod: short})
	times(0, nil)
	times(short, map[source]time.Duration{fromPod: long, fromFarPod: short})
	if got := st.whoAnswers(fromPod, at); got != who {
		st.t.Errorf("%s answers, want %s as before", got, who)
	}
	times(long, map[source]time.Duration{fromFarPod: short, fromOutside: long})
}

// remembered returns for how long IPVS remembers a client's endpoint.
func (st *stage) remembered(client netip.Addr, at netip.AddrPort) time.Duration {
	st.t.Helper()
	conns, err := os.ReadFile("/proc/net/ip_vs_conn")
	st.must(err)
	for line := range strings.Lines(string(conns)) {
		f := strings.Fields(line)
		if len(f) > 8 && f[1] == inProc(client) && f[2] == "0000" && f[3] == inProc(at.Addr()) {
			seconds, err := strconv.Atoi(f[8])
			st.must(err)
			return time.Duration(seconds) * time.Second
		}
	}
	st.t.Errorf("%v is not remembered", client)
	return 0
}

// affinitySetting flips the setting by which IPVS lets go of clients back by hand.
func (st *stage) affinitySetting() {
	const setting = "/proc/sys/net/ipv4/vs/expire_quiescent_template"
	st.must(os.WriteFile(setting, []byte("0"), 0))
	begin := time.Now()
	for time.Since(begin) < 20*time.Second {
		if text, err := os.ReadFile(setting); err == nil && string(text) == "1\n" {
			break
		}
		time.Sleep(20 * time.Millisecond)
	}
	took := time.Since(begin)
	st.t.Logf("the setting was as wanted again after %v", took.Round(10*time.Millisecond))
	if took > leaveLimit {
		st.t.Errorf("that is more than %v", leaveLimit)
	}
}
