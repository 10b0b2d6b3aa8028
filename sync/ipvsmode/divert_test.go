package ipvsmode

import (
	"testing"

	"kube-ipvs/internal/inet"
)

// An answer belongs to a connection that somebody began, from an address and port that a Service wants, too: kube-proxy's rules never see
// it. If it were diverted, whoever may write externalIPs would end connections of another node, or of any client.
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
			{"an answer of a diverted connection", [][2]string{{"raw", "PREROUTING"}, {"mangle", "PREROUTING"}}, true, m.Divert, 0},
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

// A client's packets are diverted after conntrack forgot the connection and found it again by a packet of the endpoint.
func TestPickedUpByAnEndpoint(t *testing.T) {
	m, sets := MarksFor(14), SetsOf(inet.IPv4)
	for _, udp := range []bool{false, true} {
		w := walker{
			t: t, rules: Rules(RulesConfig{Marks: m, Detector: detectors[0].Detector}, inet.IPv4), udp: udp,
			answer: !udp, // of TCP: no SYN
			sent:   true, sets: []string{sets.External.Name}, mask: m.Mask(),
		}
		w.hook("nat", "POSTROUTING")
		w.answer, w.sent, w.mark, w.sets = true, false, 0, []string{sets.Frontends.Name, sets.External.Name}
		w.hook("raw", "PREROUTING")
		w.hook("mangle", "PREROUTING")
		if w.mark&m.Divert == 0 {
			t.Errorf("UDP %v: the client's packet is not diverted", udp)
		}
	}
}
