package main

import (
	"errors"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"slices"
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
	"xt_multiport", "xt_nat", "xt_NETMAP", "xt_nfacct", "xt_owner", "xt_physdev", "xt_recent", "xt_statistic", "xt_tcpudp",
	"xt_CT", "xt_LOG", "xt_limit", "ipt_REJECT", "ip6t_REJECT",
}

// loadModules loads them all. It does so itself: modprobe, as one process for all, takes half as long again.
func (m machine) loadModules() error {
	var name unix.Utsname
	if err := unix.Uname(&name); err != nil {
		return err
	}
	folder, err := openModules(filepath.Join(m.Modules, unix.ByteSliceToString(name.Release[:])))
	if err != nil {
		return err
	}
	loaded := map[string]bool{}
	for _, m := range modules {
		name, parameters, _ := strings.Cut(m, " ")
		if _, err := os.Stat("/sys/module/" + name); err == nil {
			continue // loaded, or always a part of the kernel, as IPv6 since Linux 7: those are not listed
		}
		files, err := folder.order(name)
		if err != nil {
			return err
		}
		for i, file := range files {
			if loaded[file] {
				continue
			}
			loaded[file] = true
			its := ""
			if i == len(files)-1 {
				its = parameters
			}
			if err := loadModule(file, its); err != nil {
				return err
			}
		}
	}
	return nil
}

// loadModule loads a module all of whose needs are loaded. One that is loaded already is no error.
func loadModule(file, parameters string) error {
	f, err := os.Open(file)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := unix.FinitModule(int(f.Fd()), parameters, 0); err != nil && !errors.Is(err, unix.EEXIST) {
		return fmt.Errorf("load module %s: %w", file, err)
	}
	return nil
}

// moduleFolder holds the modules of one kernel.
type moduleFolder struct {
	root  string
	needs map[string][]string // by module: files relative to root, in the order in which they are to be loaded, its own last
}

// openModules reads what depmod(8) wrote about the modules in root.
func openModules(root string) (moduleFolder, error) {
	folder := moduleFolder{root, map[string][]string{}}
	builtin, err := os.ReadFile(filepath.Join(root, "modules.builtin"))
	text, err2 := os.ReadFile(filepath.Join(root, "modules.dep"))
	if err := errors.Join(err, err2); err != nil {
		return folder, fmt.Errorf("modules of the test kernel: %w", err)
	}
	for line := range strings.Lines(string(builtin)) {
		folder.needs[moduleName(strings.TrimSpace(line))] = nil
	}
	for line := range strings.Lines(string(text)) {
		file, needs, ok := strings.Cut(line, ":")
		if !ok {
			return folder, fmt.Errorf("%s/modules.dep: no colon in %q", root, line)
		}
		files := strings.Fields(needs) // the last is to be loaded first (modules.dep(5))
		slices.Reverse(files)
		folder.needs[moduleName(file)] = append(files, file)
	}
	return folder, nil
}

func moduleName(file string) string { return strings.TrimSuffix(path.Base(file), ".ko") }

// order returns the files to load for a module, in that order: none if it is a part of the kernel.
func (f moduleFolder) order(name string) ([]string, error) {
	needs, ok := f.needs[name]
	if !ok {
		return nil, fmt.Errorf("no module %s in %s", name, f.root)
	}
	files := make([]string, len(needs))
	for i, file := range needs {
		files[i] = filepath.Join(f.root, file)
	}
	return files, nil
}

// linkModules lets the kernel load still others when somebody asks it for what they bring. It calls modprobe for that,
// which looks in /lib/modules; the machine's own may be missing or hold other kernels' modules.
func (m machine) linkModules() error {
	modprobe, err := lookTool("modprobe")
	if err != nil {
		return err
	}
	root := filepath.Join(ownFolder, "modules")
	wrapper := filepath.Join(programFolder, "modprobe") // for the program, too
	script := fmt.Sprintf("#!/bin/sh\nexec %s -d %s \"$@\"\n", modprobe, root)
	return errors.Join(
		os.MkdirAll(filepath.Join(root, "lib"), 0o755),
		os.Symlink(m.Modules, filepath.Join(root, "lib", "modules")),
		os.MkdirAll(programFolder, 0o755),
		os.WriteFile(wrapper, []byte(script), 0o755),
		os.WriteFile("/proc/sys/kernel/modprobe", []byte(wrapper), 0),
	)
}
