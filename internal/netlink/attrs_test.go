package netlink

import (
	"encoding/binary"
	"errors"
	"testing"

	"golang.org/x/sys/unix"
)

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
		a.Uint64()
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
