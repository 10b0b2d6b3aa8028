//go:build kernel

package survive

import (
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// strangers is what others have on a node, some of it as close to ours as it can be: in the range of cluster IPs' node
// ports, with marks, names, addresses, routes and rules that look like ours.
var strangers = [][2]string{
	// What makes it, and what removes it.
	{"ipvsadm -A -t 192.168.77.11:9999 -s wlc; ipvsadm -a -t 192.168.77.11:9999 -r 10.244.1.11:8080 -m -w 3", "ipvsadm -D -t 192.168.77.11:9999"},
	{"ipvsadm -A -u [fd00:192:168:77::11]:9999 -s sh -p 60", "ipvsadm -D -u [fd00:192:168:77::11]:9999"},
	{"ipvsadm -A -f 77 -s rr; ipvsadm -a -f 77 -r 10.244.1.12:8080 -m", "ipvsadm -D -f 77"},
	{"ipvsadm -A -t 255.0.2.77:9999 -s wrr", "ipvsadm -D -t 255.0.2.77:9999"}, // where aliases are
	{"ipvsadm -A -f 78 -6 -s rr", "ipvsadm -D -f 78 -6"},
	{"ipset create OTHERS hash:ip; ipset add OTHERS 192.0.2.1", "ipset destroy OTHERS"},
	{"ipset create MY-KIPVS-FRONTENDS hash:ip,port; ipset add MY-KIPVS-FRONTENDS 192.0.2.1,tcp:80", "ipset destroy MY-KIPVS-FRONTENDS"},
	{"ip link add other0 type dummy; ip link set other0 up; ip addr add 10.96.200.1/32 dev other0; ip addr add fd00:10:96::c801/128 dev other0", "ip link del other0"},
	{"ip route add 10.97.5.0/24 dev other0; ip route add 192.0.2.0/24 dev other0 table 100", "ip route flush table 100"},
	{"ip rule add pref 100 fwmark 0x77 lookup 100; ip -6 rule add pref 6 fwmark 0x8000/0x8000 lookup 101; ip rule add pref 4 goto 100", "ip rule del pref 4 goto 100; ip rule del pref 100; ip -6 rule del pref 6 lookup 101"},
	{"iptables -t mangle -N OTHERS; iptables -t mangle -A OTHERS -d 192.0.2.3 -j MARK --set-xmark 0x77/0xff; iptables -t mangle -A PREROUTING -j OTHERS", "iptables -t mangle -D PREROUTING -j OTHERS; iptables -t mangle -F OTHERS; iptables -t mangle -X OTHERS"},
	{"iptables -t nat -N MY-KIPVS-CHAIN; iptables -t nat -A POSTROUTING -s 192.0.2.4 -j MASQUERADE", "iptables -t nat -X MY-KIPVS-CHAIN; iptables -t nat -D POSTROUTING -s 192.0.2.4 -j MASQUERADE"},
	{"iptables -A FORWARD -s 192.0.2.5 -j DROP; iptables -I INPUT -s 192.0.2.6 -j DROP; ip6tables -A OUTPUT -d 2001:db8::6 -j DROP", "iptables -D FORWARD -s 192.0.2.5 -j DROP; iptables -D INPUT -s 192.0.2.6 -j DROP; ip6tables -D OUTPUT -d 2001:db8::6 -j DROP"},
}

// TestStrangers lets the program run, die, start again and clean up among others' virtual servers, sets, chains,
// addresses, routes, rules and marks. None of them is touched, and nothing else stays.
func TestStrangers(t *testing.T) {
	for _, mode := range []string{"divert", "bind"} {
		t.Run(mode, func(t *testing.T) {
			w := newWorld(t)
			w.Args = append(w.Args, "--vip-mode="+mode)
			for _, s := range strangers {
				w.shell("set -e; " + s[0])
				defer exec.Command("sh", "-c", s[1]).Run()
			}
			before := w.kernel()
			for n := range 20 {
				w.folder.put(service{n: n, local: n%2 == 0}, w.endpoints("pod1", "far1")...)
			}
			w.start()
			w.settle()
			w.stand(before)
			w.kill()
			for n := range 10 {
				w.folder.remove(service{n: n}.file())
			}
			w.start()
			w.settle()
			w.stand(before)
			time.Sleep(2 * time.Second)
			w.terminate()
			w.stand(before)
			w.clean()
			if diff := cmp.Diff(before, w.kernel()); diff != "" {
				t.Errorf("others' things before the program and after its clean-up (-before +after):\n%s", diff)
			}
		})
	}
}

// stand fails the test unless every line of what others had is there.
func (w *world) stand(before string) {
	w.t.Helper()
	now := map[string]int{}
	for line := range strings.Lines(w.kernel()) {
		now[line]++
	}
	for line := range strings.Lines(before) {
		if now[line]--; now[line] < 0 {
			w.t.Errorf("gone while the program runs: %s", line)
		}
	}
}
