package main

import (
	"net/netip"
	"slices"
	"strings"
)

// A listed is a virtual server as ipvsadm lists it.
type listed struct {
	server
	lines []string
}

// parse reads what "ipvsadm -Ln" prints: a line for each virtual server, such as
//
//	TCP  10.96.10.2:6711 rr persistent 10800
//
// and below it one for each real server: "-> ADDRESS:PORT Masq WEIGHT ACTIVE INACTIVE". Real servers get the names of
// hosts.
func parse(listing string, name func(netip.Addr) string) []listed {
	var out []listed
	for line := range strings.Lines(listing) {
		line = strings.TrimRight(line, " \n")
		fields := strings.Fields(line)
		switch {
		case len(fields) >= 3 && slices.Contains([]string{"TCP", "UDP", "SCTP", "FWM"}, fields[0]):
			at, how := fields[0]+" "+fields[1], strings.Join(fields[2:], " ")
			out = append(out, listed{server{at: at, how: how}, []string{line}})
		case len(fields) == 6 && fields[0] == "->" && len(out) > 0:
			last := &out[len(out)-1]
			last.lines = append(last.lines, line)
			last.reals = append(last.reals, realName(fields, name))
		}
	}
	return out
}

// realName is the name of a real server's host, and its weight if that is not 1.
func realName(fields []string, name func(netip.Addr) string) string {
	text := fields[1]
	if at, err := netip.ParseAddrPort(text); err == nil {
		text = name(at.Addr())
	}
	if weight := fields[3]; weight != "1" {
		text += " weight " + weight
	}
	return text
}

// find returns the virtual server that is to be as wanted, if it is in the table.
func find(table []listed, want server) (listed, bool) {
	i := slices.IndexFunc(table, func(l listed) bool { return l.at == want.at })
	if i < 0 {
		return listed{}, false
	}
	return table[i], true
}

// is says that the virtual server is as wanted.
func (l listed) is(want server) bool {
	reals, wanted := slices.Sorted(slices.Values(l.reals)), slices.Sorted(slices.Values(want.reals))
	return l.how == want.how && slices.Equal(reals, wanted)
}
