package loop

import (
	"container/list"

	"kube-ipvs/ipset"
	"kube-ipvs/ipvs"
	"kube-ipvs/sync/plan"
)

// Numbers of one family's second lists: each list has one as long as a frontend uses it. Where none is free a list waits for
// one. IPVS looks for a mark's virtual server in the packet's family alone, so that each family has all of them.
type numbers struct {
	byKey   map[plan.InsideKey]*number
	used    map[uint32]plan.InsideKey
	left    map[uint32]plan.InsideKey // who had those that are free; their connections may still be there
	next    uint32                    // where to look for a free one: not the one just freed, whose connections may still be there
	waiting *list.List                // of the plan.InsideKeys of lists without one, who waits longest first
}

type number struct {
	n     uint32 // 0: it waits for one
	users int
	waits *list.Element // of waiting
}

func newNumbers() *numbers {
	return &numbers{
		byKey: map[plan.InsideKey]*number{}, used: map[uint32]plan.InsideKey{}, left: map[uint32]plan.InsideKey{}, waiting: list.New(),
	}
}

// take returns the list's number, with one user more. A list without one gets the number that it had before, if that is
// known and free, or else a free one that nothing is left of. It returns 0 if there is none; the list waits then.
func (n *numbers) take(key plan.InsideKey, before uint32, isLeft func(uint32) bool) uint32 {
	have := n.byKey[key]
	if have == nil {
		have = &number{}
		n.byKey[key] = have
	}
	have.users++
	if have.n == 0 {
		n.give(key, have, n.free(before, isLeft))
	}
	return have.n
}

// give gives a list without a number one, or has it wait if that is 0.
func (n *numbers) give(key plan.InsideKey, have *number, free uint32) {
	switch {
	case free != 0:
		have.n = free
		n.used[free] = key
		delete(n.left, free)
		n.wait(have, nil)
	case have.waits == nil:
		n.wait(have, n.waiting.PushBack(key))
	}
}

// wait sets where a list waits; nil: nowhere.
func (n *numbers) wait(have *number, at *list.Element) {
	if have.waits != nil {
		n.waiting.Remove(have.waits)
	}
	have.waits = at
}

// release takes a user of the list's number, or of its place among those that wait, away. The last one frees it.
func (n *numbers) release(key plan.InsideKey) {
	have := n.byKey[key]
	if have == nil {
		return
	}
	if have.users--; have.users > 0 {
		return
	}
	delete(n.byKey, key)
	n.wait(have, nil)
	if have.n != 0 {
		delete(n.used, have.n)
		n.left[have.n] = key
	}
}

// owner returns the list that has a number, or had it last.
func (n *numbers) owner(number uint32) (plan.InsideKey, bool) {
	key, ok := n.used[number]
	if !ok {
		key, ok = n.left[number]
	}
	return key, ok
}

func (n *numbers) free(before uint32, isLeft func(uint32) bool) uint32 {
	if _, taken := n.used[before]; before != 0 && before <= plan.Capacity && !taken {
		return before
	}
	if len(n.used) >= plan.Capacity {
		return 0
	}
	for range plan.Capacity {
		n.next = n.next%plan.Capacity + 1
		if n.isFree(n.next, isLeft) {
			return n.next
		}
	}
	return 0
}

func (n *numbers) isFree(number uint32, isLeft func(uint32) bool) bool {
	_, taken := n.used[number]
	return !taken && !isLeft(number)
}

// due returns lists that wait, as many as there are numbers for. Where nothing waits, or everything is used, it costs nothing.
func (n *numbers) due(isLeft func(uint32) bool) []plan.InsideKey {
	if n.waiting.Len() == 0 || len(n.used) >= plan.Capacity {
		return nil
	}
	var out []plan.InsideKey
	at := n.waiting.Front()
	for number := uint32(1); number <= plan.Capacity && at != nil; number++ {
		if n.isFree(number, isLeft) {
			out = append(out, at.Value.(plan.InsideKey))
			at = at.Next()
		}
	}
	return out
}

// numbersByFamily are the numbers of both families, also of one that this node does not have.
func numbersByFamily() map[ipset.Family]*numbers {
	return map[ipset.Family]*numbers{ipset.IPv4: newNumbers(), ipset.IPv6: newNumbers()}
}

// numbersOf are the numbers of a list's family.
func (l *Loop) numbersOf(key plan.InsideKey) *numbers { return l.numbers[ipset.FamilyOf(key.Family)] }

// ownerOf returns the second list that the virtual server of a mark is, or was last.
func (l *Loop) ownerOf(server ipvs.Key) (plan.InsideKey, bool) {
	return l.numbers[ipset.FamilyOf(server.Addr)].owner(l.cfg.Marks.NumberOf(server.Mark))
}

// isLeft says that a number's virtual server is in the kernel: whoever had it may still have packets on their way, or it is
// somebody else's.
func (l *Loop) isLeft(f ipset.Family) func(uint32) bool {
	return func(number uint32) bool {
		server := ipvs.MarkKey(l.cfg.Marks.Number(number), everything(f).Addr())
		_, strange := l.strange[server]
		_, left := l.tables.servers.Known(server)
		return strange || left
	}
}

// handOut plans the Services again whose second lists wait for a number, as many as there are numbers for. Numbers become
// free in more than one way: a list goes, its virtual server goes after its last connection, or somebody else's does.
func (l *Loop) handOut() {
	waiting := 0
	for f, n := range l.numbers {
		for _, key := range n.due(l.isLeft(f)) {
			l.cfg.Queue.ServiceChanged(key.Service)
		}
		waiting += n.waiting.Len()
	}
	l.count.unnumbered.Set(float64(waiting))
}
