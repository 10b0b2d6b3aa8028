package ipvsmode

import (
	"testing"

	"kube-ipvs/internal/inet"
)

// An answer belongs to a connection that somebody began, from an address and port that a Service wants, too: kube-proxy's rules never see
// it. If it were diverted, whoever may write externalIPs would end connections of another node, or of any client. Answers of a connection
// that was diverted are IPVS's.
func TestAnswersAreNotDiverted(t *testing.T) {
	m := MarksFor(14)
	for _, family := range []inet.Family{inet.IPv4, inet.IPv6} {
		sets := SetsOf(family)
		for _, tt := range []struct {
			name     string
			hooks    [][2]string
			answer   bool
			connmark uint32
			want     uint32 // of the packet
		}{
			{"the first packet from elsewhere", [][2]string{{"raw", "PREROUTING"}, {"mangle", "PREROUTING"}}, false, 0, m.Divert},
			{"an answer from elsewhere", [][2]string{{"raw", "PREROUTING"}, {"mangle", "PREROUTING"}}, true, 0, 0},
			{"a client's packet that seems an answer", [][2]string{{"raw", "PREROUTING"}, {"mangle", "PREROUTING"}}, true, m.Divert, m.Divert},
			{"the first packet of the node", [][2]string{{"mangle", "OUTPUT"}}, false, 0, m.Own},
			{"an answer of the node", [][2]string{{"mangle", "OUTPUT"}}, true, 0, 0},
		} {
			w := walker{
				t: t, rules: Rules(RulesConfig{Marks: m, Detector: detectors[0].Detector}, family), answer: tt.answer,
				sets: []string{sets.Frontends.Name, sets.External.Name}, mask: m.Mask(), connmark: tt.connmark,
			}
			for _, h := range tt.hooks {
				if end := w.hook(h[0], h[1]); end != "" {
					t.Errorf("%s, %v: ends in %s of %v", tt.name, family, end, h)
				}
			}
			if got := w.mark & (m.Divert | m.Own); got != tt.want {
				t.Errorf("%s, %v: mark %#x, want %#x", tt.name, family, got, tt.want)
			}
		}
	}
}
