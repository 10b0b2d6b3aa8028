// Package steering holds the routing objects that make the node accept packets for service addresses: the kube-ipvs0 link, the
// local routes of service ranges, the rules and routes that deliver marked packets for external addresses to this host,
// and, in bind mode, the addresses themselves.
package steering

import (
	"cmp"
	"context"
	"fmt"
	"net/netip"
)

// A Kind is the kind of an Item. Items must be added in the order of their kinds and removed in reverse.
type Kind uint8

// The kinds of items.
const (
	// Link is the dummy link, up, without ARP and without IPv6 link-local address. Its Item has no prefix.
	Link Kind = iota
	// Policy is a rule of the routing policy. The prefix is 0.0.0.0/0 or ::/0, for the family.
	Policy
	// Refuse is a route to one address over the link, in the local table, which is looked up before every other: packets
	// translated to that address end in FORWARD or OUTPUT, where rules reject them.
	Refuse
	// Local delivers a prefix to this host, without an address on any link: a route in the local table. Its source is that
	// of the node's own connections to the prefix.
	Local
	// Divert delivers an address to this host, if a Policy looks up the divert table. It is over the link, like all that is
	// local here: Calico's Felix takes local routes over others, of any table, for addresses of the host.
	Divert
	// LastRoute is a route over the link in the last-resort table: external addresses, so that connect() on a node
	// without default route gets as far as IPVS.
	LastRoute
	// Address is a service address on the link, in bind mode: a prefix of full length.
	Address
)

// An Item is one desired object.
type Item struct {
	Kind   Kind
	Prefix netip.Prefix
	Rule   Rule // of a Policy
}

// Compare orders items by kind, prefix and rule.
func (i Item) Compare(o Item) int {
	return cmp.Or(cmp.Compare(i.Kind, o.Kind), i.Prefix.Addr().Compare(o.Prefix.Addr()), cmp.Compare(i.Prefix.Bits(), o.Prefix.Bits()), i.Rule.compare(o.Rule))
}

// onLink reports whether the item is on the link, or a route over it, and is removed with it.
func (i Item) onLink() bool { return i.Kind >= Refuse }

// A Rule is a rule of the routing policy: packets with this mark look up a table.
type Rule struct {
	Priority uint32 // lower ones come first; the local table has 0; a Conn trades those of Policies for lower ones (see place)
	Mark     uint32 // of the packet, under Mask
	Mask     uint32 // the bits of the mark that count; 0: none
	Own      bool   // only look-ups of the node itself ("iif lo"): packets that it sends, and checks of the way back
	Table    uint32 // to look up; 0: none, continue with the rule at Goto
	Goto     uint32 // a later priority
}

func (r Rule) compare(o Rule) int {
	return cmp.Or(cmp.Compare(r.Priority, o.Priority), cmp.Compare(r.Mark, o.Mark), cmp.Compare(r.Mask, o.Mask), cmp.Compare(r.Table, o.Table), cmp.Compare(r.Goto, o.Goto), compareBool(r.Own, o.Own))
}

func compareBool(a, b bool) int {
	switch {
	case a == b:
		return 0
	case a:
		return 1
	}
	return -1
}

// String returns the rule in the syntax of ip-rule(8).
func (r Rule) String() string {
	s := fmt.Sprintf("pref %d", r.Priority)
	if r.Own {
		s += " iif lo"
	}
	if r.Mask != 0 {
		s += fmt.Sprintf(" fwmark 0x%x/0x%x", r.Mark, r.Mask)
	}
	if r.Table == 0 {
		return s + fmt.Sprintf(" goto %d", r.Goto)
	}
	return s + fmt.Sprintf(" lookup %d", r.Table)
}

// Names of the objects. Other agents recognise IPVS mode by the link's name (Calico's Felix). Objects with the protocol
// number, or in one of the two tables, are owned.
const (
	LinkName        = "kube-ipvs0"
	DivertTable     = 7598 // routing table of Divert
	LastResortTable = 7599 // routing table of LastRoute
	RouteProtocol   = 175  // rtm_protocol of owned routes and rules (free in include/uapi/linux/rtnetlink.h)
)

// Priorities of rules, as long as no stranger's rule comes before (see place.go). Calico has 99 and others, Cilium 1, 9 and
// 100, AWS's CNI 512 and up, l3mdev 1000.
const (
	ownPriority        = 90
	checkPriority      = 91
	divertPriority     = 92
	afterPriority      = 93
	lastResortPriority = 37599 // after the default table's (32767)
)

// Policies returns the rules of a family, given by its unspecified prefix. Packets with the mark divert look up the
// divert table, and so do packets of the node itself with the mark own. Checks of the way back, which look up a source
// with the packet's mark where src_valid_mark is set, skip it: a source may be a service address, too.
//
// The tables are narrow, so that a mark that outlives the translation of a packet finds nothing there.
func Policies(family netip.Prefix, divert, own uint32) []Item {
	rules := []Rule{
		{Priority: ownPriority, Mark: own, Mask: own, Own: true, Table: DivertTable},
		{Priority: checkPriority, Mark: divert, Mask: divert, Own: true, Goto: afterPriority},
		{Priority: divertPriority, Mark: divert, Mask: divert, Table: DivertTable},
		{Priority: afterPriority, Table: emptyTable},
		{Priority: lastResortPriority, Table: LastResortTable},
	}
	out := make([]Item, len(rules))
	for i, r := range rules {
		out[i] = Item{Kind: Policy, Prefix: family, Rule: r}
	}
	return out
}

// emptyTable is a table without routes, for the target of a goto: it must exist, and the kernel resolves it when either
// rule is added.
const emptyTable = 7597

// A Verb is the kind of an Op.
type Verb uint8

// Add creates an item or repairs an incorrect one; Del removes it.
const (
	Add Verb = iota
	Del
)

// An Op is one change. It prints as the equivalent ip command, with the priorities of Policies.
type Op struct {
	Verb   Verb
	Item   Item
	Source netip.Addr // of a Local that is added
	Over   bool       // a Local that is added goes before the kernel's route of the same address on the link
}

// String returns the equivalent ip command.
func (op Op) String() string {
	verb, p := "add", op.Item.Prefix
	if op.Verb == Del {
		verb = "del"
	}
	switch op.Item.Kind {
	case Link:
		return fmt.Sprintf("ip link %s %s type dummy", verb, LinkName)
	case Policy:
		return fmt.Sprintf("%s rule %s %v", ip(p), verb, op.Item.Rule)
	case Refuse:
		return fmt.Sprintf("ip route %s %v dev %s table local", verb, p, LinkName)
	case Local:
		if op.Source.IsValid() {
			return fmt.Sprintf("ip route %s local %v dev %s table local src %v", verb, p, LinkName, op.Source)
		}
		return fmt.Sprintf("ip route %s local %v dev %s table local", verb, p, LinkName)
	case Divert:
		return fmt.Sprintf("ip route %s local %v dev %s table %d", verb, p, LinkName, DivertTable)
	case LastRoute:
		return fmt.Sprintf("ip route %s %v dev %s table %d", verb, p, LinkName, LastResortTable)
	case Address:
		return fmt.Sprintf("ip address %s %v dev %s", verb, p, LinkName)
	}
	return fmt.Sprintf("%s kind(%d) %v", verb, op.Item.Kind, p)
}

// ip returns the command for a family, for arguments without an address.
func ip(family netip.Prefix) string {
	if family.Addr().Is6() {
		return "ip -6"
	}
	return "ip"
}

// Items are objects, with the sources of Local ones.
type Items map[Item]netip.Addr

// A Kernel keeps items.
type Kernel interface {
	// Read returns the existing correct items. It leaves out incorrect ones, such as a link that is down, so that they
	// are added again. After an error the result is meaningless.
	Read(context.Context) (Items, error)

	// Do carries out the ops in order and returns one error for each, or nil if all succeeded. A failed one does not
	// stop the others. Adding an existing item and deleting a missing one are success.
	Do(context.Context, []Op) []error
}
