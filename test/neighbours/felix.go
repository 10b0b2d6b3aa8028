//go:build kernel && neighbours

package neighbours

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"kube-ipvs/test/child"
)

// A Felix is Calico's agent of a node, with etcd as its datastore, which needs no API server.
type Felix struct {
	*Place
	etcd, program *child.Program
}

// NewFelix is Calico's Felix.
func NewFelix(p *Place) Neighbour { return &Felix{Place: p} }

const etcdAt = "http://127.0.0.1:23790"

// Version is that of the module; it is a commit of the release whose notes are the newest in it.
func (f *Felix) Version(ctx context.Context) (string, error) {
	version, err := f.module(ctx, "calico-felix", "github.com/projectcalico/calico")
	return version + " (v3.28.5)", err
}

// How is part of Neighbour.
func (f *Felix) How() string {
	return "`calico-felix`, iptables data plane, default configuration with IPv6; objects by calicoctl in etcd: a workload endpoint for each pod here, " +
		"an IP pool of each family (natOutgoing), a profile that allows all"
}

// Start is part of Neighbour.
func (f *Felix) Start(ctx context.Context) error {
	if f.program == nil {
		if err := f.prepare(ctx); err != nil {
			return err
		}
	}
	if err := f.program.Start(); err != nil {
		return err
	}
	if err := until(ctx, 2*time.Minute, func() error { return f.ready(ctx) }); err != nil {
		return errors.Join(err, f.program.LastWords())
	}
	return nil
}

// prepare starts etcd and fills it.
func (f *Felix) prepare(ctx context.Context) (err error) {
	f.etcd, err = f.Place.program(f.Node, nil, "etcd", "--data-dir", filepath.Join(f.Dir, "etcd"), "--listen-client-urls", etcdAt,
		"--advertise-client-urls", etcdAt, "--listen-peer-urls", "http://127.0.0.1:23800", "--log-level", "error")
	if err != nil {
		return err
	}
	if err := f.etcd.Start(); err != nil {
		return err
	}
	// That every object can be had begins and ends with a lock.
	for _, command := range []string{"lock", "unlock"} {
		err := until(ctx, time.Minute, func() error { return f.calicoctl(ctx, "", "datastore", "migrate", command) })
		if err != nil {
			return errors.Join(err, f.etcd.LastWords())
		}
	}
	if err := f.Apply(ctx, f.objects()); err != nil {
		return err
	}
	f.program, err = f.Place.program(f.Node, []string{
		"DATASTORE_TYPE=etcdv3", "ETCD_ENDPOINTS=" + etcdAt, "FELIX_FELIXHOSTNAME=node1", "FELIX_IPV6SUPPORT=true",
		"FELIX_DEFAULTENDPOINTTOHOSTACTION=ACCEPT", "FELIX_HEALTHENABLED=true", "FELIX_LOGFILEPATH=none", "FELIX_LOGSEVERITYSCREEN=warning",
		"FELIX_USAGEREPORTINGENABLED=false",
	}, filepath.Join(f.Bin, "calico-felix"), "--config-file="+filepath.Join(f.Dir, "none"))
	return err
}

// ready asks Felix, and whether it found IPVS.
func (f *Felix) ready(ctx context.Context) error {
	if err := f.program.Alive(); err != nil {
		return err
	}
	if _, err := child.Get(ctx, "http://127.0.0.1:9099/readiness"); err != nil {
		return err
	}
	return f.chains(ctx)
}

// chains returns an error unless the pods' chains are there, and those that Felix has beside IPVS alone.
func (f *Felix) chains(ctx context.Context) error {
	for _, program := range []string{"iptables-save", "ip6tables-save"} {
		rules, err := run(ctx, program)
		if err != nil {
			return err
		}
		for _, chain := range []string{":cali-tw-calipod1 ", ":cali-fw-calipod1 ", ":cali-forward-check ", ":cali-PREROUTING "} {
			if !strings.Contains(rules, chain) {
				return fmt.Errorf("%s: no chain %s", program, chain)
			}
		}
	}
	return nil
}

// objects are a cluster's.
func (f *Felix) objects() string {
	var out strings.Builder
	object := func(kind, name, namespace, labels, spec string) {
		fmt.Fprintf(&out, "---\napiVersion: projectcalico.org/v3\nkind: %s\nmetadata: {name: %s%s%s}\nspec: %s\n", kind, name, namespace, labels, spec)
	}
	object("Node", "node1", "", "", fmt.Sprintf("{bgp: {ipv4Address: %v/24, ipv6Address: '%v/64'}}", f.Node.Addr(false), f.Node.Addr(true)))
	object("Node", "node2", "", "", fmt.Sprintf("{bgp: {ipv4Address: %v/24, ipv6Address: '%v/64'}}", f.Node2.Addr(false), f.Node2.Addr(true)))
	object("IPPool", "pods-ipv4", "", "", "{cidr: 10.244.0.0/16, natOutgoing: true, ipipMode: Never, vxlanMode: Never}")
	object("IPPool", "pods-ipv6", "", "", "{cidr: 'fd00:10:244::/48', natOutgoing: true, ipipMode: Never, vxlanMode: Never}")
	object("Profile", "all", "", "", "{ingress: [{action: Allow}], egress: [{action: Allow}]}")
	for _, pod := range []string{"pod1", "pod2", "asker"} {
		object("WorkloadEndpoint", "node1-k8s-"+pod+"-eth0", ", namespace: default", ", labels: {pod: "+pod+"}", fmt.Sprintf(
			"{orchestrator: k8s, node: node1, pod: %s, endpoint: eth0, containerID: %s, interfaceName: cali%s, ipNetworks: [%v/32, '%v/128'], profiles: [all]}",
			pod, pod, pod, f.Pod(pod).Addr(false), f.Pod(pod).Addr(true)))
	}
	return out.String()
}

// Apply makes objects of Calico's API what a text in YAML says.
func (f *Felix) Apply(ctx context.Context, text string) error {
	return f.calicoctl(ctx, text, "apply", "--allow-version-mismatch", "-f", "-")
}

// Delete removes them.
func (f *Felix) Delete(ctx context.Context, text string) error {
	return f.calicoctl(ctx, text, "delete", "--allow-version-mismatch", "-f", "-")
}

func (f *Felix) calicoctl(ctx context.Context, input string, args ...string) error {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	cmd := exec.CommandContext(ctx, filepath.Join(f.Bin, "calicoctl"), args...)
	cmd.Stdin = strings.NewReader(input)
	cmd.Env = append(os.Environ(), "DATASTORE_TYPE=etcdv3", "ETCD_ENDPOINTS="+etcdAt)
	_, err := start(cmd)
	return err
}

// Works is part of Neighbour. Felix ends itself when kube-ipvs0 comes or goes, and its supervisor starts it again. Its policies are
// asked for by the test, as they take Services.
func (f *Felix) Works(ctx context.Context) error {
	if f.program.Alive() != nil {
		return f.Start(ctx)
	}
	return f.chains(ctx)
}

// Stop ends Felix as a supervisor does. Its rules stay.
func (f *Felix) Stop(context.Context) error { return end(f.program) }

// Remove removes its rules and sets, as Calico's own script does.
func (f *Felix) Remove(ctx context.Context) error {
	err := errors.Join(f.Stop(ctx), end(f.etcd))
	_, err2 := shell(ctx, `for i in iptables ip6tables; do $i-save | grep -v cali >`+f.Dir+`/$i; $i-restore <`+f.Dir+`/$i; done
for s in $(ipset list -n | grep ^cali); do ipset destroy $s || ipset flush $s; done`)
	return errors.Join(err, err2)
}
