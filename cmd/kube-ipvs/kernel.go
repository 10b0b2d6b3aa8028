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
	"slices"
	"strings"

	"golang.org/x/sys/unix"
	"k8s.io/klog/v2"

	"kube-ipvs/internal/config"
	"kube-ipvs/internal/inet"
	"kube-ipvs/ipvs"
	"kube-ipvs/ipvs/sysctl"
	"kube-ipvs/sync/ipvsmode"
)

// modules are the kernel modules to load unless they are built in. The kernel loads most modules on first use, but not
// IPVS, the sets and the dummy link, or not from a container.
var modules = []string{
	"ip_vs", "dummy", "ip_set", "ip_set_hash_ip", "ip_set_hash_ipport", "ip_set_hash_ipportip", "ip_set_hash_ipportnet", "ip_set_hash_net",
	"xt_set", "xt_NETMAP", "xt_connmark", "xt_ipvs", "nf_conntrack_netlink",
}

// openKernel opens the kernel's tables. Each error names the missing part and the remedy.
func openKernel(ctx context.Context, cfg *config.Config) (*ipvsmode.Connection, error) {
	if err := checkCapabilities(); err != nil {
		return nil, err
	}
	loading := loadModules(ctx, modulesFor(cfg))
	k, err := ipvsmode.Open(ctx, cfg.ProcSys)
	if err != nil && loading != nil {
		err = fmt.Errorf("%w (%w)", err, loading)
	}
	return k, err
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

// families returns the kernel's address families, and logs that it has no IPv6. The loop detects whether IPv6 works, as it may be
// enabled or disabled at any time.
func families(ctx context.Context, procSys string) []inet.Family {
	if _, err := os.Stat(filepath.Join(procSys, "net/ipv6")); err != nil {
		klog.FromContext(ctx).Info("This kernel has no IPv6: Services are served over IPv4 alone", "why", err.Error())
		return []inet.Family{inet.IPv4}
	}
	return []inet.Family{inet.IPv4, inet.IPv6}
}

// keptSettings returns the kernel settings that the proxy needs, or was asked for, and keeps.
func keptSettings(cfg *config.Config) []sysctl.Setting {
	out := ipvsmode.DefaultSettings(ipvsmode.Release())
	if cfg.IPVS.StrictARP {
		out = append(out,
			sysctl.Setting{Name: "net/ipv4/conf/all/arp_ignore", Value: "1"},
			sysctl.Setting{Name: "net/ipv4/conf/all/arp_announce", Value: "2"})
	}
	switch cfg.IPVS.Estimation {
	case config.EstimationOn:
		out = append(out, sysctl.Setting{Name: ipvs.RunEstimation, Value: "1"})
	case config.EstimationOff:
		out = append(out, sysctl.Setting{Name: ipvs.RunEstimation, Value: "0"})
	}
	return out
}

// possibleSettings is keptSettings as far as this kernel, with IPVS loaded, has them. No Service depends on estimation:
// where it cannot be set, that is a line in the log and no failure.
func possibleSettings(ctx context.Context, cfg *config.Config, settings sysctl.Kernel) []sysctl.Setting {
	kept := keptSettings(cfg)
	if cfg.IPVS.Estimation == config.EstimationAsIs {
		return kept
	}
	if _, err := settings.Read(ctx, []string{ipvs.RunEstimation}); !errors.Is(err, os.ErrNotExist) {
		return kept
	}
	klog.FromContext(ctx).Info("--ipvs-estimation has no effect: this kernel lacks the setting, which Linux has since 5.17", "setting", ipvs.RunEstimation)
	return slices.DeleteFunc(kept, func(s sysctl.Setting) bool { return s.Name == ipvs.RunEstimation })
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
		if del := table.Do(ctx, []ipvs.Op{{Verb: ipvs.DelServer, Key: add.Key}}); del != nil { // left by a killed process
			return fmt.Errorf("probe IPVS: %w", del[0])
		}
	}
	switch {
	case errors.Is(err, os.ErrNotExist):
		return fmt.Errorf("scheduler %s: this kernel does not have it: modprobe ip_vs_%[1]s (%w)", scheduler, err)
	case err != nil:
		return fmt.Errorf("probe IPVS: %w", err)
	}
	if del := table.Do(ctx, []ipvs.Op{{Verb: ipvs.DelServer, Key: add.Key}}); del != nil {
		return fmt.Errorf("probe IPVS: %w", del[0])
	}
	return nil
}
