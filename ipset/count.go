package ipset

import (
	"context"
	"fmt"

	"kube-ipvs/internal/netlink"
)

// Counts implements Kernel with one dump of the sets' headers, without members.
func (c *Conn) Counts(ctx context.Context) (map[string]int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	counts := make(map[string]int)
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

func parseCount(data netlink.Attrs) (members int, err error) {
	for data.Next() {
		if data.Type() == attrElements {
			members = int(data.Uint32BE())
		}
	}
	return members, data.Err()
}

// Counts implements Kernel.
func (f *Fake) Counts(ctx context.Context) (map[string]int, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	counts := make(map[string]int)
	for name, s := range f.sets {
		counts[name] = len(s.members)
	}
	return counts, ctx.Err()
}
