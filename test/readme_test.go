package test

import (
	"fmt"
	"net/netip"
	"os"
	"strings"
	"testing"

	"kube-ipvs/internal/inet"
	"kube-ipvs/sync/ipvsmode"
)

// The README says how many iptables rules there are, and shows them as the kernel does.
func TestReadmeShowsTheRules(t *testing.T) {
	text, err := os.ReadFile("../README.md")
	if err != nil {
		t.Fatal(err)
	}
	readme := string(text)
	cfg := ipvsmode.RulesConfig{Marks: ipvsmode.MarksFor(14), Detector: ipvsmode.Detector{Prefixes: []netip.Prefix{
		netip.MustParsePrefix("10.244.0.0/16"), netip.MustParsePrefix("fd00:10:244::/48"),
	}}}
	for _, family := range []inet.Family{inet.IPv4, inet.IPv6} {
		want := fmt.Sprintf("The rules are a constant: %d for each family", ipvsmode.Rules(cfg, family).Count())
		if !strings.Contains(readme, want) {
			t.Errorf("README.md does not say %q", want)
		}
	}
	rules := ipvsmode.Rules(cfg, inet.IPv4)
	for _, chain := range rules.Chains {
		for _, rule := range chain.Rules {
			if line := fmt.Sprintf("-A %s %s", chain.Name, rule); !strings.Contains(readme, strings.ReplaceAll(line, "/0x0", "/0")) {
				t.Errorf("README.md does not show %q", line)
			}
		}
	}
	for _, jump := range rules.Jumps {
		if line := fmt.Sprintf("-A %s -j %s", jump.From, jump.To); !strings.Contains(readme, line) {
			t.Errorf("README.md does not show %q", line)
		}
	}
}
