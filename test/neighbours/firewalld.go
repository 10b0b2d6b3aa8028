//go:build kernel && neighbours

package neighbours

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"strings"
	"time"

	"kube-ipvs/test/child"
	"kube-ipvs/test/lab"
)

// firewalld rejects what nobody allowed, with nft.
type firewalld struct {
	*Place
	bus, program *child.Program
}

// NewFirewalld is Debian's firewalld. It needs a kernel that has nft whole.
func NewFirewalld(p *Place) Neighbour { return &firewalld{Place: p} }

func (f *firewalld) Version(ctx context.Context) (string, error) { return debian(ctx, "firewalld") }

func (f *firewalld) How() string {
	return "`firewalld --nofork` on nft with a system bus; zone public: 22, 6443, 10250, 30000-32767 and the Services' own port 80 are open " +
		"(no later chain of nft takes back what an earlier one accepts, and the other way round); pods are in zone trusted"
}

func (f *firewalld) Start(ctx context.Context) error {
	if f.bus == nil {
		if err := f.prepare(ctx); err != nil {
			return err
		}
	}
	if err := f.program.Start(); err != nil {
		return err
	}
	err := until(ctx, 2*time.Minute, func() error {
		if err := f.program.Alive(); err != nil {
			return err
		}
		if state, err := run(ctx, "firewall-cmd", "--state"); err != nil || state != "running" {
			return errors.Join(err, fmt.Errorf("firewalld is %q", state))
		}
		return nil
	})
	if err != nil {
		return errors.Join(err, f.program.LastWords())
	}
	return nil
}

func (f *firewalld) prepare(ctx context.Context) (err error) {
	if err := errors.Join(os.MkdirAll("/run/dbus", 0o755), os.MkdirAll("/run/firewalld", 0o755), f.own(ctx, "/etc/firewalld")); err != nil {
		return err
	}
	for _, port := range []uint16{22, 9999} {
		if _, err := f.Serve(f.Node, tcp, port, "host"); err != nil {
			return err
		}
	}
	_, err = run(ctx, "firewall-offline-cmd", "--zone=public", "--add-port=22/tcp", "--add-port=6443/tcp", "--add-port=10250/tcp",
		"--add-port=30000-32767/tcp", "--add-port=30000-32767/udp", "--add-port=80/tcp", "--add-port=80/udp")
	_, err2 := run(ctx, "firewall-offline-cmd", "--zone=trusted", "--add-source=10.244.0.0/16", "--add-source=fd00:10:244::/48")
	if err := errors.Join(err, err2); err != nil {
		return err
	}
	if f.bus, err = f.Place.program(f.Node, nil, "dbus-daemon", "--system", "--nofork", "--nopidfile"); err != nil {
		return err
	}
	if err := f.bus.Start(); err != nil {
		return err
	}
	if err := until(ctx, time.Minute, func() error { _, err := os.Stat("/run/dbus/system_bus_socket"); return err }); err != nil {
		return errors.Join(err, f.bus.LastWords())
	}
	f.program, err = f.Place.program(f.Node, nil, "firewalld", "--nofork", "--nopid")
	return err
}

// Works asks a port that is open, and one that is not.
func (f *firewalld) Works(ctx context.Context) error {
	rules, err := run(ctx, "nft", "list", "tables")
	if !strings.Contains(rules, "table inet firewalld") {
		err = errors.Join(err, fmt.Errorf("no table of firewalld: %s", rules))
	}
	return errors.Join(err, each(f.Node, 22, func(open netip.AddrPort) error {
		closed := netip.AddrPortFrom(open.Addr(), 9999)
		err := f.answers(ctx, f.Client, open, "host")
		if a := f.Ask(ctx, f.Client, tcp, closed, lab.Wait(3*time.Second)); !errors.Is(a.Err, lab.ErrRefused) {
			err = errors.Join(err, fmt.Errorf("%v is open: %v", closed, a))
		}
		return err
	}))
}

func (f *firewalld) Stop(context.Context) error { return end(f.program) }

// Remove ends the bus, too: firewalld takes its table away when it ends.
func (f *firewalld) Remove(ctx context.Context) error {
	return errors.Join(f.Stop(ctx), end(f.bus))
}
