package netlink

import (
	"encoding/binary"
	"fmt"
	"math"
	"net/netip"
	"slices"

	"golang.org/x/sys/unix"
)

// Sizes of include/uapi/linux/netlink.h. Headers and attributes begin at multiples of four bytes.
const (
	headerLen     = unix.SizeofNlMsghdr
	attrHeaderLen = unix.SizeofNlAttr
	flagsOffset   = 6 // of nlmsg_flags in a header
	seqOffset     = 8 // of nlmsg_seq in a header
)

// A Batch encodes messages one after the other into one buffer. The zero Batch is empty and ready. Between Begin and
// End come the message's fixed header (Raw) and its attributes. Reusing a Batch after Reset allocates nothing.
//
// Numbers are in the machine's byte order, except in the methods that end in BE. Attribute types may carry
// unix.NLA_F_NESTED and unix.NLA_F_NET_BYTEORDER.
//
// Netlink limits an attribute to 65,535 bytes, header included. Encoding a longer one is a programming error, like an
// index out of range, and panics.
type Batch struct {
	buf    []byte
	starts []int // offset of each message
}

// maxKept bounds the buffer of an empty batch, in bytes.
const maxKept = 1 << 20

// Reset empties the batch. It keeps the buffer, unless that has grown beyond 1 MiB, more than most batches need.
func (b *Batch) Reset() {
	if cap(b.buf) > maxKept {
		*b = Batch{}
	}
	b.buf, b.starts = b.buf[:0], b.starts[:0]
}

// Len returns the number of messages.
func (b *Batch) Len() int { return len(b.starts) }

// Size returns the number of bytes of all messages so far, the unfinished one included.
func (b *Batch) Size() int { return len(b.buf) }

// Bytes returns the messages as encoded so far. The slice aliases the batch's buffer.
func (b *Batch) Bytes() []byte { return b.buf }

// Begin starts a message of a type with NLM_F_REQUEST and the given flags. Do and Query decide on NLM_F_ACK.
func (b *Batch) Begin(typ, flags uint16) {
	b.starts = append(b.starts, len(b.buf))
	p := b.grow(headerLen)
	clear(p)
	binary.NativeEndian.PutUint16(p[4:], typ)
	binary.NativeEndian.PutUint16(p[flagsOffset:], flags|unix.NLM_F_REQUEST)
}

// End finishes the message that the last Begin started.
func (b *Batch) End() {
	start := b.starts[len(b.starts)-1]
	binary.NativeEndian.PutUint32(b.buf[start:], uint32(len(b.buf)-start))
}

// Raw appends bytes as they are, padded: the protocol's header before the attributes, such as genlmsghdr or nfgenmsg.
func (b *Batch) Raw(p ...byte) {
	q := b.grow(align(len(p)))
	clear(q[copy(q, p):])
}

// Data appends an attribute of any bytes.
func (b *Batch) Data(typ uint16, p []byte) { copy(b.attr(typ, len(p)), p) }

// Flag appends an attribute without a value.
func (b *Batch) Flag(typ uint16) { b.attr(typ, 0) }

// Uint8 appends an attribute of one byte.
func (b *Batch) Uint8(typ uint16, v uint8) { b.attr(typ, 1)[0] = v }

// Uint16 appends an attribute of two bytes.
func (b *Batch) Uint16(typ, v uint16) { binary.NativeEndian.PutUint16(b.attr(typ, 2), v) }

// Uint32 appends an attribute of four bytes.
func (b *Batch) Uint32(typ uint16, v uint32) { binary.NativeEndian.PutUint32(b.attr(typ, 4), v) }

// Uint16BE appends an attribute of two bytes in network order.
func (b *Batch) Uint16BE(typ, v uint16) { binary.BigEndian.PutUint16(b.attr(typ, 2), v) }

// Uint32BE appends an attribute of four bytes in network order.
func (b *Batch) Uint32BE(typ uint16, v uint32) { binary.BigEndian.PutUint32(b.attr(typ, 4), v) }

// Text appends an attribute of a string and a terminating zero byte.
func (b *Batch) Text(typ uint16, s string) {
	p := b.attr(typ, len(s)+1)
	p[copy(p, s)] = 0
}

// Addr appends an attribute of an address: 4 bytes for IPv4, 16 for IPv6, none for the zero Addr.
func (b *Batch) Addr(typ uint16, a netip.Addr) {
	switch {
	case a.Is4():
		v := a.As4()
		copy(b.attr(typ, 4), v[:])
	case a.Is6():
		v := a.As16()
		copy(b.attr(typ, 16), v[:])
	default:
		b.attr(typ, 0)
	}
}

// Nest starts an attribute that holds the attributes up to the matching Unnest. Pass its result to Unnest.
func (b *Batch) Nest(typ uint16) int {
	at := len(b.buf)
	b.attr(typ|unix.NLA_F_NESTED, 0)
	return at
}

// Unnest ends the attribute of the matching Nest.
func (b *Batch) Unnest(nest int) {
	binary.NativeEndian.PutUint16(b.buf[nest:], attrLen(len(b.buf)-nest))
}

// attr appends an attribute's header and n bytes of value, which it returns. The padding is zero.
func (b *Batch) attr(typ uint16, n int) []byte {
	p := b.grow(attrHeaderLen + align(n))
	binary.NativeEndian.PutUint16(p, attrLen(attrHeaderLen+n))
	binary.NativeEndian.PutUint16(p[2:], typ)
	clear(p[attrHeaderLen+n:])
	return p[attrHeaderLen : attrHeaderLen+n]
}

// grow extends the buffer by n bytes and returns them, with arbitrary contents.
func (b *Batch) grow(n int) []byte {
	old := len(b.buf)
	b.buf = slices.Grow(b.buf, n)[:old+n]
	return b.buf[old:]
}

// end returns the offset of the end of message i.
func (b *Batch) end(i int) int {
	if i+1 < len(b.starts) {
		return b.starts[i+1]
	}
	return len(b.buf)
}

// seal numbers the messages from first up to but not including last with sequence numbers from seq on, requests an
// acknowledgement of the final one alone, and returns their bytes.
func (b *Batch) seal(first, last int, seq uint32) []byte {
	for i := first; i < last; i++ {
		p := b.buf[b.starts[i]:]
		flags := binary.NativeEndian.Uint16(p[flagsOffset:]) &^ unix.NLM_F_ACK
		if i == last-1 {
			flags |= unix.NLM_F_ACK
		}
		binary.NativeEndian.PutUint16(p[flagsOffset:], flags)
		binary.NativeEndian.PutUint32(p[seqOffset:], seq+uint32(i-first))
	}
	return b.buf[b.starts[first]:b.end(last-1)]
}

func align(n int) int { return (n + 3) &^ 3 }

func attrLen(n int) uint16 {
	if n > math.MaxUint16 {
		panic(fmt.Sprintf("netlink: an attribute of %d bytes", n))
	}
	return uint16(n)
}
