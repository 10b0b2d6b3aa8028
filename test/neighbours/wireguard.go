//go:build kernel && neighbours

package neighbours

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"strings"
	"time"

	"kube-ipvs/test/child"
)

// wireguard takes all of the node's default traffic through a tunnel to the router, as a VPN's client does.
type wireguard struct {
	*Place
	config, path string
	peer         *child.Program
	up           bool
}

// NewWireGuard is Debian's wg-quick, with the implementation that runs as a program where the kernel has none.
func NewWireGuard(p *Place) Neighbour { return &wireguard{Place: p} }

func (w *wireguard) Version(ctx context.Context) (string, error) {
	tools, err := debian(ctx, "wireguard-tools")
	program, err2 := debian(ctx, "wireguard-go")
	return tools + ", " + program, errors.Join(err, err2)
}

func (w *wireguard) How() string {
	return "`wg-quick up` with AllowedIPs = 0.0.0.0/0, ::/0 (rules of routing, src_valid_mark, marks restored); the peer is the router; its restart is `down` and `up`"
}

const wgPeerPort, wgServed = 51821, 7000

func (w *wireguard) Start(ctx context.Context) error {
	if w.config == "" {
		if err := w.prepare(ctx); err != nil {
			return err
		}
	}
	w.up = true
	return w.quick(ctx, "up")
}

// prepare makes keys and configuration, and the peer.
func (w *wireguard) prepare(ctx context.Context) error {
	var keys, public [2]string
	for i := range keys {
		key, err := run(ctx, "wg", "genkey")
		if err != nil {
			return err
		}
		cmd := exec.CommandContext(ctx, "wg", "pubkey")
		cmd.Stdin = strings.NewReader(key)
		if keys[i], public[i] = key, ""; err == nil {
			public[i], err = start(cmd)
		}
		if err != nil {
			return err
		}
	}
	// Bash's <( ) goes by this name, which the test kernel's /dev has not.
	if err := os.Symlink("/proc/self/fd", "/dev/fd"); err != nil && !errors.Is(err, os.ErrExist) {
		return err
	}
	var err error
	w.path, err = w.Place.path("bash", "sh", "ip", "wg", "wireguard-go", "sysctl", "stat", "readlink", "cat", "sort", "modprobe",
		"iptables", "iptables-save", "iptables-restore", "ip6tables", "ip6tables-save", "ip6tables-restore")
	if err != nil {
		return err
	}
	w.config, err = w.write("wg0.conf", fmt.Sprintf("[Interface]\nPrivateKey = %s\nAddress = 10.77.0.1/24, fd77::1/64\nListenPort = 51820\n"+
		"[Peer]\nPublicKey = %s\nEndpoint = %v\nAllowedIPs = 0.0.0.0/0, ::/0\nPersistentKeepalive = 1\n",
		keys[0], public[1], netip.AddrPortFrom(w.Router.Addr(false), wgPeerPort)))
	if err != nil {
		return err
	}
	peer, err2 := w.write("peer.conf", fmt.Sprintf("[Interface]\nPrivateKey = %s\nListenPort = %d\n[Peer]\nPublicKey = %s\nAllowedIPs = 0.0.0.0/0, ::/0\n",
		keys[1], wgPeerPort, public[0]))
	_, err = w.Serve(w.Client, tcp, wgServed, "client")
	if err := errors.Join(err, err2, os.Chmod(w.config, 0o600)); err != nil {
		return err
	}
	if w.peer, err = w.program(w.Router, nil, "wireguard-go", "-f", "peer0"); err != nil {
		return err
	}
	if err := w.peer.Start(); err != nil {
		return err
	}
	return until(ctx, time.Minute, func() error {
		_, err := w.on(ctx, w.Router, "sh", "-ec", "wg setconf peer0 "+peer+
			"; ip addr replace 10.77.0.2/24 dev peer0; ip addr replace fd77::2/64 dev peer0; ip link set peer0 up")
		return err
	})
}

// quick calls wg-quick, which would take nft where that is installed, though the test kernel cannot do it.
func (w *wireguard) quick(ctx context.Context, what string) error {
	program, err := exec.LookPath("wg-quick")
	if err != nil {
		return err
	}
	cmd := exec.CommandContext(ctx, program, what, w.config)
	is, err := legacy(ctx)
	if cmd.Env = os.Environ(); is {
		cmd.Env = append(cmd.Env, "PATH="+w.path)
	}
	if err != nil {
		return err
	}
	_, err = start(cmd)
	return err
}

// Works asks a server outside, the way to which is the tunnel.
func (w *wireguard) Works(ctx context.Context) error {
	err := each(w.Client, wgServed, func(at netip.AddrPort) error {
		return until(ctx, 20*time.Second, func() error { return w.answers(ctx, w.Node, at, "client") })
	})
	way, err2 := run(ctx, "ip", "route", "get", w.Client.Addr(false).String())
	if !strings.Contains(way, "dev wg0") {
		err = errors.Join(err, fmt.Errorf("the way is not the tunnel: %s", way))
	}
	return errors.Join(err, err2)
}

func (w *wireguard) Stop(ctx context.Context) error {
	w.up = false
	return w.quick(ctx, "down")
}

// Remove ends the peer, too.
func (w *wireguard) Remove(ctx context.Context) error {
	var errs []error
	if w.up {
		errs = append(errs, w.Stop(ctx))
	}
	errs = append(errs, end(w.peer))
	// wg-quick sets it and leaves it.
	_, err := run(ctx, "sysctl", "-q", "net.ipv4.conf.all.src_valid_mark=0")
	return errors.Join(append(errs, err)...)
}
