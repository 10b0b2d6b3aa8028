package vip

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"

	"golang.org/x/sys/unix"
)

// A row is ops on rules, routes and addresses on their way to the kernel in one batch.
type row struct {
	conn *Conn
	link linkState
	ops  []Op
	errs []error      // of the ops
	at   []int        // the op of each message in the batch
	goes []netip.Addr // of each message: the IPv6 address that it removes, if it does
}

// many carries out ops on rules, routes and addresses, all in as few sends as are safe, and writes their errors into errs.
func (c *Conn) many(ctx context.Context, ops []Op, errs []error) {
	r := row{conn: c, ops: ops, errs: errs}
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
	own := len(r.at)
	for item, source := range lost {
		r.encode(cause, Op{Add, item, source})
	}
	r.settle(ctx, r.send(ctx, own))
}

// put encodes an op, unless there is nothing to do or nothing to do it on.
func (r *row) put(i int) {
	op := r.ops[i]
	switch noLink := r.link.index == 0; {
	case noLink && op.Verb == Add && op.Item.onLink():
		r.errs[i] = errNoLink
	case noLink && op.Item.Kind == Address: // gone with the link
	default:
		r.encode(i, op)
	}
}

func (r *row) encode(i int, op Op) {
	switch op.Item.Kind {
	case Policy:
		op.Item.Rule.encode(&r.conn.batch, op.Verb, familyOf(op.Item.Prefix))
	case Address:
		encodeAddress(&r.conn.batch, op.Verb, op.Item.Prefix, r.link.index)
	default:
		op.Item.route(r.link.index, op.Source).encode(&r.conn.batch, op.Verb)
	}
	r.at = append(r.at, i)
	goes := op.removes()
	if r.goes = append(r.goes, goes); goes.IsValid() {
		r.conn.leaving.add(goes)
	}
}

// do sends the batch and returns the error of each message. Of what is not removed nobody will be notified.
func (r *row) do(ctx context.Context) []error {
	errs := r.conn.bulk.Do(ctx, &r.conn.batch)
	for j, err := range errs {
		if err != nil && r.goes[j].IsValid() {
			r.conn.leaving.take(r.goes[j])
		}
	}
	return errs
}

// send sends the batch, of which the first messages are the ops' own and the others make lost routes again. It returns
// the ops whose item, or something in its place, is there already.
func (r *row) send(ctx context.Context, own int) (taken []int) {
	for j, err := range r.do(ctx) {
		i := r.at[j]
		exists := errors.Is(err, unix.EEXIST)
		switch {
		case j >= own && !exists:
			r.errs[i] = errors.Join(r.errs[i], err)
		case j >= own:
		case r.ops[i].Verb == Del:
			if r.errs[i] = r.ops[i].Item.words(gone(err)); errors.Is(r.errs[i], ErrNoIPv6) {
				r.errs[i] = nil // where there is no IPv6, nothing of it is left
			}
		default:
			r.errs[i] = r.ops[i].Item.words(err)
			switch {
			case exists && r.ops[i].Item.Kind == Policy: // the very same one
				r.errs[i] = nil
			case exists:
				taken = append(taken, i)
			}
		}
	}
	return taken
}

// settle looks at what the kernel says is taken. Where it is the item itself, all is well. Where it is ours but not
// right, such as a route over another link, it is taken away and made again. Else it is a stranger's, and the error
// stays.
func (r *row) settle(ctx context.Context, taken []int) {
	if len(taken) == 0 {
		return
	}
	there, err := r.there(ctx)
	r.conn.batch.Reset()
	r.at, r.goes = nil, nil
	for _, i := range taken {
		op := r.ops[i]
		source, right := there[op.Item]
		right = right && (op.Item.Kind != Local || source == op.Source)
		if r.errs[i] = err; err == nil && !right {
			r.encode(i, Op{Verb: Del, Item: op.Item})
			r.encode(i, op)
		}
	}
	for j, err := range r.do(ctx) {
		if i := r.at[j]; j%2 == 1 { // the second of each two, the Add
			r.errs[i] = r.ops[i].Item.words(err)
		}
	}
}

// there returns the routes and addresses that are there and right.
func (r *row) there(ctx context.Context) (Items, error) {
	items := make(Items)
	err := errors.Join(r.conn.readRoutes(ctx, r.link.index, items), r.conn.readAddresses(ctx, r.link.index, items))
	return items, err
}

// removesFirst returns the index of the op that removes the link's first IPv4 address, or -1. As long as that stays, the
// link does not lose its last, and listing thousands of addresses is spared.
func (r *row) removesFirst() (int, error) {
	removes := func(op Op) bool { return op.Verb == Del && op.Item.Kind == Address && op.check() == nil }
	if !slices.ContainsFunc(r.ops, removes) {
		return -1, nil
	}
	first, err := r.conn.firstAddress()
	return slices.IndexFunc(r.ops, func(op Op) bool { return removes(op) && op.Item.Prefix.Addr() == first }), err
}

// losing returns the routes that the kernel will remove on its own: those of IPv4 over a link that loses its last IPv4
// address (fib_inetaddr_event in net/ipv4/fib_frontend.c). Nobody is notified of that.
func (r *row) losing(ctx context.Context) (Items, error) {
	there, err := r.there(ctx)
	if err != nil {
		return nil, err
	}
	for _, op := range r.ops {
		if op.Verb == Del {
			delete(there, op.Item)
		}
	}
	lost := Items{}
	for i, source := range there {
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
