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

// The marks of every --iptables-masquerade-bit.
func TestMarks(t *testing.T) {
	for bit := range 32 {
		t.Run(fmt.Sprintf("bit %d", bit), func(t *testing.T) {
			m := MarksFor(bit)
			if m.Masquerade != 1<<bit {
				t.Errorf("masquerade %#x, want bit %d", m.Masquerade, bit)
			}
			if got := bits.OnesCount32(m.Masquerade | m.Divert | m.Inside | m.Numbers); got != 3+numberBits {
				t.Errorf("%d different bits in %+x, want %d", got, m, 3+numberBits)
			}
			if bits.OnesCount32(m.Divert) != 1 || bits.OnesCount32(m.Inside) != 1 || bits.OnesCount32(m.Numbers) != numberBits {
				t.Errorf("%+x: want one bit, one bit and %d", m, numberBits)
			}
			if (m.Divert|m.Inside|m.Numbers)&(1<<portmapBit) != 0 {
				t.Errorf("%+x uses portmap's bit", m)
			}
			half := uint32(0xffff)
			if bit > 15 {
				half <<= 16
			}
			if all := m.Mask() | m.Numbers; all&^half != 0 {
				t.Errorf("%#x is not in one half of the mark", all)
			}
		})
	}
}

func TestTreatmentsAreTold(t *testing.T) {
	for bit := range 32 {
		m := MarksFor(bit)
		seen := map[ipset.Mark]Treatment{}
		for treatment := Plain; treatment <= DivertGuard; treatment++ {
			mark := m.Of(treatment)
			if other, dup := seen[mark]; dup || mark.Mask != m.Mask() || mark.Value&^mark.Mask != 0 {
				t.Errorf("bit %d: %v is %v; %v has the same", bit, treatment, mark, other)
			}
			seen[mark] = treatment
			diverts := mark.Value&m.Divert != 0
			if want := treatment >= Divert; diverts != want {
				t.Errorf("bit %d: %v diverts: %v", bit, treatment, diverts)
			}
			// A masquerade bit that nothing but MASQUERADE is meant by must not be set where the source is kept.
			if keeps := treatment == Plain || treatment == Divert || treatment == GuardOutside || treatment == DivertCluster; keeps && mark.Value&m.Masquerade != 0 {
				t.Errorf("bit %d: %v has the masquerade bit", bit, treatment)
			}
		}
	}
}

func TestNumbers(t *testing.T) {
	for bit := range 32 {
		m := MarksFor(bit)
		seen := map[uint32]uint32{}
		for n := uint32(1); n <= Capacity; n++ {
			mark := m.Number(n)
			if other, dup := seen[mark]; dup {
				t.Fatalf("bit %d: numbers %d and %d are both %#x", bit, n, other, mark)
			}
			seen[mark] = n
			if mark&(m.Divert|m.Masquerade) != 0 || mark&m.Inside == 0 {
				t.Fatalf("bit %d: number %d is %#x, with the bits of something else", bit, n, mark)
			}
			if got := m.NumberOf(mark); got != n {
				t.Fatalf("bit %d: NumberOf(Number(%d)) = %d", bit, n, got)
			}
		}
		for _, mark := range []uint32{0, m.Divert, m.Masquerade, m.Inside, m.Number(1) | m.Divert, m.Number(1) | m.Masquerade, m.Number(1) &^ m.Inside, ^uint32(0)} {
			if got := m.NumberOf(mark); got != 0 {
				t.Errorf("bit %d: NumberOf(%#x) = %d, want 0", bit, mark, got)
			}
		}
	}
}

func TestWords(t *testing.T) {
	for treatment, want := range map[Treatment]string{Plain: "keep source", Refuse: "refuse", DivertGuard: "divert, drop outside"} {
		if treatment.String() != want {
			t.Errorf("%d is %q, want %q", treatment, treatment, want)
		}
	}
	if got := fmt.Sprint(ClusterIP, NodePort, ExternalIP, LoadBalancerIP); got != "cluster IP node port external IP load-balancer IP" {
		t.Errorf("kinds are %q", got)
	}
}
