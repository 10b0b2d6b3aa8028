package ipset_test

import (
	"context"
	"errors"
	"fmt"
	"net/netip"

	"kube-ipvs/internal/inet"
	"kube-ipvs/ipset"
)

// A set of frontends with marks, and the test of two members.
func Example() {
	ctx := context.Background()
	var kernel ipset.Kernel = ipset.NewFake() // ipset.Open connects to the running kernel
	frontends := ipset.Set{Name: "FRONTENDS", Type: ipset.HashIPPort, Family: inet.IPv4, Marks: true}
	if err := kernel.Create(ctx, frontends); err != nil {
		fmt.Println(err)
	}
	web := ipset.Member{Addr: netip.MustParseAddr("10.96.0.20"), Proto: 6, Port: 80}
	dns := ipset.Member{Addr: netip.MustParseAddr("10.96.0.10"), Proto: 17, Port: 53}
	ops := []ipset.Op{
		{Verb: ipset.Add, Set: frontends, Member: web, Mark: ipset.Mark{Value: 0x4000, Mask: 0x4000}},
		{Verb: ipset.Test, Set: frontends, Member: web},
		{Verb: ipset.Test, Set: frontends, Member: dns},
	}
	for i, err := range kernel.Do(ctx, ops) {
		fmt.Println(ops[i], errors.Is(err, ipset.ErrNoMember))
	}
	// Output:
	// ipset add FRONTENDS 10.96.0.20,tcp:80 skbmark 0x4000/0x4000 false
	// ipset test FRONTENDS 10.96.0.20,tcp:80 false
	// ipset test FRONTENDS 10.96.0.10,udp:53 true
}
