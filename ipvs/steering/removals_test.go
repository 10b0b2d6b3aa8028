package steering

import (
	"net/netip"
	"testing"

	"golang.org/x/sys/unix"
)

func TestPendingRemovals(t *testing.T) {
	one, two := netip.MustParseAddr("fd00:96::1"), netip.MustParseAddr("fd00:96::2")
	goes := func(a netip.Addr) Change {
		return Change{Event: unix.RTM_DELADDR, Family: unix.AF_INET6, OnLink: true, Addr: a}
	}
	with := func(c Change, edit func(*Change)) Change { edit(&c); return c }
	var p pendingRemovals
	for _, tt := range []struct {
		name  string
		do    func()
		hear  Change
		owned bool
	}{
		{"while nobody watches nothing is remembered", func() { p.add(one); p.begin() }, goes(one), false},
		{"what we remove", func() { p.add(one) }, goes(one), true},
		{"what was heard of once", func() {}, goes(one), false},
		{"what somebody else removes", func() { p.add(one) }, goes(two), false},
		{"what comes", func() {}, with(goes(one), func(c *Change) { c.Event = unix.RTM_NEWADDR }), false},
		{"what goes from another link", func() {}, with(goes(one), func(c *Change) { c.OnLink = false }), false},
		{"what we removed before all that", func() {}, goes(one), true},
		{"what we remove twice", func() { p.add(one); p.add(one) }, goes(one), true},
		{"for the second time", func() {}, goes(one), true},
		{"for the third time", func() {}, goes(one), false},
		{"what the kernel refused to remove", func() { p.add(one); p.take(one) }, goes(one), false},
		{"what we removed before something was lost", func() { p.add(one); p.begin() }, goes(one), false},
		{"what we removed before the watch ended", func() { p.add(one); p.end(); p.add(two) }, goes(one), false},
	} {
		tt.do()
		if got := p.takeChange(tt.hear); got != tt.owned {
			t.Errorf("%s: owned %t, want %t", tt.name, got, tt.owned)
		}
	}
}

func TestRemoves(t *testing.T) {
	v4, v6 := netip.MustParsePrefix("10.96.0.1/32"), netip.MustParsePrefix("fd00:96::1/128")
	for _, tt := range []struct {
		op   Op
		want netip.Addr
	}{
		{Op{Verb: Del, Item: Item{Kind: Address, Prefix: v6}}, v6.Addr()},
		{Op{Verb: Add, Item: Item{Kind: Address, Prefix: v6}}, netip.Addr{}},
		{Op{Verb: Del, Item: Item{Kind: Address, Prefix: v4}}, netip.Addr{}}, // which has the port of who removed it
		{Op{Verb: Del, Item: Item{Kind: Local, Prefix: v6}}, netip.Addr{}},
	} {
		if got := tt.op.removes(); got != tt.want {
			t.Errorf("%v removes %v, want %v", tt.op, got, tt.want)
		}
	}
}
