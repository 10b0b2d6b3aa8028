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

func TestAttrsMalformed(t *testing.T) {
	short := binary.NativeEndian.AppendUint16(nil, 3)
	long := binary.NativeEndian.AppendUint16(nil, 9)
	tests := []struct {
		name string
		p    []byte
	}{
		{"less than a header", []byte{1, 2, 3}},
		{"a length below the header's", append(short, 0, 0)},
		{"a length beyond the end", append(long, 0, 0, 1, 2, 3, 4)},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			a := Parse(tt.p)
			if a.Next() || !errors.Is(a.Err(), ErrMalformed) {
				t.Errorf("Next was true or Err() = %v", a.Err())
			}
		})
	}
}

func TestAttrsWrongSize(t *testing.T) {
	var b Batch
	b.Data(1, make([]byte, 3))
	reads := map[string]func(*Attrs){
		"Uint8":    func(a *Attrs) { a.Uint8() },
		"Uint16":   func(a *Attrs) { a.Uint16() },
		"Uint32":   func(a *Attrs) { a.Uint32() },
		"Uint16BE": func(a *Attrs) { a.Uint16BE() },
		"Uint32BE": func(a *Attrs) { a.Uint32BE() },
		"Addr":     func(a *Attrs) { a.Addr() },
	}
	for name, read := range reads {
		a := Parse(b.buf)
		a.Next()
		read(&a)
		if !errors.Is(a.Err(), ErrMalformed) {
			t.Errorf("%s of 3 bytes: %v, want ErrMalformed", name, a.Err())
		}
	}
}

// walkAll reads every attribute as everything, and as nested ones down to a depth.
func walkAll(p []byte, depth int) (n int) {
	for a := Parse(p); a.Next(); n++ {
		a.Uint8()
		a.Uint16()
		a.Uint32()
		a.Uint16BE()
		a.Uint32BE()
		a.Addr()
		if depth > 0 {
			nested := a.Nested()
			n += walkAll(nested.rest, depth-1)
		}
	}
	return n
}

func FuzzAttrs(f *testing.F) {
	var b Batch
	encode(&b, sample)
	f.Add(b.buf[headerLen+genlHeaderLen:])
	f.Fuzz(func(t *testing.T, p []byte) {
		if n := walkAll(p, 0); n > len(p)/attrHeaderLen {
			t.Errorf("%d attributes in %d bytes", n, len(p))
		}
		walkAll(p, 3)
		_, _ = decode(p)
	})
}

// Whatever a datagram holds, the reply to a batch has one error for each message or none.
func FuzzReply(f *testing.F) {
	f.Add(errorMessage(0, unix.NLM_F_ACK_TLVS, unix.ENOENT, []byte("request.")))
	f.Add(message(unix.NLMSG_DONE, unix.NLM_F_MULTI, 0, []byte{0, 0, 0, 0}))
	f.Fuzz(func(t *testing.T, p []byte) {
		c := New(&fakeSocket{answer: func(uint32) []reply { return []reply{{data: p}} }})
		if errs := c.Do(t.Context(), batchOf(2, 0)); len(errs) != 0 && len(errs) != 2 {
			t.Errorf("%d errors of 2 messages", len(errs))
		}
		c = New(&fakeSocket{answer: func(uint32) []reply { return []reply{{data: p}} }})
		_ = c.Query(t.Context(), batchOf(1, 0), func(uint16, []byte) error { return nil })
	})
}

func BenchmarkEncode(b *testing.B) {
	b.ReportAllocs()
	var batch Batch
	for b.Loop() {
		batch.Reset()
		batch.BeginGeneric(20, 0, 5, 1)
		nest := batch.Nest(1)
		batch.Uint16(1, unix.AF_INET)
		batch.Uint16(2, 6)
		batch.Addr(3, sample.V4)
		batch.Uint16BE(4, 80)
		batch.Unnest(nest)
		nest = batch.Nest(2)
		batch.Addr(1, sample.V4)
		batch.Uint16BE(2, 8080)
		batch.Uint32(3, 0)
		batch.Uint32(4, 1)
		batch.Unnest(nest)
		batch.End()
	}
}

// BenchmarkDo is user space, the system call and the kernel's walk over messages that it only acknowledges.
func BenchmarkDo(b *testing.B) {
	c, err := Dial(unix.NETLINK_GENERIC)
	if err != nil {
		b.Fatal(err)
	}
	defer c.Close()
	const size = 1_000
	batch := noops(size)
	for b.Loop() {
		if errs := c.Do(b.Context(), batch); errs != nil {
			b.Fatal(errors.Join(errs...))
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/size, "ns/message")
}
