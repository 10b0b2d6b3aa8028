package main

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"

	"golang.org/x/sys/unix"
)

const (
	ownFolder     = "/run/inkernel"
	programFolder = ownFolder + "/bin" // first on the program's PATH
	legacyTables  = "xtables-legacy-multi"
)

// modules is everything that the product and its tests may ask for, and what other service proxies use beside it. All in
// one call, before the program starts: loaded on demand, each would cost a process at a moment when somebody measures.
var modules = []string{
	"ipv6", "dummy", "veth", "tun", "sctp", "bridge", "br_netfilter", "macvlan", "ipvlan", "ifb", "sch_netem",
	"ip_vs", "ip_vs_rr", "ip_vs_wrr", "ip_vs_lc", "ip_vs_wlc", "ip_vs_fo", "ip_vs_ovf", "ip_vs_lblc", "ip_vs_lblcr",
	"ip_vs_dh", "ip_vs_sh", "ip_vs_mh", "ip_vs_sed", "ip_vs_nq",
	"ip_set", "ip_set_bitmap_port", "ip_set_hash_ip", "ip_set_hash_ipport", "ip_set_hash_ipportip",
	"ip_set_hash_ipportnet", "ip_set_hash_ipmark", "ip_set_hash_net", "ip_set_hash_netport", "ip_set_hash_netiface",
	"ip_set_list_set", "xt_set",
	"nf_conntrack", "nf_conntrack_netlink", "nfnetlink_acct", "nf_tables",
	"iptable_filter", "iptable_nat", "iptable_mangle", "iptable_raw",
	"ip6table_filter", "ip6table_nat", "ip6table_mangle", "ip6table_raw",
	"xt_addrtype", "xt_bpf", "xt_comment", "xt_conntrack", "xt_connmark", "xt_ipvs", "xt_mark", "xt_MASQUERADE",
	"xt_multiport", "xt_nat", "xt_nfacct", "xt_owner", "xt_physdev", "xt_recent", "xt_statistic", "xt_tcpudp",
	"xt_CT", "xt_LOG", "xt_limit", "ipt_REJECT", "ip6t_REJECT",
}

// prepare makes the surroundings of the job, in which only it lives.
func (j job) prepare() error {
	steps := []func() error{mountNamespaces, linksUp}
	if j.UserMode {
		steps = []func() error{mountMachine, loadModules, linkLegacyTables, raiseLimits, linksUp}
	}
	for _, step := range steps {
		if err := step(); err != nil {
			return err
		}
	}
	return nil
}

// mount is one line of a mount table.
type mount struct {
	kind, target string
	flags        uintptr
	options      string
}

func (m mount) do() error {
	if err := os.MkdirAll(m.target, 0o755); err != nil {
		return err
	}
	if err := unix.Mount(m.kind, m.target, m.kind, m.flags, m.options); err != nil {
		return fmt.Errorf("mount %s on %s: %w", m.kind, m.target, err)
	}
	return nil
}

// mountMachine mounts what a machine has. The kernel has mounted /dev itself, and /tmp stays the host's.
func mountMachine() error {
	return mountAll(
		mount{"proc", "/proc", 0, ""},
		mount{"sysfs", "/sys", 0, ""},
		mount{"tmpfs", "/run", 0, "mode=755"},
		mount{"tmpfs", "/dev/shm", 0, "mode=1777"},
		mount{"devpts", "/dev/pts", 0, "ptmxmode=666"},
	)
}

// mountNamespaces mounts what belongs to our namespaces instead of the host's. Nothing of it reaches the host.
func mountNamespaces() error {
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("separate our mounts from the host's: %w", err)
	}
	return mountAll(
		mount{"proc", "/proc", 0, ""},
		mount{"sysfs", "/sys", 0, ""},
		mount{"tmpfs", "/run", 0, "mode=755"},
	)
}

func mountAll(table ...mount) error {
	for _, m := range table {
		if err := m.do(); err != nil {
			return err
		}
	}
	return os.Mkdir("/run/netns", 0o755)
}

// loadModules loads them all, and lets the kernel load more when it is asked for something.
func loadModules() error {
	modprobe, err := lookTool("modprobe")
	if err != nil {
		return err
	}
	// modprobe looks below lib/modules of a folder. The machine's own may be missing, or hold other kernels' modules.
	root := filepath.Join(ownFolder, "modules")
	wrapper := filepath.Join(ownFolder, "modprobe")
	script := fmt.Sprintf("#!/bin/sh\nexec %s -d %s \"$@\"\n", modprobe, root)
	err = errors.Join(
		os.MkdirAll(filepath.Join(root, "lib"), 0o755),
		os.Symlink(umlModules, filepath.Join(root, "lib", "modules")),
		os.WriteFile(wrapper, []byte(script), 0o755),
		os.WriteFile("/proc/sys/kernel/modprobe", []byte(wrapper), 0),
	)
	if err != nil {
		return err
	}
	cmd := exec.Command(modprobe, append([]string{"-d", root, "-a"}, modules...)...)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("load modules: %w\n%s", err, bytes.TrimSpace(out))
	}
	return nil
}

// linkLegacyTables makes iptables mean the legacy tables, the only ones with address translation in this kernel.
func linkLegacyTables() error {
	program, err := lookTool(legacyTables)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(programFolder, 0o755); err != nil {
		return err
	}
	for _, name := range []string{"iptables", "ip6tables"} {
		for _, suffix := range []string{"", "-save", "-restore"} {
			if err := os.Symlink(program, filepath.Join(programFolder, name+suffix)); err != nil {
				return err
			}
		}
	}
	return nil
}

// raiseLimits lets a test hold as many sockets as it likes.
func raiseLimits() error {
	const files = 1 << 20 // fs.nr_open's default
	limit := unix.Rlimit{Cur: files, Max: files}
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
		return fmt.Errorf("allow %d open files: %w", files, err)
	}
	return nil
}

// linksUp turns lo on, the one link of a new network namespace.
func linksUp() error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	lo, err := unix.NewIfreq("lo")
	if err != nil {
		return err
	}
	lo.SetUint16(unix.IFF_UP)
	if err := unix.IoctlIfreq(fd, unix.SIOCSIFFLAGS, lo); err != nil {
		return fmt.Errorf("set lo up: %w", err)
	}
	return nil
}
