package ipset

import (
	"context"
	"fmt"

	"kube-ipvs/internal/netlink"
)

// A Count is how many members a set has, and how many rules and sets refer to it. Both change when somebody flushes what
// is not theirs.
type Count struct{ Members, References uint32 }

// Counts implements Kernel: one dump of the sets' headers, without a member.
func (c *Conn) Counts(ctx context.Context) (map[string]Count, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	counts := make(map[string]Count)
	err := c.list(ctx, "", flagListHeader, func(h header) error {
		count, err := parseCount(h.data)
		counts[h.name] = count
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("count members of sets: %w", err)
	}
	return counts, nil
}

func parseCount(data netlink.Attrs) (Count, error) {
	var c Count
	for data.Next() {
		switch data.Type() {
		case attrElements:
			c.Members = data.Uint32BE()
		case attrReferences:
			c.References = data.Uint32BE()
		}
	}
	return c, data.Err()
}

// Counts implements Kernel. References are 1 for a set that SetInUse was called for, and 0 otherwise.
func (f *Fake) Counts(ctx context.Context) (map[string]Count, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	counts := make(map[string]Count)
	for name, s := range f.sets {
		c := Count{Members: uint32(len(s.members))}
		if s.inUse {
			c.References = 1
		}
		counts[name] = c
	}
	return counts, ctx.Err()
}
