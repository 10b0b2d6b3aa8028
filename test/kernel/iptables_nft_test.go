//go:build kernel && nft

package kernel

import (
	"testing"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"

	"kube-ipvs/internal/inet"
)

// User-mode Linux has no nft tables for IP: see the Makefile's target nft.
func TestIptablesNFT(t *testing.T) { iptablesConforms(t, "nft", "legacy") }

func TestIptablesOfKubeProxyNFT(t *testing.T) {
	kubeProxyRemoved(t, "nft", func(f inet.Family) {
		table := &nftables.Table{Name: "kube-proxy", Family: map[inet.Family]nftables.TableFamily{inet.IPv4: nftables.TableFamilyIPv4, inet.IPv6: nftables.TableFamilyIPv6}[f]}
		c := new(nftables.Conn)
		c.AddTable(table)
		services := c.AddChain(&nftables.Chain{Name: "services", Table: table})
		prerouting := c.AddChain(&nftables.Chain{
			Name: "nat-prerouting", Table: table, Type: nftables.ChainTypeNAT, Hooknum: nftables.ChainHookPrerouting, Priority: nftables.ChainPriorityNATDest,
		})
		c.AddRule(&nftables.Rule{Table: table, Chain: prerouting, Exprs: []expr.Any{&expr.Verdict{Kind: expr.VerdictJump, Chain: services.Name}}})
		if err := c.Flush(); err != nil {
			t.Fatal(err)
		}
	})
}
