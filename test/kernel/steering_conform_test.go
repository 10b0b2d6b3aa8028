package kernel

import (
	"context"
	"errors"
	"net/netip"
	"os"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"kube-ipvs/ipvs/steering"
)

// A steerHost is a kernel, and a hand that does to it what the interface cannot.
type steerHost struct {
	steering.Kernel
	stranger func(steering.Item) // puts another program's route where an item's would be
	noIPv6   func()              // disables IPv6
}

func TestSteeringFake(t *testing.T) {
	steerConforms(t, func(*testing.T) steerHost {
		f := steering.NewFake()
		return steerHost{
			Kernel:   f,
			stranger: func(i steering.Item) { f.SetStranger(i, true) },
			noIPv6:   func() { f.SetNoIPv6(true) },
		}
	})
}

// steerConforms states what every steering.Kernel does, the one in memory and the real one.
func steerConforms(t *testing.T, open func(*testing.T) steerHost) {
	tests := map[string]func(*testing.T, steerHost){
		"items come and go":         steerRoundTrip,
		"without the link":          steerNoLink,
		"the link goes":             steerLinkGoes,
		"the last address goes":     steerLastAddress,
		"rules that differ":         steerTwoRules,
		"other sources":             steerSources,
		"a stranger's route":        steerStranger,
		"a route over an address":   steerOver,
		"IPv6 disabled":             steerNoIPv6,
		"items that cannot be":      steerInvalid,
		"a context that is done":    steerDone,
		"a thousand routes at once": steerMany,
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) { test(t, open(t)) })
	}
}

func steerItem(kind steering.Kind, prefix string) steering.Item {
	return steering.Item{Kind: kind, Prefix: netip.MustParsePrefix(prefix)}
}

// steerRules are the rules of a family.
func steerRules(family string) []steering.Item {
	return steering.Policies(netip.MustParsePrefix(family), 0x1000, 0x10)
}

// steerAll is an item of each kind and family, in the order in which they are made.
func steerAll() []steering.Item {
	return slices.Concat([]steering.Item{{Kind: steering.Link}}, steerRules("0.0.0.0/0"), steerRules("::/0"), []steering.Item{
		steerItem(steering.Refuse, "255.255.255.254/32"), steerItem(steering.Refuse, "1ff::fffe/128"),
		steerItem(steering.Local, "10.96.0.0/12"), steerItem(steering.Local, "10.200.0.1/32"), steerItem(steering.Local, "fd00:96::/108"),
		steerItem(steering.Divert, "203.0.113.7/32"), steerItem(steering.Divert, "2001:db8::7/128"),
		steerItem(steering.LastRoute, "203.0.113.7/32"), steerItem(steering.LastRoute, "2001:db8::7/128"),
		steerItem(steering.Address, "10.96.0.10/32"), steerItem(steering.Address, "fd00:96::10/128"),
	})
}

// steerSource is the source of an item in these tests: an address of the node, which has one of each family, where it is local.
func steerSource(i steering.Item) netip.Addr {
	switch {
	case i.Kind != steering.Local:
		return netip.Addr{}
	case i.Prefix.Addr().Is4():
		return netip.MustParseAddr("192.0.2.1")
	}
	return netip.MustParseAddr("2001:db8::1")
}

func steerOps(verb steering.Verb, items ...steering.Item) []steering.Op {
	var ops []steering.Op
	for _, i := range items {
		op := steering.Op{Verb: verb, Item: i}
		if verb == steering.Add && i.Prefix.IsValid() {
			op.Source = steerSource(i)
		}
		ops = append(ops, op)
	}
	return ops
}

func steerRoundTrip(t *testing.T, k steerHost) {
	steerHas(t, k)
	var made []steering.Item
	for _, i := range steerAll() {
		steerDo(t, k, steerOps(steering.Add, i)...)
		steerDo(t, k, steerOps(steering.Add, i)...)
		made = append(made, i)
		steerHas(t, k, made...)
	}
	for len(made) > 0 {
		last := made[len(made)-1]
		made = made[:len(made)-1]
		steerDo(t, k, steerOps(steering.Del, last)...)
		steerDo(t, k, steerOps(steering.Del, last)...)
		steerHas(t, k, made...)
	}
	steerDo(t, k, steerOps(steering.Add, steerAll()...)...)
	steerHas(t, k, steerAll()...)
	steerDo(t, k, steerOps(steering.Add, steerAll()...)...)
	steerHas(t, k, steerAll()...)
}

func steerNoLink(t *testing.T, k steerHost) {
	items := []steering.Item{
		steerItem(steering.Refuse, "255.255.255.254/32"), steerItem(steering.Local, "10.96.0.0/12"), steerItem(steering.LastRoute, "2001:db8::7/128"),
		steerItem(steering.Address, "10.96.0.10/32"),
	}
	for i, err := range k.Do(t.Context(), steerOps(steering.Add, items...)) {
		if !errors.Is(err, os.ErrNotExist) {
			t.Errorf("add %v: %v, want os.ErrNotExist", items[i], err)
		}
	}
	steerDo(t, k, steerOps(steering.Del, items...)...)
	steerHas(t, k)
}

func steerLinkGoes(t *testing.T, k steerHost) {
	steerDo(t, k, steerOps(steering.Add, steerAll()...)...)
	steerDo(t, k, steering.Op{Verb: steering.Del, Item: steering.Item{Kind: steering.Link}})
	// Rules need no link, and addresses are diverted to another.
	steerHas(t, k, slices.DeleteFunc(steerAll(), func(i steering.Item) bool { return i.Kind != steering.Policy })...)
}

// steerLastAddress removes all addresses, where the kernel would remove all routes of IPv4 over the link with the last.
func steerLastAddress(t *testing.T, k steerHost) {
	a, b := steerItem(steering.Address, "10.96.0.10/32"), steerItem(steering.Address, "10.96.0.11/32")
	routes := []steering.Item{
		{Kind: steering.Link}, steerItem(steering.Refuse, "255.255.255.254/32"), steerItem(steering.Local, "10.96.0.0/12"), steerItem(steering.Divert, "203.0.113.7/32"),
		steerItem(steering.LastRoute, "203.0.113.7/32"),
	}
	gone, come := steerItem(steering.Local, "10.7.0.0/16"), steerItem(steering.Local, "10.8.0.0/16")
	steerDo(t, k, steerOps(steering.Add, slices.Concat(routes, []steering.Item{a, b, gone})...)...)
	steerDo(t, k, steerOps(steering.Del, a)...)
	steerHas(t, k, slices.Concat(routes, []steering.Item{b, gone})...)
	steerDo(t, k, append(steerOps(steering.Del, gone, b), steerOps(steering.Add, come)...)...)
	steerHas(t, k, slices.Concat(routes, []steering.Item{come})...)
	steerDo(t, k, steerOps(steering.Add, a, b)...)
	steerDo(t, k, steerOps(steering.Del, a, b)...)
	steerHas(t, k, slices.Concat(routes, []steering.Item{come})...)
}

// steerTwoRules makes rules that differ in one thing each.
func steerTwoRules(t *testing.T, k steerHost) {
	first := steering.Item{Kind: steering.Policy, Prefix: netip.MustParsePrefix("0.0.0.0/0"), Rule: steering.Rule{Priority: 6, Mark: 0x1000, Mask: 0x1000, Table: steering.DivertTable}}
	items := []steering.Item{first}
	for _, change := range []func(*steering.Rule){
		func(r *steering.Rule) { r.Priority = 5 },
		func(r *steering.Rule) { r.Mark, r.Mask = 0x2000, 0x2000 },
		func(r *steering.Rule) { r.Mask = 0x3000 },
		func(r *steering.Rule) { r.Mark = 0 },
		func(r *steering.Rule) { r.Mark, r.Mask = 0, 0 },
		func(r *steering.Rule) { r.Table = steering.LastResortTable },
		func(r *steering.Rule) { r.Table, r.Goto = 0, 7 },
	} {
		i := first
		change(&i.Rule)
		items = append(items, i)
	}
	steerDo(t, k, steerOps(steering.Add, items...)...)
	steerHas(t, k, items...)
	for len(items) > 0 {
		steerDo(t, k, steerOps(steering.Del, items[0])...)
		items = items[1:]
		steerHas(t, k, items...)
	}
}

// steerSources gives prefixes other sources.
func steerSources(t *testing.T, k steerHost) {
	steerDo(t, k, steering.Op{Item: steering.Item{Kind: steering.Link}})
	for _, prefix := range []string{"10.96.0.0/12", "fd00:96::/108"} {
		i := steerItem(steering.Local, prefix)
		second := netip.MustParseAddr("192.0.2.2")
		if i.Prefix.Addr().Is6() {
			second = netip.MustParseAddr("2001:db8::2")
		}
		for _, source := range []netip.Addr{{}, steerSource(i), second, second, {}} {
			steerDo(t, k, steering.Op{Item: i, Source: source})
			items, err := k.Read(t.Context())
			if got, ok := items[i]; err != nil || !ok || got != source {
				t.Errorf("%v is there: %t, with the source %v (%v), want %v", prefix, ok, got, err, source)
			}
		}
		steerDo(t, k, steering.Op{Verb: steering.Del, Item: i})
	}
}

// steerOver puts routes over the kernel's routes of addresses on the link. They outlive the addresses, as the source of new connections
// already does.
func steerOver(t *testing.T, k steerHost) {
	steerDo(t, k, steering.Op{Item: steering.Item{Kind: steering.Link}})
	for _, prefix := range []string{"203.0.113.7/32", "2001:db8:1::7/128"} {
		address, route := steerItem(steering.Address, prefix), steerItem(steering.Local, prefix)
		steerDo(t, k, steering.Op{Item: address})
		for range 2 { // again changes nothing
			steerDo(t, k, steering.Op{Item: route, Source: steerSource(route), Over: true})
		}
		steerDo(t, k, steering.Op{Verb: steering.Del, Item: address})
		items, err := k.Read(t.Context())
		if source, ok := items[route]; err != nil || !ok || source != steerSource(route) {
			t.Errorf("%v is there: %t, with the source %v (%v)", route, ok, source, err)
		}
		if _, ok := items[address]; ok {
			t.Errorf("%v is there", address)
		}
		steerDo(t, k, steering.Op{Verb: steering.Del, Item: route})
		steerHas(t, k, steering.Item{Kind: steering.Link})
	}
}

func steerStranger(t *testing.T, k steerHost) {
	steerDo(t, k, steering.Op{Item: steering.Item{Kind: steering.Link}})
	for _, prefix := range []string{"10.96.0.0/12", "fd00:96::/108"} {
		i := steerItem(steering.Local, prefix)
		k.stranger(i)
		good := steerItem(steering.Local, "10.200.0.1/32")
		errs := k.Do(t.Context(), steerOps(steering.Add, i, good))
		if len(errs) != 2 || !errors.Is(errs[0], os.ErrExist) || errs[1] != nil {
			t.Errorf("add %v: %v, want os.ErrExist for it alone", i, errs)
		}
		steerHas(t, k, steering.Item{Kind: steering.Link}, good)
		steerDo(t, k, steerOps(steering.Del, i, good)...)
	}
}

func steerNoIPv6(t *testing.T, k steerHost) {
	k.noIPv6()
	ops := steerOps(steering.Add, steerAll()...)
	var want []steering.Item
	errs := k.Do(t.Context(), ops)
	for i, op := range ops {
		switch {
		case op.Item.Prefix.Addr().Is6() && op.Item.Kind != steering.Policy: // a rule alone needs no IPv6
			if len(errs) == 0 || !errors.Is(errs[i], steering.ErrNoIPv6) {
				t.Errorf("%v: want ErrNoIPv6 in %v", op, errs)
			}
		case len(errs) > 0 && errs[i] != nil:
			t.Errorf("%v: %v", op, errs[i])
		default:
			want = append(want, op.Item)
		}
	}
	steerHas(t, k, want...)
	steerDo(t, k, steerOps(steering.Del, steerAll()...)...)
	steerHas(t, k)
}

func steerInvalid(t *testing.T, k steerHost) {
	tests := []struct {
		name string
		item steering.Item
	}{
		{"no such kind", steering.Item{Kind: 99}},
		{"a link with a prefix", steerItem(steering.Link, "10.0.0.0/8")},
		{"a rule that leads nowhere", steerItem(steering.Policy, "0.0.0.0/0")},
		{"a rule for a part", steering.Item{Kind: steering.Policy, Prefix: netip.MustParsePrefix("10.0.0.0/8"), Rule: steering.Rule{Priority: 6, Table: steering.DivertTable}}},
		{"a rule with bits beyond its mask", steering.Item{Kind: steering.Policy, Prefix: netip.MustParsePrefix("0.0.0.0/0"), Rule: steering.Rule{Priority: 6, Mark: 3, Mask: 1, Table: steering.DivertTable}}},
		{"a rule that goes back", steering.Item{Kind: steering.Policy, Prefix: netip.MustParsePrefix("0.0.0.0/0"), Rule: steering.Rule{Priority: 6, Goto: 6}}},
		{"a route with a rule", steering.Item{Kind: steering.Local, Prefix: netip.MustParsePrefix("10.0.0.0/8"), Rule: steering.Rule{Priority: 6, Table: steering.DivertTable}}},
		{"a route to nothing", steering.Item{Kind: steering.Local}},
		{"a network that is refused", steerItem(steering.Refuse, "10.0.0.0/8")},
		{"bits beyond the prefix", steerItem(steering.Local, "10.0.0.1/8")},
		{"a mapped address", steerItem(steering.Divert, "::ffff:10.0.0.0/104")},
		{"an address with a network", steerItem(steering.Address, "10.0.0.0/8")},
	}
	steerDo(t, k, steering.Op{Item: steering.Item{Kind: steering.Link}})
	good := steerItem(steering.Local, "10.96.0.0/12")
	for _, tt := range tests {
		errs := k.Do(t.Context(), steerOps(steering.Add, tt.item, good))
		if len(errs) != 2 || !errors.Is(errs[0], os.ErrInvalid) || errs[1] != nil {
			t.Errorf("%s: Do = %v, want os.ErrInvalid and nil", tt.name, errs)
		}
	}
	sources := []steering.Op{
		{Item: good, Source: netip.MustParseAddr("2001:db8::1")},
		{Item: steerItem(steering.Divert, "203.0.113.7/32"), Source: netip.MustParseAddr("192.0.2.1")},
	}
	for i, err := range k.Do(t.Context(), sources) {
		if !errors.Is(err, os.ErrInvalid) {
			t.Errorf("%v from %v: %v, want os.ErrInvalid", sources[i].Item, sources[i].Source, err)
		}
	}
	steerHas(t, k, steering.Item{Kind: steering.Link}, good)
}

func steerDone(t *testing.T, k steerHost) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	for i, err := range k.Do(ctx, steerOps(steering.Add, steerAll()...)) {
		if !errors.Is(err, context.Canceled) {
			t.Errorf("add %v: %v, want context.Canceled", steerAll()[i], err)
		}
	}
	if _, err := k.Read(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("Read: %v, want context.Canceled", err)
	}
	steerHas(t, k)
}

func steerMany(t *testing.T, k steerHost) {
	want := []steering.Item{{Kind: steering.Link}}
	for i := range 1000 {
		a := netip.AddrFrom4([4]byte{203, byte(i >> 8), byte(i), 1})
		want = append(want, steering.Item{Kind: steering.LastRoute, Prefix: netip.PrefixFrom(a, 32)})
	}
	steerDo(t, k, steerOps(steering.Add, want...)...)
	steerHas(t, k, want...)
	steerDo(t, k, steerOps(steering.Add, want...)...)
	steerDo(t, k, steerOps(steering.Del, want[1:]...)...)
	steerHas(t, k, want[0])
}

func steerDo(t testing.TB, k steering.Kernel, ops ...steering.Op) {
	t.Helper()
	if errs := k.Do(t.Context(), ops); errs != nil {
		t.Fatalf("Do: %v", errors.Join(errs...))
	}
}

func steerHas(t *testing.T, k steering.Kernel, want ...steering.Item) {
	t.Helper()
	items := make(steering.Items)
	for _, i := range want {
		items[i] = steerOps(steering.Add, i)[0].Source
	}
	got, err := k.Read(t.Context())
	if err != nil {
		t.Fatalf("Read: %v", err)
	}
	if diff := cmp.Diff(steering.Text(items), steering.Text(got)); diff != "" {
		t.Errorf("items (-want +got):\n%s", diff)
	}
}
