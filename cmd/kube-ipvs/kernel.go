package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"kube-ipvs/internal/config"
	"kube-ipvs/ipset"
	"kube-ipvs/iptables"
	"kube-ipvs/ipvs"
	"kube-ipvs/ipvs/conntrack"
	"kube-ipvs/ipvs/sysctl"
	"kube-ipvs/ipvs/vip"
	"kube-ipvs/sync/loop"
)

// modules are the kernel modules to load unless they are built in. The kernel loads most modules on first use, but not
// IPVS, the sets and the dummy link, or not from a container.
var modules = []string{
	"ip_vs", "dummy", "ip_set", "ip_set_hash_ip", "ip_set_hash_ipport", "ip_set_hash_ipportip", "ip_set_hash_ipportnet", "ip_set_hash_net",
	"xt_set", "xt_NETMAP", "xt_connmark", "nf_conntrack_netlink",
}

// A kernel holds the open interfaces to the running kernel.
type kernel struct {
	ipvs     *ipvs.Conn
	sets     *ipset.Conn
	vips     *vip.Conn
	flows    *conntrack.Conn
	rules    *iptables.Programs
	settings *sysctl.Files
	open     []func() error // closes each
}

// openKernel opens the interfaces to the kernel. Each error names the missing part and its remedy.
func openKernel(ctx context.Context, cfg *config.Config) (k *kernel, err error) {
	if err := checkCapabilities(); err != nil {
		return nil, err
	}
	loading := loadModules(ctx, modulesFor(cfg))
	k = &kernel{settings: &sysctl.Files{Root: cfg.ProcSys}}
	k.open = append(k.open, k.settings.Close)
	defer func() {
		if err == nil {
			return
		}
		if loading != nil {
			err = fmt.Errorf("%w (%w)", err, loading)
		}
		err = errors.Join(err, k.Close())
	}()
	if k.ipvs, err = ipvs.Open(); err != nil {
		return k, err
	}
	k.open = append(k.open, k.ipvs.Close)
	if k.sets, err = ipset.Open(); err != nil {
		return k, err
	}
	k.open = append(k.open, k.sets.Close)
	if k.vips, err = vip.Open(); err != nil {
		return k, err
	}
	k.open = append(k.open, k.vips.Close)
	if k.flows, err = conntrack.Open(); err != nil {
		return k, err
	}
	k.open = append(k.open, k.flows.Close)
	if k.rules, err = iptables.Open(ctx); err != nil {
		return k, fmt.Errorf("%w (install the package iptables)", err)
	}
	k.open = append(k.open, k.rules.Close)
	return k, nil
}

// Close closes them.
func (k *kernel) Close() error {
	var errs []error
	for _, close := range k.open {
		errs = append(errs, close())
	}
	return errors.Join(errs...)
}

// config adds the kernel to a loop's configuration.
func (k *kernel) config(cfg loop.Config) loop.Config {
	cfg.IPVS, cfg.Sets, cfg.VIP, cfg.Flows = k.ipvs, k.sets, k.vips, k.flows
	cfg.Rules, cfg.Sysctl = k.rules, k.settings
	return cfg
}

// checkCapabilities returns an error that names the missing capability (capabilities(7)): NET_ADMIN for netlink and
// iptables, NET_RAW for the socket of legacy iptables.
func checkCapabilities() error {
	var data [2]unix.CapUserData
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	if err := unix.Capget(&header, &data[0]); err != nil {
		return fmt.Errorf("capget: %w", err)
	}
	for _, c := range []struct {
		name string
		bit  uint
	}{{"CAP_NET_ADMIN", unix.CAP_NET_ADMIN}, {"CAP_NET_RAW", unix.CAP_NET_RAW}} {
		if data[c.bit/32].Effective&(1<<(c.bit%32)) == 0 {
			return fmt.Errorf("capability %s is missing: run as root, or give it to the container (securityContext.capabilities.add)", c.name)
		}
	}
	return nil
}

// loadModules loads modules with modprobe. Its error matters only if something is missing afterwards: a module may be
// built in, and a container may lack modprobe.
func loadModules(ctx context.Context, names []string) error {
	cmd := exec.CommandContext(ctx, "modprobe", append([]string{"-a"}, names...)...)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	if err := cmd.Run(); err != nil {
		output := strings.Join(strings.Fields(stderr.String()), " ")
		return fmt.Errorf("modprobe failed: %w: %.200s", err, output)
	}
	return nil
}

// families returns the address families that the kernel has. The loop finds out whether IPv6 works, as it may be enabled
// or disabled at any time.
func families(procSys string) []ipset.Family {
	if _, err := os.Stat(filepath.Join(procSys, "net/ipv6")); err != nil {
		return []ipset.Family{ipset.IPv4}
	}
	return []ipset.Family{ipset.IPv4, ipset.IPv6}
}

// keptSettings returns the kernel settings that the proxy needs and keeps.
func keptSettings(cfg *config.Config) []sysctl.Setting {
	out := []sysctl.Setting{
		{Name: "net/ipv4/ip_forward", Value: "1"},
		{Name: "net/ipv4/vs/conntrack", Value: "1"},                 // masquerading happens in conntrack
		{Name: "net/ipv4/vs/expire_nodest_conn", Value: "1"},        // no connection waits for a real server that is gone
		{Name: "net/ipv4/vs/expire_quiescent_template", Value: "1"}, // affinity does not hold a client to one that drains
		{Name: "net/ipv4/vs/conn_reuse_mode", Value: reuseMode(release())},
	}
	if cfg.IPVS.StrictARP {
		out = append(out,
			sysctl.Setting{Name: "net/ipv4/conf/all/arp_ignore", Value: "1"},
			sysctl.Setting{Name: "net/ipv4/conf/all/arp_announce", Value: "2"})
	}
	return out
}

// reuseMode returns the treatment of a new connection from the port of an old one. From Linux 5.9 on it goes to another
// real server without delay (kernel commit f0a5e4d7a594); before, that delayed each such connection by a second, and
// keeping the old real server was the lesser evil. Nothing readable identifies a kernel with the change: it came without
// a setting or a new version of IPVS, and distributions backport it. An old release with the backport only loses the
// better choice: such connections stay with their real server; from 5.16 on, not even with one of weight 0, whatever the
// mode.
func reuseMode(release string) string {
	var major, minor int
	if n, _ := fmt.Sscanf(release, "%d.%d", &major, &minor); n == 2 && (major < 5 || major == 5 && minor < 9) {
		return "0"
	}
	return "1"
}

// release returns the kernel's release, such as "6.1.0-13-amd64".
func release() string {
	var u unix.Utsname
	if err := unix.Uname(&u); err != nil {
		return ""
	}
	return unix.ByteSliceToString(u.Release[:])
}

// probed is the virtual server that probe adds: no packet matches it, and its timeout identifies it.
var probed = ipvs.Op{Verb: ipvs.AddServer, Key: ipvs.MarkKey(0xfffffffe, netip.IPv4Unspecified()), Server: ipvs.Server{Timeout: 0x6970}}

// probe checks that the kernel has the scheduler, by adding a virtual server. If a foreign one has the mark, it tries
// the next mark.
func probe(ctx context.Context, table ipvs.Kernel, scheduler string) error {
	add := probed
	add.Server.Scheduler = scheduler
	var err error
	for range 8 {
		if err = errors.Join(table.Do(ctx, []ipvs.Op{add})...); !errors.Is(err, os.ErrExist) {
			break
		}
		left, readErr := table.ReadServer(ctx, add.Key)
		if readErr != nil {
			return fmt.Errorf("probe IPVS: %w", readErr)
		}
		if left.Server.Timeout != add.Server.Timeout || len(left.Reals) > 0 {
			add.Key.Mark--
			continue
		}
		if del := table.Do(ctx, []ipvs.Op{{Verb: ipvs.DelServer, Key: add.Key}}); del != nil { // of one that was killed
			return fmt.Errorf("probe IPVS: %w", del[0])
		}
	}
	switch {
	case errors.Is(err, os.ErrNotExist):
		return fmt.Errorf("--ipvs-scheduler=%s: this kernel does not have it: modprobe ip_vs_%[1]s (%w)", scheduler, err)
	case err != nil:
		return fmt.Errorf("probe IPVS: %w", err)
	}
	if del := table.Do(ctx, []ipvs.Op{{Verb: ipvs.DelServer, Key: add.Key}}); del != nil {
		return fmt.Errorf("probe IPVS: %w", del[0])
	}
	return nil
}
