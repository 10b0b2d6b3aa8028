//go:build kernel

package lab

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sort"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/vishvananda/netlink"
	"go.uber.org/goleak"
	"golang.org/x/sys/unix"
)

// standing builds a laboratory for one test, and checks at its end that nothing stays of it.
func standing(t *testing.T, config Config) *Lab {
	t.Helper()
	before, goroutines := inventory(t), goleak.IgnoreCurrent()
	start := time.Now()
	l, err := New(config)
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("built in %v", time.Since(start))
	t.Cleanup(func() {
		start := time.Now()
		if err := l.Close(); err != nil {
			t.Error(err)
		}
		t.Logf("taken down in %v", time.Since(start))
		if diff := cmp.Diff(before, inventory(t)); diff != "" {
			t.Errorf("the node before and after (-before +after):\n%s", diff)
		}
		if err := goleak.Find(goroutines); err != nil {
			t.Error(err)
		}
	})
	return l
}

// inventory is everything that a laboratory may change in the process and its namespace.
func inventory(t *testing.T) []string {
	t.Helper()
	var all []string
	links, err := netlink.LinkList()
	for _, link := range links {
		all = append(all, fmt.Sprint("link ", link.Attrs().Name, " ", link.Attrs().Flags))
	}
	addrs, e := netlink.AddrList(nil, netlink.FAMILY_ALL)
	for err = errors.Join(err, e); len(addrs) > 0; addrs = addrs[1:] {
		all = append(all, fmt.Sprint("address ", addrs[0].IPNet))
	}
	routes, e := netlink.RouteList(nil, netlink.FAMILY_ALL)
	for err = errors.Join(err, e); len(routes) > 0; routes = routes[1:] {
		all = append(all, fmt.Sprint("route ", routes[0]))
	}
	for _, family := range []netlink.InetFamily{unix.AF_INET, unix.AF_INET6} {
		flows, e := netlink.ConntrackTableList(netlink.ConntrackTable, family)
		for err = errors.Join(err, e); len(flows) > 0; flows = flows[1:] {
			all = append(all, fmt.Sprint("connection ", flows[0]))
		}
	}
	for _, name := range []string{"ipv4/ip_forward", "ipv6/conf/all/forwarding", "ipv4/icmp_ratelimit", "ipv6/icmp/ratelimit"} {
		value, e := os.ReadFile("/proc/sys/net/" + name)
		err = errors.Join(err, e)
		all = append(all, name+" "+string(value))
	}
	if err != nil {
		t.Fatal(err)
	}
	all = append(all, namespaces(t)...)
	sort.Strings(all)
	return all
}

// namespaces are those that a thread or a descriptor of this process keeps, apart from the process's own.
func namespaces(t *testing.T) (all []string) {
	t.Helper()
	own, err := os.Readlink("/proc/self/ns/net")
	if err != nil {
		t.Fatal(err)
	}
	for _, pattern := range []string{"/proc/self/task/*/ns/net", "/proc/self/fd/*"} {
		files, _ := filepath.Glob(pattern)
		for _, file := range files {
			if to, err := os.Readlink(file); err == nil && strings.HasPrefix(to, "net:") && to != own {
				all = append(all, "namespace "+to)
			}
		}
	}
	return all
}
