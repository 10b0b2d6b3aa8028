package kernel

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"kube-ipvs/internal/inet"
	"kube-ipvs/ipset"
)

// An ipsetHost is a kernel with sets, and a hand that does to it what the interface cannot.
type ipsetHost struct {
	ipset.Kernel
	small func(s ipset.Set, members int) // creates a set that holds few members
	refer func(name string, on bool)     // makes something refer to a set, or no more
}

func TestIPSetFake(t *testing.T) {
	ipsetConforms(t, func(t *testing.T) ipsetHost {
		f := ipset.NewFake()
		return ipsetHost{
			Kernel: f,
			small: func(s ipset.Set, members int) {
				f.SetLimit(members)
				if err := f.Create(t.Context(), s); err != nil {
					t.Fatal(err)
				}
			},
			refer: f.SetInUse,
		}
	})
}

// ipsetConforms states what every ipset.Kernel does, the one in memory and the real one.
func ipsetConforms(t *testing.T, open func(*testing.T) ipsetHost) {
	tests := map[string]func(*testing.T, ipsetHost){
		"members come back":          ipsetRoundTrip,
		"definitions":                ipsetDefinitions,
		"one op after the other":     ipsetOps,
		"is it there":                ipsetTest,
		"errors amid a full set":     ipsetFull,
		"in use":                     ipsetInUse,
		"nothing there":              ipsetMissing,
		"members that cannot be":     ipsetInvalid,
		"a context that is done":     ipsetDone,
		"more than a message holds":  ipsetMany,
		"sets and verbs interleaved": ipsetInterleaved,
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) { test(t, open(t)) })
	}
}

// ipsetSamples are members of each type and family.
func ipsetSamples(s ipset.Set) []ipset.Member {
	a, b, narrow, wide := "10.96.0.10", "192.0.2.255", "198.51.100.7/32", "128.0.0.0/1"
	if s.Family == inet.IPv6 {
		a, b, narrow, wide = "fd00::10", "2001:db8::ffff", "2001:db8::7/128", "8000::/1"
	}
	first, second := netip.MustParseAddr(a), netip.MustParseAddr(b)
	host := netip.PrefixFrom(second, second.BitLen())
	switch s.Type {
	case ipset.HashIP:
		return []ipset.Member{{Addr: first}, {Addr: second}}
	case ipset.HashIPPort:
		return []ipset.Member{{Addr: first, Proto: 6, Port: 80}, {Addr: first, Proto: 17, Port: 80}, {Addr: second, Proto: 132, Port: 65535}}
	case ipset.HashNet:
		return []ipset.Member{{Other: netip.MustParsePrefix(narrow)}, {Other: netip.MustParsePrefix(wide)}, {Other: netip.PrefixFrom(first, 12).Masked()}}
	case ipset.HashIPPortIP:
		return []ipset.Member{{Addr: first, Proto: 6, Port: 80, Other: host}, {Addr: second, Proto: 17, Port: 1, Other: host}}
	}
	return []ipset.Member{
		{Addr: first, Proto: 6, Port: 80, Other: netip.MustParsePrefix(narrow)},
		{Addr: first, Proto: 6, Port: 80, Other: netip.MustParsePrefix(wide)},
		{Addr: second, Proto: 132, Port: 443, Other: host},
	}
}

func ipsetKinds() []ipset.Set {
	var sets []ipset.Set
	for _, typ := range []ipset.Type{ipset.HashIP, ipset.HashIPPort, ipset.HashIPPortIP, ipset.HashIPPortNet, ipset.HashNet} {
		for _, family := range []inet.Family{inet.IPv4, inet.IPv6} {
			for _, marks := range []bool{false, true} {
				sets = append(sets, ipset.Set{Name: fmt.Sprintf("KIPVS-%s-%d-%t", typ, family, marks), Type: typ, Family: family, Marks: marks})
			}
		}
	}
	return sets
}

func ipsetRoundTrip(t *testing.T, k ipsetHost) {
	var names []string
	for _, s := range ipsetKinds() {
		ipsetCreate(t, k, s)
		ipsetCreate(t, k, s)
		want := make(map[ipset.Member]ipset.Mark)
		for i, m := range ipsetSamples(s) {
			op := ipset.Op{Set: s, Member: m}
			if s.Marks {
				op.Mark = ipset.Mark{Value: 0x8000_0001 + uint32(i), Mask: 0xc000_ffff}
			}
			want[m] = op.Mark
			ipsetDo(t, k, op)
		}
		ipsetHas(t, k, s, want)
		names = append(names, s.Name)
	}
	got, err := k.Names(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	slices.Sort(names)
	if diff := cmp.Diff(names, got); diff != "" {
		t.Errorf("names (-want +got):\n%s", diff)
	}
	for _, s := range ipsetKinds() {
		for _, m := range ipsetSamples(s) {
			ipsetDo(t, k, ipset.Op{Verb: ipset.Del, Set: s, Member: m})
		}
		ipsetHas(t, k, s, map[ipset.Member]ipset.Mark{})
		if err := k.Destroy(t.Context(), s.Name); err != nil {
			t.Error(err)
		}
	}
	if got, err := k.Names(t.Context()); err != nil || len(got) != 0 {
		t.Errorf("Names after all were destroyed = %v, %v", got, err)
	}
}

func ipsetDefinitions(t *testing.T, k ipsetHost) {
	s := ipset.Set{Name: "KIPVS-A", Type: ipset.HashIPPort, Family: inet.IPv4, Marks: true}
	plain := ipset.Set{Name: "KIPVS-B", Type: ipset.HashIPPort, Family: inet.IPv4}
	ipsetCreate(t, k, s)
	ipsetCreate(t, k, plain)
	tests := []struct {
		name string
		set  ipset.Set
		want error
	}{
		{"another type", ipset.Set{Name: "KIPVS-A", Type: ipset.HashIP, Family: inet.IPv4, Marks: true}, os.ErrExist},
		{"another family", ipset.Set{Name: "KIPVS-A", Type: ipset.HashIPPort, Family: inet.IPv6, Marks: true}, os.ErrExist},
		{"marks where there are none", ipset.Set{Name: "KIPVS-B", Type: ipset.HashIPPort, Family: inet.IPv4, Marks: true}, os.ErrExist},
		{"no need of marks", ipset.Set{Name: "KIPVS-A", Type: ipset.HashIPPort, Family: inet.IPv4}, nil},
		{"no name", ipset.Set{Type: ipset.HashIP, Family: inet.IPv4}, os.ErrInvalid},
		{"a name too long", ipset.Set{Name: "KIPVS-0123456789-0123456789-0123", Type: ipset.HashIP, Family: inet.IPv4}, os.ErrInvalid},
		{"a type that is none", ipset.Set{Name: "KIPVS-C", Type: "hash:mac", Family: inet.IPv4}, os.ErrInvalid},
		{"a family that is none", ipset.Set{Name: "KIPVS-C", Type: ipset.HashIP}, os.ErrInvalid},
	}
	for _, tt := range tests {
		if err := k.Create(t.Context(), tt.set); !errors.Is(err, tt.want) {
			t.Errorf("%s: Create = %v, want %v", tt.name, err, tt.want)
		}
		differ, err := k.Differ(t.Context(), []ipset.Set{tt.set, {Name: "KIPVS-NONE", Type: ipset.HashIP, Family: inet.IPv4}})
		if want := tt.want == os.ErrExist; err != nil || errors.Is(differ[tt.set.Name], os.ErrExist) != want || len(differ) > 1 || len(differ) == 1 && !want {
			t.Errorf("%s: Differ = %v, %v", tt.name, differ, err)
		}
	}
	if _, err := k.Read(t.Context(), tests[0].set); !errors.Is(err, os.ErrExist) {
		t.Errorf("Read as another type = %v, want os.ErrExist", err)
	}
}

func ipsetOps(t *testing.T, k ipsetHost) {
	s := ipset.Set{Name: "KIPVS-A", Type: ipset.HashIPPort, Family: inet.IPv4, Marks: true}
	m := ipsetSamples(s)[0]
	one, two := ipset.Mark{Value: 0x8000, Mask: 0xc000}, ipset.Mark{Value: 0x4000, Mask: 0xe000}
	ipsetCreate(t, k, s)
	add := func(mark ipset.Mark) ipset.Op { return ipset.Op{Set: s, Member: m, Mark: mark} }
	del := ipset.Op{Verb: ipset.Del, Set: s, Member: m}
	tests := []struct {
		name string
		ops  []ipset.Op
		want map[ipset.Member]ipset.Mark
	}{
		{"delete what is not there", []ipset.Op{del}, map[ipset.Member]ipset.Mark{}},
		{"add", []ipset.Op{add(one)}, map[ipset.Member]ipset.Mark{m: one}},
		{"add again", []ipset.Op{add(one)}, map[ipset.Member]ipset.Mark{m: one}},
		{"add with another mark", []ipset.Op{add(two)}, map[ipset.Member]ipset.Mark{m: two}},
		{"add with no mark", []ipset.Op{add(ipset.Mark{})}, map[ipset.Member]ipset.Mark{m: {}}},
		{"delete and add", []ipset.Op{del, add(one)}, map[ipset.Member]ipset.Mark{m: one}},
		{"add and delete", []ipset.Op{add(two), del}, map[ipset.Member]ipset.Mark{}},
		{"the last of several marks", []ipset.Op{add(one), add(two), del, add(two), add(one)}, map[ipset.Member]ipset.Mark{m: one}},
		{"nothing", nil, map[ipset.Member]ipset.Mark{m: one}},
	}
	for _, tt := range tests {
		ipsetDo(t, k, tt.ops...)
		t.Log(tt.name)
		ipsetHas(t, k, s, tt.want)
	}
}

func ipsetTest(t *testing.T, k ipsetHost) {
	for _, s := range ipsetKinds() {
		ipsetCreate(t, k, s)
		there := ipsetSamples(s)[0]
		ipsetDo(t, k, ipset.Op{Set: s, Member: there})
		gone := there
		if gone.Addr = there.Addr.Next(); s.Type == ipset.HashNet {
			gone.Other = netip.PrefixFrom(there.Other.Addr().Next(), there.Other.Bits())
		}
		none := s
		none.Name = "KIPVS-NONE"
		errs := k.Do(t.Context(), []ipset.Op{
			{Verb: ipset.Test, Set: s, Member: gone}, {Verb: ipset.Test, Set: s, Member: there}, {Verb: ipset.Test, Set: none, Member: there},
		})
		if len(errs) != 3 || !errors.Is(errs[0], ipset.ErrNoMember) || errs[1] != nil || !errors.Is(errs[2], os.ErrNotExist) {
			t.Errorf("%s: %v", s.Name, errs)
		}
	}
}

// ipsetFull fills a set of 100 members and goes on. What fails must be exactly the new members.
func ipsetFull(t *testing.T, k ipsetHost) {
	const room = 100
	s := ipset.Set{Name: "KIPVS-SMALL", Type: ipset.HashIPPort, Family: inet.IPv4, Marks: true}
	k.small(s, room)
	first, second := ipset.Mark{Value: 1, Mask: 1}, ipset.Mark{Value: 2, Mask: 2}
	var ops []ipset.Op
	for i := range room {
		ops = append(ops, ipset.Op{Set: s, Member: ipsetMember(i), Mark: first})
	}
	want := make([]error, room)
	for i := range room {
		ops = append(ops, ipset.Op{Set: s, Member: ipsetMember(room + i), Mark: first}, ipset.Op{Set: s, Member: ipsetMember(i), Mark: second})
		want = append(want, ipset.ErrFull, nil)
	}
	ops = append(ops, ipset.Op{Verb: ipset.Del, Set: s, Member: ipsetMember(0)}, ipset.Op{Set: s, Member: ipsetMember(room), Mark: first})
	want = append(want, nil, nil)
	errs := k.Do(t.Context(), ops)
	if len(errs) != len(ops) {
		t.Fatalf("%d errors for %d ops: %v", len(errs), len(ops), errs)
	}
	for i, err := range errs {
		if !errors.Is(err, want[i]) {
			t.Errorf("op %d, %v: %v, want %v", i, ops[i], err, want[i])
		}
	}
	members := map[ipset.Member]ipset.Mark{ipsetMember(room): first}
	for i := 1; i < room; i++ {
		members[ipsetMember(i)] = second
	}
	ipsetHas(t, k, s, members)
}

// ipsetMany writes what takes several messages, of the longest members, and reads what takes several datagrams.
func ipsetMany(t *testing.T, k ipsetHost) {
	const n = 5000
	s := ipset.Set{Name: "KIPVS-MANY", Type: ipset.HashIPPortNet, Family: inet.IPv6, Marks: true}
	ipsetCreate(t, k, s)
	want := make(map[ipset.Member]ipset.Mark, n)
	ops := make([]ipset.Op, n)
	for i := range ops {
		m := ipset.Member{Addr: netip.AddrFrom16([16]byte{0: 0xfd, 14: byte(i >> 8), 15: byte(i)}), Proto: 6, Port: uint16(i), Other: netip.MustParsePrefix("2001:db8::/32")}
		ops[i] = ipset.Op{Set: s, Member: m, Mark: ipset.Mark{Value: uint32(i), Mask: 0xffff}}
		want[m] = ops[i].Mark
	}
	ipsetDo(t, k, ops...)
	ipsetHas(t, k, s, want)
}

func ipsetInterleaved(t *testing.T, k ipsetHost) {
	a := ipset.Set{Name: "KIPVS-A", Type: ipset.HashIPPort, Family: inet.IPv4, Marks: true}
	b := ipset.Set{Name: "KIPVS-B", Type: ipset.HashIPPort, Family: inet.IPv4}
	none := ipset.Set{Name: "KIPVS-NONE", Type: ipset.HashIPPort, Family: inet.IPv4}
	ipsetCreate(t, k, a)
	ipsetCreate(t, k, b)
	var ops []ipset.Op
	wantA, wantB := make(map[ipset.Member]ipset.Mark), make(map[ipset.Member]ipset.Mark)
	for i := range 700 {
		m, mark := ipsetMember(i), ipset.Mark{Value: uint32(i), Mask: 0xffff}
		ops = append(ops, ipset.Op{Set: a, Member: m, Mark: mark}, ipset.Op{Set: none, Member: m}, ipset.Op{Set: b, Member: m})
		wantA[m], wantB[m] = mark, ipset.Mark{}
		if i%3 == 0 {
			ops = append(ops, ipset.Op{Verb: ipset.Del, Set: b, Member: m})
			delete(wantB, m)
		}
	}
	for i, err := range k.Do(t.Context(), ops) {
		if missing := ops[i].Set == none; missing != errors.Is(err, os.ErrNotExist) || !missing && err != nil {
			t.Errorf("%v: %v", ops[i], err)
		}
	}
	ipsetHas(t, k, a, wantA)
	ipsetHas(t, k, b, wantB)
}

// ipsetMember returns a member of ip,port of IPv4, another for each number.
func ipsetMember(i int) ipset.Member {
	return ipset.Member{Addr: netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)}), Proto: 6, Port: uint16(80 + i%7)}
}

func ipsetCreate(t testing.TB, k ipset.Kernel, s ipset.Set) {
	t.Helper()
	if err := k.Create(t.Context(), s); err != nil {
		t.Fatalf("Create(%v): %v", s, err)
	}
}

func ipsetDo(t testing.TB, k ipset.Kernel, ops ...ipset.Op) {
	t.Helper()
	if errs := k.Do(t.Context(), ops); errs != nil {
		t.Fatalf("Do: %v", errors.Join(errs...))
	}
}

func ipsetHas(t *testing.T, k ipset.Kernel, s ipset.Set, want map[ipset.Member]ipset.Mark) {
	t.Helper()
	got, err := k.Read(t.Context(), s)
	if err != nil {
		t.Fatalf("Read(%s): %v", s.Name, err)
	}
	if diff := cmp.Diff(ipset.Save(s, want), ipset.Save(s, got)); diff != "" {
		t.Errorf("members (-want +got):\n%s", diff)
	}
}
