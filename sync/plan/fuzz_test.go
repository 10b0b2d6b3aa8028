package plan

import (
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"kube-ipvs/ipvs"
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

func many[T any](s *seed, most int, one func() T) []T {
	var out []T
	for range s.n(most + 1) {
		out = append(out, one())
	}
	return out
}

func (s *seed) proto() ipvs.Protocol { return []ipvs.Protocol{ipvs.TCP, ipvs.UDP, ipvs.SCTP}[s.n(3)] }
func (s *seed) name() string         { return []string{"", "a", "b"}[s.n(3)] }

func (s *seed) service() Service {
	return Service{
		Ports: many(s, 4, func() Port {
			return Port{Name: s.name(), Proto: s.proto(), Port: uint16(s.n(4)), NodePort: uint16(s.n(3))}
		}),
		ClusterIPs: many(s, 3, s.addr), ExternalIPs: many(s, 3, s.addr), LoadBalancerIPs: many(s, 3, s.addr),
		SourceRanges:  many(s, 2, func() netip.Prefix { a := s.addr(); return netip.PrefixFrom(a, s.n(a.BitLen()+1)).Masked() }),
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
		got := Compute(cfg, svc, in, node)
		if diff := cmp.Diff(got, Compute(cfg, svc, in, node), cmpopts.EquateComparable(netip.Addr{}, netip.AddrPort{}, netip.Prefix{})); diff != "" {
			t.Fatalf("not the same twice:\n%s", diff)
		}
		addresses := slices.Concat(svc.ClusterIPs, svc.ExternalIPs, svc.LoadBalancerIPs, node.Addresses)
		seen := map[ipvs.Key]bool{}
		for _, fe := range got.Frontends {
			if seen[fe.Key] || !slices.Contains(addresses, fe.Key.Addr) || fe.Key.Port == 0 || !fe.Key.Addr.IsValid() {
				t.Errorf("%v is there twice, or its address or port is nobody's", fe.Key)
			}
			seen[fe.Key] = true
			checkList(t, fe.Key, fe.Key.Addr, fe.Reals, fe.Draining, in)
			if n := fe.Internal; n != nil {
				checkList(t, n.Key, n.Key.Addr, n.Reals, n.Draining, in)
				if slices.Equal(n.Reals, fe.Reals) || n.Key.Addr != Alias(fe.Key.Addr) || n.Key.Port != fe.Key.Port || n.Key.Proto != fe.Key.Proto {
					t.Errorf("%v: alias %v is of another frontend, or serves the same", fe.Key, n.Key)
				}
			}
			if fe.Rejected && len(fe.Reals) > 0 || fe.Diverted && slices.Contains(node.Own, fe.Key.Addr) {
				t.Errorf("%v: rejected although it is served, or diverted although it is the node's", fe.Key)
			}
			for _, r := range fe.Ranges {
				if !fe.Ranged || r.Addr().Is4() != fe.Key.Addr.Is4() {
					t.Errorf("%v: range %v", fe.Key, r)
				}
			}
		}
	})
}

// checkList checks who serves a list and who drains there.
func checkList(t *testing.T, key ipvs.Key, family netip.Addr, reals, draining []netip.AddrPort, in []Slice) {
	t.Helper()
	for _, list := range [][]netip.AddrPort{reals, draining} {
		for i, at := range list {
			listed := slices.ContainsFunc(in, func(s Slice) bool {
				return slices.ContainsFunc(s.Endpoints, func(e Endpoint) bool { return e.Addr == at.Addr() })
			})
			if at.Addr().Is4() != family.Is4() || !listed || i > 0 && list[i-1].Compare(at) >= 0 {
				t.Errorf("%v: %v in %v is of the other family, from nowhere, there twice or out of order", key, at, list)
			}
		}
	}
	if slices.ContainsFunc(reals, func(at netip.AddrPort) bool { return slices.Contains(draining, at) }) {
		t.Errorf("%v: %v and %v have something in common", key, reals, draining)
	}
}
