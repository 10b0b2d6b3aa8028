package loop

import "kube-ipvs/sync/plan"

// Numbers of second lists: each list has one as long as a frontend uses it.
type numbers struct {
	byKey map[plan.InsideKey]*number
	used  map[uint32]plan.InsideKey
	left  map[uint32]plan.InsideKey // who had those that are free; their connections may still be there
	next  uint32                    // where to look for a free one: not the one just freed, whose connections may still be there
}

type number struct {
	n     uint32
	users int
}

func newNumbers() *numbers {
	return &numbers{byKey: map[plan.InsideKey]*number{}, used: map[uint32]plan.InsideKey{}, left: map[uint32]plan.InsideKey{}}
}

// take returns the list's number, with one user more. A list without one gets the number that it had before, if that is
// known and free, or else a free one that nothing is left of. It returns 0 if there is none.
func (n *numbers) take(key plan.InsideKey, before uint32, isLeft func(uint32) bool) uint32 {
	have := n.byKey[key]
	if have == nil {
		free := n.free(before, isLeft)
		if free == 0 {
			return 0
		}
		have = &number{n: free}
		n.byKey[key] = have
		n.used[free] = key
		delete(n.left, free)
	}
	have.users++
	return have.n
}

// release takes a user of the list's number away. The last one frees it. A list that had none, 0, has none to free.
func (n *numbers) release(key plan.InsideKey, had uint32) {
	have := n.byKey[key]
	if have == nil || had == 0 {
		return
	}
	if have.users--; have.users == 0 {
		delete(n.byKey, key)
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
		if _, taken := n.used[n.next]; !taken && !isLeft(n.next) {
			return n.next
		}
	}
	return 0
}
