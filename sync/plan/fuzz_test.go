package plan

import (
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"kube-ipvs/internal/inet"
)

// A seed makes objects of bytes. It has no end: behind the last byte come zeros.
type seed []byte

func (s *seed) n(below int) int {
	if len(*s) == 0 {
		return 0
	}
	b := (*s)[0]
	*s = (*s)[1:]
	return int(b) % below
}

func (s *seed) yes() bool { return s.n(2) == 1 }

// addr is one of few addresses, so that they repeat.
func (s *seed) addr() netip.Addr {
	if s.yes() {
		return netip.AddrFrom16([16]byte{0xfd, 15: byte(s.n(6))})
	}
	return netip.AddrFrom4([4]byte{10, 0, 0, byte(s.n(6))})
}

func (s *seed) prefix() netip.Prefix {
	a := s.addr()
	return netip.PrefixFrom(a, s.n(a.BitLen()+1)).Masked()
}

func many[T any](s *seed, most int, one func() T) []T {
	var out []T
	for range s.n(most + 1) {
		out = append(out, one())
	}
	return out
}

func (s *seed) proto() inet.Protocol { return []inet.Protocol{inet.TCP, inet.UDP, inet.SCTP}[s.n(3)] }
func (s *seed) name() string         { return []string{"", "a", "b"}[s.n(3)] }

func (s *seed) service() Service {
	return Service{
		Ports: many(s, 4, func() Port {
			return Port{Name: s.name(), Proto: s.proto(), Port: uint16(s.n(4)), NodePort: uint16(s.n(3))}
		}),
		ClusterIPs: many(s, 3, s.addr), ExternalIPs: many(s, 3, s.addr), LoadBalancerIPs: many(s, 3, s.addr),
		SourceRanges:  many(s, 2, s.prefix),
		InternalLocal: s.yes(), ExternalLocal: s.yes(), Affinity: time.Duration(s.n(3)) * time.Second, HealthCheckNodePort: uint16(s.n(2)),
	}
}

func (s *seed) slice() Slice {
	return Slice{
		Ports: many(s, 3, func() SlicePort { return SlicePort{s.name(), s.proto(), uint16(s.n(3))} }),
		Endpoints: many(s, 6, func() Endpoint {
			return Endpoint{
				Addr: s.addr(), Node: s.name(), Ready: s.yes(), Serving: s.yes(), Terminating: s.yes(),
				ZoneHints: many(s, 2, s.name), NodeHints: many(s, 2, s.name),
			}
		}),
	}
}

func FuzzCompute(f *testing.F) {
	f.Add([]byte{})
	f.Add([]byte{1, 1, 0, 1, 1, 1, 0, 1, 0, 0, 0, 1, 1, 0, 0, 1, 1, 1, 0, 1, 2, 0, 2, 1, 1, 0, 1})
	f.Add([]byte("0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789abcdefghijklmnopqrstuvwxyz"))
	f.Fuzz(func(t *testing.T, data []byte) {
		s := seed(data)
		cfg := Config{Scheduler: "rr", MasqueradeAll: s.yes(), Bind: s.yes()}
		node := Node{Name: s.name(), Zone: s.name(), Own: many(&s, 3, s.addr), Addresses: many(&s, 3, s.addr)}
		svc, in := s.service(), many(&s, 4, s.slice)
		cfg.ServiceCIDRs = many(&s, 1, s.prefix)
		got := Compute(cfg, svc, in, node)
		if diff := cmp.Diff(got, Compute(cfg, svc, in, node), cmpopts.EquateComparable(netip.Addr{}, netip.AddrPort{}, netip.Prefix{})); diff != "" {
			t.Fatalf("not the same twice:\n%s", diff)
		}
		checkReasons(t, got, Explain(cfg, svc, in, node))
		addresses := slices.Concat(svc.ClusterIPs, svc.ExternalIPs, svc.LoadBalancerIPs, node.Addresses)
		seen := map[Address]bool{}
		for _, fe := range got.Frontends {
			if seen[fe.Address] || !slices.Contains(addresses, fe.Addr) || fe.Port == 0 || !fe.Addr.IsValid() {
				t.Errorf("%v is there twice, or its address or port is nobody's", fe.Address)
			}
			seen[fe.Address] = true
			checkList(t, cfg, fe.Address, fe.Backends, fe.Draining, in)
			if n := fe.Internal; n != nil {
				checkList(t, cfg, fe.Address, n.Backends, n.Draining, in)
				if slices.Equal(n.Backends, fe.Backends) {
					t.Errorf("%v: internal sources are served the same", fe.Address)
				}
			}
			if fe.Rejected && len(fe.Backends) > 0 || !fe.OnNode && slices.Contains(node.Own, fe.Addr) {
				t.Errorf("%v: rejected although it is served, or not on the node although it is the node's", fe.Address)
			}
			for _, r := range fe.SourceRanges {
				if !fe.Restricted || r.Addr().Is4() != fe.Addr.Is4() {
					t.Errorf("%v: range %v", fe.Address, r)
				}
			}
		}
	})
}

// checkList checks who serves a list and who drains there.
func checkList(t *testing.T, cfg Config, key Address, serving, draining []netip.AddrPort, in []Slice) {
	t.Helper()
	for _, list := range [][]netip.AddrPort{serving, draining} {
		for i, at := range list {
			listed := slices.ContainsFunc(in, func(s Slice) bool {
				return slices.ContainsFunc(s.Endpoints, func(e Endpoint) bool { return e.Addr == at.Addr() })
			})
			if at.Addr().Is4() != key.Addr.Is4() || !listed || cfg.routes(at.Addr()) || i > 0 && list[i-1].Compare(at) >= 0 {
				t.Errorf("%v: %v in %v is of the other family, from nowhere, in a service range, there twice or out of order", key, at, list)
			}
		}
	}
	if slices.ContainsFunc(serving, func(at netip.AddrPort) bool { return slices.Contains(draining, at) }) {
		t.Errorf("%v: %v and %v have something in common", key, serving, draining)
	}
}

// checkReasons checks that who serves is explained to serve, and nobody else.
func checkReasons(t *testing.T, got Desired, e Explanation) {
	t.Helper()
	serving := map[netip.AddrPort]bool{}
	for _, fe := range got.Frontends {
		for _, at := range fe.Backends {
			serving[at] = true
		}
		if fe.Internal != nil {
			for _, at := range fe.Internal.Backends {
				serving[at] = true
			}
		}
	}
	for _, x := range e.Endpoints {
		if x.Cluster.IsServing() || x.Local.IsServing() {
			delete(serving, x.At)
		}
	}
	if len(serving) > 0 {
		t.Errorf("%v serve, which is not explained", serving)
	}
}
