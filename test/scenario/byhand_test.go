package scenario

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"kube-ipvs/internal/inet"
	"kube-ipvs/ipset"
	"kube-ipvs/ipvs"
	"kube-ipvs/ipvs/steering"
)

// parseCommands reads what somebody types at the node, a line each, in the form in which operations print:
//
//	ipvsadm -A -t 10.96.0.10:80 -s rr      (and -E, -D)
//	ipvsadm -a -t 10.96.0.10:80 -r 10.244.1.2:8080 -m -w 1      (and -e, -d)
//	ipset create OTHER hash:ip
//	ipset add KIPVS-RANGED 10.96.0.10,tcp:80      (and del)
//	ipset destroy KIPVS-OWNED
//	ip route add local 10.99.0.0/16 dev kube-ipvs0 table local src 192.168.0.1      (and del)
//	ip route add 198.18.0.10/32 dev kube-ipvs0 table 7599      (and del)
//	ip rule add pref 92 fwmark 0x1000/0x1000 lookup 7598      (and del)
//	ip link del kube-ipvs0
func parseCommands(text string) ([]command, error) {
	var out []command
	for line := range lines(text) {
		c, err := parseCommand(strings.Fields(line))
		if err != nil {
			return nil, fmt.Errorf("%q: %w", line, err)
		}
		out = append(out, c)
	}
	return out, nil
}

func parseCommand(words []string) (c command, err error) {
	defer func() { // the author of a scenario is told what is wrong in it
		if r := recover(); r != nil {
			err = fmt.Errorf("not understood: %v", r)
		}
	}()
	switch words[0] {
	case "ipvsadm":
		op := ipvsOp(words[1:])
		c.ipvs = &op
	case "ipset":
		return ipsetCommand(words[1:]), nil
	case "ip":
		op := vipOp(words[1:])
		c.steering = &op
	default:
		return c, fmt.Errorf("no command that can be typed here")
	}
	return c, nil
}

func ipvsOp(words []string) ipvs.Op {
	verbs := map[string]ipvs.Verb{
		"-A": ipvs.AddServer, "-E": ipvs.SetServer, "-D": ipvs.DelServer,
		"-a": ipvs.AddReal, "-e": ipvs.SetReal, "-d": ipvs.DelReal,
	}
	op := ipvs.Op{Verb: verbs[words[0]], Key: serverKey(words[1], words[2])}
	if slices.Contains(words, "-6") {
		op.Key = ipvs.MarkKey(op.Key.Mark, netip.IPv6Unspecified())
	}
	for i, w := range words {
		switch w {
		case "-s":
			op.Server.Scheduler = words[i+1]
		case "-r":
			op.Addr = netip.MustParseAddrPort(words[i+1])
		case "-w":
			op.Real.Weight = number(words[i+1])
		}
	}
	return op
}

func serverKey(kind, at string) ipvs.Key {
	switch kind {
	case "-f":
		return ipvs.MarkKey(number(at), netip.IPv4Unspecified())
	case "-u":
		return ipvs.AddrKey(inet.UDP, netip.MustParseAddrPort(at))
	case "--sctp-service":
		return ipvs.AddrKey(inet.SCTP, netip.MustParseAddrPort(at))
	}
	return ipvs.AddrKey(inet.TCP, netip.MustParseAddrPort(at))
}

func number(s string) uint32 {
	n, err := strconv.ParseUint(s, 0, 32)
	if err != nil {
		panic(err)
	}
	return uint32(n)
}

func ipsetCommand(words []string) command {
	set, ours := definitions()[words[1]]
	if !ours {
		set = ipset.Set{Name: words[1], Type: ipset.HashIP, Family: inet.IPv4}
	}
	switch words[0] {
	case "create":
		return command{make: &set}
	case "destroy":
		return command{gone: words[1]}
	}
	op := ipset.Op{Verb: ipset.Add, Set: set, Member: member(words[2])}
	if words[0] == "del" {
		op.Verb = ipset.Del
	}
	if i := slices.Index(words, "skbmark"); i > 0 {
		value, mask, _ := strings.Cut(words[i+1], "/")
		op.Mark = ipset.Mark{Value: number(value), Mask: number(cmp.Or(mask, "0xffffffff"))}
	}
	return command{set: &op}
}

func member(text string) ipset.Member {
	part := strings.Split(text, ",")
	m := ipset.Member{Addr: netip.MustParseAddr(part[0])}
	if len(part) > 1 {
		proto, port, _ := strings.Cut(part[1], ":")
		m.Proto, m.Port = map[string]inet.Protocol{"tcp": inet.TCP, "udp": inet.UDP, "sctp": inet.SCTP}[proto], uint16(number(port))
	}
	if len(part) > 2 && strings.Contains(part[2], "/") {
		m.Other = netip.MustParsePrefix(part[2])
	} else if len(part) > 2 {
		a := netip.MustParseAddr(part[2])
		m.Other = netip.PrefixFrom(a, a.BitLen())
	}
	return m
}

func vipOp(words []string) steering.Op {
	op := steering.Op{Verb: map[string]steering.Verb{"add": steering.Add, "del": steering.Del}[words[1]]}
	switch words[0] {
	case "link":
		op.Item.Kind = steering.Link
	case "route":
		op.Item, op.Source = route(words[2:])
	case "rule":
		op.Item = steering.Item{Kind: steering.Policy, Prefix: netip.MustParsePrefix("0.0.0.0/0"), Rule: rule(words[2:])}
	case "address":
		op.Item = steering.Item{Kind: steering.Address, Prefix: netip.MustParsePrefix(words[2])}
	default:
		panic(words[0])
	}
	return op
}

// route is what stands behind "ip route add", with its source.
func route(words []string) (i steering.Item, source netip.Addr) {
	local := words[0] == "local"
	if local {
		words = words[1:]
	}
	i.Prefix = netip.MustParsePrefix(words[0])
	table := ""
	for j, w := range words {
		switch w {
		case "table":
			table = words[j+1]
		case "src":
			source = netip.MustParseAddr(words[j+1])
		}
	}
	kinds := map[string]steering.Kind{
		"true local": steering.Local, "false local": steering.Refuse, "true " + strconv.Itoa(steering.DivertTable): steering.Divert, "false " + strconv.Itoa(steering.LastResortTable): steering.LastRoute,
	}
	kind, ok := kinds[fmt.Sprint(local, " ", table)]
	if !ok {
		panic("no such route")
	}
	i.Kind = kind
	return i, source
}

// rule is what stands behind "ip rule add".
func rule(words []string) (r steering.Rule) {
	for j := 0; j+1 < len(words); j += 2 {
		value := words[j+1]
		switch words[j] {
		case "pref":
			r.Priority = number(value)
		case "iif":
			r.Own = value == "lo"
		case "fwmark":
			mark, mask, _ := strings.Cut(value, "/")
			r.Mark, r.Mask = number(mark), number(mask)
		case "lookup":
			r.Table = number(value)
		case "goto":
			r.Goto = number(value)
		default:
			panic(words[j])
		}
	}
	return r
}

// ours says that what the command makes or changes belongs to us: it is in a set of ours, or in the range of cluster IPs.
func (c command) ours() bool {
	switch {
	case c.ipvs != nil:
		return c.ipvs.Key.Mark == 0 && !netip.MustParsePrefix("192.0.2.0/24").Contains(c.ipvs.Key.Addr)
	case c.set != nil:
		return strings.HasPrefix(c.set.Set.Name, "KIPVS-")
	case c.make != nil:
		return strings.HasPrefix(c.make.Name, "KIPVS-")
	}
	return true
}
