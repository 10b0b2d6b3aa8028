package vip

import (
	"net/netip"
	"sync"

	"golang.org/x/sys/unix"
)

// A leaving is the IPv6 addresses of kube-ipvs0 that a Conn removes and that its Watch has not heard of yet. The kernel does
// not say who removed one, and each would have thousands read again. What is too little here costs a read that was not
// needed; too much, an address that somebody else removed and nobody hears of. So only what is certain stays: an address
// whose removal the kernel refused is forgotten, and all of them are when anything else is heard of or notifications are
// lost.
type leaving struct {
	mu    sync.Mutex
	count map[netip.Addr]int // nil: nobody watches
}

// begin forgets all addresses, and remembers those that are removed from now on.
func (l *leaving) begin() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.count = map[netip.Addr]int{}
}

// end remembers no more addresses.
func (l *leaving) end() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.count = nil
}

// add remembers an address before the kernel is asked to remove it.
func (l *leaving) add(a netip.Addr) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.count != nil {
		l.count[a]++
	}
}

// take forgets an address once, and says whether it was remembered.
func (l *leaving) take(a netip.Addr) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	n := l.count[a]
	if n <= 1 {
		delete(l.count, a)
	} else {
		l.count[a] = n - 1
	}
	return n > 0
}

// hears says that a change is the removal of an address that is remembered, which it is no more.
func (l *leaving) hears(c Change) bool {
	return c.OnLink && c.Event == unix.RTM_DELADDR && c.Family == unix.AF_INET6 && l.take(c.Addr)
}

// removes returns the address that an op removes if the kernel does not say who removed it, or the zero Addr.
func (op Op) removes() netip.Addr {
	if a := op.Item.Prefix.Addr(); op.Verb == Del && op.Item.Kind == Address && a.Is6() {
		return a
	}
	return netip.Addr{}
}
