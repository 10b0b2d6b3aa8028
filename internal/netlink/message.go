package netlink

import "encoding/binary"

// A walk iterates over the messages of a datagram. It ends at the first malformed one.
type walk struct {
	rest    []byte
	payload []byte
	seq     uint32
	typ     uint16
	flags   uint16
}

func (w *walk) next() bool {
	if len(w.rest) < headerLen {
		return false
	}
	n := int64(binary.NativeEndian.Uint32(w.rest))
	if n < headerLen || n > int64(len(w.rest)) {
		w.rest = nil
		return false
	}
	w.typ = binary.NativeEndian.Uint16(w.rest[4:])
	w.flags = binary.NativeEndian.Uint16(w.rest[flagsOffset:])
	w.seq = binary.NativeEndian.Uint32(w.rest[seqOffset:])
	w.payload = w.rest[headerLen:n]
	w.rest = w.rest[min(align(int(n)), len(w.rest)):]
	return true
}

// results are the errors of n messages. The list is allocated with the first error.
type results struct {
	errs []error
	n    int
}

func (r *results) set(i int, err error) {
	if r.errs == nil {
		r.errs = make([]error, r.n)
	}
	r.errs[i] = err
}

// fill gives an error to the messages of a span without one.
func (r *results) fill(s span, err error) {
	for i := s.first; i < s.last; i++ {
		if r.errs == nil || r.errs[i] == nil {
			r.set(i, err)
		}
	}
}
