// Package ipvs holds the kernel's IPVS table as values: virtual servers, their real servers, and the operations that
// change them. A Kernel is such a table: Conn the running kernel's, Fake one in memory with the same checks.
package ipvs

import (
	"cmp"
	"context"
	"fmt"
	"net/netip"

	"kube-ipvs/internal/inet"
)

// A Key identifies a virtual server; no two servers of a table share one. The kernel finds a packet's server by the
// firewall mark, or else by the frontend (Proto, Addr, Port).
type Key struct {
	Addr  netip.Addr    // virtual address; in the key of a mark, the unspecified address of the family
	Mark  uint32        // the firewall mark, or 0
	Port  uint16        // 0 in the key of a mark
	Proto inet.Protocol // 0 in the key of a mark
}

// AddrKey returns the key of the server at an address and port.
func AddrKey(proto inet.Protocol, at netip.AddrPort) Key {
	return Key{Addr: at.Addr(), Port: at.Port(), Proto: proto}
}

// MarkKey returns the key of the server for a firewall mark, in the family of an address.
func MarkKey(mark uint32, family netip.Addr) Key {
	if family.Is6() {
		return Key{Addr: netip.IPv6Unspecified(), Mark: mark}
	}
	return Key{Addr: netip.IPv4Unspecified(), Mark: mark}
}

// AddrPort returns the frontend's address and port.
func (k Key) AddrPort() netip.AddrPort { return netip.AddrPortFrom(k.Addr, k.Port) }

// String returns the key as ipvsadm's arguments, such as "-t 10.96.0.10:53".
func (k Key) String() string {
	switch {
	case k.Mark != 0 && k.Addr.Is6():
		return fmt.Sprintf("-f %d -6", k.Mark)
	case k.Mark != 0:
		return fmt.Sprintf("-f %d", k.Mark)
	case k.Proto == inet.UDP:
		return "-u " + k.AddrPort().String()
	case k.Proto == inet.SCTP:
		return "--sctp-service " + k.AddrPort().String()
	}
	return "-t " + k.AddrPort().String()
}

// Compare orders keys by protocol, address, port and mark, so that listings are repeatable. It stops at the first
// difference: the start sorts all real servers with it.
func (k Key) Compare(o Key) int {
	if c := cmp.Compare(k.Proto, o.Proto); c != 0 {
		return c
	}
	if c := k.Addr.Compare(o.Addr); c != 0 {
		return c
	}
	if c := cmp.Compare(k.Port, o.Port); c != 0 {
		return c
	}
	return cmp.Compare(k.Mark, o.Mark)
}

// A Server has the settings of a virtual server.
type Server struct {
	Scheduler string // name, such as "rr": at most 15 bytes
	Timeout   uint32 // of persistence, a client's stay with its real server, in seconds; 0: none
	Flags     Flags  // scheduler flags
}

// Flags are a virtual server's scheduler flags (include/uapi/linux/ip_vs.h, IP_VS_SVC_F_SCHED1 to 3). Their meaning
// depends on the scheduler. The kernel's own flags (persistent, hashed) never appear here.
type Flags uint32

// Scheduler flags by the names of ipvsadm -b.
const (
	Flag1 Flags = 0x08 // mh-fallback, sh-fallback
	Flag2 Flags = 0x10 // mh-port, sh-port
	Flag3 Flags = 0x20
)

// A RealKey identifies a real server by its virtual server and its own address and port.
type RealKey struct {
	Server Key
	Addr   netip.Addr
	Port   uint16
}

// RealKeyOf returns the key of the real server at an address and port behind a virtual server.
func RealKeyOf(server Key, at netip.AddrPort) RealKey {
	return RealKey{Server: server, Addr: at.Addr(), Port: at.Port()}
}

// AddrPort returns the real server's address and port.
func (k RealKey) AddrPort() netip.AddrPort { return netip.AddrPortFrom(k.Addr, k.Port) }

// Compare orders real servers by their virtual server, address and port.
func (k RealKey) Compare(o RealKey) int {
	if c := k.Server.Compare(o.Server); c != 0 {
		return c
	}
	if c := k.Addr.Compare(o.Addr); c != 0 {
		return c
	}
	return cmp.Compare(k.Port, o.Port)
}

// A Real has the settings of a real server. Packets to it are forwarded by NAT ("masquerading" in ipvsadm).
type Real struct {
	Weight uint32 // share of new connections relative to its siblings; 0: none, but established ones continue
}

// A RealState has a real server's settings and the kernel's count of its connections.
type RealState struct {
	Real
	Active   uint32 // connections in an established state
	Inactive uint32 // connections in any other state
}

// An Entry is one virtual server with its real servers.
type Entry struct {
	Server Server
	Reals  map[netip.AddrPort]RealState
}

// A Table has all virtual servers of a kernel.
type Table map[Key]Entry

// A Verb is the kind of an Op.
type Verb uint8

// The verbs, for virtual servers and for real servers.
const (
	AddServer Verb = iota
	SetServer
	DelServer
	AddReal
	SetReal
	DelReal
)

// An Op is one change to a table. It prints as the equivalent ipvsadm command.
type Op struct {
	Verb   Verb
	Key    Key
	Server Server         // for AddServer and SetServer
	Addr   netip.AddrPort // for the verbs of real servers
	Real   Real           // for AddReal and SetReal
}

// String returns the equivalent ipvsadm command.
func (op Op) String() string {
	switch op.Verb {
	case AddServer:
		return fmt.Sprintf("ipvsadm -A %v %v", op.Key, op.Server)
	case SetServer:
		return fmt.Sprintf("ipvsadm -E %v %v", op.Key, op.Server)
	case DelServer:
		return fmt.Sprintf("ipvsadm -D %v", op.Key)
	case AddReal:
		return fmt.Sprintf("ipvsadm -a %v -r %v -m -w %d", op.Key, op.Addr, op.Real.Weight)
	case SetReal:
		return fmt.Sprintf("ipvsadm -e %v -r %v -m -w %d", op.Key, op.Addr, op.Real.Weight)
	case DelReal:
		return fmt.Sprintf("ipvsadm -d %v -r %v", op.Key, op.Addr)
	}
	return fmt.Sprintf("verb(%d) %v", op.Verb, op.Key)
}

// String returns the settings as ipvsadm's arguments, such as "-s rr -p 10800".
func (s Server) String() string {
	out := "-s " + s.Scheduler
	if s.Timeout != 0 {
		out += fmt.Sprintf(" -p %d", s.Timeout)
	}
	for i, f := range []Flags{Flag1, Flag2, Flag3} {
		if s.Flags&f != 0 {
			out += fmt.Sprintf(" -b flag-%d", i+1)
		}
	}
	return out
}

// A Kernel is an IPVS table that can be read and changed.
type Kernel interface {
	// Read returns the whole table. After an error the result is meaningless: an unreadable table is not an empty
	// one.
	Read(context.Context) (Table, error)

	// ReadServer returns one virtual server with its real servers. The error is os.ErrNotExist if there is none.
	ReadServer(context.Context, Key) (Entry, error)

	// Count returns the number of IPv4 virtual servers, in constant time. The error is errors.ErrUnsupported if the
	// kernel cannot count them.
	Count(context.Context) (int, error)

	// Walk reads the table once and calls fn for each virtual server of TCP, UDP, SCTP or a mark, with its real
	// servers, which fn may not keep. The kernel's listing lacks some data: flags are always 0; a Timeout other than 0
	// only means that there is persistence (the listing has ticks of unknown length); marks without real servers are
	// left out. Like every listing it may miss servers while others change the table, and this one also where another
	// network namespace has some (ip_vs_info_array counts those of one, ip_vs_info_seq_next those of all).
	Walk(ctx context.Context, fn func(Key, Entry)) error

	// Do carries out the ops in order and returns one error for each, or nil if all succeeded. A failed one does not
	// stop the others. Deleting a missing object is success. errors.Is matches os.ErrExist (adding an existing
	// object), os.ErrNotExist (changing a missing one, a real server of a missing virtual server, an unknown
	// scheduler), os.ErrInvalid and os.ErrPermission.
	Do(context.Context, []Op) []error
}
