package main

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"kube-ipvs/test/cluster"
	"kube-ipvs/test/kept"
)

// direct begins the names of targets past all proxies: what goes wrong there is the bed's fault.
const direct = "pod"

// seen is what probers saw, by target.
type seen map[string]counts

// services sums up what they saw of Services.
func (s seen) services() counts { return s.sum(false) }

// past sums up what they saw past all proxies.
func (s seen) past() counts { return s.sum(true) }

func (s seen) sum(past bool) (sum counts) {
	for name, c := range s {
		if strings.HasPrefix(name, direct) == past {
			sum.add(c)
		}
	}
	return sum
}

// serve makes servers and Services, and returns when they have all that they ask for.
func (b *bed) serve(ctx context.Context) error {
	objects, err := cluster.ReadObjects(filepath.Join("test", "conformance", "rolling.yaml"))
	if err != nil {
		return err
	}
	if err := b.cluster.Apply(ctx, objects); err != nil {
		return err
	}
	return b.until(ctx, "servers and load balancers are there", func() (bool, error) {
		set, err := b.client.AppsV1().DaemonSets(metav1.NamespaceDefault).Get(ctx, "server", metav1.GetOptions{})
		if err != nil || int(set.Status.NumberReady) < b.count {
			return false, err
		}
		services, err := b.rollingServices(ctx)
		if err != nil {
			return false, err
		}
		for _, s := range services {
			if len(s.Status.LoadBalancer.Ingress) == 0 {
				return false, nil
			}
		}
		return true, nil
	})
}

// rollingServices returns the Services by their policies.
func (b *bed) rollingServices(ctx context.Context) (map[string]corev1.Service, error) {
	found := map[string]corev1.Service{}
	for _, policy := range []string{"cluster", "local"} {
		s, err := b.client.CoreV1().Services(metav1.NamespaceDefault).Get(ctx, "rolling-"+policy, metav1.GetOptions{})
		if err != nil {
			return nil, err
		}
		found[policy] = *s
	}
	return found, nil
}

// targets returns where probers connect to, by where they run. Outside has no way to cluster IPs. The load balancer with a Local
// policy is missing there, too: it sends connections elsewhere while a node's health check has nobody who answers. And a pod
// does not connect to node ports with a Local policy: where all pods count as a node's own, as with --cluster-cidr, each proxy
// sends it from another node's node port to any endpoint, which answers it past that node.
func (b *bed) targets(ctx context.Context) (map[string][]target, error) {
	services, err := b.rollingServices(ctx)
	if err != nil {
		return nil, err
	}
	lists := map[string][]target{}
	to := func(t target, places ...string) {
		for _, place := range places {
			lists[place] = append(lists[place], t)
		}
	}
	nodes := b.nodes()
	for policy, s := range services {
		for _, port := range s.Spec.Ports {
			proto := strings.ToLower(string(port.Protocol))
			add := func(what, address string, number int32, places ...string) error {
				a, err := netip.ParseAddr(address)
				to(target{Name: fmt.Sprintf("%s, %s, %s, IPv%d", what, policy, proto, map[bool]int{true: 4, false: 6}[a.Is4()]), Proto: proto,
					At: netip.AddrPortFrom(a, uint16(number))}, places...)
				return err
			}
			nodePorts, balancers := []string{"node", "outside"}, []string{"pod", "node"}
			if policy == "cluster" {
				nodePorts, balancers = append(nodePorts, "pod"), append(balancers, "outside")
			}
			var errs []error
			for i, ip := range s.Spec.ClusterIPs {
				node := nodes[len(lists["node"])%len(nodes)].addresses[i].Addr().String()
				errs = append(errs, add("cluster IP", ip, port.Port, "pod", "node"), add("node port", node, port.NodePort, nodePorts...))
			}
			errs = append(errs, add("load balancer", s.Status.LoadBalancer.Ingress[0].IP, port.Port, balancers...))
			if err := errors.Join(errs...); err != nil {
				return nil, err
			}
		}
	}
	pods, err := b.client.CoreV1().Pods(metav1.NamespaceDefault).List(ctx, metav1.ListOptions{LabelSelector: "app=server"})
	if err != nil {
		return nil, err
	}
	for i, proto := range []string{"tcp", "udp"} {
		a, err := netip.ParseAddr(pods.Items[0].Status.PodIP)
		if err != nil {
			return nil, err
		}
		to(target{Name: direct + ", " + proto, Proto: proto, At: netip.AddrPortFrom(a, uint16(8080+i))}, "pod", "node", "outside")
	}
	return lists, nil
}

// probers run in pods, on nodes and outside.
type probers struct {
	*bed
	folder  string // of reports
	sets    []string
	outside *exec.Cmd
}

// startProbers starts a prober in a pod of each node, on each node and outside, and returns when all keep their connections.
func (b *bed) startProbers(ctx context.Context) (*probers, error) {
	p := &probers{bed: b, folder: filepath.Join(b.state, "probes")}
	if err := errors.Join(os.RemoveAll(p.folder), os.MkdirAll(p.folder, 0o755)); err != nil {
		return nil, err
	}
	lists, err := b.targets(ctx)
	if err != nil {
		return nil, err
	}
	for name, list := range lists {
		if err := kept.Write(filepath.Join(b.state, name+".json"), list); err != nil {
			return nil, err
		}
	}
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	for name, onNode := range map[string]bool{"pod": false, "node": true} {
		set := b.proberSet(name, onNode, p.command(self, name+" of $(NODE_NAME)", name, name+"-$(NODE_NAME)"))
		if _, err := b.client.AppsV1().DaemonSets(metav1.NamespaceDefault).Create(ctx, set, metav1.CreateOptions{}); err != nil {
			return nil, err
		}
		p.sets = append(p.sets, set.Name)
	}
	command := p.command(self, "outside", "outside", "outside")
	p.outside = b.cluster.Command(command[0], command[1:]...)
	log, err := os.Create(filepath.Join(b.logs(), "probe-outside.log"))
	if err != nil {
		return nil, err
	}
	defer log.Close()
	p.outside.Stdout, p.outside.Stderr = log, log
	if err := p.outside.Start(); err != nil {
		return nil, err
	}
	return p, b.until(ctx, "all probers have their connections", func() (bool, error) {
		reports, err := filepath.Glob(filepath.Join(p.folder, "*.json"))
		return len(reports) == 2*b.count+1, err
	})
}

func (p *probers) command(self, from, targets, report string) []string {
	return []string{self, "probe", "-from=" + from, "-targets=" + filepath.Join(p.state, targets+".json"),
		"-report=" + filepath.Join(p.folder, report+".json")}
}

// proberSet returns what runs a prober on each node.
func (b *bed) proberSet(name string, onNode bool, command []string) *appsv1.DaemonSet {
	labels := map[string]string{"app": "probe-" + name}
	spec := nodePod(b.setting, container("probe", b.setting, command...))
	spec.HostNetwork = onNode
	spec.TerminationGracePeriodSeconds = new(int64(60)) // it waits for its last answers
	return &appsv1.DaemonSet{
		ObjectMeta: metav1.ObjectMeta{Name: labels["app"], Namespace: metav1.NamespaceDefault},
		Spec: appsv1.DaemonSetSpec{
			Selector: &metav1.LabelSelector{MatchLabels: labels},
			Template: corev1.PodTemplateSpec{ObjectMeta: metav1.ObjectMeta{Labels: labels}, Spec: spec},
		},
	}
}

// end ends all probers and returns what they saw.
func (p *probers) end(ctx context.Context) (seen, error) {
	for _, name := range p.sets {
		if err := p.client.AppsV1().DaemonSets(metav1.NamespaceDefault).Delete(ctx, name, metav1.DeleteOptions{}); err != nil {
			return nil, err
		}
	}
	if err := errors.Join(p.outside.Process.Signal(unix.SIGTERM), p.outside.Wait()); err != nil {
		return nil, fmt.Errorf("the prober outside: %w", err)
	}
	all := seen{}
	err := p.until(ctx, "all probers have ended", func() (bool, error) {
		list, err := p.client.CoreV1().Pods(metav1.NamespaceDefault).List(ctx, metav1.ListOptions{LabelSelector: "app in (probe-pod,probe-node)"})
		return err == nil && len(list.Items) == 0, err
	})
	if err != nil {
		return nil, err
	}
	reports, err := filepath.Glob(filepath.Join(p.folder, "*.json"))
	if err != nil {
		return nil, err
	}
	for _, path := range reports {
		var s seen
		if err := kept.Read(path, &s); err != nil {
			return nil, err
		}
		for name, c := range s {
			sum := all[name]
			sum.add(c)
			all[name] = sum
		}
	}
	return all, nil
}
