package config

import (
	"slices"
	"testing"
	"time"
)

func TestConntrackSettings(t *testing.T) {
	limit := func(n string) []Setting { return []Setting{{MaxSetting, n}} }
	none := ConntrackNow{Max: 1, HashSize: 1}
	for _, tt := range []struct {
		name string
		conf Conntrack
		cpus int
		now  ConntrackNow
		want []Setting
		hash int
	}{
		{"by CPUs", Conntrack{MaxPerCore: 1000, Min: 3000}, 4, none, limit("4000"), 1000},
		{"at least", Conntrack{MaxPerCore: 1000, Min: 3000}, 2, none, limit("3000"), 750},
		{"the least does not count alone", Conntrack{Min: 3000}, 2, none, nil, 0},
		{"not more than a million", Conntrack{MaxPerCore: 32768, Min: 131072}, 96, none, limit("1048576"), 262144},
		{"nor a little more", Conntrack{MaxPerCore: 32768, Min: 131072}, 33, none, limit("1048576"), 262144},
		{"a least of more", Conntrack{MaxPerCore: 32768, Min: 2000000}, 2, none, limit("2000000"), 500000},
		{"a least of more, and many CPUs", Conntrack{MaxPerCore: 32768, Min: 2000000}, 96, none, limit("1048576"), 262144},
		{"the kernel's is larger", Conntrack{MaxPerCore: 1000}, 4, ConntrackNow{Max: 4001, HashSize: 1001}, nil, 0},
		{"the kernel's is as large", Conntrack{MaxPerCore: 1000}, 4, ConntrackNow{Max: 4000, HashSize: 1000}, nil, 0},
		{"the table alone is too small", Conntrack{MaxPerCore: 1000}, 4, ConntrackNow{Max: 4000, HashSize: 999}, nil, 1000},
		{"the kernel's is not known", Conntrack{MaxPerCore: 1000}, 4, ConntrackNow{}, limit("4000"), 1000},
		{"timeouts", Conntrack{
			TCPEstablishedTimeout: 24 * time.Hour, TCPCloseWaitTimeout: time.Hour, TCPBeLiberal: true, UDPTimeout: time.Minute, UDPStreamTimeout: 90 * time.Second,
		}, 4, none, []Setting{
			{"net/netfilter/nf_conntrack_tcp_timeout_established", "86400"}, {"net/netfilter/nf_conntrack_tcp_timeout_close_wait", "3600"},
			{"net/netfilter/nf_conntrack_tcp_be_liberal", "1"},
			{"net/netfilter/nf_conntrack_udp_timeout", "60"}, {"net/netfilter/nf_conntrack_udp_timeout_stream", "90"},
		}, 0},
		{"nothing", Conntrack{}, 4, none, nil, 0},
	} {
		got, hash := tt.conf.Settings(tt.cpus, tt.now)
		if !slices.Equal(got, tt.want) || hash != tt.hash {
			t.Errorf("%s: %v and %d, want %v and %d", tt.name, got, hash, tt.want, tt.hash)
		}
	}
}
