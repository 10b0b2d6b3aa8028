package kernel

import (
	"context"
	"errors"
	"net/netip"
	"os"
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
		"two marks":                 vipTwoMarks,
		"a stranger's route":        vipStranger,
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
	i := vip.Item{Kind: kind, Prefix: netip.MustParsePrefix(prefix)}
	if kind == vip.Divert {
		i.Mark = 0x8000
	}
	if kind == vip.Refuse {
		i.Mark, i.Mask = 0x5000, 0xd000
	}
	return i
}

// vipAll is an item of each kind and family, in the order in which they are made.
func vipAll() []vip.Item {
	return []vip.Item{
		{Kind: vip.Link},
		vipItem(vip.Divert, "0.0.0.0/0"), vipItem(vip.Divert, "::/0"),
		vipItem(vip.LastResort, "0.0.0.0/0"), vipItem(vip.LastResort, "::/0"),
		vipItem(vip.Refuse, "0.0.0.0/0"), vipItem(vip.Refuse, "::/0"),
		vipItem(vip.Route, "10.96.0.0/12"), vipItem(vip.Route, "10.200.0.1/32"), vipItem(vip.Route, "fd00:96::/108"),
		vipItem(vip.LastRoute, "203.0.113.7/32"), vipItem(vip.LastRoute, "2001:db8::7/128"),
		vipItem(vip.RefuseRoute, "0.0.0.0/0"), vipItem(vip.RefuseRoute, "::/0"),
		vipItem(vip.Address, "10.96.0.10/32"), vipItem(vip.Address, "fd00:96::10/128"),
	}
}

func vipOps(verb vip.Verb, items ...vip.Item) []vip.Op {
	var ops []vip.Op
	for _, i := range items {
		ops = append(ops, vip.Op{Verb: verb, Item: i})
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
	items := []vip.Item{vipItem(vip.Route, "10.96.0.0/12"), vipItem(vip.LastRoute, "2001:db8::7/128"), vipItem(vip.Address, "10.96.0.10/32")}
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
	vipHas(t, k, vipAll()[1:7]...) // rules need no link
}

// vipLastAddress removes all addresses, where the kernel would remove all routes of IPv4 over the link with the last.
func vipLastAddress(t *testing.T, k vipHost) {
	a, b := vipItem(vip.Address, "10.96.0.10/32"), vipItem(vip.Address, "10.96.0.11/32")
	routes := []vip.Item{{Kind: vip.Link}, vipItem(vip.Route, "10.96.0.0/12"), vipItem(vip.LastRoute, "203.0.113.7/32")}
	gone, come := vipItem(vip.Route, "10.7.0.0/16"), vipItem(vip.Route, "10.8.0.0/16")
	vipDo(t, k, vipOps(vip.Add, append(routes, a, b, gone)...)...)
	vipDo(t, k, vipOps(vip.Del, a)...)
	vipHas(t, k, append(routes, b, gone)...)
	vipDo(t, k, append(vipOps(vip.Del, gone, b), vipOps(vip.Add, come)...)...)
	vipHas(t, k, append(routes, come)...)
	vipDo(t, k, vipOps(vip.Add, a, b)...)
	vipDo(t, k, vipOps(vip.Del, a, b)...)
	vipHas(t, k, append(routes, come)...)
}

func vipTwoMarks(t *testing.T, k vipHost) {
	one, two := vipItem(vip.Divert, "0.0.0.0/0"), vipItem(vip.Divert, "0.0.0.0/0")
	two.Mark = 0x4000
	vipDo(t, k, vipOps(vip.Add, one, two)...)
	vipHas(t, k, two, one)
	vipDo(t, k, vipOps(vip.Del, one)...)
	vipHas(t, k, two)
	vipDo(t, k, vipOps(vip.Del, two)...)
	vipHas(t, k)
}

func vipStranger(t *testing.T, k vipHost) {
	vipDo(t, k, vip.Op{Item: vip.Item{Kind: vip.Link}})
	for _, prefix := range []string{"10.96.0.0/12", "fd00:96::/108"} {
		i := vipItem(vip.Route, prefix)
		k.stranger(i)
		good := vipItem(vip.Route, "10.200.0.1/32")
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
	var ops []vip.Op
	var want []vip.Item
	for _, i := range vipAll() {
		if i.Kind != vip.LastResort && i.Kind != vip.Refuse { // a rule alone needs no IPv6
			ops = append(ops, vip.Op{Item: i})
		}
	}
	errs := k.Do(t.Context(), ops)
	for i, op := range ops {
		switch {
		case op.Item.Prefix.Addr().Is6():
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
		{"a mark of 0", vip.Item{Kind: vip.Divert, Prefix: netip.MustParsePrefix("0.0.0.0/0")}},
		{"a mask where none belongs", vip.Item{Kind: vip.Divert, Prefix: netip.MustParsePrefix("0.0.0.0/0"), Mark: 1, Mask: 1}},
		{"refusing unmarked packets", vip.Item{Kind: vip.Refuse, Prefix: netip.MustParsePrefix("0.0.0.0/0"), Mask: 1}},
		{"diverting a part", vipItem(vip.Divert, "10.0.0.0/8")},
		{"a last resort with a mark", vip.Item{Kind: vip.LastResort, Prefix: netip.MustParsePrefix("0.0.0.0/0"), Mark: 1}},
		{"a route to nothing", vip.Item{Kind: vip.Route}},
		{"bits beyond the prefix", vipItem(vip.Route, "10.0.0.1/8")},
		{"a mapped address", vipItem(vip.Route, "::ffff:10.0.0.0/104")},
		{"an address with a network", vipItem(vip.Address, "10.0.0.0/8")},
	}
	vipDo(t, k, vip.Op{Item: vip.Item{Kind: vip.Link}})
	good := vipItem(vip.Route, "10.96.0.0/12")
	for _, tt := range tests {
		errs := k.Do(t.Context(), vipOps(vip.Add, tt.item, good))
		if len(errs) != 2 || !errors.Is(errs[0], os.ErrInvalid) || errs[1] != nil {
			t.Errorf("%s: Do = %v, want os.ErrInvalid and nil", tt.name, errs)
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
	items := make(map[vip.Item]struct{})
	for _, i := range want {
		items[i] = struct{}{}
	}
	got, err := k.Read(t.Context())
	if err != nil {
		t.Fatalf("Read: %v", err)
	}
	if diff := cmp.Diff(vip.Text(items), vip.Text(got)); diff != "" {
		t.Errorf("items (-want +got):\n%s", diff)
	}
}
