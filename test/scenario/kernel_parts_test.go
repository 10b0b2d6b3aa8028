package scenario

import (
	"context"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"kube-ipvs/internal/inet"
	"kube-ipvs/ipset"
	"kube-ipvs/iptables"
	"kube-ipvs/ipvs"
	"kube-ipvs/ipvs/conntrack"
	"kube-ipvs/ipvs/steering"
	"kube-ipvs/ipvs/sysctl"
	"kube-ipvs/sync/ipvsmode"
)

// Parts are a kernel as a loop sees it: five fakes, or the running one.
type parts struct {
	ipvs     ipvs.Kernel
	sets     ipset.Kernel
	steering steering.Kernel
	rules    iptables.Kernel
	sysctl   sysctl.Kernel
	flows    conntrack.Kernel
}

func fakes() parts {
	return parts{
		new(ipvs.Fake), ipset.NewFake(), steering.NewFake(), new(iptables.Fake),
		sysctl.NewFake(sysctl.Setting{Name: forward4, Value: "0"}, sysctl.Setting{Name: forward6, Value: "0"},
			sysctl.Setting{Name: "net/ipv6/conf/kube-ipvs0/disable_ipv6", Value: "0"}),
		new(conntrack.Fake),
	}
}

// dump returns what the kernel holds, by section.
func (p parts) dump(t *testing.T, f flags) map[string]string {
	t.Helper()
	ctx := context.Background()
	table, err := p.ipvs.Read(ctx)
	if err != nil {
		t.Fatal(err)
	}
	sets, ledger, err := p.dumpSets(ctx, f)
	if err != nil {
		t.Fatal(err)
	}
	items, err := p.steering.Read(ctx)
	if err != nil {
		t.Fatal(err)
	}
	maps.DeleteFunc(items, func(i steering.Item, _ netip.Addr) bool { return f.base(i) })
	return map[string]string{"ipvs": table.String(), "sets": sets, "ledger": ledger, "routes": steering.Text(items)}
}

// base says that an item is there whatever the Services are.
func (f flags) base(i steering.Item) bool {
	return i.Kind < steering.Local || i.Kind == steering.Local && f.isRange(i.Prefix)
}

// isRange says that a network is delivered to this host whatever the Services are: cluster IPs' and aliases'.
func (f flags) isRange(p netip.Prefix) bool {
	return p == inet.AliasRange(inet.IPv4) || p == inet.AliasRange(inet.IPv6) || strings.Contains(","+f.serviceCIDRs+",", ","+p.String()+",")
}

// dumpSets returns the members of all sets, a line each, and those of the ledgers by themselves. Networks that are always there are left
// out.
func (p parts) dumpSets(ctx context.Context, f flags) (sets, ledger string, err error) {
	names, err := p.sets.Names(ctx)
	if err != nil {
		return "", "", err
	}
	defined := definitions()
	for _, name := range names {
		set, ok := defined[name]
		if !ok {
			set = ipset.Set{Name: name, Type: ipset.HashIP, Family: inet.IPv4}
		}
		members, err := p.sets.Read(ctx, set)
		if err != nil {
			return "", "", err
		}
		var text strings.Builder
		for _, m := range slices.SortedFunc(maps.Keys(members), ipset.Member.Compare) {
			if set.Type == ipset.HashNet && f.isRange(m.Other) {
				continue
			}
			fmt.Fprintf(&text, "%s %v%s\n", name, m, inWords(set, members[m], ipvsmode.MarksFor(f.masqueradeBit)))
		}
		if strings.HasSuffix(name, "OWNED") {
			ledger += text.String()
		} else {
			sets += text.String()
		}
	}
	return sets, ledger, nil
}

// definitions are our sets by name.
func definitions() map[string]ipset.Set {
	out := map[string]ipset.Set{}
	for _, family := range []inet.Family{inet.IPv4, inet.IPv6} {
		for _, set := range ipvsmode.SetsOf(family).All() {
			out[set.Name] = set
		}
	}
	return out
}

// inWords is a member's mark and what it means.
func inWords(set ipset.Set, mark ipset.Mark, marks ipvsmode.Marks) string {
	switch {
	case !set.Marks || mark == ipset.Mark{}:
		return ""
	case strings.HasSuffix(set.Name, "FRONTENDS"):
		for t := ipvsmode.KeepSource; t <= ipvsmode.MasqueradeExternal; t++ {
			if marks.Of(t) == mark {
				return fmt.Sprintf(" skbmark %v # %v", mark, t)
			}
		}
	}
	return fmt.Sprintf(" skbmark %v # nothing of ours", mark)
}

// A command is what somebody types by hand.
type command struct {
	ipvs     *ipvs.Op
	set      *ipset.Op
	make     *ipset.Set // with set nil: make it
	gone     string     // a set to destroy
	steering *steering.Op
}

func (p parts) carryOut(c command) error {
	ctx := context.Background()
	var errs []error
	switch {
	case c.ipvs != nil:
		errs = p.ipvs.Do(ctx, []ipvs.Op{*c.ipvs})
	case c.set != nil:
		errs = p.sets.Do(ctx, []ipset.Op{*c.set})
	case c.make != nil:
		return p.sets.Create(ctx, *c.make)
	case c.gone != "":
		return p.sets.Destroy(ctx, c.gone)
	case c.steering != nil:
		errs = p.steering.Do(ctx, []steering.Op{*c.steering})
	}
	if errs != nil {
		return errs[0]
	}
	return nil
}
