package steering

import (
	"net/netip"
	"sync"

	"golang.org/x/sys/unix"
)

// pendingRemovals counts the IPv6 addresses of kube-ipvs0 that a Conn has removed and its Watch has not been notified of.
// The kernel does not report the author of a removal, and each notification would make thousands be read again. An entry
// dropped too early costs one needless read; one kept too long hides a foreign removal. So only certain entries stay: a
// refused removal is dropped, and all are after any other change or a loss of notifications.
type pendingRemovals struct {
	mu    sync.Mutex
	count map[netip.Addr]int // nil: no Watch runs
}

// begin drops all entries and starts counting.
func (p *pendingRemovals) begin() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.count = map[netip.Addr]int{}
}

// end drops all entries and stops counting.
func (p *pendingRemovals) end() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.count = nil
}

// add counts an address before the request for its removal.
func (p *pendingRemovals) add(a netip.Addr) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.count != nil {
		p.count[a]++
	}
}

// take uncounts an address once and reports whether it was counted.
func (p *pendingRemovals) take(a netip.Addr) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	n := p.count[a]
	if n <= 1 {
		delete(p.count, a)
	} else {
		p.count[a] = n - 1
	}
	return n > 0
}

// takeChange uncounts the address of a removal and reports whether it was counted.
func (p *pendingRemovals) takeChange(c Change) bool {
	return c.OnLink && c.Event == unix.RTM_DELADDR && c.Family == unix.AF_INET6 && p.take(c.Addr)
}

// removes returns the IPv6 address that an op removes, or the zero Addr. The kernel reports the author of other removals.
func (op Op) removes() netip.Addr {
	if a := op.Item.Prefix.Addr(); op.Verb == Del && op.Item.Kind == Address && a.Is6() {
		return a
	}
	return netip.Addr{}
}
