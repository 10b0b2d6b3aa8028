package ipvsmode

import (
	"context"
	"errors"
	"fmt"

	"golang.org/x/sys/unix"

	"kube-ipvs/ipset"
	"kube-ipvs/iptables"
	"kube-ipvs/ipvs"
	"kube-ipvs/ipvs/conntrack"
	"kube-ipvs/ipvs/steering"
	"kube-ipvs/ipvs/sysctl"
)

// A Kernel is the tables of a kernel that this mode uses.
type Kernel struct {
	IPVS     ipvs.Kernel
	Sets     ipset.Kernel
	Steering steering.Kernel
	Rules    iptables.Kernel
	Sysctl   sysctl.Kernel
	Flows    conntrack.Kernel
}

// A Connection is the running kernel's tables, open, in one network namespace.
type Connection struct {
	IPVS     *ipvs.Conn
	Sets     *ipset.Conn
	Steering *steering.Conn
	Rules    *iptables.Commands
	Sysctl   *sysctl.Files
	Flows    *conntrack.Conn

	// Counters is IPVS once more, for readers that the loop must not wait for.
	Counters *ipvs.Conn

	open []func() error // closes each
}

// Open opens the running kernel's tables, and its settings below procSys; empty: /proc/sys. Each error names the missing part.
func Open(ctx context.Context, procSys string) (*Connection, error) {
	return open(ctx, procSys, iptables.Open)
}

// OpenReadOnly is Open without a write, for Dry: the kernel may still load modules that a read needs.
func OpenReadOnly(ctx context.Context, procSys string) (*Connection, error) {
	return open(ctx, procSys, iptables.OpenReadOnly)
}

func open(ctx context.Context, procSys string, openRules func(context.Context) (*iptables.Commands, error)) (c *Connection, err error) {
	c = &Connection{Sysctl: &sysctl.Files{Root: procSys}}
	c.open = append(c.open, c.Sysctl.Close)
	defer func() {
		if err != nil {
			err = errors.Join(err, c.Close())
		}
	}()
	if c.IPVS, err = ipvs.Open(); err != nil {
		return c, err
	}
	c.open = append(c.open, c.IPVS.Close)
	if c.Counters, err = ipvs.Open(); err != nil {
		return c, err
	}
	c.open = append(c.open, c.Counters.Close)
	if c.Sets, err = ipset.Open(); err != nil {
		return c, err
	}
	c.open = append(c.open, c.Sets.Close)
	if c.Steering, err = steering.Open(); err != nil {
		return c, err
	}
	c.open = append(c.open, c.Steering.Close)
	if c.Flows, err = conntrack.Open(); err != nil {
		return c, err
	}
	c.open = append(c.open, c.Flows.Close)
	if c.Rules, err = openRules(ctx); err != nil {
		return c, fmt.Errorf("%w (install the package iptables)", err)
	}
	c.open = append(c.open, c.Rules.Close)
	return c, nil
}

// Close closes all open tables.
func (c *Connection) Close() error {
	var errs []error
	for _, close := range c.open {
		errs = append(errs, close())
	}
	return errors.Join(errs...)
}

// Kernel returns the tables.
func (c *Connection) Kernel() Kernel {
	return Kernel{IPVS: c.IPVS, Sets: c.Sets, Steering: c.Steering, Rules: c.Rules, Sysctl: c.Sysctl, Flows: c.Flows}
}

// DefaultSettings returns the kernel settings that this mode needs, and keeps, on a kernel of a release.
func DefaultSettings(release string) []sysctl.Setting {
	return []sysctl.Setting{
		{Name: "net/ipv4/ip_forward", Value: "1"},
		{Name: "net/ipv4/vs/conntrack", Value: "1"},                 // masquerading happens in conntrack
		{Name: "net/ipv4/vs/expire_nodest_conn", Value: "1"},        // no connection waits for a real server that is gone
		{Name: "net/ipv4/vs/expire_quiescent_template", Value: "1"}, // affinity does not hold a client to one that drains
		{Name: "net/ipv4/vs/conn_reuse_mode", Value: reuseMode(release)},
	}
}

// Release returns the running kernel's release, such as "6.1.0-13-amd64".
func Release() string {
	var u unix.Utsname
	if err := unix.Uname(&u); err != nil {
		return ""
	}
	return unix.ByteSliceToString(u.Release[:])
}

// reuseMode is how IPVS treats a new connection from the port of an old one. From Linux 5.9 on it goes to another real
// server without delay (kernel commit f0a5e4d7a594); before, that cost each such connection a second, and keeping the old
// real server was the lesser evil. The change cannot be detected: it came without a setting or a new version of IPVS, and
// distributions backport it. With an old release that has it, such connections only stay with their real server; from
// 5.16 on not even with one of weight 0, whatever the mode.
func reuseMode(release string) string {
	var major, minor int
	if n, _ := fmt.Sscanf(release, "%d.%d", &major, &minor); n == 2 && (major < 5 || major == 5 && minor < 9) {
		return "0"
	}
	return "1"
}
