//go:build kernel && compare

// Package takeover takes a node over from kube-proxy and hands it back, both real programs on one kernel, while clients keep
// their connections and open new ones all the time.
package takeover

import (
	"context"
	"flag"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"kube-ipvs/internal/inet"
	"kube-ipvs/sync/plan"
	"kube-ipvs/test/child"
	"kube-ipvs/test/kubeproxy"
	"kube-ipvs/test/lab"
	"kube-ipvs/test/wire"
)

var (
	programs = flag.String("programs", "../../.bin", "the directory of kube-ipvs and kube-proxy")
	every    = flag.Duration("every", 10*time.Millisecond, "how often a new connection begins")
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// podPorts are where every pod serves.
var podPorts = map[inet.Protocol]uint16{inet.TCP: 8080, inet.UDP: 8081, inet.SCTP: 8082}

// patience is how long a proxy may take to start: in the emulated machine that alone may be more than a minute.
const patience = 5 * time.Minute

// A world is a laboratory with an API server for both proxies, and Services in it.
type world struct {
	*lab.Lab
	t        *testing.T
	api      *kubeproxy.API
	services []plan.Service
	proxy    *kubeproxy.Proxy // of Kubernetes; nil: it does not run
	ours     child.Program
}

// newWorld returns a world in which no proxy runs.
func newWorld(t *testing.T) *world {
	t.Helper()
	w := &world{t: t}
	var err error
	w.Lab, err = lab.New(lab.Config{
		Pods: []string{"pod1", "pod2", "asker"}, RemotePods: []string{"far1"}, RemoteServices: true, Forward: true, NotCounting: true,
	})
	w.must(err)
	t.Cleanup(func() { w.must(w.Lab.Close()) })
	for _, pod := range []string{"pod1", "pod2", "far1"} {
		for proto, port := range podPorts {
			_, err := w.Serve(w.Pod(pod), proto, port, pod)
			w.must(err)
		}
	}
	w.api, err = kubeproxy.NewAPI()
	w.must(err)
	t.Cleanup(func() { w.must(w.api.Close()) })
	w.must(w.api.Set(
		kubeproxy.Node("node1", w.Node.Addr(false), w.Node.Addr(true)),
		kubeproxy.ServiceCIDR(lab.Services[0].Prefix(false), lab.Services[0].Prefix(true)),
	))
	for n, kind := range kinds {
		w.addService(n, kind)
	}
	w.ours = child.Program{Path: w.program("kube-ipvs"), Log: filepath.Join(t.TempDir(), "kube-ipvs"), Args: []string{
		"--master=" + w.api.URL(), "--kube-api-content-type=application/json", "--hostname-override=node1",
		"--cluster-cidr=" + wire.PodCIDRs[0].String() + "," + wire.PodCIDRs[1].String(), "--v=1",
		"--ipvs-udp-timeout=10s", // a hand-back waits for the end of UDP's connections, too
		"--ipvs-exclude-cidrs=" + strangers.String(),
	}}
	t.Cleanup(w.clean)
	return w
}

// strangers are addresses of virtual servers that no proxy made.
var strangers = netip.MustParsePrefix("203.0.113.240/28")

// A kind is what is special about a Service.
type kind struct {
	name      string
	local     bool // external traffic policy
	affinity  bool
	ranged    bool // its load balancer is for the outside alone
	protocols []inet.Protocol
}

var kinds = []kind{
	{name: "cluster", protocols: []inet.Protocol{inet.TCP, inet.UDP, inet.SCTP}},
	{name: "local", local: true, protocols: []inet.Protocol{inet.TCP, inet.UDP}},
	{name: "sticky", affinity: true, protocols: []inet.Protocol{inet.TCP}},
	{name: "ranged", ranged: true, protocols: []inet.Protocol{inet.TCP}},
}

// addService adds the n-th Service, with addresses of every kind in both families.
func (w *world) addService(n int, k kind) {
	w.t.Helper()
	svc := plan.Service{Name: plan.Name{Namespace: "test", Name: k.name}, ExternalLocal: k.local}
	for _, proto := range k.protocols {
		svc.Ports = append(svc.Ports, plan.Port{Name: proto.String(), Proto: proto, Port: 80, NodePort: uint16(30000 + n)})
	}
	if k.local {
		svc.HealthCheckNodePort = 31999
	}
	if k.affinity {
		svc.Affinity = 3 * time.Hour
	}
	if k.ranged {
		svc.SourceRanges = []netip.Prefix{lab.Outside.Prefix(false), lab.Outside.Prefix(true)}
	}
	for _, v6 := range []bool{false, true} {
		nth := func(network lab.Network, i byte) netip.Addr {
			raw := network.Prefix(v6).Addr().AsSlice()
			raw[len(raw)-1] += i + byte(n)
			a, _ := netip.AddrFromSlice(raw)
			return a
		}
		svc.ClusterIPs = append(svc.ClusterIPs, nth(lab.Services[0], 10))
		svc.ExternalIPs = append(svc.ExternalIPs, nth(lab.Services[1], 10))
		svc.LoadBalancerIPs = append(svc.LoadBalancerIPs, nth(lab.Services[1], 20))
		slice := plan.Slice{Service: svc.Name}
		for _, proto := range k.protocols {
			slice.Ports = append(slice.Ports, plan.SlicePort{Name: proto.String(), Proto: proto, Port: podPorts[proto]})
		}
		for pod, node := range map[string]string{"pod1": "node1", "pod2": "node1", "far1": "node2"} {
			slice.Endpoints = append(slice.Endpoints, plan.Endpoint{Addr: w.Pod(pod).Addr(v6), Node: node, Ready: true, Serving: true})
		}
		object, _ := kubeproxy.Slice(map[bool]int{true: 1}[v6], slice)
		w.must(w.api.Set(object))
	}
	w.services = append(w.services, svc)
	w.must(w.api.Set(kubeproxy.Service(svc)))
}

// startKubeProxy starts kube-proxy, with more variables in its environment, and returns when it serves all Services.
func (w *world) startKubeProxy(mode string, env ...string) {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	var err error
	w.proxy, err = kubeproxy.Start(ctx, w.api, kubeproxy.Config{
		Program: w.program("kube-proxy"), Mode: mode, Node: "node1", ClusterCIDRs: wire.PodCIDRs, Env: env,
		Flags: []string{"--ipvs-exclude-cidrs=" + strangers.String()}, Log: filepath.Join(w.t.TempDir(), "kube-proxy"),
	})
	w.must(err)
}

// A script stands in for a program of kube-proxy's.
type script struct{ name, text string }

// noModules loads no modules, as in a container without /lib/modules: kube-proxy's nftables mode does not flush IPVS then.
var noModules = script{"modprobe", "exit 1"}

// lateIPv6 lets the rules of IPv6 come long after those of IPv4, as they do on a busy node.
func lateIPv6(program string) script {
	return script{program, `sleep 6; PATH=${PATH#*:}; exec ` + program + ` "$@"`}
}

// path is the environment of a process that finds these scripts first.
func (w *world) path(scripts ...script) string {
	w.t.Helper()
	dir := w.t.TempDir()
	for _, s := range scripts {
		w.must(os.WriteFile(filepath.Join(dir, s.name), []byte("#!/bin/sh\n"+s.text+"\n"), 0o755))
	}
	return "PATH=" + dir + ":" + os.Getenv("PATH")
}

func (w *world) stopKubeProxy() {
	w.t.Helper()
	w.must(w.proxy.Stop())
	w.proxy = nil
}

// startOurs starts kube-ipvs and does not wait for it.
func (w *world) startOurs() {
	w.t.Helper()
	w.must(w.ours.Start())
}

func (w *world) stopOurs() {
	w.t.Helper()
	w.must(w.ours.Stop())
}

// until waits until something holds of a kube-ipvs that runs.
func (w *world) until(what string, holds func() bool) {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if err := w.ours.Until(ctx, 50*time.Millisecond, holds); err != nil {
		w.t.Fatalf("%s: %v\n%v", what, err, w.ours.LastWords())
	}
}

// says waits until kube-ipvs has said something.
func (w *world) says(what string) {
	w.t.Helper()
	w.until(what, func() bool {
		text, err := os.ReadFile(w.ours.Log)
		return err == nil && strings.Contains(string(text), what)
	})
}

// addStrangers adds a virtual server that no proxy made, and lets nothing be forwarded but what pods send and get, as flannel has it.
func (w *world) addStrangers() {
	w.t.Helper()
	w.shell("ipvsadm -A -t " + stranger + " -s wlc && ipvsadm -a -t " + stranger + " -r 10.244.1.11:8080 -m")
	for i, v := range []string{"iptables", "ip6tables"} {
		w.shell(fmt.Sprintf("%s -P FORWARD DROP; %[1]s -A FORWARD -s %v -j ACCEPT; %[1]s -A FORWARD -d %[2]v -j ACCEPT", v, wire.PodCIDRs[i]))
		w.t.Cleanup(func() { w.shell(v + " -P FORWARD ACCEPT; " + v + " -F FORWARD") })
	}
}

// stranger is a virtual server that no proxy made.
const stranger = "203.0.113.250:9999"

// hasStrangers fails the test if what no proxy made is gone.
func (w *world) hasStrangers() {
	w.t.Helper()
	if !strings.Contains(w.shell("ipvsadm -Sn"), "-a -t "+stranger) {
		w.t.Errorf("the virtual server %s is gone", stranger)
	}
}

// restore adds rules of IPv4 until the end of the test.
func (w *world) restore(rules string) {
	w.t.Helper()
	w.t.Cleanup(w.forget) // or kube-proxy could not clean up
	cmd := exec.Command("iptables-restore", "--noflush")
	cmd.Stdin = strings.NewReader(rules)
	if out, err := cmd.CombinedOutput(); err != nil {
		w.t.Fatalf("%v\n%s", err, out)
	}
}

func (w *world) forget() {
	w.t.Helper()
	w.shell("iptables -D INPUT -j KUBE-FIREWALL; iptables -F KUBE-FIREWALL; iptables -X KUBE-FIREWALL; " +
		"iptables -t nat -F CNI-HOSTPORT-SETMARK; iptables -t nat -X CNI-HOSTPORT-SETMARK; iptables -t nat -X KUBE-KUBELET-CANARY")
}

// healthy waits until kube-ipvs serves all Services.
func (w *world) healthy() {
	w.t.Helper()
	w.until("ready", func() bool {
		_, err := child.Get(context.Background(), "http://"+child.Healthz+"/readyz")
		return err == nil
	})
}

// clean removes all that either proxy made.
func (w *world) clean() {
	if w.proxy != nil {
		w.must(w.proxy.Stop())
		// A restore that is late outlives kube-proxy, and would bring its chains back.
		w.until("its last ip6tables-restore ended", func() bool { return exec.Command("pgrep", "-f", "ip6tables-restore").Run() != nil })
	}
	w.must(w.ours.Stop())
	w.must(w.ours.Clean(context.Background()))
	w.must(kubeproxy.Clean(context.Background(), w.program("kube-proxy")))
}

func (w *world) program(name string) string {
	path, err := filepath.Abs(filepath.Join(*programs, name))
	w.must(err)
	return path
}

// shell returns what a command prints.
func (w *world) shell(command string) string {
	w.t.Helper()
	out, err := exec.Command("sh", "-c", command).CombinedOutput()
	if err != nil {
		w.t.Fatalf("%s: %v\n%s", command, err, out)
	}
	return strings.TrimSpace(string(out))
}

func (w *world) must(err error) {
	if err != nil {
		w.t.Helper()
		w.t.Fatal(err)
	}
}
