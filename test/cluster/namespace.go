package cluster

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"runtime"
	"strings"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// The tap device of a cluster in a network namespace of its own, and its addresses. A kernel that is started with
// Command and "vec0:transport=tap,ifname=" + TapName is at the device's other end; the addresses named Peer are for it.
const (
	TapName  = "tap0"
	TapHost4 = "172.30.0.1/24"
	TapHost6 = "fd00:172:30::1/64"
	TapPeer4 = "172.30.0.2/24"
	TapPeer6 = "fd00:172:30::2/64"
)

// tapPort is where an API server in a namespace of its own listens: nobody else is there to take the port.
func tapPort() port {
	host, _, _ := strings.Cut(TapHost4, "/")
	return port{host: host, number: "6443"}
}

// A namespace is a network namespace without a name: it lives as long as this handle and the processes in it.
type namespace struct{ handle netns.NsHandle }

// newNamespace makes a network namespace whose lo is up and that has the tap device. It needs CAP_SYS_ADMIN.
func newNamespace() (*namespace, error) {
	n := &namespace{handle: netns.None()}
	err := onThread(func() (err error) {
		if n.handle, err = netns.New(); err != nil {
			return err
		}
		return setUpLinks()
	})
	if err != nil {
		return n, fmt.Errorf("make a network namespace (it takes root): %w", err)
	}
	return n, nil
}

// setUpLinks sets up lo and the tap device in the thread's namespace.
func setUpLinks() error {
	tap := &netlink.Tuntap{
		LinkAttrs: netlink.LinkAttrs{Name: TapName},
		Mode:      netlink.TUNTAP_MODE_TAP,
		Flags:     netlink.TUNTAP_NO_PI | netlink.TUNTAP_VNET_HDR,
	}
	if err := netlink.LinkAdd(tap); err != nil {
		return fmt.Errorf("add %s: %w", TapName, err)
	}
	// User-mode Linux drops frames of several segments (arch/um/drivers/vector_transports.c), so that TCP goes on with one segment for
	// each timeout: a watch that had much to tell was minutes behind.
	if err := netlink.LinkSetGSOMaxSegs(tap, 1); err != nil {
		return fmt.Errorf("let %s send single segments: %w", TapName, err)
	}
	for _, address := range []string{TapHost4, TapHost6} {
		a, err := netlink.ParseAddr(address)
		if err != nil {
			return err
		}
		// Nobody is at the other end yet, so duplicate address detection would not end.
		a.Flags = unix.IFA_F_NODAD
		if err := netlink.AddrAdd(tap, a); err != nil {
			return fmt.Errorf("add %s to %s: %w", address, TapName, err)
		}
	}
	for _, name := range []string{"lo", TapName} {
		link, err := netlink.LinkByName(name)
		if err != nil {
			return fmt.Errorf("find %s: %w", name, err)
		}
		if err := netlink.LinkSetUp(link); err != nil {
			return fmt.Errorf("set %s up: %w", name, err)
		}
	}
	return nil
}

// dial connects to an address as a process in the namespace would.
func (n *namespace) dial(ctx context.Context, network, address string) (conn net.Conn, err error) {
	err = onThread(func() (err error) {
		if err := netns.Set(n.handle); err != nil {
			return err
		}
		// The address is an IP address, for which net makes its one socket in this goroutine.
		conn, err = new(net.Dialer).DialContext(ctx, network, address)
		return err
	})
	return conn, err
}

// command returns a command that runs in the namespace. Nsenter becomes the program without forking.
func (n *namespace) command(name string, args ...string) *exec.Cmd {
	handle := fmt.Sprintf("--net=/proc/%d/fd/%d", os.Getpid(), n.handle)
	return exec.Command("nsenter", append([]string{handle, "--", name}, args...)...)
}

func (n *namespace) close() error {
	if !n.handle.IsOpen() {
		return nil
	}
	return n.handle.Close()
}

// onThread runs f on a thread of its own, which ends with it: f may change the thread's namespace.
func onThread(f func() error) error {
	result := make(chan error)
	go func() {
		runtime.LockOSThread() // never unlocked, so that the runtime throws the thread away
		result <- f()
	}()
	return <-result
}
