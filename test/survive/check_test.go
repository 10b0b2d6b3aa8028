//go:build kernel

package survive

import (
	"encoding/json"
	"flag"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	nodecheck "kube-ipvs/internal/check"
)

var update = flag.Bool("update", false, "write what the subcommands print into the documentation")

// TestCheck examines good and broken nodes. Findings worse than a note are those that are expected, and gone when their cause is.
func TestCheck(t *testing.T) {
	w := newWorld(t)
	w.shell("sysctl -qw net/bridge/bridge-nf-call-iptables=1 net/bridge/bridge-nf-call-ip6tables=1")
	page := page{t, "../../docs/check.md"}
	before := w.kernel()
	page.keep("kube-ipvs check    # a new node", w.table(0))
	w.finds(0, "")
	if after := w.kernel(); after != before {
		t.Errorf("check changed the kernel.\nbefore:\n%s\nafter:\n%s", before, after)
	}

	for _, tt := range []struct {
		name, hand, back string
		status           int
		want             string // "CHECK SEVERITY FOUND", a line each, with the beginning of FOUND
	}{
		{"a setting", "sysctl -qw net/ipv4/vs/conntrack=0", "sysctl -qw net/ipv4/vs/conntrack=1", 0, ""},
		{"a read-only /proc/sys", "sysctl -qw net/ipv4/vs/conntrack=0; mount --bind /proc/sys /proc/sys; mount -o remount,bind,ro /proc/sys", "umount /proc/sys; sysctl -qw net/ipv4/vs/conntrack=1", 1,
			"settings error net/ipv4/vs/conntrack is 0, not 1, and cannot be written"},
		{"foreign rules at priorities 1 and 6", "ip rule add pref 1 fwmark 0x7/0x7 lookup 100; ip rule add pref 6 lookup 100", "ip rule del pref 1; ip rule del pref 6", 0,
			"routing warning this rule comes before all"},
		{"a foreign rule and route in tables of kube-ipvs", "ip rule add pref 200 lookup 7598; ip route add 192.0.2.0/24 dev lo table 7599", "ip rule del pref 200; ip route flush table 7599", 1,
			"routing error somebody's rule looks up a table of kube-ipvs\nrouting error somebody's route is in a table"},
		{"foreign marks", "iptables -t mangle -A PREROUTING -j MARK --set-xmark 0x1000/0x1000; ip rule add pref 300 fwmark 0x4000/0x4000 lookup 100", "iptables -t mangle -D PREROUTING 1; ip rule del pref 300", 0,
			"marks warning iptables chain PREROUTING of table mangle uses 0x1000\nmarks warning routing rule 300 uses 0x4000"},
		{"what kube-proxy left", "iptables -t nat -N KUBE-SERVICES; iptables -t nat -A KUBE-SERVICES -j RETURN; ipvsadm -A -t 10.96.99.1:80 -s rr", "iptables -t nat -F KUBE-SERVICES; iptables -t nat -X KUBE-SERVICES; ipvsadm -C", 0,
			"proxies warning 1 rule of kube-proxy\nproxies warning 1 virtual server of others"},
		{"bridged pods without iptables", "ip link add cni7 type bridge; ip address add 10.244.9.1/32 dev cni7; sysctl -qw net/bridge/bridge-nf-call-iptables=0",
			"sysctl -qw net/bridge/bridge-nf-call-iptables=1; ip link del cni7", 1, "bridge error pods on bridge cni7 get no answer"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w.shell(tt.hand)
			if strings.HasPrefix(tt.name, "what kube-proxy") || strings.HasPrefix(tt.name, "a foreign rule and") {
				page.keep("kube-ipvs check    # "+tt.name, worse(w.table(tt.status)))
			}
			w.finds(tt.status, tt.want)
			w.shell(tt.back)
			w.finds(0, "")
		})
	}
	t.Run("a port is taken", func(t *testing.T) {
		l, err := net.Listen("tcp", "127.0.0.1:10249")
		check(t, err)
		w.finds(1, "ports error survive.test listens on 127.0.0.1:10249")
		check(t, l.Close())
	})
	t.Run("a module is missing", func(t *testing.T) { w.missesModule(t, page) })
	w.start()
	w.settle()
	w.finds(0, "")
	w.terminate()
}

// missesModule examines a node without a module: there is a file of it, and then none.
func (w *world) missesModule(t *testing.T, page page) {
	w.shell("rmmod xt_NETMAP")
	defer w.shell("modprobe xt_NETMAP")
	n := nodecheck.NewNode("/proc/sys", nil)
	release := strings.TrimSpace(w.shell("uname -r"))
	n.Modules = t.TempDir()
	lists := filepath.Join(n.Modules, release)
	check(t, os.Mkdir(lists, 0o755))
	for _, name := range []string{"modules.builtin", "modules.dep"} {
		text, err := os.ReadFile(filepath.Join("/run/inkernel/modules/lib/modules", release, name))
		check(t, err)
		check(t, os.WriteFile(filepath.Join(lists, name), text, 0o644))
	}
	found := func() (out []nodecheck.Finding) {
		for _, f := range nodecheck.Run(t.Context(), n, nodecheck.Wanted{Modules: []string{"ip_vs", "xt_set", "xt_NETMAP"}}) {
			if f.Check == "modules" {
				out = append(out, f)
			}
		}
		return out
	}
	if got := found(); len(got) != 1 || got[0].Severity != nodecheck.Note || !strings.HasSuffix(got[0].Found, ": xt_NETMAP") {
		t.Errorf("not loaded: %+v", got)
	}
	dep := filepath.Join(lists, "modules.dep")
	text, err := os.ReadFile(dep)
	check(t, err)
	check(t, os.WriteFile(dep, []byte(strings.ReplaceAll(string(text), "xt_NETMAP.ko", "other.ko")), 0o644))
	got := found()
	if len(got) != 1 || got[0].Severity != nodecheck.Error {
		t.Errorf("missing: %+v", got)
	}
	var out strings.Builder
	check(t, nodecheck.Print(&out, got))
	page.keep("kube-ipvs check    # a missing module", out.String())
}

// table returns what check prints for people.
func (w *world) table(status int) string {
	w.t.Helper()
	return w.run(status, append([]string{"check"}, w.Args...)...)
}

// worse leaves out the lines of findings that are only ok or noted.
func worse(table string) string {
	var out strings.Builder
	keep := true
	for line := range strings.Lines(table) {
		if !strings.HasPrefix(line, " ") {
			severity := strings.Fields(line)[1]
			keep = severity != "ok" && severity != "note"
		}
		if keep {
			out.WriteString(line)
		}
	}
	return out.String()
}

// finds runs check and compares its findings that are worse than a note, a line each.
func (w *world) finds(status int, want string) {
	w.t.Helper()
	var report struct{ Findings []nodecheck.Finding }
	check(w.t, json.Unmarshal([]byte(w.run(status, append([]string{"check", "-o", "json"}, w.Args...)...)), &report))
	var got []string
	for _, f := range report.Findings {
		if f.Severity == nodecheck.OK || f.Severity == nodecheck.Note {
			continue
		}
		got = append(got, fmt.Sprintf("%s %s %s", f.Check, f.Severity, f.Found))
		if f.Do == "" {
			w.t.Errorf("there is nothing to do about %q", f.Found)
		}
	}
	lines := slices.DeleteFunc(strings.Split(want, "\n"), func(line string) bool { return line == "" })
	if !slices.EqualFunc(got, lines, strings.HasPrefix) {
		w.t.Errorf("found\n%s\nwant\n%s", strings.Join(got, "\n"), want)
	}
}

// changing matches parts of the output that depend on the machine and the moment.
var changing = regexp.MustCompile(`Linux [^ \n]+|\d+ possible CPUs|backend \w+|\d+ of \d+ connections \(\d+ %\), \d+ buckets`)

// A page of the documentation shows commands with their output, indented.
type page struct {
	t    *testing.T
	name string
}

// keep holds the output of a command to that in the page. With -update it writes it there.
func (p page) keep(command, output string) {
	p.t.Helper()
	text, err := os.ReadFile(p.name)
	check(p.t, err)
	before, rest, found := strings.Cut(string(text), "\n    $ "+command+"\n")
	if !found {
		p.t.Errorf("%s does not show %q", p.name, command)
		return
	}
	shown, after := "", rest
	for strings.HasPrefix(after, "    ") && !strings.HasPrefix(after, "    $ ") {
		line, more, _ := strings.Cut(after, "\n")
		shown, after = shown+line[4:]+"\n", more
	}
	if changing.ReplaceAllString(shown, "N") == changing.ReplaceAllString(output, "N") {
		return
	}
	if !*update {
		p.t.Errorf("%s: %s prints\n%s\nbut the page shows\n%s", p.name, command, output, shown)
		return
	}
	now := before + "\n    $ " + command + "\n"
	for line := range strings.Lines(output) {
		now += "    " + line
	}
	check(p.t, os.WriteFile(p.name, []byte(now+after), 0o644))
}
