package ipvs_test

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"

	"kube-ipvs/internal/inet"
	"kube-ipvs/ipvs"
)

// A virtual server with one real server. The last operation fails, since its virtual server does not exist.
func Example() {
	var kernel ipvs.Kernel = new(ipvs.Fake) // ipvs.Open connects to the running kernel
	dns := ipvs.AddrKey(inet.UDP, netip.MustParseAddrPort("10.96.0.10:53"))
	web := ipvs.AddrKey(inet.TCP, netip.MustParseAddrPort("10.96.0.20:80"))
	pod := netip.MustParseAddrPort("10.244.1.2:5353")
	ops := []ipvs.Op{
		{Verb: ipvs.AddServer, Key: dns, Server: ipvs.Server{Scheduler: "rr"}},
		{Verb: ipvs.AddReal, Key: dns, Addr: pod, Real: ipvs.Real{Weight: 1}},
		{Verb: ipvs.AddReal, Key: web, Addr: pod, Real: ipvs.Real{Weight: 1}},
	}
	for i, err := range kernel.Do(context.Background(), ops) {
		fmt.Println(ops[i], errors.Is(err, os.ErrNotExist))
	}
	table, err := kernel.Read(context.Background())
	fmt.Printf("%v%v\n", table, err)
	// Output:
	// ipvsadm -A -u 10.96.0.10:53 -s rr false
	// ipvsadm -a -u 10.96.0.10:53 -r 10.244.1.2:5353 -m -w 1 false
	// ipvsadm -a -t 10.96.0.20:80 -r 10.244.1.2:5353 -m -w 1 true
	// udp 10.96.0.10:53 rr
	//   -> 10.244.1.2:5353 w1
	// <nil>
}
