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

// ConntrackNow is what the kernel has. Zero: not known.
type ConntrackNow struct{ Max, HashSize int }

// MaxSetting is the name of the setting that ConntrackNow.Max is the value of.
const MaxSetting = "net/netfilter/nf_conntrack_max"

// maxEntries bounds the memory that many CPUs would ask for.
const maxEntries = 1 << 20

// Settings returns the kernel settings to make on a node with so many CPUs, and the size that the hash table needs (a
// parameter of the module nf_conntrack, no setting); 0: it is large enough. The table only grows: somebody may have made it
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

// limit returns how many entries the table is to hold; 0: as many as it does. The bound holds for what is counted by CPUs: a
// larger Min is somebody's decision, and counts where the CPUs stay below the bound, as in kube-proxy.
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
