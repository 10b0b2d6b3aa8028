// Package ipset holds the kernel's IP sets as values: sets, their members, and the operations that change them. A Kernel
// keeps sets: Conn the running kernel's, over netlink, Fake some in memory.
package ipset

import (
	"cmp"
	"context"
	"fmt"
	"net/netip"

	"kube-ipvs/internal/inet"
)

// A Type is a set's type, which determines the fields of its members.
type Type string

// The supported types, by their names in ipset(8).
const (
	HashIP        Type = "hash:ip"
	HashIPPort    Type = "hash:ip,port"
	HashIPPortIP  Type = "hash:ip,port,ip"
	HashIPPortNet Type = "hash:ip,port,net"
	HashNet       Type = "hash:net"

	// BitmapPort is kube-proxy's for node ports. Such sets are read and destroyed only, and have no family.
	BitmapPort Type = "bitmap:port"
)

// A Set is a set's definition. Sets with the same name are the same set; a different definition makes it unusable.
type Set struct {
	Name   string // at most 31 bytes
	Type   Type
	Family inet.Family
	Marks  bool // members carry a Mark (the skbinfo extension)
}

// MaxElem is the maximum number of members of a set. It is a limit and not a size: the kernel's hash grows with its
// members. ipset's default of 65536 is too small for a large cluster (kubernetes/kubernetes#129389).
const MaxElem = 1 << 24

// A Member is an element of a set. The set's type determines its fields; the others are zero.
type Member struct {
	Addr  netip.Addr
	Other netip.Prefix // of net; or the third field of ip,port,ip (a single address) and ip,port,net
	Port  uint16
	Proto inet.Protocol // of the port
}

// Compare orders members by address, protocol, port and Other.
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
	s := fmt.Sprintf("%v,%s:%d", m.Addr, m.Proto, m.Port)
	switch {
	case !m.Other.IsValid():
		return s
	case m.Other.IsSingleIP():
		return s + "," + m.Other.Addr().String()
	}
	return s + "," + m.Other.String()
}

// A Mark is a member's change to the firewall mark of a packet, made by the SET target with --map-mark: the bits of Mask
// become those of Value. The zero Mark changes nothing.
type Mark struct{ Value, Mask uint32 }

// String returns the mark as ipset(8) writes it, such as "0x8000/0xe000".
func (m Mark) String() string { return fmt.Sprintf("0x%x/0x%x", m.Value, m.Mask) }

// A Verb is the kind of an Op.
type Verb uint8

// Add puts a member into a set, or changes the mark of an existing one; Del takes it out; Test reports whether it is in
// the set.
const (
	Add Verb = iota
	Del
	Test
)

// An Op is one change to a set's members, or one query. It prints as the equivalent ipset command.
type Op struct {
	Verb   Verb
	Set    Set
	Member Member
	Mark   Mark // for Add, in sets with Marks
}

// String returns the equivalent ipset command.
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
	// Create makes the set, or does nothing if it exists as defined. The error is os.ErrExist if a set of that name
	// has another definition.
	Create(context.Context, Set) error

	// Destroy removes the set of that name with its members. A missing set is success. The error is ErrInUse if a
	// rule refers to it.
	Destroy(ctx context.Context, name string) error

	// Names returns the names of all sets, in order.
	Names(context.Context) ([]string, error)

	// Differ returns the differences of existing sets from these definitions, by name, each an os.ErrExist. It reads no
	// members.
	Differ(context.Context, []Set) (map[string]error, error)

	// Read returns the set's members. The error is os.ErrNotExist if there is no such set. After an error the result
	// is meaningless: an unreadable set is not an empty one.
	Read(context.Context, Set) (map[Member]Mark, error)

	// Counts returns the number of members of each set, by name. The kernel sends no members, but visits each
	// (mtype_ext_size in net/netfilter/ipset/ip_set_hash_gen.h).
	Counts(context.Context) (map[string]int, error)

	// Do carries out the ops in order, set by set, and returns one error for each, or nil if all succeeded. A failed
	// one does not stop the others. Adding an existing member and deleting a missing one are success. errors.Is
	// matches os.ErrNotExist (no such set), os.ErrInvalid, ErrFull and ErrNoMember (of Test). A Test takes constant
	// time.
	Do(context.Context, []Op) []error
}
