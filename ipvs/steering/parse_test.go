package steering

import (
	"encoding/binary"
	"net/netip"
	"slices"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

func attr(typ uint16, data ...byte) []byte {
	p := binary.NativeEndian.AppendUint16(nil, uint16(unix.SizeofNlAttr+len(data)))
	p = binary.NativeEndian.AppendUint16(p, typ)
	p = append(p, data...)
	return append(p, make([]byte, -len(data)&3)...)
}

func number(v uint32) []byte { return binary.NativeEndian.AppendUint32(nil, v) }

// linkMessage is struct ifinfomsg and attributes of a link that is right, with index 7.
func linkMessage(name, kind string, flags uint32, genMode byte) []byte {
	return slices.Concat([]byte{unix.AF_UNSPEC, 0, 0, 0}, number(7), number(flags), number(0),
		attr(unix.IFLA_IFNAME, append([]byte(name), 0)...),
		attr(unix.IFLA_LINKINFO, attr(unix.IFLA_INFO_KIND, []byte(kind)...)...),
		attr(unix.IFLA_AF_SPEC, append(attr(unix.AF_INET, 0, 0, 0, 0), attr(unix.AF_INET6, attr(addrGenModeAttr, genMode)...)...)...))
}

func TestParseLink(t *testing.T) {
	const up = unix.IFF_UP | unix.IFF_NOARP
	tests := []struct {
		name    string
		message []byte
		right   bool
	}{
		{"right", linkMessage(LinkName, "dummy", up, addrGenModeNone), true},
		{"another type", linkMessage(LinkName, "veth", up, addrGenModeNone), false},
		{"down", linkMessage(LinkName, "dummy", unix.IFF_NOARP, addrGenModeNone), false},
		{"with ARP", linkMessage(LinkName, "dummy", unix.IFF_UP, addrGenModeNone), false},
		{"with link-local addresses", linkMessage(LinkName, "dummy", up, 0), false},
		{"no IPv6", slices.Concat([]byte{0, 0, 0, 0}, number(7), number(up), number(0), attr(unix.IFLA_LINKINFO, attr(unix.IFLA_INFO_KIND, []byte("dummy")...)...)), true},
	}
	for _, tt := range tests {
		l, err := parseLink(tt.message)
		if err != nil || l.inSync() != tt.right || l.index != 7 {
			t.Errorf("%s: %+v, %v; want index 7, right %t", tt.name, l, err, tt.right)
		}
	}
}

func routeMessage(r route) []byte {
	family := byte(unix.AF_INET)
	if r.prefix.Addr().Is6() {
		family = unix.AF_INET6
	}
	p := slices.Concat([]byte{family, byte(r.prefix.Bits()), 0, 0, 0, r.protocol, r.scope, r.typ, 0, 0, 0, 0},
		attr(unix.RTA_TABLE, number(r.table)...), attr(unix.RTA_OIF, number(r.oif)...))
	if r.prefix.Bits() > 0 {
		p = append(p, attr(unix.RTA_DST, r.prefix.Addr().AsSlice()...)...)
	}
	if r.source.IsValid() {
		p = append(p, attr(unix.RTA_PREFSRC, r.source.AsSlice()...)...)
	}
	if r.gateway {
		p = append(p, attr(unix.RTA_GATEWAY, 10, 0, 0, 1)...)
	}
	return p
}

func TestParseRoute(t *testing.T) {
	const link = 7
	none, node, node6 := netip.Addr{}, netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("2001:db8::1")
	local, local6 := item(Local, "10.96.0.0/12"), item(Local, "fd00:96::/108")
	refuse, refuse6 := item(Refuse, "255.255.255.254/32"), item(Refuse, "1ff::fffe/128")
	last, divert, divert6 := item(LastRoute, "2001:db8::7/128"), item(Divert, "203.0.113.7/32"), item(Divert, "2001:db8::7/128")
	with := func(i Item, change func(*route)) route {
		r := i.route(link, none)
		change(&r)
		return r
	}
	tests := []struct {
		name  string
		route route
		want  Item // or the zero Item
	}{
		{"a local prefix", local.route(link, node), local},
		{"a local prefix without source", local.route(link, none), local},
		{"a local prefix of IPv6", local6.route(link, node6), local6},
		{"a route to what is refused", refuse.route(link, none), refuse},
		{"a route to what is refused, IPv6", refuse6.route(link, none), refuse6},
		{"a last route", last.route(link, none), last},
		{"a diverted address", divert.route(link, none), divert},
		{"a diverted address of IPv6", divert6.route(link, none), divert6},
		{"a last route of whomever", with(last, func(r *route) { r.protocol = 3 }), last},
		{"a diverted address of whomever", with(divert, func(r *route) { r.protocol = 3 }), divert},
		{"a local prefix of another program", with(local, func(r *route) { r.protocol = 3 }), Item{}},
		{"a local address of the kernel", with(local, func(r *route) { r.protocol = unix.RTPROT_KERNEL }), Item{}},
		{"a local prefix in another table", with(local, func(r *route) { r.table = 100 }), Item{}},
		{"a local prefix on another link", with(local, func(r *route) { r.oif = 8 }), Item{}},
		{"a local prefix with a gateway", with(local, func(r *route) { r.gateway = true }), Item{}},
		{"a route that rejects", with(refuse, func(r *route) { r.typ = unix.RTN_UNREACHABLE }), Item{}},
		{"a local prefix of another scope", with(local, func(r *route) { r.scope = unix.RT_SCOPE_UNIVERSE }), Item{}},
		{"a diverted address that is not local", with(divert, func(r *route) { r.typ = unix.RTN_UNICAST }), Item{}},
		{"a diverted address on the loopback link", with(divert, func(r *route) { r.oif = 1 }), Item{}},
		{"a diverted address with a source", with(divert, func(r *route) { r.source = node }), Item{}},
	}
	for _, tt := range tests {
		r, err := parseRoute(routeMessage(tt.route))
		if err != nil || r != tt.route {
			t.Errorf("%s: parsed %+v, %v, want %+v", tt.name, r, err, tt.route)
		}
		got, ok := r.item(link)
		if ok != (tt.want != Item{}) || ok && got != tt.want {
			t.Errorf("%s: item %v, %t, want %v", tt.name, got, ok, tt.want)
		}
	}
	if _, ok := local.route(0, none).item(0); ok {
		t.Error("a route over no link is right")
	}
}

func addressMessage(family, bits byte, link uint32, attrs ...[]byte) []byte {
	return slices.Concat([]byte{family, bits, 0, 0}, number(link), slices.Concat(attrs...))
}

func TestParseAddress(t *testing.T) {
	a4, b4 := []byte{10, 0, 0, 1}, []byte{10, 0, 0, 2}
	a6 := netip.MustParseAddr("fd00::1").AsSlice()
	tests := []struct {
		name    string
		message []byte
		want    netip.Prefix
	}{
		{"IPv4", addressMessage(unix.AF_INET, 24, 7, attr(unix.IFA_ADDRESS, a4...), attr(unix.IFA_LOCAL, a4...)), netip.MustParsePrefix("10.0.0.1/24")},
		{"IPv4 with a peer", addressMessage(unix.AF_INET, 32, 7, attr(unix.IFA_ADDRESS, b4...), attr(unix.IFA_LOCAL, a4...)), netip.MustParsePrefix("10.0.0.1/32")},
		{"IPv6", addressMessage(unix.AF_INET6, 128, 7, attr(unix.IFA_ADDRESS, a6...)), netip.MustParsePrefix("fd00::1/128")},
	}
	for _, tt := range tests {
		link, got, err := parseAddress(tt.message)
		if err != nil || link != 7 || got != tt.want {
			t.Errorf("%s: link %d, %v, %v, want %v", tt.name, link, got, err, tt.want)
		}
	}
	bad := [][]byte{nil, {2}, addressMessage(unix.AF_INET, 24, 7), addressMessage(unix.AF_INET, 33, 7, attr(unix.IFA_LOCAL, a4...))}
	for _, p := range bad {
		if _, got, err := parseAddress(p); err == nil {
			t.Errorf("% x: %v, no error", p, got)
		}
	}
}

func notification(event uint16, port uint32, data []byte) syscall.NetlinkMessage {
	return syscall.NetlinkMessage{Header: syscall.NlMsghdr{Type: event, Pid: port}, Data: data}
}

// TestChanges follows kube-ipvs0 through a row of notifications.
func TestChanges(t *testing.T) {
	w := newWatcher()
	a4 := attr(unix.IFA_LOCAL, 10, 0, 0, 1)
	on, off := addressMessage(unix.AF_INET, 32, 7, a4), addressMessage(unix.AF_INET, 32, 8, a4)
	on6 := addressMessage(unix.AF_INET6, 128, 7, attr(unix.IFA_ADDRESS, netip.MustParseAddr("fd00::1").AsSlice()...))
	ours := item(Local, "10.96.0.0/12").route(7, netip.Addr{})
	theirs := ours
	theirs.protocol = 3
	astray := ours
	astray.table = 100
	last := Item{Kind: LastRoute, Prefix: ours.prefix}.route(7, netip.Addr{})
	last.protocol = 3
	link := linkMessage(LinkName, "dummy", unix.IFF_UP, addrGenModeNone)
	tests := []struct {
		name  string
		event uint16
		data  []byte
		owned bool
	}{
		{"an address before the link is known", unix.RTM_NEWADDR, on, false},
		{"another link", unix.RTM_NEWLINK, linkMessage("eth0", "", unix.IFF_UP, 0), false},
		{"the link", unix.RTM_NEWLINK, link, true},
		{"an address on it comes", unix.RTM_NEWADDR, on, true},
		{"an address on it goes", unix.RTM_DELADDR, on, true},
		{"an IPv6 address on it comes", unix.RTM_NEWADDR, on6, false},
		{"an IPv6 address on it goes", unix.RTM_DELADDR, on6, true},
		{"an address elsewhere", unix.RTM_DELADDR, off, false},
		{"our route", unix.RTM_DELROUTE, routeMessage(ours), true},
		{"a stranger's route", unix.RTM_DELROUTE, routeMessage(theirs), false},
		{"our protocol in another table", unix.RTM_DELROUTE, routeMessage(astray), true},
		{"any route in our table", unix.RTM_NEWROUTE, routeMessage(last), true},
		{"our rule", unix.RTM_DELRULE, ruleMessage(Rule{Priority: 6, Table: DivertTable}, RouteProtocol), true},
		{"a rule of whomever to our table", unix.RTM_NEWRULE, ruleMessage(Rule{Priority: 6, Table: DivertTable}, 3), true},
		{"our rule that goes on", unix.RTM_DELRULE, ruleMessage(Rule{Priority: 4, Goto: 7}, RouteProtocol), true},
		{"another rule", unix.RTM_DELRULE, ruleMessage(Rule{Priority: 94, Table: unix.RT_TABLE_MAIN}, 3), false},
		{"another rule that goes on", unix.RTM_DELRULE, ruleMessage(Rule{Priority: 94, Goto: 97}, 3), false},
		{"another rule that comes before ours", unix.RTM_DELRULE, ruleMessage(Rule{Priority: 93, Table: unix.RT_TABLE_MAIN}, 3), true},
		{"another rule that ours cannot come before", unix.RTM_NEWRULE, ruleMessage(Rule{Priority: 3, Table: unix.RT_TABLE_MAIN}, 3), false},
		{"the link gets another name", unix.RTM_NEWLINK, linkMessage("other", "dummy", unix.IFF_UP, addrGenModeNone), true},
		{"an address on what had the name", unix.RTM_DELADDR, on, false},
		{"the link is there again", unix.RTM_NEWLINK, link, true},
		{"the link goes", unix.RTM_DELLINK, link, true},
		{"an address on what had the index", unix.RTM_NEWADDR, on, false},
	}
	for _, tt := range tests {
		c, err := w.parse(notification(tt.event, 9, tt.data))
		if err != nil || c.owned() != tt.owned || c.Port != 9 {
			t.Errorf("%s: %+v, %v, want owned %t", tt.name, c, err, tt.owned)
		}
	}
	if _, err := w.parse(notification(unix.RTM_NEWADDR, 0, []byte{2})); err == nil {
		t.Error("a cut message is no error")
	}
	if w.link != 0 {
		t.Errorf("at the end the link is %d, want none", w.link)
	}
}

// TestChangesOfAddresses follows addresses of other links than kube-ipvs0, whose index is 7.
func TestChangesOfAddresses(t *testing.T) {
	const comes, goes = unix.RTM_NEWADDR, unix.RTM_DELADDR
	w := newWatcher()
	for _, tt := range []struct {
		name  string
		event uint16
		link  uint32
		addr  string
		same  bool
	}{
		{"kube-ipvs0 comes", unix.RTM_NEWLINK, 7, "", false},
		{"an address comes", comes, 1, "10.0.0.1/24", false},
		{"its lifetime or its flags change", comes, 1, "10.0.0.1/24", true},
		{"another one comes", comes, 1, "10.0.0.2/24", false},
		{"the first comes to another link", comes, 2, "10.0.0.1/32", true},
		{"it goes from one of the two", goes, 1, "10.0.0.1/24", true},
		{"it goes from the other", goes, 2, "10.0.0.1/32", false},
		{"it comes again", comes, 1, "10.0.0.1/24", false},
		{"one that was there before us is renewed", comes, 1, "2001:db8::1/64", false},
		{"it is renewed again", comes, 1, "2001:db8::1/64", true},
		{"one that was there before us goes", goes, 1, "2001:db8::2/64", false},
		{"one goes that another link has for all that is known", goes, 3, "2001:db8::1/64", true},
		{"the only one that is known to have it", goes, 1, "2001:db8::1/64", false},
		{"one of a peer's comes", comes, 4, "10.0.0.9/32", false},
		{"the same with another peer", comes, 4, "10.0.0.9/32", true},
		{"one of the two goes: what is known is too little", goes, 4, "10.0.0.9/32", false},
		{"the other goes", goes, 4, "10.0.0.9/32", false},
		{"a service address", comes, 7, "10.0.0.1/32", false},
		{"it goes", goes, 7, "10.0.0.1/32", false},
		{"kube-ipvs0 goes", unix.RTM_DELLINK, 7, "", false},
		{"after which nothing is known", comes, 1, "10.0.0.1/24", false},
	} {
		message, want := linkMessage(LinkName, "dummy", unix.IFF_UP, addrGenModeNone), netip.Addr{}
		if tt.addr != "" {
			p := netip.MustParsePrefix(tt.addr)
			want = p.Addr()
			family, typ := byte(unix.AF_INET), uint16(unix.IFA_LOCAL)
			if want.Is6() {
				family, typ = unix.AF_INET6, unix.IFA_ADDRESS
			}
			message = addressMessage(family, byte(p.Bits()), tt.link, attr(typ, want.AsSlice()...))
		}
		c, err := w.parse(notification(tt.event, 0, message))
		if err != nil || c.Same != tt.same || c.Addr != want {
			t.Errorf("%s: %+v, %v; want the same address %t", tt.name, c, err, tt.same)
		}
	}
}

// FuzzParse parses any bytes as everything that the kernel sends.
func FuzzParse(f *testing.F) {
	f.Add(uint16(unix.RTM_NEWLINK), linkMessage(LinkName, "dummy", unix.IFF_UP, addrGenModeNone))
	f.Add(uint16(unix.RTM_NEWROUTE), routeMessage(item(Local, "10.96.0.0/12").route(7, netip.MustParseAddr("192.0.2.1"))))
	f.Add(uint16(unix.RTM_DELROUTE), routeMessage(item(Divert, "2001:db8::7/128").route(7, netip.Addr{})))
	for _, i := range Policies(v4, 0x1000, 0x10) {
		f.Add(uint16(unix.RTM_NEWRULE), ruleMessage(i.Rule, RouteProtocol))
	}
	f.Add(uint16(unix.RTM_NEWADDR), addressMessage(unix.AF_INET, 32, 7, attr(unix.IFA_LOCAL, 10, 0, 0, 1)))
	f.Fuzz(func(t *testing.T, event uint16, p []byte) {
		w := newWatcher()
		w.link = 7
		if c, err := w.parse(notification(event, 0, p)); err == nil {
			_ = c.owned()
		}
		if l, err := parseLink(p); err == nil {
			_ = l.inSync()
		}
		if _, a, err := parseAddress(p); err == nil && !a.IsValid() {
			t.Errorf("address %v", a)
		}
		if r, err := parseRoute(p); err == nil {
			if i, ok := r.item(7); ok && !i.Prefix.IsValid() {
				t.Errorf("item %v", i)
			}
		}
		if r, ours, err := parseRule(p); err == nil && ours && r.Table != 0 && r.Goto != 0 && p[7] == goToAction {
			t.Errorf("rule %v goes on and looks up a table", r)
		}
	})
}
