package steering

// Our rules are to be the first after the local table's, for marked packets are for this host by definition. Whoever adds a
// rule without priority gets the one before the second rule's (fib_default_rule_pref in net/core/fib_rules.c), which is ours;
// wg-quick adds two of that kind, and its table takes all packets. So there is room before our rules, and where a stranger's
// rule comes into it, ours stand before that one for as long as it is there. Its conditions do not matter, not even a mark:
// a packet may bear the marks of several agents. The place follows from the strangers' rules alone, so that ours do not wander
// further with every one that comes and goes, and are found again after a restart.
const (
	places   = afterPriority - ownPriority + 1 // of our rules
	foremost = 3                               // of all places: Cilium and others have 1
)

// A place is how far before the priorities of Policies our rules stand in the kernel.
type place uint32

// inFront reports whether a stranger's rule is before the priorities of Policies, or among them, and ours can come before it.
func (r Rule) inFront() bool { return foremost < r.Priority && r.Priority <= afterPriority }

// placeBefore returns the place before a stranger's rule that is in front. It does not overlap with that of Policies.
func placeBefore(priority uint32) place {
	return place(ownPriority - max(foremost, min(priority, ownPriority)-places))
}

// trade returns a rule of an Item as it is in the kernel, and the other way round: the priorities of Policies and those of the
// place trade places, so that an owned rule that stands where none should has an Item of its own.
func (p place) trade(r Rule) Rule {
	var by uint32
	switch there := r.Priority + uint32(p); {
	case ownPriority <= r.Priority && r.Priority <= afterPriority:
		by = -uint32(p)
	case ownPriority <= there && there <= afterPriority:
		by = uint32(p)
	}
	r.Priority += by
	if r.Goto != 0 {
		r.Goto += by
	}
	return r
}
