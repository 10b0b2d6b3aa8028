package netlink

import (
	"bytes"
	"encoding/binary"
	"errors"
	"net/netip"

	"golang.org/x/sys/unix"
)

// ErrMalformed means that bytes violate the format of netlink or of the protocol on top of it.
var ErrMalformed = errors.New("malformed netlink message")

// Attrs iterates over a sequence of attributes:
//
//	for a := netlink.Parse(p); a.Next(); {
//		switch a.Type() { ... a.Uint32() ... }
//	}
//
// It allocates nothing (Text apart) and never panics, whatever the bytes. After the last Next, Err reports whether the
// walk was complete.
type Attrs struct {
	rest []byte
	data []byte
	typ  uint16
	bad  bool
}

// Parse returns an iterator over the attributes in p, which must not change meanwhile.
func Parse(p []byte) Attrs { return Attrs{rest: p} }

// Next advances to the next attribute and reports whether there is one.
func (a *Attrs) Next() bool {
	if len(a.rest) == 0 {
		return false
	}
	if len(a.rest) < attrHeaderLen {
		return a.stop()
	}
	n := int(binary.NativeEndian.Uint16(a.rest))
	if n < attrHeaderLen || n > len(a.rest) {
		return a.stop()
	}
	a.typ = binary.NativeEndian.Uint16(a.rest[2:]) &^ (unix.NLA_F_NESTED | unix.NLA_F_NET_BYTEORDER)
	a.data = a.rest[attrHeaderLen:n]
	a.rest = a.rest[min(align(n), len(a.rest)):]
	return true
}

func (a *Attrs) stop() bool {
	a.rest, a.bad = nil, true
	return false
}

// Type returns the attribute's type without the flags NLA_F_NESTED and NLA_F_NET_BYTEORDER.
func (a *Attrs) Type() uint16 { return a.typ }

// Data returns the attribute's bytes. They alias the argument of Parse: copy them to keep them.
func (a *Attrs) Data() []byte { return a.data }

// Nested returns an iterator over the attributes inside this one. Its Err is separate.
func (a *Attrs) Nested() Attrs { return Parse(a.data) }

// Err returns ErrMalformed if the walk ended before the end of the bytes, or if a requested value had the wrong size
// for its type.
func (a *Attrs) Err() error {
	if a.bad {
		return ErrMalformed
	}
	return nil
}

// Uint8 returns the attribute's one byte, or 0 if it has another size; Err then returns ErrMalformed.
func (a *Attrs) Uint8() uint8 {
	if !a.sized(1) {
		return 0
	}
	return a.data[0]
}

// Uint16 returns the attribute's two bytes in the machine's order; see Uint8.
func (a *Attrs) Uint16() uint16 {
	if !a.sized(2) {
		return 0
	}
	return binary.NativeEndian.Uint16(a.data)
}

// Uint32 returns the attribute's four bytes in the machine's order; see Uint8.
func (a *Attrs) Uint32() uint32 {
	if !a.sized(4) {
		return 0
	}
	return binary.NativeEndian.Uint32(a.data)
}

// Uint64 returns the attribute's eight bytes in the machine's order; see Uint8.
func (a *Attrs) Uint64() uint64 {
	if !a.sized(8) {
		return 0
	}
	return binary.NativeEndian.Uint64(a.data)
}

// Uint16BE returns the attribute's two bytes in network order; see Uint8.
func (a *Attrs) Uint16BE() uint16 {
	if !a.sized(2) {
		return 0
	}
	return binary.BigEndian.Uint16(a.data)
}

// Uint32BE returns the attribute's four bytes in network order; see Uint8.
func (a *Attrs) Uint32BE() uint32 {
	if !a.sized(4) {
		return 0
	}
	return binary.BigEndian.Uint32(a.data)
}

// Text returns a copy of the attribute's string, up to the first zero byte.
func (a *Attrs) Text() string {
	s, _, _ := bytes.Cut(a.data, []byte{0})
	return string(s)
}

// Addr returns the attribute's address, of 4 or 16 bytes, or the zero Addr if it has another size; see Uint8.
func (a *Attrs) Addr() netip.Addr {
	addr, ok := netip.AddrFromSlice(a.data)
	a.bad = a.bad || !ok
	return addr
}

func (a *Attrs) sized(n int) bool {
	a.bad = a.bad || len(a.data) != n
	return len(a.data) == n
}
