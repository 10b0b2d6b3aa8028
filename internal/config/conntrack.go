package config

import (
	"strconv"
	"time"
)

// Conntrack configures the kernel's connection tracking. Zero values leave the kernel's.
type Conntrack struct {
	MaxPerCore            int // entries for each CPU of the node
	Min                   int // entries of the whole node; counts only with MaxPerCore
	TCPEstablishedTimeout time.Duration
	TCPCloseWaitTimeout   time.Duration
	TCPBeLiberal          bool
	UDPTimeout            time.Duration
	UDPStreamTimeout      time.Duration
}

// Setting is a kernel setting: the path of its file below /proc/sys, and its value.
type Setting struct{ Name, Value string }

// ConntrackNow has the kernel's current values. Zero: not known.
type ConntrackNow struct{ Max, HashSize int }

// MaxSetting is the name of the setting with the value ConntrackNow.Max.
const MaxSetting = "net/netfilter/nf_conntrack_max"

// maxEntries bounds the memory on nodes with many CPUs.
const maxEntries = 1 << 20

// Settings returns the kernel settings for a node with so many CPUs, and the desired size of the hash table (a parameter of
// the module nf_conntrack, no setting); 0: it is large enough. The table only grows: an administrator may have made it
// larger than kube-proxy would.
func (c Conntrack) Settings(cpus int, now ConntrackNow) (settings []Setting, hashSize int) {
	set := func(name string, value int) { settings = append(settings, Setting{name, strconv.Itoa(value)}) }
	if limit := c.limit(cpus); limit > 0 {
		if now.Max < limit {
			set(MaxSetting, limit)
		}
		if now.HashSize < limit/4 {
			hashSize = limit / 4
		}
	}
	seconds := func(name string, d time.Duration) {
		if d > 0 {
			set("net/netfilter/nf_conntrack_"+name, int(d/time.Second))
		}
	}
	seconds("tcp_timeout_established", c.TCPEstablishedTimeout)
	seconds("tcp_timeout_close_wait", c.TCPCloseWaitTimeout)
	if c.TCPBeLiberal {
		set("net/netfilter/nf_conntrack_tcp_be_liberal", 1)
	}
	seconds("udp_timeout", c.UDPTimeout)
	seconds("udp_timeout_stream", c.UDPStreamTimeout)
	return settings, hashSize
}

// limit returns the desired number of entries of the table; 0: the current one. The bound applies to the number by CPUs: a
// larger Min is the user's decision, and counts if the CPUs stay below the bound, as in kube-proxy.
func (c Conntrack) limit(cpus int) int {
	if c.MaxPerCore == 0 {
		return 0
	}
	scaled := c.MaxPerCore * cpus
	if scaled > maxEntries {
		return maxEntries
	}
	return max(scaled, c.Min)
}
