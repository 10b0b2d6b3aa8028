package steering

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"

	"golang.org/x/sys/unix"
)

// A request is one batch of ops on rules, routes and addresses.
type request struct {
	conn     *Conn
	link     linkState
	ops      []Op
	errs     []error      // of the ops
	opOf     []int        // of each message in the batch, the index of its op
	removals []netip.Addr // of each message, the result of Op.removes
}

// doBatch carries out ops on rules, routes and addresses in as few sends as are safe, and writes their errors into errs.
func (c *Conn) doBatch(ctx context.Context, ops []Op, errs []error) {
	r := request{conn: c, ops: ops, errs: errs}
	var err error
	var lost Items
	cause := -1
	if r.link, err = c.readLink(ctx); err == nil {
		cause, err = r.removesFirst()
	}
	if err == nil && cause >= 0 {
		lost, err = r.losing(ctx)
	}
	c.batch.Reset()
	for i, op := range ops {
		if errs[i] = errors.Join(err, op.check()); errs[i] == nil {
			r.put(i)
		}
	}
	own := len(r.opOf)
	for item, source := range lost {
		r.encode(cause, Op{Item: item, Source: source})
	}
	r.resolve(ctx, r.send(ctx, own))
}

// put encodes an op, unless the link is missing and the op needs it.
func (r *request) put(i int) {
	op := r.ops[i]
	switch noLink := r.link.index == 0; {
	case noLink && op.Verb == Add && op.Item.onLink():
		r.errs[i] = errNoLink
	case noLink && op.Item.Kind == Address: // removed with the link
	default:
		r.encode(i, op)
	}
}

func (r *request) encode(i int, op Op) {
	switch op.Item.Kind {
	case Policy:
		r.conn.places[op.Item.Prefix].trade(op.Item.Rule).encode(&r.conn.batch, op.Verb, familyOf(op.Item.Prefix))
	case Address:
		encodeAddress(&r.conn.batch, op.Verb, op.Item.Prefix, r.link.index)
	default:
		op.Item.route(r.link.index, op.Source).encode(&r.conn.batch, op.Verb, op.Over)
	}
	r.opOf = append(r.opOf, i)
	removal := op.removes()
	if r.removals = append(r.removals, removal); removal.IsValid() {
		r.conn.removals.add(removal)
	}
}

// do sends the batch and returns the error of each message. A failed removal causes no notification.
func (r *request) do(ctx context.Context) []error {
	errs := r.conn.bulk.Do(ctx, &r.conn.batch)
	for j, err := range errs {
		if err != nil && r.removals[j].IsValid() {
			r.conn.removals.take(r.removals[j])
		}
	}
	return errs
}

// send sends the batch. Its first messages, as many as own, are the ops; the others restore lost routes. It returns the
// indices of the ops whose item, or another object in its place, exists already.
func (r *request) send(ctx context.Context, own int) (taken []int) {
	for j, err := range r.do(ctx) {
		i := r.opOf[j]
		exists := errors.Is(err, unix.EEXIST)
		switch {
		case j >= own && !exists:
			r.errs[i] = errors.Join(r.errs[i], err)
		case j >= own:
		case r.ops[i].Verb == Del:
			if r.errs[i] = r.ops[i].Item.translate(ignoreMissing(err)); errors.Is(r.errs[i], ErrNoIPv6) {
				r.errs[i] = nil // without IPv6 there are no such items
			}
		default:
			r.errs[i] = r.ops[i].Item.translate(err)
			switch {
			case exists && r.ops[i].Item.Kind == Policy: // exactly the same rule
				r.errs[i] = nil
			case exists:
				taken = append(taken, i)
			}
		}
	}
	return taken
}

// resolve handles ops whose place is taken. The item itself is success. An owned but incorrect object, such as a route
// over another link, is replaced. A foreign one stays, and so does the error.
func (r *request) resolve(ctx context.Context, taken []int) {
	if len(taken) == 0 {
		return
	}
	existing, err := r.existing(ctx)
	r.conn.batch.Reset()
	r.opOf, r.removals = nil, nil
	for _, i := range taken {
		op := r.ops[i]
		source, inSync := existing[op.Item]
		inSync = inSync && (op.Item.Kind != Local || source == op.Source)
		if r.errs[i] = err; err == nil && !inSync {
			r.encode(i, Op{Verb: Del, Item: op.Item})
			r.encode(i, op)
		}
	}
	for j, err := range r.do(ctx) {
		if i := r.opOf[j]; j%2 == 1 { // the second of each pair, the Add
			r.errs[i] = r.ops[i].Item.translate(err)
		}
	}
}

// existing returns the owned and correct routes and addresses.
func (r *request) existing(ctx context.Context) (Items, error) {
	items := make(Items)
	err := errors.Join(r.conn.readRoutes(ctx, r.link.index, items), r.conn.readAddresses(ctx, r.link.index, items))
	return items, err
}

// removesFirst returns the index of the op that removes the link's first IPv4 address, or -1. As long as that stays, the
// link does not lose its last, and thousands of addresses need not be listed.
func (r *request) removesFirst() (int, error) {
	removes := func(op Op) bool { return op.Verb == Del && op.Item.Kind == Address && op.check() == nil }
	if !slices.ContainsFunc(r.ops, removes) {
		return -1, nil
	}
	first, err := r.conn.firstAddress()
	return slices.IndexFunc(r.ops, func(op Op) bool { return removes(op) && op.Item.Prefix.Addr() == first }), err
}

// losing returns the routes that the kernel will remove on its own: those of IPv4 over a link that loses its last IPv4
// address (fib_inetaddr_event in net/ipv4/fib_frontend.c). The kernel sends no notification of that.
func (r *request) losing(ctx context.Context) (Items, error) {
	existing, err := r.existing(ctx)
	if err != nil {
		return nil, err
	}
	for _, op := range r.ops {
		if op.Verb == Del {
			delete(existing, op.Item)
		}
	}
	lost := Items{}
	for i, source := range existing {
		switch {
		case i.Prefix.Addr().Is6():
		case i.Kind == Address: // one that stays
			return nil, nil
		case i.onLink():
			lost[i] = source
		}
	}
	return lost, nil
}

// firstAddress returns the link's first IPv4 address, or the zero Addr.
func (c *Conn) firstAddress() (netip.Addr, error) {
	request, err := unix.NewIfreq(LinkName)
	if err != nil {
		return netip.Addr{}, err
	}
	err = unix.IoctlIfreq(c.inet, unix.SIOCGIFADDR, request)
	if errors.Is(err, unix.EADDRNOTAVAIL) || errors.Is(err, unix.ENODEV) {
		return netip.Addr{}, nil
	}
	if err != nil {
		return netip.Addr{}, fmt.Errorf("first address of %s: %w", LinkName, err)
	}
	p, err := request.Inet4Addr()
	if err != nil {
		return netip.Addr{}, fmt.Errorf("first address of %s: %w", LinkName, err)
	}
	a, _ := netip.AddrFromSlice(p)
	return a, nil
}
