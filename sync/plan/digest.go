package plan

import (
	"encoding/binary"
	"net/netip"
	"time"

	"github.com/cespare/xxhash/v2"
)

// Digest returns a digest of all that Compute takes from a Service and its slices. It knows no node, so nodes of one version have the
// same digest as long as they were told the same, also where policies, zones and addresses give each a plan of its own. Slices, and
// the endpoints of a slice, count in any order.
func Digest(svc Service, in []Slice) uint64 {
	d := digester(nil).text(svc.Name.Namespace, svc.Name.Name, svc.UID).time(svc.Created).number(uint64(len(svc.Ports)))
	for _, p := range svc.Ports {
		d = d.text(p.Name).number(uint64(p.Proto), uint64(p.Port), uint64(p.NodePort))
	}
	d = d.addresses(svc.ClusterIPs).addresses(svc.ExternalIPs).addresses(svc.LoadBalancerIPs).number(uint64(len(svc.SourceRanges)))
	for _, r := range svc.SourceRanges {
		d = d.address(r.Addr()).number(uint64(r.Bits()))
	}
	d = d.flags(svc.InternalLocal, svc.ExternalLocal).number(uint64(svc.Affinity), uint64(svc.HealthCheckNodePort)).text(svc.Scheduler)
	var slices uint64
	for i := range in {
		slices += in[i].digest()
	}
	return d.number(slices).sum()
}

func (s *Slice) digest() uint64 {
	d := digester(nil).number(uint64(s.Family), uint64(len(s.Ports)))
	for _, p := range s.Ports {
		d = d.text(p.Name).number(uint64(p.Proto), uint64(p.Port))
	}
	var endpoints uint64
	var buffer digester
	for i := range s.Endpoints {
		e := &s.Endpoints[i]
		buffer = buffer[:0].address(e.Addr).text(e.Node).flags(e.Ready, e.Serving, e.Terminating).texts(e.ZoneHints).texts(e.NodeHints)
		endpoints += buffer.sum()
	}
	return d.number(endpoints).sum()
}

// A digester is a sequence of values as bytes. Each has its length before it, or always the same length, so that different values
// never look alike.
type digester []byte

func (d digester) sum() uint64 { return xxhash.Sum64(d) }

func (d digester) number(values ...uint64) digester {
	for _, v := range values {
		d = binary.BigEndian.AppendUint64(d, v)
	}
	return d
}

func (d digester) text(values ...string) digester {
	for _, v := range values {
		d = append(d.number(uint64(len(v))), v...)
	}
	return d
}

func (d digester) texts(values []string) digester {
	return d.number(uint64(len(values))).text(values...)
}

func (d digester) time(t time.Time) digester {
	return d.number(uint64(t.Unix()), uint64(t.Nanosecond()))
}

func (d digester) address(a netip.Addr) digester {
	b := a.As16()
	return append(d.number(uint64(a.BitLen())), b[:]...)
}

func (d digester) addresses(list []netip.Addr) digester {
	d = d.number(uint64(len(list)))
	for _, a := range list {
		d = d.address(a)
	}
	return d
}

func (d digester) flags(values ...bool) digester {
	for _, v := range values {
		b := byte(0)
		if v {
			b = 1
		}
		d = append(d, b)
	}
	return d
}
