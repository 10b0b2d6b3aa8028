package ipset

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math"

	"golang.org/x/sys/unix"

	"kube-ipvs/internal/netlink"
)

const (
	// maxLines is how many ops are sent at once. The kernel's lock on a set and its answer after an error, which
	// holds the whole request, set the limit, and nothing is gained beyond.
	maxLines = 1000
	// maxLineLen is the length of the longest op: ip,port,net of IPv6 with a mark.
	maxLineLen = 96
)

// Do implements Kernel. Many ops travel in one message. The kernel stops at the first that it refuses and says which it
// was; whatever came after it is sent again, also where it was carried out already, which changes nothing: that keeps
// the order of the ops right.
func (c *Conn) Do(ctx context.Context, ops []Op) []error {
	c.mu.Lock()
	defer c.mu.Unlock()
	w := writer{conn: c, ops: ops, lines: maxLines}
	w.refuse()
	for w.next < len(ops) {
		w.step(ctx)
	}
	return w.errs
}

// A writer is the progress of one Do.
type writer struct {
	conn  *Conn
	ops   []Op
	errs  []error // nil before the first error
	next  int     // the first op that is not done
	lines int     // how many to try at once
	runs  []run   // the messages of the batch
}

// A run is neighbouring ops of one verb and set, which share a message: those from first to last, not included, that
// have no error yet.
type run struct{ first, last int }

// refuse gives an error to the ops that no set could carry out. They are not sent.
func (w *writer) refuse() {
	for i := range w.ops {
		op := &w.ops[i]
		err := op.Set.check()
		if err == nil {
			err = op.Set.checkMember(op.Member)
		}
		if err != nil {
			w.fail(i, err)
		}
	}
}

// step sends the next ops and takes note of what became of them.
func (w *writer) step(ctx context.Context) {
	w.encode(min(w.next+w.lines, len(w.ops)))
	errs := w.conn.conn.Do(ctx, &w.conn.batch)
	for i, r := range w.runs {
		w.next = r.last
		if errs == nil || errs[i] == nil {
			continue
		}
		if line := failedLine(errs[i]); r.first <= line && line < r.last && !w.failed(line) {
			w.fail(line, words(errs[i]))
			w.next, w.lines = line+1, 1
			return
		}
		w.failRun(r, words(errs[i]))
	}
	// After an error the kernel sends the whole request back, so what follows an error is tried in small pieces.
	w.lines = min(4*w.lines, maxLines)
}

// encode puts the ops up to end, not included, into the batch, a message for each run.
func (w *writer) encode(end int) {
	b := &w.conn.batch
	b.Reset()
	w.runs = w.runs[:0]
	for first := w.next; first < end; {
		r := run{first, w.runEnd(first, end)}
		w.conn.message(w.ops[first].Verb.command(), 0, w.ops[first].Set.Name)
		b.Uint32(attrLine, 0) // the kernel writes the number of the failed line here
		nest, start := b.Nest(attrADT), b.Size()
		for i := r.first; i < r.last; i++ {
			if b.Size()-start+maxLineLen > math.MaxUint16-unix.SizeofNlAttr {
				r.last = i
				break
			}
			if !w.failed(i) {
				encodeLine(b, &w.ops[i], uint32(i)+1)
			}
		}
		b.Unnest(nest)
		b.End()
		w.runs = append(w.runs, r)
		first = r.last
	}
}

// runEnd returns the end of the run that begins at first.
func (w *writer) runEnd(first, end int) int {
	for i := first + 1; i < end; i++ {
		if w.ops[i].Verb != w.ops[first].Verb || w.ops[i].Set != w.ops[first].Set {
			return i
		}
	}
	return end
}

// encodeLine appends an op. Its number comes back if the kernel refuses it; 0 would not.
func encodeLine(b *netlink.Batch, op *Op, line uint32) {
	nest := b.Nest(attrData)
	encodeMember(b, op.Member)
	b.Uint32(attrLine, line)
	if op.Verb == Add && op.Set.Marks {
		encodeMark(b, op.Mark)
	}
	b.Unnest(nest)
}

// failedLine returns the index of the op that the kernel says it refused, or -1 if it says none (call_ad in
// net/netfilter/ipset/ip_set_core.c writes the line's number into the request that it sends back).
func failedLine(err error) int {
	var e *netlink.Error
	if !errors.As(err, &e) || len(e.Request) < nfgenLen {
		return -1
	}
	for a := netlink.Parse(e.Request[nfgenLen:]); a.Next(); {
		if a.Type() == attrLine && len(a.Data()) == 4 {
			return int(binary.NativeEndian.Uint32(a.Data())) - 1
		}
	}
	return -1
}

// command returns the command for a verb.
func (v Verb) command() uint16 {
	if v == Del {
		return cmdDel
	}
	return cmdAdd
}

func (w *writer) failed(i int) bool { return w.errs != nil && w.errs[i] != nil }

func (w *writer) fail(i int, err error) {
	if w.errs == nil {
		w.errs = make([]error, len(w.ops))
	}
	w.errs[i] = fmt.Errorf("%v: %w", w.ops[i], err)
}

// failRun gives all ops of a run the error that the kernel had for the message: that there is no such set, for one.
func (w *writer) failRun(r run, err error) {
	for i := r.first; i < r.last; i++ {
		if !w.failed(i) {
			w.fail(i, err)
		}
	}
}
