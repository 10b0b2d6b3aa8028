//go:build kernel && neighbours

package neighbours

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"time"

	"kube-ipvs/test/lab"
)

// ufw drops what nobody allowed.
type ufw struct {
	*Place
	set bool
}

// What a node of Kubernetes has open: SSH, the API server, the kubelet, node ports, and everything for pods.
var ufwRules = []string{
	"default deny incoming", "default allow outgoing", "default allow routed",
	"allow 22/tcp", "allow 6443/tcp", "allow 10250/tcp", "allow 30000:32767/tcp", "allow 30000:32767/udp",
	"allow from 10.244.0.0/16", "allow from fd00:10:244::/48",
}

// NewUFW is Debian's ufw.
func NewUFW(p *Place) Neighbour { return &ufw{Place: p} }

func (u *ufw) Version(ctx context.Context) (string, error) { return debian(ctx, "ufw") }

func (u *ufw) How() string {
	return "`ufw enable`, default deny incoming, allow routed; open: 22, 6443, 10250, 30000:32767, all from pods; its restart is `ufw reload`"
}

func (u *ufw) Start(ctx context.Context) error {
	if u.set {
		_, err := run(ctx, "ufw", "reload")
		return err
	}
	u.set = true
	err := errors.Join(u.ownTables(ctx), u.own(ctx, "/etc/ufw"), u.own(ctx, "/etc/default"), u.own(ctx, "/lib/ufw"))
	if err != nil {
		return err
	}
	for _, port := range []uint16{22, 9999} {
		if _, err := u.Serve(u.Node, tcp, port, "host"); err != nil {
			return err
		}
	}
	for _, rule := range ufwRules {
		if _, err := shell(ctx, "ufw "+rule); err != nil {
			return err
		}
	}
	_, err = run(ctx, "ufw", "--force", "enable")
	return err
}

// Works asks a port that is open, and one that is not.
func (u *ufw) Works(ctx context.Context) error {
	return each(u.Node, 22, func(open netip.AddrPort) error {
		closed := netip.AddrPortFrom(open.Addr(), 9999)
		err := u.answers(ctx, u.Client, open, "host")
		if a := u.Ask(ctx, u.Client, tcp, closed, lab.Wait(300*time.Millisecond)); !errors.Is(a.Err, lab.ErrSilence) {
			err = errors.Join(err, fmt.Errorf("%v is open: %v", closed, a))
		}
		return err
	})
}

// Stop has nothing to do: it is no program that runs.
func (u *ufw) Stop(context.Context) error { return nil }

func (u *ufw) Remove(ctx context.Context) error {
	if !u.set {
		return nil
	}
	_, err := run(ctx, "ufw", "disable")
	return err
}
