package kernel

import (
	"context"
	"errors"
	"net/netip"
	"os"
	"testing"

	"kube-ipvs/ipset"
)

func ipsetInUse(t *testing.T, k ipsetHost) {
	s := ipset.Set{Name: "KIPVS-A", Type: ipset.HashIP, Family: ipset.IPv4}
	ipsetCreate(t, k, s)
	k.refer(s.Name, true)
	if err := k.Destroy(t.Context(), s.Name); !errors.Is(err, ipset.ErrInUse) {
		t.Errorf("Destroy of a set in use = %v, want ErrInUse", err)
	}
	k.refer(s.Name, false)
	if err := k.Destroy(t.Context(), s.Name); err != nil {
		t.Errorf("Destroy of a set no longer in use = %v", err)
	}
}

func ipsetMissing(t *testing.T, k ipsetHost) {
	s := ipset.Set{Name: "KIPVS-NONE", Type: ipset.HashIP, Family: ipset.IPv4}
	there := ipset.Set{Name: "KIPVS-THERE", Type: ipset.HashIP, Family: ipset.IPv4}
	ipsetCreate(t, k, there)
	m := ipset.Member{Addr: netip.MustParseAddr("10.0.0.1")}
	if _, err := k.Read(t.Context(), s); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("Read = %v, want os.ErrNotExist", err)
	}
	if err := k.Destroy(t.Context(), s.Name); err != nil {
		t.Errorf("Destroy = %v, want success", err)
	}
	errs := k.Do(t.Context(), []ipset.Op{{Set: s, Member: m}, {Set: there, Member: m}, {Verb: ipset.Del, Set: s, Member: m}})
	if len(errs) != 3 || !errors.Is(errs[0], os.ErrNotExist) || errs[1] != nil || !errors.Is(errs[2], os.ErrNotExist) {
		t.Errorf("Do = %v, want os.ErrNotExist for the set that is not there alone", errs)
	}
	ipsetHas(t, k, there, map[ipset.Member]ipset.Mark{m: {}})
}

func ipsetInvalid(t *testing.T, k ipsetHost) {
	v4, v6 := netip.MustParseAddr("10.0.0.1"), netip.MustParseAddr("fd00::1")
	at := func(a netip.Addr, other string) ipset.Member {
		m := ipset.Member{Addr: a, Proto: 6, Port: 80}
		if other != "" {
			m.Other = netip.MustParsePrefix(other)
		}
		return m
	}
	tests := []struct {
		name   string
		typ    ipset.Type
		member ipset.Member
	}{
		{"no address", ipset.HashIP, ipset.Member{}},
		{"other family", ipset.HashIP, ipset.Member{Addr: v6}},
		{"mapped address", ipset.HashIP, ipset.Member{Addr: netip.AddrFrom16(v4.As16())}},
		{"unspecified address", ipset.HashIP, ipset.Member{Addr: netip.IPv4Unspecified()}},
		{"an address with a port", ipset.HashIP, at(v4, "")},
		{"no protocol", ipset.HashIPPort, ipset.Member{Addr: v4, Port: 80}},
		{"a port of a protocol without", ipset.HashIPPort, ipset.Member{Addr: v4, Proto: 50, Port: 80}},
		{"more than a port", ipset.HashIPPort, at(v4, "10.0.0.0/8")},
		{"no third part", ipset.HashIPPortIP, at(v4, "")},
		{"a network for an address", ipset.HashIPPortIP, at(v4, "10.0.0.0/8")},
		{"third part of the other family", ipset.HashIPPortIP, at(v4, "fd00::1/128")},
		{"prefix length 0", ipset.HashIPPortNet, at(v4, "0.0.0.0/0")},
		{"bits beyond the prefix", ipset.HashIPPortNet, at(v4, "10.0.0.1/8")},
		{"no network", ipset.HashNet, ipset.Member{}},
		{"an address for a network", ipset.HashNet, ipset.Member{Addr: v4}},
		{"a network with an address", ipset.HashNet, ipset.Member{Addr: v4, Other: netip.MustParsePrefix("10.0.0.0/8")}},
		{"a network with a port", ipset.HashNet, ipset.Member{Proto: 6, Port: 80, Other: netip.MustParsePrefix("10.0.0.0/8")}},
		{"a network of the other family", ipset.HashNet, ipset.Member{Other: netip.MustParsePrefix("fd00::/8")}},
		{"a network of prefix length 0", ipset.HashNet, ipset.Member{Other: netip.MustParsePrefix("0.0.0.0/0")}},
		{"a network with bits beyond its prefix", ipset.HashNet, ipset.Member{Other: netip.MustParsePrefix("10.0.0.1/8")}},
	}
	for _, typ := range []ipset.Type{ipset.HashIP, ipset.HashIPPort, ipset.HashIPPortIP, ipset.HashIPPortNet, ipset.HashNet} {
		ipsetCreate(t, k, ipset.Set{Name: "KIPVS-" + string(typ), Type: typ, Family: ipset.IPv4})
	}
	for _, tt := range tests {
		s := ipset.Set{Name: "KIPVS-" + string(tt.typ), Type: tt.typ, Family: ipset.IPv4}
		good := ipset.Op{Set: s, Member: ipsetSamples(s)[0]}
		errs := k.Do(t.Context(), []ipset.Op{{Set: s, Member: tt.member}, good})
		if len(errs) != 2 || !errors.Is(errs[0], os.ErrInvalid) || errs[1] != nil {
			t.Errorf("%s: Do = %v, want os.ErrInvalid and nil", tt.name, errs)
		}
	}
	// The definition in the op is not that of the set.
	liars := []ipset.Op{
		{Set: ipset.Set{Name: "KIPVS-hash:ip", Type: ipset.HashIP, Family: ipset.IPv6}, Member: ipset.Member{Addr: v6}},
		{Set: ipset.Set{Name: "KIPVS-hash:ip", Type: ipset.HashIP, Family: ipset.IPv4, Marks: true}, Member: ipset.Member{Addr: v4}, Mark: ipset.Mark{Value: 1, Mask: 1}},
	}
	for _, op := range liars {
		if err := errors.Join(k.Do(t.Context(), []ipset.Op{op})...); !errors.Is(err, os.ErrInvalid) {
			t.Errorf("%v: %v, want os.ErrInvalid", op, err)
		}
	}
}

func ipsetDone(t *testing.T, k ipsetHost) {
	s := ipset.Set{Name: "KIPVS-A", Type: ipset.HashIPPort, Family: ipset.IPv4}
	ipsetCreate(t, k, s)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, readErr := k.Read(ctx, s)
	_, namesErr := k.Names(ctx)
	errs := []error{readErr, namesErr, k.Create(ctx, s), k.Destroy(ctx, s.Name), errors.Join(k.Do(ctx, []ipset.Op{{Set: s, Member: ipsetMember(1)}})...)}
	for i, err := range errs {
		if !errors.Is(err, context.Canceled) {
			t.Errorf("call %d = %v, want context.Canceled", i, err)
		}
	}
	ipsetHas(t, k, s, map[ipset.Member]ipset.Mark{})
}
