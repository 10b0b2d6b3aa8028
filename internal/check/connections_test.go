package check

import (
	"strings"
	"testing"
)

func TestConnections(t *testing.T) {
	const (
		heading = "Pro FromIP   FPrt ToIP     TPrt DestIP   DPrt State       Expires PEName PEData\n"
		toIP    = "TCP 0AF4010D BF8C 0A60000D 0050 0AF4020B 1F90 ESTABLISHED   86396\n"
		toOther = "TCP 0AF4010D BF8C FF007115 0050 0AF4020B 1F90 FIN_WAIT        116\n"
		ended   = "TCP 0AF4010D BF8C 0A60000D 0050 0AF4020B 1F90 CLOSE             9\n" // toIP, later
		to53    = "UDP 0AF4010D BF8C 0A60000D 0035 0AF4020B 1F91 UDP             299\n"
		also53  = "UDP 0AF4010D BF8C 0A60000E 0035 0AF4020B 1F91 UDP             298\n"
	)
	for _, tt := range []struct{ name, listing, want string }{
		{"none", heading, "ok: IPVS has none"},
		{"of two protocols", heading + toIP + to53, "ok: 2 connections of IPVS: each gets its own answers"},
		{"the younger gets the older's answers", heading + toOther + toIP,
			"warning: 2 connections of IPVS: 1 get no answers, because the client has a younger one from the same port to the same endpoint, by another address: " +
				"tcp 10.244.1.13:49036 to 10.96.0.13:80, beside 255.0.113.21:80, both at 10.244.2.11:8080 ->"},
		{"the older has ended", heading + toIP + toOther, "ok: 2 connections of IPVS"},
		{"listed again, since another began meanwhile", heading + toIP + to53 + toIP, "ok: 2 connections of IPVS: each gets its own answers"},
		{"one without answers is listed again", heading + toOther + toIP + ended + toIP, "warning: 2 connections of IPVS: 1 get no answers ->"},
		{"listed again behind so many as are read", heading + toIP + to53 + also53 + toIP, "warning: 3 connections of IPVS: 1 get no answers ->"},
		{"flows of UDP", heading + to53 + also53, "warning: 2 connections of IPVS: 1 get no answers ->"},
		{"more than are read", heading + toIP + to53 + also53 + toOther, "warning: the first 3 connections of IPVS: 1 get no answers ->"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			facts, err := mixedUp(strings.NewReader(tt.listing), 3)
			if err != nil {
				t.Fatal(err)
			}
			expect(t, judgeConnections(facts, Wanted{}), tt.want)
		})
	}
	dir := t.TempDir()
	for _, want := range []string{"note: IPVS is not loaded yet", "ok: 1 connections of IPVS"} {
		facts, err := lookConnections(t.Context(), &Node{Proc: dir}, Wanted{})
		if err != nil {
			t.Fatal(err)
		}
		expect(t, judgeConnections(facts, Wanted{}), want)
		write(t, dir, map[string]string{"thread-self/net/ip_vs_conn": heading + toIP})
	}
}
