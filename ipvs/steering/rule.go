package steering

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"

	"golang.org/x/sys/unix"

	bulk "kube-ipvs/internal/netlink"
)

// From include/uapi/linux/fib_rules.h.
const (
	ruleHeaderLen = 12 // struct fib_rule_hdr

	lookUpAction = 1 // FR_ACT_TO_TBL
	goToAction   = 2 // FR_ACT_GOTO

	iifAttr      = 3  // FRA_IIFNAME
	goToAttr     = 4  // FRA_GOTO
	priorityAttr = 6  // FRA_PRIORITY
	markAttr     = 10 // FRA_FWMARK
	suppressAttr = 14 // FRA_SUPPRESS_PREFIXLEN
	tableAttr    = 15 // FRA_TABLE
	maskAttr     = 16 // FRA_FWMASK
	protocolAttr = 21 // FRA_PROTOCOL
)

const loopbackName = "lo"

// encode appends the message that adds or removes the rule.
func (r Rule) encode(b *bulk.Batch, verb Verb, family byte) {
	action := byte(lookUpAction)
	if r.Table == 0 {
		action = goToAction
	}
	if verb == Add {
		b.Begin(unix.RTM_NEWRULE, unix.NLM_F_CREATE|unix.NLM_F_EXCL)
	} else {
		b.Begin(unix.RTM_DELRULE, 0)
	}
	// struct fib_rule_hdr: family, lengths of destination and source, TOS, table (as attribute), two unused, action, flags.
	b.Raw(family, 0, 0, 0, unix.RT_TABLE_UNSPEC, 0, 0, action, 0, 0, 0, 0)
	b.Uint32(priorityAttr, r.Priority)
	if r.Own {
		b.Text(iifAttr, loopbackName)
	}
	if r.Mask != 0 {
		b.Uint32(markAttr, r.Mark)
		b.Uint32(maskAttr, r.Mask)
	}
	if r.Table != 0 {
		b.Uint32(tableAttr, r.Table)
	} else {
		b.Uint32(goToAttr, r.Goto)
	}
	if verb == Add || r.Table == 0 { // a rule that looks up an owned table is owned, whatever its protocol
		b.Uint8(protocolAttr, RouteProtocol)
	}
	b.End()
}

// parseRule parses struct fib_rule_hdr and its attributes. It reports whether the rule is owned: by its protocol or
// table. A rule with conditions beyond those of a Rule is foreign.
func parseRule(p []byte) (r Rule, owned bool, _ error) {
	if len(p) < ruleHeaderLen {
		return Rule{}, false, fmt.Errorf("rule of %d bytes: %w", len(p), bulk.ErrMalformed)
	}
	if p[7] == lookUpAction {
		r.Table = uint32(p[4])
	}
	var protocol uint8
	plain := p[1] == 0 && p[2] == 0 && p[3] == 0 && (p[7] == lookUpAction || p[7] == goToAction) && binary.NativeEndian.Uint32(p[8:])&ruleInvert == 0
	a := bulk.Parse(p[ruleHeaderLen:])
	for a.Next() {
		switch a.Type() {
		case priorityAttr:
			r.Priority = a.Uint32()
		case iifAttr:
			r.Own = a.Text() == loopbackName
			plain = plain && r.Own
		case markAttr:
			r.Mark = a.Uint32()
		case maskAttr:
			r.Mask = a.Uint32()
		case tableAttr:
			r.Table = a.Uint32()
		case goToAttr:
			r.Goto = a.Uint32()
		case protocolAttr:
			protocol = a.Uint8()
		case suppressAttr:
			plain = plain && a.Uint32() == ^uint32(0) // none
		default: // the kernel sends the others only if they are set (fib_nl_fill_rule in net/core/fib_rules.c)
			plain = false
		}
	}
	if p[7] == goToAction {
		r.Table = 0
	}
	return r, plain && (protocol == RouteProtocol || isOwned(r.Table)), a.Err()
}

// ruleInvert is FIB_RULE_INVERT.
const ruleInvert = 2

// readRules adds the owned rules, and finds the places for those of Policies.
func (c *Conn) readRules(ctx context.Context, items Items) error {
	var owned []Item
	clear(c.places)
	err := c.dump(ctx, dumpOf{get: unix.RTM_GETRULE, header: ruleHeaderLen}, func(p []byte) error {
		r, ours, err := parseRule(p)
		if err != nil {
			return err
		}
		family := netip.PrefixFrom(netip.IPv4Unspecified(), 0)
		if p[0] == unix.AF_INET6 {
			family = netip.PrefixFrom(netip.IPv6Unspecified(), 0)
		}
		switch {
		case ours:
			owned = append(owned, Item{Kind: Policy, Prefix: family, Rule: r})
		case r.inFront():
			c.places[family] = max(c.places[family], placeBefore(r.Priority))
		}
		return nil
	})
	for _, i := range owned {
		i.Rule = c.places[i.Prefix].trade(i.Rule)
		items[i] = netip.Addr{}
	}
	if errors.Is(err, unix.EAFNOSUPPORT) { // no IPv6, no rules; those of IPv4 come first
		return nil
	}
	return err
}

// ignoreMissing turns the error of deleting a missing object into success.
func ignoreMissing(err error) error {
	for _, errno := range []unix.Errno{unix.ENOENT, unix.ESRCH, unix.EADDRNOTAVAIL, unix.ENODEV} {
		if errors.Is(err, errno) {
			return nil
		}
	}
	return err
}
