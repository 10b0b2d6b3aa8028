package main

import (
	"errors"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// modules is everything that the product and its tests may ask for, and what other service proxies use beside it. They
// are loaded before the program starts: on demand each would cost a process at a moment when somebody measures. What
// follows a name are parameters: here, that it makes no links of its own accord.
var modules = []string{
	"ipv6", "dummy numdummies=0", "veth", "tun", "sctp", "bridge", "br_netfilter", "macvlan", "ipvlan", "ifb numifbs=0", "sch_netem",
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

// loadModules loads them all. It does so itself: modprobe, as one process for all, takes half as long again.
func loadModules() error {
	var name unix.Utsname
	if err := unix.Uname(&name); err != nil {
		return err
	}
	l, err := newLoader(filepath.Join(umlModules, unix.ByteSliceToString(name.Release[:])))
	if err != nil {
		return err
	}
	for _, m := range modules {
		name, parameters, _ := strings.Cut(m, " ")
		file, ok := l.files[name]
		if !ok {
			return fmt.Errorf("no module %s in %s", name, l.root)
		}
		if err := l.load(file, parameters); err != nil {
			return err
		}
	}
	return nil
}

// loader loads modules of one kernel. Files are named as in its modules.dep (modules.dep(5)), relative to root.
type loader struct {
	root   string
	files  map[string]string   // file by module
	needs  map[string][]string // by file; the last is to be loaded first
	loaded map[string]bool     // by file
}

func newLoader(root string) (*loader, error) {
	text, err := os.ReadFile(filepath.Join(root, "modules.dep"))
	if err != nil {
		return nil, fmt.Errorf("modules of the running kernel: %w", err)
	}
	l := &loader{root: root, files: map[string]string{}, needs: map[string][]string{}, loaded: map[string]bool{}}
	for line := range strings.Lines(string(text)) {
		file, needs, ok := strings.Cut(line, ":")
		if !ok {
			return nil, fmt.Errorf("%s/modules.dep: no colon in %q", root, line)
		}
		l.files[strings.TrimSuffix(path.Base(file), ".ko")] = file
		l.needs[file] = strings.Fields(needs)
	}
	return l, nil
}

// load loads the module in this file, after all that it needs. One that is loaded already is no error.
func (l *loader) load(file, parameters string) error {
	if l.loaded[file] {
		return nil
	}
	needs := l.needs[file]
	for i := len(needs) - 1; i >= 0; i-- {
		if err := l.load(needs[i], ""); err != nil {
			return err
		}
	}
	f, err := os.Open(filepath.Join(l.root, file))
	if err != nil {
		return err
	}
	defer f.Close()
	if err := unix.FinitModule(int(f.Fd()), parameters, 0); err != nil && !errors.Is(err, unix.EEXIST) {
		return fmt.Errorf("load module %s: %w", file, err)
	}
	l.loaded[file] = true
	return nil
}

// linkModules lets the kernel load still others when somebody asks it for what they bring. It calls modprobe for that,
// which looks in /lib/modules; the machine's own may be missing or hold other kernels' modules.
func linkModules() error {
	modprobe, err := lookTool("modprobe")
	if err != nil {
		return err
	}
	root := filepath.Join(ownFolder, "modules")
	wrapper := filepath.Join(programFolder, "modprobe") // for the program, too
	script := fmt.Sprintf("#!/bin/sh\nexec %s -d %s \"$@\"\n", modprobe, root)
	return errors.Join(
		os.MkdirAll(filepath.Join(root, "lib"), 0o755),
		os.Symlink(umlModules, filepath.Join(root, "lib", "modules")),
		os.MkdirAll(programFolder, 0o755),
		os.WriteFile(wrapper, []byte(script), 0o755),
		os.WriteFile("/proc/sys/kernel/modprobe", []byte(wrapper), 0),
	)
}
