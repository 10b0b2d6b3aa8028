package vip

import (
	"context"
	"errors"
	"reflect"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// family returns the item's address family.
func (i Item) family() int {
	if i.Prefix.Addr().Is6() {
		return unix.AF_INET6
	}
	return unix.AF_INET
}

// rule returns the rule that a Divert, LastResort or Refuse consists of.
func (i Item) rule() *netlink.Rule {
	r := netlink.NewRule()
	r.Family, r.Protocol = i.family(), RouteProtocol
	switch i.Kind {
	case Divert:
		r.Priority, r.Table = DivertPriority, DivertTable
		r.Mark, r.Mask = i.Mark, &i.Mark
	case Refuse:
		r.Priority, r.Table = RefusePriority, RefuseTable
		r.Mark, r.Mask = i.Mark, &i.Mask
	default:
		r.Priority, r.Table = LastResortPriority, LastResortTable
	}
	return r
}

// is says whether a rule of the kernel's does what r does. Who made it is all the same: the tables are ours.
func is(got netlink.Rule, r *netlink.Rule) bool {
	got.Protocol = r.Protocol
	return reflect.DeepEqual(got, *r)
}

// tableRules returns the rules that look up the table of the item's kind, in its family.
func (c *Conn) tableRules(i Item) ([]netlink.Rule, error) {
	filter := netlink.Rule{Table: i.rule().Table}
	rules, err := c.handle.RuleListFiltered(i.family(), &filter, netlink.RT_FILTER_TABLE)
	if errors.Is(err, unix.EAFNOSUPPORT) { // no IPv6, no rules
		return nil, nil
	}
	return rules, err
}

// itemOf returns the item that consists of the rule, if it is one that we would make.
func itemOf(like Item, r netlink.Rule) (Item, bool) {
	i := Item{Kind: like.Kind, Prefix: like.Prefix, Mark: r.Mark}
	if i.Kind == Refuse && r.Mask != nil {
		i.Mask = *r.Mask
	}
	return i, is(r, i.rule()) && (i.Kind == LastResort || r.Mark != 0)
}

// addRule makes the item's route, if it has one, and then its rule. Odd rules go.
func (c *Conn) addRule(ctx context.Context, i Item) error {
	rules, err := c.tableRules(i)
	if err != nil {
		return err
	}
	if i.Kind == Divert {
		if err := c.divertRoute(ctx, i, Add); err != nil {
			return err
		}
	}
	for _, r := range rules {
		if _, ours := itemOf(i, r); !ours {
			err = errors.Join(err, gone(c.handle.RuleDel(&r)))
		}
	}
	if added := c.handle.RuleAdd(i.rule()); !errors.Is(added, unix.EEXIST) {
		err = errors.Join(err, added)
	}
	return err
}

// delRule removes the item's rule and odd ones, and the divert route with the last rule that looks it up. A mark of 0
// stands for what is left of diverting: without the route, all rules are.
func (c *Conn) delRule(ctx context.Context, i Item) error {
	rules, err := c.tableRules(i)
	if err != nil {
		return err
	}
	all := false
	if i.Kind == Divert && i.Mark == 0 {
		there := make(map[Item]struct{})
		if err := c.readRoutes(ctx, 0, there); err != nil {
			return err
		}
		_, ok := there[i]
		all = !ok
	}
	left := 0
	for _, r := range rules {
		if other, ours := itemOf(i, r); !all && ours && other != i {
			left++
			continue
		}
		err = errors.Join(err, gone(c.handle.RuleDel(&r)))
	}
	if i.Kind == Divert && left == 0 && err == nil {
		err = c.divertRoute(ctx, i, Del)
	}
	return err
}

// gone turns the error of deleting what is not there into success.
func gone(err error) error {
	for _, errno := range []unix.Errno{unix.ENOENT, unix.ESRCH, unix.EADDRNOTAVAIL, unix.ENODEV} {
		if errors.Is(err, errno) {
			return nil
		}
	}
	return err
}
