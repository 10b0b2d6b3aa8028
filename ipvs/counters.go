package ipvs

import (
	"context"
	"errors"
	"fmt"
	"net/netip"

	"golang.org/x/sys/unix"

	"kube-ipvs/internal/inet"
	"kube-ipvs/internal/netlink"
)

// Counters are the kernel's counts of a virtual or real server's traffic since it was added, up to two seconds old
// (ip_vs_est.c). "In" is from clients.
type Counters struct {
	Connections           uint64
	InPackets, OutPackets uint64
	InBytes, OutBytes     uint64
}

// Add returns the sums of two counts.
func (c Counters) Add(o Counters) Counters {
	return Counters{
		Connections: c.Connections + o.Connections,
		InPackets:   c.InPackets + o.InPackets, OutPackets: c.OutPackets + o.OutPackets,
		InBytes: c.InBytes + o.InBytes, OutBytes: c.OutBytes + o.OutBytes,
	}
}

// A CountedReal is a real server with its counters.
type CountedReal struct {
	RealState
	Counters
}

// Totals returns the counters of all virtual servers, in one dump of the kernel.
func (c *Conn) Totals(ctx context.Context) (map[Key]Counters, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	out := map[Key]Counters{}
	c.dumps.Add(1)
	err := c.resolving(ctx, func() error {
		clear(out)
		c.batch.Reset()
		c.batch.BeginGeneric(c.family, unix.NLM_F_DUMP, cmdGetService, familyVersion)
		c.batch.End()
		return c.query(ctx, func(_ uint16, p []byte) error {
			key, _, err := parseService(p)
			counters, countErr := parseCounters(p, attrService, svcStats, svcStats64)
			out[key] = counters
			return errors.Join(err, countErr)
		})
	})
	if err != nil {
		return nil, fmt.Errorf("read the counters of virtual servers: %w", translate(err))
	}
	return out, nil
}

// CountReals returns the real servers of a virtual server with their counters, in one dump of the kernel. A missing virtual
// server has none.
func (c *Conn) CountReals(ctx context.Context, key Key) (map[netip.AddrPort]CountedReal, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	out := map[netip.AddrPort]CountedReal{}
	err := c.get(ctx, key, cmdGetDest, func(_ uint16, p []byte) error {
		at, state, err := parseDest(p, uint16(inet.FamilyOf(key.Addr)))
		counters, countErr := parseCounters(p, attrDest, destStats, destStats64)
		out[at] = CountedReal{state, counters}
		return errors.Join(err, countErr)
	})
	if err != nil {
		return nil, fmt.Errorf("read the counters of %v: %w", key, translate(err))
	}
	return out, nil
}

// parseCounters parses the counters of a reply: of 64 bits, or else those of older kernels, whose counts of connections and
// packets have 32.
func parseCounters(payload []byte, in, narrow, wide uint16) (Counters, error) {
	a, err := nested(payload, in)
	if err != nil {
		return Counters{}, err
	}
	var out Counters
	var isWide bool
	for a.Next() {
		if a.Type() != wide && (a.Type() != narrow || isWide) {
			continue
		}
		isWide = a.Type() == wide
		stats := a.Nested()
		out = Counters{}
		for stats.Next() {
			out.take(&stats, isWide)
		}
		if err := stats.Err(); err != nil {
			return Counters{}, fmt.Errorf("counters: %w", err)
		}
	}
	return out, a.Err()
}

func (c *Counters) take(a *netlink.Attrs, isWide bool) {
	number := func() uint64 {
		if isWide {
			return a.Uint64()
		}
		return uint64(a.Uint32())
	}
	switch a.Type() {
	case statConnections:
		c.Connections = number()
	case statInPackets:
		c.InPackets = number()
	case statOutPackets:
		c.OutPackets = number()
	case statInBytes:
		c.InBytes = a.Uint64()
	case statOutBytes:
		c.OutBytes = a.Uint64()
	}
}
