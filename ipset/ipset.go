// Package ipset holds the kernel's IP sets as values: sets, their members, and the operations that change them. A Kernel
// keeps sets; Conn is the running kernel's, over netlink, and Fake one in memory.
package ipset

import (
	"cmp"
	"context"
	"fmt"
	"net/netip"
)

// A Type is a set's type: what a member consists of and how it is stored.
type Type string

// The types that the proxy uses, by their names in ipset(8).
const (
	HashIP        Type = "hash:ip"
	HashIPPort    Type = "hash:ip,port"
	HashIPPortIP  Type = "hash:ip,port,ip"
	HashIPPortNet Type = "hash:ip,port,net"
	HashNet       Type = "hash:net"
)

// A Family is the address family of a set's members.
type Family uint8

// The families, by their numbers in Linux (NFPROTO_IPV4, NFPROTO_IPV6).
const (
	IPv4 Family = 2
	IPv6 Family = 10
)

// FamilyOf returns the family of an address.
func FamilyOf(a netip.Addr) Family {
	if a.Is4() {
		return IPv4
	}
	return IPv6
}

// A Set is a set's definition. Sets with the same name are the same set; one whose definition differs cannot be used.
type Set struct {
	Name   string // at most 31 bytes
	Type   Type
	Family Family
	Marks  bool // members carry a Mark (the skbinfo extension)
}

// MaxElem is the most members that a set may have. It is a limit and not a size: the kernel's hash grows with its
// members. ipset's own default of 65536 is below what a large cluster needs (kubernetes/kubernetes#129389).
const MaxElem = 1 << 24

// A Member is an element of a set. Which fields it has depends on the set's type; the others are zero.
type Member struct {
	Addr  netip.Addr
	Other netip.Prefix // of net; or the third part of ip,port,ip (a single address) and ip,port,net
	Port  uint16
	Proto uint8 // IP protocol number of the port
}

// Compare orders members by address, protocol, port and the third part.
func (m Member) Compare(o Member) int {
	return cmp.Or(m.Addr.Compare(o.Addr), cmp.Compare(m.Proto, o.Proto), cmp.Compare(m.Port, o.Port),
		m.Other.Addr().Compare(o.Other.Addr()), cmp.Compare(m.Other.Bits(), o.Other.Bits()))
}

// String returns the member as ipset(8) writes it, such as "10.96.0.10,tcp:53".
func (m Member) String() string {
	switch {
	case m.Proto != 0:
	case m.Addr.IsValid():
		return m.Addr.String()
	case m.Other.IsSingleIP():
		return m.Other.Addr().String()
	default:
		return m.Other.String()
	}
	s := fmt.Sprintf("%v,%s:%d", m.Addr, protoName(m.Proto), m.Port)
	switch {
	case !m.Other.IsValid():
		return s
	case m.Other.IsSingleIP():
		return s + "," + m.Other.Addr().String()
	}
	return s + "," + m.Other.String()
}

func protoName(p uint8) string {
	switch p {
	case 6:
		return "tcp"
	case 17:
		return "udp"
	case 132:
		return "sctp"
	}
	return fmt.Sprint(p)
}

// A Mark is what a member does to the firewall mark of a packet that the SET target maps: the bits of Mask become those
// of Value. The zero Mark changes nothing.
type Mark struct{ Value, Mask uint32 }

// String returns the mark as ipset(8) writes it, such as "0x8000/0xe000".
func (m Mark) String() string { return fmt.Sprintf("0x%x/0x%x", m.Value, m.Mask) }

// A Verb says what an Op does.
type Verb uint8

// Add puts a member into a set, or gives it another mark if it is there; Del takes it out; Test says whether it is there.
const (
	Add Verb = iota
	Del
	Test
)

// An Op is one change to a set's members, or one question. It prints as the ipset command that would make it.
type Op struct {
	Verb   Verb
	Set    Set
	Member Member
	Mark   Mark // for Add, in sets with Marks
}

// String returns the op as an operator would type it.
func (op Op) String() string {
	switch {
	case op.Verb == Del:
		return fmt.Sprintf("ipset del %s %v", op.Set.Name, op.Member)
	case op.Verb == Test:
		return fmt.Sprintf("ipset test %s %v", op.Set.Name, op.Member)
	case op.Set.Marks:
		return fmt.Sprintf("ipset add %s %v skbmark %v", op.Set.Name, op.Member, op.Mark)
	}
	return fmt.Sprintf("ipset add %s %v", op.Set.Name, op.Member)
}

// A Kernel keeps IP sets.
type Kernel interface {
	// Create makes the set, or does nothing if it is there as defined. The error is os.ErrExist if a set of that
	// name is there with another definition.
	Create(context.Context, Set) error

	// Destroy removes the set of that name with its members. That it is not there is success. The error is ErrInUse
	// if a rule refers to it.
	Destroy(ctx context.Context, name string) error

	// Names returns the names of all sets, in order.
	Names(context.Context) ([]string, error)

	// Differ returns those of the sets that are there with another definition, by name: what differs, which is
	// os.ErrExist. No member is sent, as with Counts.
	Differ(context.Context, []Set) (map[string]error, error)

	// Read returns the set's members. The error is os.ErrNotExist if there is no such set. After an error what it
	// returns means nothing: an unreadable set is not an empty one.
	Read(context.Context, Set) (map[Member]Mark, error)

	// Counts returns how many members each set has, by name. No member is sent, but the kernel looks at
	// each (mtype_ext_size in net/netfilter/ipset/ip_set_hash_gen.h).
	Counts(context.Context) (map[string]int, error)

	// Do carries out the ops in their order, set by set, and returns one error for each, or nil if all went well. One that fails
	// stops no other. Adding what is there and deleting what is gone are success. errors.Is tells os.ErrNotExist (no
	// such set), ErrFull and ErrNoMember (of Test). A Test costs the same however much is in the set.
	Do(context.Context, []Op) []error
}
