package netlink_test

import (
	"context"
	"errors"
	"fmt"

	"golang.org/x/sys/unix"

	"kube-ipvs/internal/netlink"
	"kube-ipvs/internal/netlink/netlinktest"
)

// Three messages travel in one send. The kernel refuses the second and carries out the others.
func ExampleConn_Do() {
	kernel := &netlinktest.Socket{}
	kernel.Handle = func(netlinktest.Request) error {
		if kernel.Sent == 2 {
			return unix.EEXIST
		}
		return nil
	}
	conn := netlink.New(kernel) // Dial connects to the running kernel
	defer conn.Close()

	var b netlink.Batch
	for _, name := range []string{"a", "b", "c"} {
		b.Begin(unix.RTM_NEWLINK, unix.NLM_F_CREATE|unix.NLM_F_EXCL)
		b.Raw(make([]byte, unix.SizeofIfInfomsg)...)
		b.Text(unix.IFLA_IFNAME, name)
		b.End()
	}
	for i, err := range conn.Do(context.Background(), &b) {
		fmt.Println(i, err, errors.Is(err, unix.EEXIST))
	}
	// Output:
	// 0 <nil> false
	// 1 file exists true
	// 2 <nil> false
}
