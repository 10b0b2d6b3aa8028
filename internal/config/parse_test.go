package config

import "testing"

// TestParse reads addresses as kube-proxy does.
func TestParse(t *testing.T) {
	for text, want := range map[string]string{
		"10.0.0.0/8": "10.0.0.0/8", " 10.1.2.3/8 ": "10.0.0.0/8", "010.0.0.0/8": "10.0.0.0/8", "fd00::1/64": "fd00::/64",
		"::ffff:10.1.0.0/112": "10.1.0.0/16", "::/0": "::/0",
		"10.0.0.0": "", "10.0.0.0/33": "", "": "", "/": "", "fe80::%eth0/64": "",
	} {
		p, ok := parsePrefix(text)
		if ok != (want != "") || ok && p.String() != want {
			t.Errorf("parsePrefix(%q) = %v, %t, want %q", text, p, ok, want)
		}
	}
	for text, want := range map[string]string{
		"10.0.0.1:80": "10.0.0.1:80", "[::1]:80": "[::1]:80", "[::ffff:10.0.0.1]:80": "10.0.0.1:80", "010.0.0.1:80": "10.0.0.1:80",
		"10.0.0.1": "", "10.0.0.1:0": "", "10.0.0.1:65536": "", "10.0.0.1:http": "", "localhost:80": "", ":80": "", "": "", "[fe80::1%eth0]:80": "",
	} {
		a, ok := parseAddrPort(text)
		if ok != (want != "") || ok && a.String() != want {
			t.Errorf("parseAddrPort(%q) = %v, %t, want %q", text, a, ok, want)
		}
	}
}
