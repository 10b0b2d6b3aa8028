package check

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"kube-ipvs/ipvs/steering"
)

// A RoutingRule is a rule of the routing policy.
type RoutingRule struct {
	Text     string // as ip-rule(8) takes it
	Priority int
	Table    int
	Mask     uint32 // of the firewall mark; 0: none
	Ours     bool
}

// A routingRoute is a route in a table of kube-ipvs.
type routingRoute struct {
	text string
	ours bool
}

type routingFacts struct {
	rules  []RoutingRule
	routes []routingRoute
}

func lookRouting(context.Context, *Node, Wanted) (routingFacts, error) { return readRouting() }

// readRouting reads the rules of both families, and the routes in owned tables.
func readRouting() (routingFacts, error) {
	var f routingFacts
	for _, family := range []int{netlink.FAMILY_V4, netlink.FAMILY_V6} {
		rules, err := netlink.RuleList(family)
		if errors.Is(err, unix.EAFNOSUPPORT) {
			continue
		}
		if err != nil {
			return f, fmt.Errorf("routing rules: %w", err)
		}
		for _, r := range rules {
			f.rules = append(f.rules, routingRule(r, family))
		}
		for table := steering.FirstTable; table <= steering.LastResortTable; table++ {
			routes, err := netlink.RouteListFiltered(family, &netlink.Route{Table: table}, netlink.RT_FILTER_TABLE)
			if err != nil && !errors.Is(err, unix.ENOENT) {
				return f, fmt.Errorf("routes of table %d: %w", table, err)
			}
			for _, r := range routes {
				f.routes = append(f.routes, routingRoute{
					text: fmt.Sprintf("%s in table %d", destination(r.Dst), table), ours: int(r.Protocol) == steering.RouteProtocol,
				})
			}
		}
	}
	return f, nil
}

func destination(n *net.IPNet) string {
	if n == nil {
		return "default"
	}
	return n.String()
}

func routingRule(r netlink.Rule, family int) RoutingRule {
	out := RoutingRule{Priority: r.Priority, Table: r.Table, Ours: r.Protocol == steering.RouteProtocol}
	if r.Mask != nil {
		out.Mask = *r.Mask
	}
	words := []string{"pref", fmt.Sprint(r.Priority)}
	if r.Src != nil {
		words = append(words, "from", r.Src.String())
	}
	if r.Dst != nil {
		words = append(words, "to", r.Dst.String())
	}
	if r.IifName != "" {
		words = append(words, "iif", r.IifName)
	}
	if out.Mask != 0 {
		words = append(words, "fwmark", fmt.Sprintf("%#x/%#x", r.Mark, out.Mask))
	}
	if r.Goto > 0 {
		words = append(words, "goto", fmt.Sprint(r.Goto))
	} else {
		words = append(words, "lookup", fmt.Sprint(r.Table))
	}
	out.Text = strings.Join(words, " ")
	if family == netlink.FAMILY_V6 {
		out.Text = "-6 " + out.Text
	}
	return out
}

// judgeRouting finds rules of others that come before those of kube-ipvs, and rules and routes of others in its tables.
func judgeRouting(f routingFacts, _ Wanted) []Finding {
	var out []Finding
	for _, r := range f.rules {
		switch {
		case r.Ours || r.Priority == 0:
		case steering.IsOwned(uint32(r.Table)):
			out = append(out, Finding{Severity: Error, Found: fmt.Sprintf("somebody's rule looks up a table of kube-ipvs, which removes it: %s", r.Text),
				Do: fmt.Sprintf("let the other agent use another table than %d to %d", steering.FirstTable, steering.LastResortTable)})
		case steering.StaysBefore(uint32(r.Priority)):
			out = append(out, Finding{Severity: Warning, Found: fmt.Sprintf("this rule comes before all that kube-ipvs can have, so packets to external addresses may go another way: %s", r.Text),
				Do: "give it a priority of 6 or more: kube-ipvs then puts its own before it"})
		case steering.ComesBefore(uint32(r.Priority)):
			out = append(out, Finding{Severity: Note, Found: fmt.Sprintf("kube-ipvs puts its own rules before this one: %s", r.Text)})
		}
	}
	for _, r := range f.routes {
		if !r.ours {
			out = append(out, Finding{Severity: Error, Found: "somebody's route is in a table of kube-ipvs, which removes it: " + r.text,
				Do: fmt.Sprintf("let the other agent use another table than %d to %d", steering.FirstTable, steering.LastResortTable)})
		}
	}
	return orOK(out, fmt.Sprintf("no rule of others comes first, and tables %d to %d are free", steering.FirstTable, steering.LastResortTable))
}
