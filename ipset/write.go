package ipset

import (
	"cmp"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"slices"

	"golang.org/x/sys/unix"

	"kube-ipvs/internal/netlink"
)

const (
	// maxLines bounds the ops in a message. More gain nothing, and the kernel sends all of it back if one fails.
	maxLines = 1000
	// maxLineLen is the length of the longest op, in bytes: ip,port,net of IPv6 with a mark.
	maxLineLen = 96
)

// Do implements Kernel. Neighbouring ops of one verb on one set share a message. To have more of them, Do takes the ops
// set by set, in the order of the sets' first ops; those on one set keep their order.
func (c *Conn) Do(ctx context.Context, ops []Op) []error {
	c.mu.Lock()
	defer c.mu.Unlock()
	w := writer{conn: c, ops: ops, order: setBySet(ops), lines: maxLines}
	w.refuse()
	for w.next < len(w.order) {
		if w.ops[w.order[w.next]].Verb == Test {
			w.test(ctx)
		} else {
			w.step(ctx)
		}
	}
	return w.errs
}

// setBySet returns the indices of ops, grouped by set.
func setBySet(ops []Op) []int {
	order, rank := make([]int, len(ops)), make(map[string]int)
	for i := range ops {
		order[i] = i
		if _, ok := rank[ops[i].Set.Name]; !ok {
			rank[ops[i].Set.Name] = len(rank)
		}
	}
	if len(rank) > 1 {
		slices.SortStableFunc(order, func(i, j int) int {
			return cmp.Compare(rank[ops[i].Set.Name], rank[ops[j].Set.Name])
		})
	}
	return order
}

// A writer is the progress of one Do.
type writer struct {
	conn  *Conn
	ops   []Op
	order []int   // indices of ops in the order of their execution
	errs  []error // of the ops; nil before the first
	next  int     // index in order of the first unfinished op
	lines int     // maximum of the next message
}

// refuse gives invalid ops an error. They are not sent.
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

// step sends one message and records the errors of its ops. The kernel stops at the first op that it refuses and returns
// its number; the ops after it go into the next message. Since the kernel sends a refused message back whole, messages
// after an error are short at first and then grow.
func (w *writer) step(ctx context.Context) {
	end := w.encode()
	err := errors.Join(w.conn.conn.Do(ctx, &w.conn.batch)...)
	at := failedLine(err)
	switch {
	case err == nil:
		w.next, w.lines = end, min(4*w.lines, maxLines)
	case w.next <= at && at < end:
		w.fail(w.order[at], translate(err))
		w.next, w.lines = at+1, 1
	default: // an error of the whole message, such as a missing set
		for ; w.next < end; w.next++ {
			w.fail(w.order[w.next], translate(err))
		}
	}
}

// test sends the next run of Tests, a message each, in one batch.
func (w *writer) test(ctx context.Context) {
	b, sent := &w.conn.batch, []int{}
	b.Reset()
	for ; w.next < len(w.order) && w.ops[w.order[w.next]].Verb == Test; w.next++ {
		i := w.order[w.next]
		if w.failed(i) {
			continue
		}
		sent = append(sent, i)
		w.conn.add(cmdTest, 0, w.ops[i].Set.Name)
		nest := b.Nest(attrData)
		encodeMember(b, w.ops[i].Member)
		b.Unnest(nest)
		b.End()
	}
	for at, err := range w.conn.conn.Do(ctx, b) {
		if err != nil {
			w.fail(sent[at], translate(err))
		}
	}
}

// encode makes a message of the next ops, as many as fit and have verb and set in common, and returns its end in order.
func (w *writer) encode() int {
	b, first := &w.conn.batch, w.ops[w.order[w.next]]
	w.conn.begin(first.Verb.command(), 0, first.Set.Name)
	b.Uint32(attrLine, 0) // the kernel writes the number of the failed line here
	nest, start := b.Nest(attrADT), b.Size()
	at := w.next
	for ; at < min(w.next+w.lines, len(w.order)); at++ {
		i := w.order[at]
		full := b.Size()-start+maxLineLen > math.MaxUint16-unix.SizeofNlAttr
		if full || w.ops[i].Verb != first.Verb || w.ops[i].Set != first.Set {
			break
		}
		if !w.failed(i) {
			encodeLine(b, &w.ops[i], uint32(at)+1)
		}
	}
	b.Unnest(nest)
	b.End()
	return at
}

// encodeLine appends an op. Its number, which is not 0, comes back if the kernel refuses it.
func encodeLine(b *netlink.Batch, op *Op, line uint32) {
	nest := b.Nest(attrData)
	encodeMember(b, op.Member)
	b.Uint32(attrLine, line)
	if op.Verb == Add && op.Set.Marks {
		encodeMark(b, op.Mark)
	}
	b.Unnest(nest)
}

// failedLine returns the index in order of the refused op, or -1 without one (call_ad in
// net/netfilter/ipset/ip_set_core.c writes the line's number into the request that it sends back).
func failedLine(err error) int {
	var e *netlink.Error
	if !errors.As(err, &e) {
		return -1
	}
	for a := netlink.ParseNetfilter(e.Request); a.Next(); {
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

// fail gives an op an error, unless it has one.
func (w *writer) fail(i int, err error) {
	if w.errs == nil {
		w.errs = make([]error, len(w.ops))
	}
	if w.errs[i] == nil {
		w.errs[i] = fmt.Errorf("%v: %w", w.ops[i], err)
	}
}
