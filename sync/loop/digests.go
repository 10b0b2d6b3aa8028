package loop

import (
	"context"
	"slices"
	"time"

	"github.com/cespare/xxhash/v2"

	"kube-ipvs/sync/plan"
)

// Groups is the number of groups of Services whose digests are summed up. Nodes are compared by group: to compare 20,000 Services of
// 5,000 nodes one by one would move gigabytes, while the sums of a node are four kilobytes, and a group has some twenty of the Services.
const Groups = 1024

// groupOf returns the group of a Service, which is the same on all nodes.
func groupOf(name plan.Name) int { return int(xxhash.Sum64String(name.String()) % Groups) }

// digests are the sums of the Services' digests by group.
type digests struct {
	since   time.Time // when all were first planned; zero: not yet
	sums    [Groups]uint64
	changed [Groups]time.Time
}

// replace replaces a Service's state. Either may be nil.
func (d *digests) replace(name plan.Name, old, now *service) {
	before, after := old.summand(), now.summand()
	if before == after {
		return
	}
	g := groupOf(name)
	d.sums[g] += after - before
	d.changed[g] = time.Now()
}

// hasSettled reports whether a group has been as it is for a time.
func (d *digests) hasSettled(group int, quiet time.Duration) bool {
	return !d.since.IsZero() && time.Since(d.since) >= quiet && time.Since(d.changed[group]) >= quiet
}

// A Group is the Services whose digests are summed up together, in the order of their names.
type Group struct {
	Number   int
	Services []Digest
}

// A Digest is the digest of a Service's input: of all that plans are made of, but the node.
type Digest struct {
	Service plan.Name
	Digest  uint64
}

// Digests returns those of some groups that have been as they are for a time. It may be called from any goroutine.
func (l *Loop) Digests(ctx context.Context, groups []int, quiet time.Duration) ([]Group, error) {
	var settled []int
	var found [Groups][]Digest
	err := l.ask(ctx, func() {
		var asked [Groups]bool
		for _, g := range groups {
			if !asked[g] && l.digests.hasSettled(g, quiet) {
				asked[g], settled = true, append(settled, g)
			}
		}
		for name, s := range l.services {
			if g := groupOf(name); asked[g] {
				found[g] = append(found[g], Digest{name, s.digest})
			}
		}
	})
	var out []Group
	for _, g := range settled {
		slices.SortFunc(found[g], func(a, b Digest) int { return a.Service.Compare(b.Service) })
		out = append(out, Group{g, found[g]})
	}
	return out, err
}
