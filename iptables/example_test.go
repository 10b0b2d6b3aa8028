package iptables_test

import (
	"context"
	"fmt"

	"kube-ipvs/internal/inet"
	"kube-ipvs/iptables"
)

// A chain with its jump, and the detection of a foreign change.
func Example() {
	ctx := context.Background()
	rules := iptables.Ruleset{
		Family: inet.IPv4,
		Chains: []iptables.Chain{{Table: "filter", Name: "KIPVS-INPUT", Rules: []string{"-d 10.96.0.0/12 -j REJECT"}}},
		Jumps:  []iptables.Jump{{Table: "filter", From: "INPUT", To: "KIPVS-INPUT"}},
	}
	fmt.Print(rules)

	fake := new(iptables.Fake) // iptables.Open finds the commands of this node
	fmt.Println(fake.Ensure(ctx, rules))
	fmt.Println(fake.InSync(ctx, inet.IPv4))
	fake.Change(inet.IPv4)
	fmt.Println(fake.InSync(ctx, inet.IPv4))
	// Output:
	// *filter
	// :KIPVS-INPUT - [0:0]
	// -A KIPVS-INPUT -d 10.96.0.0/12 -j REJECT
	// -I INPUT -j KIPVS-INPUT
	// COMMIT
	// <nil>
	// true <nil>
	// false <nil>
}
