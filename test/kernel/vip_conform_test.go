package kernel

import (
	"context"
	"errors"
	"net/netip"
	"os"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"kube-ipvs/ipvs/vip"
)

// A vipHost is a kernel, and a hand that does to it what the interface cannot.
type vipHost struct {
	vip.Kernel
	stranger func(vip.Item) // puts another program's route where an item's would be
	noIPv6   func()         // disables IPv6
}

func TestVIPFake(t *testing.T) {
	vipConforms(t, func(*testing.T) vipHost {
		f := vip.NewFake()
		return vipHost{
			Kernel:   f,
			stranger: func(i vip.Item) { f.SetStranger(i, true) },
			noIPv6:   func() { f.SetNoIPv6(true) },
		}
	})
}

// vipConforms states what every vip.Kernel does, the one in memory and the real one.
func vipConforms(t *testing.T, open func(*testing.T) vipHost) {
	tests := map[string]func(*testing.T, vipHost){
		"items come and go":         vipRoundTrip,
		"without the link":          vipNoLink,
		"the link goes":             vipLinkGoes,
		"the last address goes":     vipLastAddress,
		"rules that differ":         vipTwoRules,
		"other sources":             vipSources,
		"a stranger's route":        vipStranger,
		"a route over an address":   vipOver,
		"IPv6 disabled":             vipNoIPv6,
		"items that cannot be":      vipInvalid,
		"a context that is done":    vipDone,
		"a thousand routes at once": vipMany,
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) { test(t, open(t)) })
	}
}

func vipItem(kind vip.Kind, prefix string) vip.Item {
	return vip.Item{Kind: kind, Prefix: netip.MustParsePrefix(prefix)}
}

// vipRules are the rules of a family.
func vipRules(family string) []vip.Item {
	return vip.Policies(netip.MustParsePrefix(family), 0x1000, 0x10)
}

// vipAll is an item of each kind and family, in the order in which they are made.
func vipAll() []vip.Item {
	return slices.Concat([]vip.Item{{Kind: vip.Link}}, vipRules("0.0.0.0/0"), vipRules("::/0"), []vip.Item{
		vipItem(vip.Refuse, "255.255.255.254/32"), vipItem(vip.Refuse, "1ff::fffe/128"),
		vipItem(vip.Local, "10.96.0.0/12"), vipItem(vip.Local, "10.200.0.1/32"), vipItem(vip.Local, "fd00:96::/108"),
		vipItem(vip.Divert, "203.0.113.7/32"), vipItem(vip.Divert, "2001:db8::7/128"),
		vipItem(vip.LastRoute, "203.0.113.7/32"), vipItem(vip.LastRoute, "2001:db8::7/128"),
		vipItem(vip.Address, "10.96.0.10/32"), vipItem(vip.Address, "fd00:96::10/128"),
	})
}

// vipSource is the source of an item in these tests: an address of the node, which has one of each family, where it is local.
func vipSource(i vip.Item) netip.Addr {
	switch {
	case i.Kind != vip.Local:
		return netip.Addr{}
	case i.Prefix.Addr().Is4():
		return netip.MustParseAddr("192.0.2.1")
	}
	return netip.MustParseAddr("2001:db8::1")
}

func vipOps(verb vip.Verb, items ...vip.Item) []vip.Op {
	var ops []vip.Op
	for _, i := range items {
		op := vip.Op{Verb: verb, Item: i}
		if verb == vip.Add && i.Prefix.IsValid() {
			op.Source = vipSource(i)
		}
		ops = append(ops, op)
	}
	return ops
}

func vipRoundTrip(t *testing.T, k vipHost) {
	vipHas(t, k)
	var made []vip.Item
	for _, i := range vipAll() {
		vipDo(t, k, vipOps(vip.Add, i)...)
		vipDo(t, k, vipOps(vip.Add, i)...)
		made = append(made, i)
		vipHas(t, k, made...)
	}
	for len(made) > 0 {
		last := made[len(made)-1]
		made = made[:len(made)-1]
		vipDo(t, k, vipOps(vip.Del, last)...)
		vipDo(t, k, vipOps(vip.Del, last)...)
		vipHas(t, k, made...)
	}
	vipDo(t, k, vipOps(vip.Add, vipAll()...)...)
	vipHas(t, k, vipAll()...)
	vipDo(t, k, vipOps(vip.Add, vipAll()...)...)
	vipHas(t, k, vipAll()...)
}

func vipNoLink(t *testing.T, k vipHost) {
	items := []vip.Item{
		vipItem(vip.Refuse, "255.255.255.254/32"), vipItem(vip.Local, "10.96.0.0/12"), vipItem(vip.LastRoute, "2001:db8::7/128"),
		vipItem(vip.Address, "10.96.0.10/32"),
	}
	for i, err := range k.Do(t.Context(), vipOps(vip.Add, items...)) {
		if !errors.Is(err, os.ErrNotExist) {
			t.Errorf("add %v: %v, want os.ErrNotExist", items[i], err)
		}
	}
	vipDo(t, k, vipOps(vip.Del, items...)...)
	vipHas(t, k)
}

func vipLinkGoes(t *testing.T, k vipHost) {
	vipDo(t, k, vipOps(vip.Add, vipAll()...)...)
	vipDo(t, k, vip.Op{Verb: vip.Del, Item: vip.Item{Kind: vip.Link}})
	// Rules need no link, and addresses are diverted to another.
	vipHas(t, k, slices.DeleteFunc(vipAll(), func(i vip.Item) bool { return i.Kind != vip.Policy })...)
}

// vipLastAddress removes all addresses, where the kernel would remove all routes of IPv4 over the link with the last.
func vipLastAddress(t *testing.T, k vipHost) {
	a, b := vipItem(vip.Address, "10.96.0.10/32"), vipItem(vip.Address, "10.96.0.11/32")
	routes := []vip.Item{
		{Kind: vip.Link}, vipItem(vip.Refuse, "255.255.255.254/32"), vipItem(vip.Local, "10.96.0.0/12"), vipItem(vip.Divert, "203.0.113.7/32"),
		vipItem(vip.LastRoute, "203.0.113.7/32"),
	}
	gone, come := vipItem(vip.Local, "10.7.0.0/16"), vipItem(vip.Local, "10.8.0.0/16")
	vipDo(t, k, vipOps(vip.Add, slices.Concat(routes, []vip.Item{a, b, gone})...)...)
	vipDo(t, k, vipOps(vip.Del, a)...)
	vipHas(t, k, slices.Concat(routes, []vip.Item{b, gone})...)
	vipDo(t, k, append(vipOps(vip.Del, gone, b), vipOps(vip.Add, come)...)...)
	vipHas(t, k, slices.Concat(routes, []vip.Item{come})...)
	vipDo(t, k, vipOps(vip.Add, a, b)...)
	vipDo(t, k, vipOps(vip.Del, a, b)...)
	vipHas(t, k, slices.Concat(routes, []vip.Item{come})...)
}

// vipTwoRules makes rules that differ in one thing each.
func vipTwoRules(t *testing.T, k vipHost) {
	first := vip.Item{Kind: vip.Policy, Prefix: netip.MustParsePrefix("0.0.0.0/0"), Rule: vip.Rule{Priority: 6, Mark: 0x1000, Mask: 0x1000, Table: vip.DivertTable}}
	items := []vip.Item{first}
	for _, change := range []func(*vip.Rule){
		func(r *vip.Rule) { r.Priority = 5 },
		func(r *vip.Rule) { r.Mark, r.Mask = 0x2000, 0x2000 },
		func(r *vip.Rule) { r.Mask = 0x3000 },
		func(r *vip.Rule) { r.Mark = 0 },
		func(r *vip.Rule) { r.Mark, r.Mask = 0, 0 },
		func(r *vip.Rule) { r.Table = vip.LastResortTable },
		func(r *vip.Rule) { r.Table, r.Goto = 0, 7 },
	} {
		i := first
		change(&i.Rule)
		items = append(items, i)
	}
	vipDo(t, k, vipOps(vip.Add, items...)...)
	vipHas(t, k, items...)
	for len(items) > 0 {
		vipDo(t, k, vipOps(vip.Del, items[0])...)
		items = items[1:]
		vipHas(t, k, items...)
	}
}

// vipSources gives prefixes other sources.
func vipSources(t *testing.T, k vipHost) {
	vipDo(t, k, vip.Op{Item: vip.Item{Kind: vip.Link}})
	for _, prefix := range []string{"10.96.0.0/12", "fd00:96::/108"} {
		i := vipItem(vip.Local, prefix)
		second := netip.MustParseAddr("192.0.2.2")
		if i.Prefix.Addr().Is6() {
			second = netip.MustParseAddr("2001:db8::2")
		}
		for _, source := range []netip.Addr{{}, vipSource(i), second, second, {}} {
			vipDo(t, k, vip.Op{Item: i, Source: source})
			items, err := k.Read(t.Context())
			if got, ok := items[i]; err != nil || !ok || got != source {
				t.Errorf("%v is there: %t, with the source %v (%v), want %v", prefix, ok, got, err, source)
			}
		}
		vipDo(t, k, vip.Op{Verb: vip.Del, Item: i})
	}
}

// vipOver puts routes over the kernel's routes of addresses on the link. They outlive the addresses, as the source of new connections
// already does.
func vipOver(t *testing.T, k vipHost) {
	vipDo(t, k, vip.Op{Item: vip.Item{Kind: vip.Link}})
	for _, prefix := range []string{"203.0.113.7/32", "2001:db8:1::7/128"} {
		address, route := vipItem(vip.Address, prefix), vipItem(vip.Local, prefix)
		vipDo(t, k, vip.Op{Item: address})
		for range 2 { // again changes nothing
			vipDo(t, k, vip.Op{Item: route, Source: vipSource(route), Over: true})
		}
		vipDo(t, k, vip.Op{Verb: vip.Del, Item: address})
		items, err := k.Read(t.Context())
		if source, ok := items[route]; err != nil || !ok || source != vipSource(route) {
			t.Errorf("%v is there: %t, with the source %v (%v)", route, ok, source, err)
		}
		if _, ok := items[address]; ok {
			t.Errorf("%v is there", address)
		}
		vipDo(t, k, vip.Op{Verb: vip.Del, Item: route})
		vipHas(t, k, vip.Item{Kind: vip.Link})
	}
}

func vipStranger(t *testing.T, k vipHost) {
	vipDo(t, k, vip.Op{Item: vip.Item{Kind: vip.Link}})
	for _, prefix := range []string{"10.96.0.0/12", "fd00:96::/108"} {
		i := vipItem(vip.Local, prefix)
		k.stranger(i)
		good := vipItem(vip.Local, "10.200.0.1/32")
		errs := k.Do(t.Context(), vipOps(vip.Add, i, good))
		if len(errs) != 2 || !errors.Is(errs[0], os.ErrExist) || errs[1] != nil {
			t.Errorf("add %v: %v, want os.ErrExist for it alone", i, errs)
		}
		vipHas(t, k, vip.Item{Kind: vip.Link}, good)
		vipDo(t, k, vipOps(vip.Del, i, good)...)
	}
}

func vipNoIPv6(t *testing.T, k vipHost) {
	k.noIPv6()
	ops := vipOps(vip.Add, vipAll()...)
	var want []vip.Item
	errs := k.Do(t.Context(), ops)
	for i, op := range ops {
		switch {
		case op.Item.Prefix.Addr().Is6() && op.Item.Kind != vip.Policy: // a rule alone needs no IPv6
			if len(errs) == 0 || !errors.Is(errs[i], vip.ErrNoIPv6) {
				t.Errorf("%v: want ErrNoIPv6 in %v", op, errs)
			}
		case len(errs) > 0 && errs[i] != nil:
			t.Errorf("%v: %v", op, errs[i])
		default:
			want = append(want, op.Item)
		}
	}
	vipHas(t, k, want...)
	vipDo(t, k, vipOps(vip.Del, vipAll()...)...)
	vipHas(t, k)
}

func vipInvalid(t *testing.T, k vipHost) {
	tests := []struct {
		name string
		item vip.Item
	}{
		{"no such kind", vip.Item{Kind: 99}},
		{"a link with a prefix", vipItem(vip.Link, "10.0.0.0/8")},
		{"a rule that leads nowhere", vipItem(vip.Policy, "0.0.0.0/0")},
		{"a rule for a part", vip.Item{Kind: vip.Policy, Prefix: netip.MustParsePrefix("10.0.0.0/8"), Rule: vip.Rule{Priority: 6, Table: vip.DivertTable}}},
		{"a rule with bits beyond its mask", vip.Item{Kind: vip.Policy, Prefix: netip.MustParsePrefix("0.0.0.0/0"), Rule: vip.Rule{Priority: 6, Mark: 3, Mask: 1, Table: vip.DivertTable}}},
		{"a rule that goes back", vip.Item{Kind: vip.Policy, Prefix: netip.MustParsePrefix("0.0.0.0/0"), Rule: vip.Rule{Priority: 6, Goto: 6}}},
		{"a route with a rule", vip.Item{Kind: vip.Local, Prefix: netip.MustParsePrefix("10.0.0.0/8"), Rule: vip.Rule{Priority: 6, Table: vip.DivertTable}}},
		{"a route to nothing", vip.Item{Kind: vip.Local}},
		{"a network that is refused", vipItem(vip.Refuse, "10.0.0.0/8")},
		{"bits beyond the prefix", vipItem(vip.Local, "10.0.0.1/8")},
		{"a mapped address", vipItem(vip.Divert, "::ffff:10.0.0.0/104")},
		{"an address with a network", vipItem(vip.Address, "10.0.0.0/8")},
	}
	vipDo(t, k, vip.Op{Item: vip.Item{Kind: vip.Link}})
	good := vipItem(vip.Local, "10.96.0.0/12")
	for _, tt := range tests {
		errs := k.Do(t.Context(), vipOps(vip.Add, tt.item, good))
		if len(errs) != 2 || !errors.Is(errs[0], os.ErrInvalid) || errs[1] != nil {
			t.Errorf("%s: Do = %v, want os.ErrInvalid and nil", tt.name, errs)
		}
	}
	sources := []vip.Op{
		{Item: good, Source: netip.MustParseAddr("2001:db8::1")},
		{Item: vipItem(vip.Divert, "203.0.113.7/32"), Source: netip.MustParseAddr("192.0.2.1")},
	}
	for i, err := range k.Do(t.Context(), sources) {
		if !errors.Is(err, os.ErrInvalid) {
			t.Errorf("%v from %v: %v, want os.ErrInvalid", sources[i].Item, sources[i].Source, err)
		}
	}
	vipHas(t, k, vip.Item{Kind: vip.Link}, good)
}

func vipDone(t *testing.T, k vipHost) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	for i, err := range k.Do(ctx, vipOps(vip.Add, vipAll()...)) {
		if !errors.Is(err, context.Canceled) {
			t.Errorf("add %v: %v, want context.Canceled", vipAll()[i], err)
		}
	}
	if _, err := k.Read(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("Read: %v, want context.Canceled", err)
	}
	vipHas(t, k)
}

func vipMany(t *testing.T, k vipHost) {
	want := []vip.Item{{Kind: vip.Link}}
	for i := range 1000 {
		a := netip.AddrFrom4([4]byte{203, byte(i >> 8), byte(i), 1})
		want = append(want, vip.Item{Kind: vip.LastRoute, Prefix: netip.PrefixFrom(a, 32)})
	}
	vipDo(t, k, vipOps(vip.Add, want...)...)
	vipHas(t, k, want...)
	vipDo(t, k, vipOps(vip.Add, want...)...)
	vipDo(t, k, vipOps(vip.Del, want[1:]...)...)
	vipHas(t, k, want[0])
}

func vipDo(t *testing.T, k vip.Kernel, ops ...vip.Op) {
	t.Helper()
	if errs := k.Do(t.Context(), ops); errs != nil {
		t.Fatalf("Do: %v", errors.Join(errs...))
	}
}

func vipHas(t *testing.T, k vip.Kernel, want ...vip.Item) {
	t.Helper()
	items := make(vip.Items)
	for _, i := range want {
		items[i] = vipOps(vip.Add, i)[0].Source
	}
	got, err := k.Read(t.Context())
	if err != nil {
		t.Fatalf("Read: %v", err)
	}
	if diff := cmp.Diff(vip.Text(items), vip.Text(got)); diff != "" {
		t.Errorf("items (-want +got):\n%s", diff)
	}
}
