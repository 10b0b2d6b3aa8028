// Package vip holds what makes the node take packets for service addresses: the kube-ipvs0 link, the rule and route that
// divert marked packets to the local host, the routes that give the node a way to service addresses, and, in bind mode,
// the addresses themselves.
package vip

import (
	"cmp"
	"context"
	"fmt"
	"net/netip"
)

// A Kind says what an Item is. Kinds are in the order in which items must be made; they are removed in reverse.
type Kind uint8

// The kinds of items.
const (
	// Link is the dummy link, up, without ARP and without IPv6 link-local address. Its Item has no prefix.
	Link Kind = iota
	// Divert delivers packets whose firewall mark has all bits of Mark to the local host: the route "local PREFIX dev
	// lo" in the divert table, and the rule that looks it up for the mark. The prefix is 0.0.0.0/0 or ::/0 and says
	// the family.
	Divert
	// LastResort is the rule that looks up the last-resort table after every other: its routes are used only for
	// destinations that the node has no route for at all. The prefix is 0.0.0.0/0 or ::/0 and says the family.
	LastResort
	// Refuse routes packets to the link, where rules refuse them, if their firewall mark under Mask is Mark: the rule
	// that looks up the refuse table, whose only route is a RefuseRoute. The prefix is 0.0.0.0/0 or ::/0 and says the
	// family. IPVS could refuse IPv4 packets only for addresses that are the host's (icmp_send in net/ipv4/icmp.c: the
	// source of its answer would be the service address).
	Refuse
	// Route is a route in the main table over the link: service CIDRs, and cluster IPs outside of all known ones.
	Route
	// LastRoute is a route in the last-resort table over the link: external addresses, so that connect() on a node
	// without default route gets as far as IPVS.
	LastRoute
	// RefuseRoute is the default route in the refuse table over the link. The prefix is 0.0.0.0/0 or ::/0.
	RefuseRoute
	// Address is a service address on the link, in bind mode: a prefix of full length.
	Address
)

// An Item is one thing that must be there.
type Item struct {
	Kind   Kind
	Prefix netip.Prefix
	Mark   uint32 // for Divert and Refuse
	Mask   uint32 // for Refuse: the bits of the mark that count
}

// Compare orders items by kind, prefix, mark and mask.
func (i Item) Compare(o Item) int {
	return cmp.Or(cmp.Compare(i.Kind, o.Kind), i.Prefix.Addr().Compare(o.Prefix.Addr()), cmp.Compare(i.Prefix.Bits(), o.Prefix.Bits()), cmp.Compare(i.Mark, o.Mark), cmp.Compare(i.Mask, o.Mask))
}

// How the objects are named. Other agents recognise IPVS mode by the link's name (Calico's Felix). What carries the
// protocol number in the main table, or lies in one of the two tables, is ours.
const (
	LinkName           = "kube-ipvs0"
	DivertTable        = 7598  // routing table of the divert route
	DivertPriority     = 7598  // priority of the divert rule: before the main table's (32766)
	RefuseTable        = 7597  // routing table of the refuse route
	RefusePriority     = 7597  // priority of the refuse rule: before the main table's
	LastResortTable    = 7599  // routing table of the last-resort routes
	LastResortPriority = 37599 // priority of the last-resort rule: after the default table's (32767)
	RouteProtocol      = 175   // rtm_protocol of our routes and rules (free in include/uapi/linux/rtnetlink.h)
)

// A Verb says what an Op does.
type Verb uint8

// Add makes an item, or mends it where it is there but not as it should be; Del removes it.
const (
	Add Verb = iota
	Del
)

// An Op is one change. It prints as the ip command that would make it.
type Op struct {
	Verb Verb
	Item Item
}

// String returns the op as an operator would type it.
func (op Op) String() string {
	verb, p := "add", op.Item.Prefix
	if op.Verb == Del {
		verb = "del"
	}
	switch op.Item.Kind {
	case Link:
		return fmt.Sprintf("ip link %s %s type dummy", verb, LinkName)
	case Divert:
		return fmt.Sprintf("ip rule %s pref %d fwmark 0x%x/0x%[3]x lookup %d (local %v dev lo)", verb, DivertPriority, op.Item.Mark, DivertTable, p)
	case LastResort:
		return fmt.Sprintf("ip rule %s pref %d lookup %d (%v)", verb, LastResortPriority, LastResortTable, p)
	case Refuse:
		return fmt.Sprintf("ip rule %s pref %d fwmark 0x%x/0x%x lookup %d (%v)", verb, RefusePriority, op.Item.Mark, op.Item.Mask, RefuseTable, p)
	case RefuseRoute:
		return fmt.Sprintf("ip route %s %v dev %s table %d", verb, p, LinkName, RefuseTable)
	case Route:
		return fmt.Sprintf("ip route %s %v dev %s", verb, p, LinkName)
	case LastRoute:
		return fmt.Sprintf("ip route %s %v dev %s table %d", verb, p, LinkName, LastResortTable)
	case Address:
		return fmt.Sprintf("ip address %s %v dev %s", verb, p, LinkName)
	}
	return fmt.Sprintf("%s kind(%d) %v", verb, op.Item.Kind, p)
}

// A Kernel keeps items.
type Kernel interface {
	// Read returns the items that are there and right. One that is there but not as it should be (a link that is
	// down, a rule without its route) is left out, so that it is made again. After an error what it returns means
	// nothing.
	Read(context.Context) (map[Item]struct{}, error)

	// Do carries out the ops in their order and returns one error for each, or nil if all went well. One that fails
	// stops no other. Adding what is there and deleting what is gone are success.
	Do(context.Context, []Op) []error
}
