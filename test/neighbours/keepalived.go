//go:build kernel && neighbours

package neighbours

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"time"

	"kube-ipvs/test/child"
)

// keepalived has an address by VRRP and virtual servers of its own in the table that the proxy has its in.
type keepalived struct {
	*Place
	program *child.Program
	config  string
}

// The addresses of VRRP, and the port of the virtual servers behind it, of which pod2 is the real server.
var vrrp = []netip.Addr{netip.MustParseAddr("192.168.77.100"), netip.MustParseAddr("fd00:192:168:77::100")}

const vrrpPort = 8000

// NewKeepalived is Debian's keepalived.
func NewKeepalived(p *Place) Neighbour { return &keepalived{Place: p} }

func (k *keepalived) Version(ctx context.Context) (string, error) { return debian(ctx, "keepalived") }

func (k *keepalived) How() string {
	return "`keepalived -n -l -f` with a VRRP address of each family on the node's link and a virtual server (NAT, TCP_CHECK) on each"
}

func (k *keepalived) Start(ctx context.Context) error {
	if k.config == "" {
		text := fmt.Sprintf("global_defs {\n  router_id node1\n}\nvrrp_instance lan {\n  state MASTER\n  interface eth0\n  virtual_router_id 51\n"+
			"  priority 100\n  advert_int 1\n  virtual_ipaddress {\n    %v/24\n  }\n  virtual_ipaddress_excluded {\n    %v/64\n  }\n}\n", vrrp[0], vrrp[1])
		for i, v6 := range []bool{false, true} {
			text += fmt.Sprintf("virtual_server %v %d {\n  delay_loop 1\n  lvs_sched rr\n  lvs_method NAT\n  protocol TCP\n"+
				"  real_server %v 8080 {\n    weight 1\n    TCP_CHECK {\n      connect_timeout 3\n    }\n  }\n}\n", vrrp[i], vrrpPort, k.Pod("pod2").Addr(v6))
		}
		var err error
		if k.config, err = k.write("keepalived.conf", text); err != nil {
			return err
		}
		if k.program, err = k.Place.program(k.Node, nil, "keepalived", "-n", "-l", "-D", "-f", k.config); err != nil {
			return err
		}
	}
	if err := k.program.Start(); err != nil {
		return err
	}
	if err := until(ctx, time.Minute, func() error { return k.Works(ctx) }); err != nil {
		return errors.Join(err, k.program.LastWords())
	}
	return nil
}

func (k *keepalived) Works(ctx context.Context) error {
	var errs []error
	for _, addr := range vrrp {
		errs = append(errs, k.answers(ctx, k.Client, netip.AddrPortFrom(addr, vrrpPort), "pod2"))
	}
	return errors.Join(errs...)
}

func (k *keepalived) Stop(context.Context) error { return end(k.program) }

// Remove has nothing to do: keepalived takes all away when it ends.
func (k *keepalived) Remove(ctx context.Context) error { return k.Stop(ctx) }
