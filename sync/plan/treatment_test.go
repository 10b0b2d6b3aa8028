package plan

import (
	"fmt"
	"math/bits"
	"testing"

	"kube-ipvs/ipset"
	"kube-ipvs/ipvs/vip"
)

func ops(items []vip.Item) []string {
	var out []string
	for _, i := range items {
		out = append(out, vip.Op{Item: i}.String())
	}
	return out
}

// The marks of every --iptables-masquerade-bit: three different bits in one half of the mark.
func TestMarks(t *testing.T) {
	for bit := range 32 {
		t.Run(fmt.Sprintf("bit %d", bit), func(t *testing.T) {
			m := MarksFor(bit)
			if m.Masquerade != 1<<bit {
				t.Errorf("masquerade %#x, want bit %d", m.Masquerade, bit)
			}
			for _, one := range []uint32{m.Masquerade, m.Divert, m.Own} {
				if bits.OnesCount32(one) != 1 {
					t.Errorf("%#x in %+x is not one bit", one, m)
				}
			}
			all := m.Masquerade | m.Divert | m.Own
			if got := bits.OnesCount32(all); got != 3 {
				t.Errorf("%d different bits in %+x, want 3", got, m)
			}
			half := uint32(0xffff)
			if bit > 15 {
				half <<= 16
			}
			if all&^half != 0 {
				t.Errorf("%#x is not in one half of the mark", all)
			}
		})
	}
}

func TestMarksByDefault(t *testing.T) {
	if got, want := MarksFor(14), (Marks{Masquerade: 0x4000, Divert: 0x1000, Own: 0x10}); got != want {
		t.Errorf("marks %+x, want %+x", got, want)
	}
}

// Bits that others use are not ours, but for the masquerade bit, which the operator chose. Those of Calico and of Tailscale are in the
// upper half.
func TestMarksOfOthers(t *testing.T) {
	others := map[string]uint32{
		"kubelet's (KUBE-MARK-DROP)": 0x8000,
		"portmap's":                  0x2000,
		"Cilium's":                   0x0f00,
		"AWS's":                      0x0080,
	}
	for bit := range 16 {
		m := MarksFor(bit)
		for name, mask := range others {
			if both := (m.Divert | m.Own) & mask; both != 0 {
				t.Errorf("masquerade bit %d: %+x has %s %#x", bit, m, name, both)
			}
		}
	}
}

func TestTreatmentsAreTold(t *testing.T) {
	for bit := range 32 {
		m := MarksFor(bit)
		seen := map[ipset.Mark]Treatment{}
		for treatment := KeepSource; treatment <= MasqueradeExternal; treatment++ {
			mark := m.Of(treatment)
			if other, dup := seen[mark]; dup || mark.Mask != m.Masquerade|m.Own || mark.Value&^mark.Mask != 0 {
				t.Errorf("bit %d: %v is %v; %v has the same, or other bits", bit, treatment, mark, other)
			}
			seen[mark] = treatment
			// Masquerade needs no rule of its own: the bit is what POSTROUTING looks for.
			if masquerades := treatment == Masquerade || treatment == MasqueradeExternal; masquerades != (mark.Value&m.Masquerade != 0) {
				t.Errorf("bit %d: %v is %v", bit, treatment, mark)
			}
		}
		if m.Value(Masquerade) != m.Masquerade || m.Value(KeepSource) != 0 {
			t.Errorf("bit %d: masquerade is %#x, and keep source %#x", bit, m.Value(Masquerade), m.Value(KeepSource))
		}
	}
}

func TestWords(t *testing.T) {
	if got := fmt.Sprint(KeepSource, DropExternal, Masquerade, MasqueradeExternal); got != "keep source drop external masquerade masquerade external" {
		t.Errorf("treatments are %q", got)
	}
	if got := fmt.Sprint(ClusterIP, NodePort, ExternalIP, LoadBalancerIP); got != "cluster IP node port external IP load-balancer IP" {
		t.Errorf("kinds are %q", got)
	}
}
