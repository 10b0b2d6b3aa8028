package config

import (
	"net/netip"
	"slices"
	"strings"
	"testing"
)

func TestNodeName(t *testing.T) {
	for _, tt := range []struct{ override, host, want string }{
		{"", "Node1", "node1"},
		{"", " node1.example.com\n", "node1.example.com"},
		{" Other ", "node1", "other"},
		{" ", "node1", ""}, // an error, as in kube-proxy
		{"", "", ""},
	} {
		got, err := NodeName(tt.override, tt.host)
		if got != tt.want || (err != nil) != (tt.want == "") {
			t.Errorf("NodeName(%q, %q) = %q, %v, want %q", tt.override, tt.host, got, err, tt.want)
		}
	}
}

// addrs parses addresses, separated by blanks.
func addrs(text string) []netip.Addr {
	var out []netip.Addr
	for _, s := range strings.Fields(text) {
		out = append(out, netip.MustParseAddr(s))
	}
	return out
}

func TestNodeIPs(t *testing.T) {
	for _, tt := range []struct{ name, bind, node, want string }{
		{"a Node of two families", "0.0.0.0", "10.0.0.1 fd00::1", "10.0.0.1 fd00::1"},
		{"the other family first", "0.0.0.0", "fd00::1 10.0.0.1", "fd00::1 10.0.0.1"},
		{"the first of each family", "::", "10.0.0.1 10.0.0.2 fd00::1 fd00::2", "10.0.0.1 fd00::1"},
		{"one family", "0.0.0.0", "10.0.0.1", "10.0.0.1 ::1"},
		{"one family, IPv6", "0.0.0.0", "fd00::1", "fd00::1 127.0.0.1"},
		{"no Node", "0.0.0.0", "", "127.0.0.1 ::1"},
		{"a bind address instead", "10.9.9.9", "10.0.0.1 fd00::1", "10.9.9.9 fd00::1"},
		{"a bind address makes its family the primary one", "fd00::9", "10.0.0.1 fd00::1", "fd00::9 10.0.0.1"},
		{"a bind address and no Node", "fd00::9", "", "fd00::9 127.0.0.1"},
	} {
		got := NodeIPs(netip.MustParseAddr(tt.bind), addrs(tt.node))
		if want := addrs(tt.want); !slices.Equal(got[:], want) {
			t.Errorf("%s: %v, want %v", tt.name, got, want)
		}
	}
}

func TestNodePortsSelect(t *testing.T) {
	const all = "10.0.0.1 10.0.0.2 192.168.0.1 fd00::1 fd00::2"
	for _, tt := range []struct{ name, keywords, node, want string }{
		{"none given", "", "10.0.0.1", all},
		{"all", "all", "10.0.0.1", all},
		{"the Node's own", "primary", "10.0.0.1 fd00::1", "10.0.0.1 fd00::1"},
		{"a Node of one family restricts that family only", "primary", "10.0.0.1", "10.0.0.1 fd00::1 fd00::2"},
		{"no Node yet", "primary", "", ""},
		{"ranges of both families", "10.0.0.0/24,fd00::2/128", "10.0.0.1", "10.0.0.1 10.0.0.2 fd00::2"},
		{"a range of one family restricts that family only", "192.168.0.0/16", "10.0.0.1", "192.168.0.1 fd00::1 fd00::2"},
		{"ranges that overlap", "10.0.0.0/24,10.0.0.1/32", "10.0.0.1", "10.0.0.1 10.0.0.2 fd00::1 fd00::2"},
		{"a mixture", "primary,192.168.0.0/16", "10.0.0.1 fd00::1", "10.0.0.1 192.168.0.1 fd00::1"},
		{"loopback only", "localhost", "10.0.0.1", ""},
		{"a range without an address", "203.0.113.0/24,2001:db8::/32", "10.0.0.1", ""},
	} {
		cfg, _, err := parsed(t, "--nodeport-addresses="+tt.keywords).Load()
		if err != nil {
			t.Fatal(err)
		}
		got := cfg.NodePorts.Select(addrs(all), NodeIPs(cfg.BindAddress, addrs(tt.node)))
		if want := addrs(tt.want); !slices.Equal(got, want) {
			t.Errorf("%s: %v, want %v", tt.name, got, want)
		}
		if cfg.NodePorts.Everywhere() != (tt.keywords == "") {
			t.Errorf("%s: everywhere: %t", tt.name, cfg.NodePorts.Everywhere())
		}
	}
}
