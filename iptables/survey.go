package iptables

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"golang.org/x/sys/unix"

	"kube-ipvs/internal/inet"
	"kube-ipvs/internal/netlink"
)

// A Survey is all rules of a node.
type Survey struct {
	Used    string   // the backend that Open would take, "nft" or "legacy"; empty: no iptables works
	Broken  error    // why none works
	Saved   []Saved  // of both backends, in both families
	NFTable []string // the names of all nft tables with their family, such as "ip kube-proxy"
}

// Saved is the output of one command, such as ip6tables-nft-save.
type Saved struct {
	Backend string
	Family  inet.Family
	Text    string
	Err     error
}

// Look reads all rules of this node, and changes nothing.
func Look(ctx context.Context) (Survey, error) {
	tables, err := nfTables(ctx)
	if err != nil {
		return Survey{}, fmt.Errorf("tables of nft: %w", err)
	}
	s, err := look(ctx, run)
	s.NFTable = tables
	return s, err
}

func look(ctx context.Context, run runner) (Survey, error) {
	var s Survey
	used, err := findByReading(ctx, run)
	if err == nil {
		s.Used = used.Backend()
	} else {
		s.Broken = err
	}
	for _, p := range []*Commands{commands("-nft", true, run), commands("-legacy", false, run)} {
		if used != nil && used.nft == p.nft {
			p = used // the node may have it by its plain name only
		}
		for _, f := range []inet.Family{inet.IPv4, inet.IPv6} {
			text, err := p.save(ctx, f)
			s.Saved = append(s.Saved, Saved{Backend: p.Backend(), Family: f, Text: text, Err: err})
		}
	}
	return s, ctx.Err()
}

// A Rule is one of the rules that a command has printed.
type Rule struct {
	Table, Chain string
	Text         string // after the chain
}

// Target returns the chain or extension that the rule leads to, or "".
func (r Rule) Target() string { return target(r.Text) }

// Rules returns all rules, of others, too.
func (s Saved) Rules() (out []Rule) {
	for l := range linesOf(s.Text) {
		if l.rule != "" {
			out = append(out, Rule{l.table, l.chain, l.rule})
		}
	}
	return out
}

// Unreadable returns the tables that have rules that only nft can express, and so cannot be read or changed by iptables.
func (s Saved) Unreadable() []string { return unreadable(s.Text) }

// nfTables returns the names of all nft tables; none without nf_tables.
func nfTables(ctx context.Context) (names []string, err error) {
	conn, err := netlink.Dial(unix.NETLINK_NETFILTER)
	if errors.Is(err, unix.EPROTONOSUPPORT) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, conn.Close()) }()
	var get netlink.Batch
	get.BeginNetfilter(unix.NFNL_SUBSYS_NFTABLES<<8|unix.NFT_MSG_GETTABLE, unix.NLM_F_DUMP, unix.AF_UNSPEC)
	get.End()
	family := map[byte]string{unix.NFPROTO_INET: "inet", unix.NFPROTO_IPV4: "ip", unix.NFPROTO_IPV6: "ip6", unix.NFPROTO_ARP: "arp", unix.NFPROTO_BRIDGE: "bridge", unix.NFPROTO_NETDEV: "netdev"}
	err = conn.Query(ctx, &get, func(_ uint16, reply []byte) error {
		a := netlink.ParseNetfilter(reply)
		for a.Next() {
			if a.Type() == unix.NFTA_TABLE_NAME {
				names = append(names, family[reply[0]]+" "+a.Text())
			}
		}
		return a.Err()
	})
	if errors.Is(err, unix.EINVAL) || errors.Is(err, unix.EOPNOTSUPP) { // no nf_tables
		return nil, nil
	}
	slices.Sort(names)
	return names, err
}
