//go:build kernel

package survive

import (
	"errors"
	"os/exec"
	"strings"
	"testing"
	"time"
)

// TestDiff lets the subcommand diff tell what a start would change: on a new node, on one where nothing changed, and after others
// changed this and that. It changes nothing itself, whether the program runs or not; and its commands, typed in a shell, do what a
// start does.
func TestDiff(t *testing.T) {
	w := newWorld(t)
	w.folder.put(service{n: 1}, w.endpoints("pod1", "pod2")...)
	w.folder.put(service{n: 2, local: true}, w.endpoints("pod1", "far1")...)
	w.folder.write("external.yaml", external)

	// A new node: all that a start makes. The shell makes it instead.
	whole := w.differs(differ)
	for _, part := range []string{"ipset create KIPVS-FRONTENDS ", "-restore --noflush <<EOF\n*raw\n", "ip link add kube-ipvs0 ", "ipvsadm -A -t 10.96.16.1:80 -s rr"} {
		if !strings.Contains(whole, part) {
			t.Errorf("%q is not in\n%s", part, whole)
		}
	}
	if again := w.run(differ, append([]string{"--dry-run"}, w.Args...)...); again != whole {
		t.Errorf("--dry-run prints other things than diff:\n%s", again)
	}
	w.shell(whole)
	if left := w.differs(same); left != "" {
		t.Fatalf("typed in a shell, it leaves\n%s", left)
	}
	typed := w.kernel()
	w.start()
	w.settle()
	if left := w.run(same, append([]string{"diff"}, w.Args...)...); left != "" {
		t.Errorf("beside the program it prints\n%s", left)
	}
	if now := w.still(2 * time.Second); now != typed {
		t.Errorf("what the shell made is not what the program has.\nshell:\n%s\nprogram:\n%s", typed, now)
	}
	w.terminate()

	page := page{t, "../../docs/check.md"}
	page.keep("kube-ipvs diff    # nothing has changed", w.differs(same))
	hands := "iptables -t nat -F KIPVS-OUTPUT; ipvsadm -d -t 10.96.16.1:80 -r " + w.Pod("pod1").Addr(false).String() + ":8080; ip rule del pref 92"
	w.shell(hands)
	shown := w.differs(differ)
	page.keep("kube-ipvs diff    # after: "+hands, shown)
	w.shell(shown)

	for _, tt := range []struct{ name, hand, want string }{
		{"the table is flushed", "ipvsadm -C", "ipvsadm -A -t 10.96.16.1:80 -s rr\n"},
		{"a weight", "ipvsadm -e -t 10.96.16.1:80 -r " + w.Pod("pod1").Addr(false).String() + ":8080 -m -w 7", "ipvsadm -e -t 10.96.16.1:80 -r " + w.Pod("pod1").Addr(false).String() + ":8080 -m -w 1\n"},
		{"the rules are flushed", "iptables -t mangle -F; iptables -F", "*mangle\n:KIPVS-PREROUTING - [0:0]\n"},
		{"one rule", "ip6tables -t nat -D KIPVS-OUTPUT 1", "*nat\n:KIPVS-OUTPUT - [0:0]\n"},
		{"the link", "ip link del kube-ipvs0", "ip route add local 10.96.0.0/12 dev kube-ipvs0 table local src 192.168.77.11 proto 175\n"},
		{"the link is down", "ip link set kube-ipvs0 down", "ip link set kube-ipvs0 up\n"},
		{"a routing rule", "ip rule del pref 92", "ip rule add pref 92 fwmark 0x1000/0x1000 lookup 7598 protocol 175\n"},
		{"a member", "ipset del KIPVS-FRONTENDS 10.96.16.1,tcp:80", "ipset add KIPVS-FRONTENDS 10.96.16.1,tcp:80 skbmark 0x4010/0x4010 -exist\n"},
		{"a setting", "sysctl -qw net/ipv4/vs/conntrack=0", "sysctl -w net/ipv4/vs/conntrack=1\n"},
		{"timeouts", "ipvsadm --set 900 0 0", "ipvsadm --set 86400 0 0\n"},
		{"a rule of others before its own", "iptables -I INPUT -s 192.0.2.1 -j DROP", "*filter\n-D INPUT -j KIPVS-INPUT\n-I INPUT -j KIPVS-INPUT\nCOMMIT\n"},
		{"objects of others", "ipset create OTHERS hash:ip; iptables -I FORWARD -s 192.0.2.1 -j DROP", ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w.shell(tt.hand)
			status := differ
			if tt.want == "" {
				status = same
			}
			commands := w.run(status, append([]string{"diff"}, w.Args...)...)
			if !strings.Contains(commands, tt.want) || tt.want == "" && commands != "" {
				t.Errorf("after %s it prints\n%s\nwant %q", tt.hand, commands, tt.want)
			}
			w.shell(commands) // a link that is down is there, and cannot be added, which does no harm
		})
	}
	if left := w.differs(same); left != "" {
		t.Errorf("all of it, typed in a shell, leaves\n%s", left)
	}
	if out := w.run(trouble, append([]string{"diff", "--nonsense"}, w.Args...)...); out != "" {
		t.Errorf("prints %s", out)
	}
	w.shell("ipset destroy OTHERS; iptables -D INPUT -s 192.0.2.1 -j DROP; iptables -D FORWARD -s 192.0.2.1 -j DROP")
}

// external is a Service with an address outside the cluster, without endpoints.
const external = `{apiVersion: v1, kind: Service, metadata: {name: external}, spec: {clusterIPs: [10.96.20.1], externalIPs: [203.0.113.9], ports: [{port: 80}]}}`

// The exit statuses of diff.
const (
	same    = 0
	differ  = 1
	trouble = 2
)

// differs runs diff, looks that nothing changes by it, and returns its commands.
func (w *world) differs(status int) string {
	w.t.Helper()
	before := w.kernel()
	out := w.run(status, append([]string{"diff"}, w.Args...)...)
	if after := w.kernel(); after != before {
		w.t.Errorf("diff changed the kernel.\nbefore:\n%s\nafter:\n%s", before, after)
	}
	return out
}

// run runs the program to its end and returns its output.
func (w *world) run(status int, args ...string) string {
	w.t.Helper()
	cmd := exec.Command(w.Path, args...)
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		w.t.Fatal(err)
	}
	if got := cmd.ProcessState.ExitCode(); got != status {
		w.t.Errorf("%s: exit status %d, want %d: %s", strings.Join(args[:1], " "), got, status, stderr.String())
	}
	return string(out)
}
