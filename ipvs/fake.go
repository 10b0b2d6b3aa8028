package ipvs

import (
	"context"
	"fmt"
	"maps"
	"math"
	"net/netip"
	"os"
	"slices"
	"sync"

	"kube-ipvs/internal/inet"

	"golang.org/x/sys/unix"
)

// Fake is a table in memory with the kernel's checks and errors. It is safe for use by several goroutines. The zero
// Fake is an empty table.
type Fake struct {
	mu       sync.Mutex
	table    Table
	counters map[RealKey]Counters
	unlisted map[Key]bool // which Walk leaves out
	calls    Calls
}

var _ Kernel = (*Fake)(nil)

// Calls counts the calls of a Fake's methods.
type Calls struct {
	Do         int // calls of Do
	Ops        int // ops in them
	Read       int // calls of Read
	ReadServer int // calls of ReadServer
	Count      int // calls of Count
	Walk       int // calls of Walk
}

// Calls returns the number of calls so far.
func (f *Fake) Calls() Calls {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.calls
}

// Table returns a copy of the table. It does not count as a Read.
func (f *Fake) Table() Table {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.table.clone()
}

// SetConnections sets a real server's numbers of connections. The error is os.ErrNotExist without that real server.
func (f *Fake) SetConnections(key RealKey, active, inactive uint32) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	state, ok := f.table[key.Server].Reals[key.AddrPort()]
	if !ok {
		return fmt.Errorf("connections of %v behind %v: %w", key.AddrPort(), key.Server, os.ErrNotExist)
	}
	state.Active, state.Inactive = active, inactive
	f.table[key.Server].Reals[key.AddrPort()] = state
	return nil
}

// SetCounters sets a real server's counters, which its virtual server sums up.
func (f *Fake) SetCounters(key RealKey, c Counters) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.counters == nil {
		f.counters = map[RealKey]Counters{}
	}
	f.counters[key] = c
}

// Totals returns the counters of all virtual servers.
func (f *Fake) Totals(ctx context.Context) (map[Key]Counters, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	out := map[Key]Counters{}
	for key, entry := range f.table {
		out[key] = Counters{}
		for at := range entry.Reals {
			out[key] = out[key].Add(f.counters[RealKeyOf(key, at)])
		}
	}
	return out, ctx.Err()
}

// CountReals returns the real servers of a virtual server with their counters.
func (f *Fake) CountReals(ctx context.Context, key Key) (map[netip.AddrPort]CountedReal, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	out := map[netip.AddrPort]CountedReal{}
	for at, state := range f.table[key].Reals {
		out[at] = CountedReal{state, f.counters[RealKeyOf(key, at)]}
	}
	return out, ctx.Err()
}

// Read implements Kernel.
func (f *Fake) Read(ctx context.Context) (Table, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.calls.Read++
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("read IPVS table: %w", err)
	}
	return f.table.clone(), nil
}

// ReadServer implements Kernel.
func (f *Fake) ReadServer(ctx context.Context, key Key) (Entry, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.calls.ReadServer++
	if err := ctx.Err(); err != nil {
		return Entry{}, fmt.Errorf("read %v: %w", key, err)
	}
	entry, ok := f.table[key]
	if !ok {
		return Entry{}, fmt.Errorf("read %v: %w", key, translate(unix.ESRCH))
	}
	return entry.clone(), nil
}

// Count implements Kernel.
func (f *Fake) Count(context.Context) (int, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.calls.Count++
	n := 0
	for key := range f.table {
		if key.Addr.Is4() {
			n++
		}
	}
	return n, nil
}

// Unlist makes Walk leave these virtual servers out, as the kernel's listing does where other network namespaces have some.
func (f *Fake) Unlist(keys ...Key) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.unlisted = map[Key]bool{}
	for _, key := range keys {
		f.unlisted[key] = true
	}
}

// Walk implements Kernel.
func (f *Fake) Walk(ctx context.Context, fn func(Key, Entry)) error {
	f.mu.Lock()
	f.calls.Walk++
	table, unlisted := f.table.clone(), f.unlisted
	f.mu.Unlock()
	for key, entry := range table {
		if unlisted[key] {
			continue
		}
		balanced := key.Proto == inet.TCP || key.Proto == inet.UDP || key.Proto == inet.SCTP
		if balanced || key.Mark != 0 && len(entry.Reals) > 0 {
			entry.Server.Flags, entry.Server.Timeout = 0, min(entry.Server.Timeout, 1)
			fn(key, entry)
		}
	}
	return ctx.Err()
}

// Do implements Kernel.
func (f *Fake) Do(ctx context.Context, ops []Op) []error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.calls.Do++
	f.calls.Ops += len(ops)
	if f.table == nil {
		f.table = make(Table)
	}
	return opErrors(ops, func(i int) error {
		if err := ctx.Err(); err != nil {
			return err
		}
		return f.table.apply(ops[i])
	})
}

// apply carries out an op, or returns the kernel's refusal.
func (t Table) apply(op Op) error {
	entry, ok := t[op.Key]
	switch {
	case op.invalid() != nil:
		return nil // reported without asking the kernel
	case op.Verb == AddServer && ok:
		return unix.EEXIST
	case op.Verb != AddServer && !ok:
		return unix.ESRCH
	}
	switch op.Verb {
	case AddServer, SetServer:
		return t.put(op, entry)
	case DelServer:
		delete(t, op.Key)
		return nil
	}
	return entry.apply(op)
}

// schedulers are those of Linux; "none" is a server without one.
var schedulers = []string{"none", "rr", "wrr", "lc", "wlc", "lblc", "lblcr", "dh", "sh", "sed", "nq", "fo", "ovf", "mh"}

// put adds a server or changes its settings.
func (t Table) put(op Op, entry Entry) error {
	if len(op.Server.Scheduler) > 15 { // IP_VS_SCHEDNAME_MAXLEN and the final zero
		return unix.ERANGE
	}
	if !slices.Contains(schedulers, op.Server.Scheduler) {
		return unix.ENOENT
	}
	if entry.Reals == nil {
		entry.Reals = make(map[netip.AddrPort]RealState)
	}
	entry.Server = op.Server
	t[op.Key] = entry
	return nil
}

// apply carries out an op on a real server.
func (e Entry) apply(op Op) error {
	state, ok := e.Reals[op.Addr]
	switch {
	case op.Verb == DelReal && !ok:
		return unix.ENOENT
	case op.Verb == DelReal:
		delete(e.Reals, op.Addr)
		return nil
	case op.Addr.Addr().Is4() != op.Key.Addr.Is4():
		return unix.EINVAL
	case op.Real.Weight > math.MaxInt32:
		return unix.ERANGE
	case op.Verb == AddReal && ok:
		return unix.EEXIST
	case op.Verb == SetReal && !ok:
		return unix.ENOENT
	case op.Verb == AddReal && !reachable(op.Addr.Addr()):
		return unix.EINVAL
	}
	state.Real = op.Real
	e.Reals[op.Addr] = state
	return nil
}

// reachable reports whether the kernel accepts an address for a real server (ip_vs_new_dest).
func reachable(a netip.Addr) bool {
	switch {
	case a.IsMulticast() || a.IsUnspecified():
		return false
	case a.Is6():
		return !a.IsLinkLocalUnicast() && !a.Is4In6()
	}
	return a != netip.AddrFrom4([4]byte{255, 255, 255, 255})
}

func (t Table) clone() Table {
	out := make(Table, len(t))
	for key, entry := range t {
		out[key] = entry.clone()
	}
	return out
}

func (e Entry) clone() Entry {
	return Entry{Server: e.Server, Reals: maps.Clone(e.Reals)}
}
