package main

import (
	"net/netip"
	"testing"
)

// listing is what ipvsadm 1.31 prints.
const listing = `IP Virtual Server version 1.2.1 (size=4096)
Prot LocalAddress:Port Scheduler Flags
  -> RemoteAddress:Port           Forward Weight ActiveConn InActConn
TCP  10.96.10.1:6711 rr
  -> 10.244.1.11:8080             Masq    1      0          0         
  -> 10.244.2.11:8080             Masq    0      1          7         
TCP  10.96.10.2:6711 rr persistent 10800
UDP  [fd00:10:96::9]:5300 rr
  -> [fd00:10:244:1::11]:8080     Masq    1      0          0         
FWM  4097 rr
  -> 10.244.1.11:8080             Masq    1      0          0         
`

func TestTable(t *testing.T) {
	name := func(a netip.Addr) string {
		return map[string]string{"10.244.1.11": "echo-1", "fd00:10:244:1::11": "echo-1", "10.244.2.11": "echo-3"}[a.String()]
	}
	table := parse(listing, name)
	for _, tc := range []struct {
		name  string
		want  server
		lines int
		right bool
	}{
		{"one drains", server{"TCP 10.96.10.1:6711", "rr", []string{"echo-3 weight 0", "echo-1"}}, 3, true},
		{"one drains that must not", server{"TCP 10.96.10.1:6711", "rr", []string{"echo-1", "echo-3"}}, 3, false},
		{"one too many", server{"TCP 10.96.10.1:6711", "rr", []string{"echo-1"}}, 3, false},
		{"none", server{"TCP 10.96.10.2:6711", "rr persistent 10800", nil}, 1, true},
		{"other flags", server{"TCP 10.96.10.2:6711", "rr", nil}, 1, false},
		{"IPv6", server{"UDP [fd00:10:96::9]:5300", "rr", []string{"echo-1"}}, 2, true},
		{"somebody's by mark", server{"FWM 4097", "rr", []string{"echo-1"}}, 2, true},
		{"not there", server{"TCP 10.96.10.9:6711", "rr", nil}, 0, false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			lines, right := cut(table, []server{tc.want})
			if len(lines) != tc.lines || right != tc.right {
				t.Errorf("%d lines, right=%v, want %d and %v: %q", len(lines), right, tc.lines, tc.right, lines)
			}
		})
	}
}
