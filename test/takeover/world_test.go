//go:build kernel && compare

// Package takeover takes a node over from kube-proxy and hands it back, both real programs on one kernel, while clients keep
// their connections and open new ones all the time.
package takeover

import (
	"context"
	"flag"
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

// Where every pod serves.
const (
	tcpPort = 8080
	udpPort = 8081
)

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
		for proto, port := range map[inet.Protocol]uint16{inet.TCP: tcpPort, inet.UDP: udpPort} {
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
	for n, local := range []bool{false, true} {
		w.addService(n, local)
	}
	w.ours = child.Program{Path: w.program("kube-ipvs"), Log: filepath.Join(t.TempDir(), "kube-ipvs"), Args: []string{
		"--master=" + w.api.URL(), "--kube-api-content-type=application/json", "--hostname-override=node1",
		"--cluster-cidr=" + wire.PodCIDRs[0].String() + "," + wire.PodCIDRs[1].String(), "--v=1",
		"--ipvs-udp-timeout=10s", // a hand-back waits for the end of UDP's connections, too
	}}
	t.Cleanup(w.clean)
	return w
}

// addService adds the n-th Service, with both protocols and addresses of every kind in both families.
func (w *world) addService(n int, local bool) {
	w.t.Helper()
	svc := plan.Service{
		Name: plan.Name{Namespace: "test", Name: map[bool]string{false: "cluster", true: "local"}[local]}, ExternalLocal: local,
		Ports: []plan.Port{
			{Name: "tcp", Proto: inet.TCP, Port: 80, NodePort: uint16(30000 + 2*n)}, {Name: "udp", Proto: inet.UDP, Port: 53, NodePort: uint16(30001 + 2*n)},
		},
	}
	if local {
		svc.HealthCheckNodePort = 31999
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
		slice := plan.Slice{Service: svc.Name, Ports: []plan.SlicePort{{Name: "tcp", Proto: inet.TCP, Port: tcpPort}, {Name: "udp", Proto: inet.UDP, Port: udpPort}}}
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
		Program: w.program("kube-proxy"), Mode: mode, Node: "node1", ClusterCIDRs: wire.PodCIDRs, Env: env, Log: filepath.Join(w.t.TempDir(), "kube-proxy"),
	})
	w.must(err)
}

// noModules is the environment of a process that cannot load modules, as in a container without /lib/modules: kube-proxy's nftables
// mode does not flush IPVS then.
func (w *world) noModules() string {
	w.t.Helper()
	dir := w.t.TempDir()
	w.must(os.WriteFile(filepath.Join(dir, "modprobe"), []byte("#!/bin/sh\nexit 1\n"), 0o755))
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
