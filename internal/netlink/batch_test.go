package netlink

import (
	"encoding/binary"
	"errors"
	"net/netip"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
)

// values are one value of each kind.
type values struct {
	U8         uint8
	U16, U16BE uint16
	U32, U32BE uint32
	Text       string
	V4, V6     netip.Addr
	Data       []byte
	Flag       bool
}

const (
	typU8 = iota + 1
	typU16
	typU16BE
	typU32
	typU32BE
	typText
	typV4
	typV6
	typData
	typFlag
	typNest
)

func encode(b *Batch, v values) {
	b.BeginGeneric(20, 0, 1, 1)
	nest := b.Nest(typNest)
	b.Uint8(typU8, v.U8)
	b.Uint16(typU16, v.U16)
	b.Uint16BE(typU16BE|unix.NLA_F_NET_BYTEORDER, v.U16BE)
	b.Uint32(typU32, v.U32)
	b.Uint32BE(typU32BE|unix.NLA_F_NET_BYTEORDER, v.U32BE)
	b.Text(typText, v.Text)
	b.Addr(typV4, v.V4)
	b.Addr(typV6, v.V6)
	b.Data(typData, v.Data)
	if v.Flag {
		b.Flag(typFlag)
	}
	b.Unnest(nest)
	b.End()
}

func decode(p []byte) (v values, err error) {
	outer := ParseGeneric(p)
	outer.Next()
	a := outer.Nested()
	for a.Next() {
		switch a.Type() {
		case typU8:
			v.U8 = a.Uint8()
		case typU16:
			v.U16 = a.Uint16()
		case typU16BE:
			v.U16BE = a.Uint16BE()
		case typU32:
			v.U32 = a.Uint32()
		case typU32BE:
			v.U32BE = a.Uint32BE()
		case typText:
			v.Text = a.Text()
		case typV4:
			v.V4 = a.Addr()
		case typV6:
			v.V6 = a.Addr()
		case typData:
			v.Data = append([]byte{}, a.Data()...)
		case typFlag:
			v.Flag = true
		}
	}
	return v, errors.Join(a.Err(), outer.Err())
}

var sample = values{
	U8: 1, U16: 0x0203, U16BE: 0x0405, U32: 0x06070809, U32BE: 0x0a0b0c0d, Text: "wlc", Flag: true,
	V4: netip.MustParseAddr("10.96.0.10"), V6: netip.MustParseAddr("fd00::a"), Data: []byte{1, 2, 3, 4, 5},
}

func TestBatchReadsBack(t *testing.T) {
	var b Batch
	b.Raw(make([]byte, 64)...) // what Reset leaves in the buffer must not show in padding
	for i := range b.buf {
		b.buf[i] = 0xff
	}
	b.Reset()
	for range 2 {
		encode(&b, sample)
	}
	if b.Len() != 2 {
		t.Errorf("%d messages, want 2", b.Len())
	}
	n := 0
	for m := (walk{rest: b.buf}); m.next(); n++ {
		got, err := decode(m.payload)
		if err != nil {
			t.Error(err)
		}
		if diff := cmp.Diff(sample, got, cmp.Comparer(func(a, b netip.Addr) bool { return a == b })); diff != "" {
			t.Errorf("message %d (-want +got):\n%s", n, diff)
		}
	}
	if n != 2 {
		t.Errorf("%d messages read back, want 2", n)
	}
}

// The bytes as the kernel's headers have them, on a little-endian and on a big-endian machine.
func TestBatchBytes(t *testing.T) {
	var b Batch
	b.Begin(0x10, unix.NLM_F_DUMP)
	b.Raw(2)
	b.Text(3, "rr")
	b.Uint16BE(4, 80)
	b.End()
	ne := binary.NativeEndian
	var want []byte
	want = ne.AppendUint32(want, 16+4+8+8)
	want = ne.AppendUint16(want, 0x10)
	want = ne.AppendUint16(want, unix.NLM_F_DUMP|unix.NLM_F_REQUEST)
	want = append(want, 0, 0, 0, 0, 0, 0, 0, 0)
	want = append(want, 2, 0, 0, 0)
	want = append(ne.AppendUint16(ne.AppendUint16(want, 7), 3), 'r', 'r', 0, 0)
	want = append(ne.AppendUint16(ne.AppendUint16(want, 6), 4), 0, 80, 0, 0)
	if diff := cmp.Diff(want, b.buf); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestBatchAllocatesNothing(t *testing.T) {
	var b Batch
	encode(&b, sample)
	if n := testing.AllocsPerRun(100, func() { b.Reset(); encode(&b, sample) }); n != 0 {
		t.Errorf("%v allocations a message, want 0", n)
	}
	p := b.buf[headerLen:]
	if n := testing.AllocsPerRun(100, func() { walkAll(p, 0) }); n != 0 {
		t.Errorf("%v allocations a parse, want 0", n)
	}
}

func TestResetKeepsNoMegabytes(t *testing.T) {
	b := batchOf(2*maxKept/headerLen, 0)
	if b.Reset(); b.Len() != 0 || b.Size() != 0 || cap(b.buf) > maxKept {
		t.Errorf("after Reset %d messages, %d bytes, room for %d", b.Len(), b.Size(), cap(b.buf))
	}
}

func TestAttributeTooLongPanics(t *testing.T) {
	defer func() {
		if recover() == nil {
			t.Error("an attribute of 65,536 bytes was encoded")
		}
	}()
	var b Batch
	b.Data(1, make([]byte, 65_536-attrHeaderLen))
}
