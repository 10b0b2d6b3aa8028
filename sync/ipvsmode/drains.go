package ipvsmode

import (
	"net/netip"
	"slices"
	"time"

	"kube-ipvs/ipvs"
	"kube-ipvs/sync/loop"
	"kube-ipvs/sync/plan"
)

// Drains are the real servers that drain.
type drains struct {
	servers map[ipvs.Key]map[netip.AddrPort]drain // by virtual server; none is empty
	count   int
}

// A drain records since when a draining real server has been unlisted and quiet; a zero time means that it is not.
type drain struct {
	unlisted time.Time // in no slice
	quiet    time.Time // neither listed nor with active connections
}

// drainInterval is the time between checks of draining real servers, each of which dumps those of their virtual server.
const drainInterval = 2 * time.Second

// mostChecks bounds the virtual servers that are checked again at a time, since nothing is programmed meanwhile. With more of them that
// have draining real servers a round takes several intervals.
const mostChecks = 1000

// quietLimit is how long an unlisted real server is kept for inactive connections alone. It takes two checks: with one round in an
// interval a real server is removed within five seconds of its last active connection.
const quietLimit = drainInterval

func newDrains() *drains { return &drains{servers: map[ipvs.Key]map[netip.AddrPort]drain{}} }

// of returns what is known of a real server that may drain.
func (d *drains) of(k ipvs.RealKey) drain { return d.servers[k.Server][k.AddrPort()] }

func (d *drains) note(k ipvs.RealKey, now drain) {
	of := d.servers[k.Server]
	if of == nil {
		of = map[netip.AddrPort]drain{}
		d.servers[k.Server] = of
	}
	d.count -= len(of)
	of[k.AddrPort()] = now
	d.count += len(of)
}

func (d *drains) forget(k ipvs.RealKey) {
	of := d.servers[k.Server]
	d.count -= len(of)
	delete(of, k.AddrPort())
	d.count += len(of)
	if len(of) == 0 {
		delete(d.servers, k.Server)
	}
}

// Drains implements loop.Drainer.
func (d *Dataplane) Drains(a plan.Address) []loop.Drain {
	var out []loop.Drain
	for _, server := range []ipvs.Key{KeyOf(a), AliasKey(a)} {
		for at, drain := range d.tables.draining.servers[server] {
			out = append(out, loop.Drain{At: at, Unlisted: drain.unlisted})
		}
	}
	slices.SortFunc(out, func(a, b loop.Drain) int { return a.At.Compare(b.At) })
	return out
}
