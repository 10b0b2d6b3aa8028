package kernel

import (
	"fmt"
	"net/netip"
	"os"

	"kube-ipvs/internal/inet"
	"kube-ipvs/ipvs"
)

// A situation is ops on an empty table, the error of each, and the table afterwards.
type situation struct {
	name string
	ops  []ipvs.Op
	errs map[int]error
	want string
}

var situations = []situation{
	{name: "nothing at all"},
	{
		name: "a server and its real servers in one go",
		ops:  []ipvs.Op{add(tcp4, rr), addReal(tcp4, real4a, 1), addReal(tcp4, real4b, 0)},
		want: "tcp 10.96.0.10:80 rr\n  -> 10.244.1.2:8080 w1\n  -> 10.244.1.3:8080 w0\n",
	},
	{
		name: "both families and all protocols",
		ops: []ipvs.Op{
			add(tcp4, rr), add(udp4, rr), add(tcp6, rr), add(sctp6, rr),
			addReal(udp4, real4a, 1), addReal(tcp6, real6a, 1), addReal(sctp6, real6a, 1),
		},
		want: "tcp 10.96.0.10:80 rr\ntcp [fd00::a]:80 rr\n  -> [fd00:1::2]:8080 w1\n" +
			"udp 10.96.0.10:53 rr\n  -> 10.244.1.2:8080 w1\nsctp [fd00::a]:80 rr\n  -> [fd00:1::2]:8080 w1\n",
	},
	{
		name: "one mark in both families",
		ops: []ipvs.Op{
			add(mark4, rr), add(mark6, ipvs.Server{Scheduler: "wrr"}), addReal(mark4, real4a, 2), addReal(mark6, real6a, 3),
		},
		want: "mark 5 rr\n  -> 10.244.1.2:8080 w2\nmark 5 ipv6 wrr\n  -> [fd00:1::2]:8080 w3\n",
	},
	{
		name: "marks without real servers",
		ops:  []ipvs.Op{add(mark4, rr), add(mark6, rr)},
		want: "mark 5 rr\nmark 5 ipv6 rr\n",
	},
	{
		name: "the biggest mark",
		ops:  []ipvs.Op{add(ipvs.MarkKey(0xffffffff, netip.IPv4Unspecified()), rr)},
		want: "mark 4294967295 rr\n",
	},
	{
		name: "persistence",
		ops: []ipvs.Op{
			add(tcp4, ipvs.Server{Scheduler: "rr", Timeout: 10800}), add(tcp6, ipvs.Server{Scheduler: "rr", Timeout: 1}),
			addReal(tcp6, real6a, 1), add(mark4, ipvs.Server{Scheduler: "rr", Timeout: 86400}), addReal(mark4, real4a, 1),
		},
		want: "mark 5 rr persistent 86400\n  -> 10.244.1.2:8080 w1\n" +
			"tcp 10.96.0.10:80 rr persistent 10800\ntcp [fd00::a]:80 rr persistent 1\n  -> [fd00:1::2]:8080 w1\n",
	},
	{
		name: "persistence ends",
		ops:  []ipvs.Op{add(tcp4, ipvs.Server{Scheduler: "rr", Timeout: 10800}), set(tcp4, rr)},
		want: "tcp 10.96.0.10:80 rr\n",
	},
	{
		name: "scheduler flags",
		ops: []ipvs.Op{
			add(tcp4, ipvs.Server{Scheduler: "sh", Flags: ipvs.Flag1 | ipvs.Flag2}),
			add(tcp6, ipvs.Server{Scheduler: "mh", Flags: ipvs.Flag3}),
			add(udp4, ipvs.Server{Scheduler: "rr", Timeout: 5, Flags: ipvs.Flag1}),
		},
		want: "tcp 10.96.0.10:80 sh flag-1 flag-2\ntcp [fd00::a]:80 mh flag-3\nudp 10.96.0.10:53 rr persistent 5 flag-1\n",
	},
	{
		name: "flags end",
		ops:  []ipvs.Op{add(tcp4, ipvs.Server{Scheduler: "mh", Flags: ipvs.Flag1}), set(tcp4, ipvs.Server{Scheduler: "mh"})},
		want: "tcp 10.96.0.10:80 mh\n",
	},
	{
		name: "another scheduler keeps the real servers",
		ops:  []ipvs.Op{add(tcp4, rr), addReal(tcp4, real4a, 1), set(tcp4, ipvs.Server{Scheduler: "lc"})},
		want: "tcp 10.96.0.10:80 lc\n  -> 10.244.1.2:8080 w1\n",
	},
	{
		name: "a server twice",
		ops:  []ipvs.Op{add(tcp4, rr), addReal(tcp4, real4a, 1), add(tcp4, ipvs.Server{Scheduler: "lc"})},
		errs: map[int]error{2: os.ErrExist},
		want: "tcp 10.96.0.10:80 rr\n  -> 10.244.1.2:8080 w1\n",
	},
	{
		name: "an unknown scheduler",
		ops:  []ipvs.Op{add(tcp4, ipvs.Server{Scheduler: "no-such"}), addReal(tcp4, real4a, 1), add(udp4, rr), set(udp4, ipvs.Server{Scheduler: "no-such"})},
		errs: map[int]error{0: os.ErrNotExist, 1: os.ErrNotExist, 3: os.ErrNotExist},
		want: "udp 10.96.0.10:53 rr\n",
	},
	{
		name: "no scheduler",
		ops:  []ipvs.Op{add(tcp4, ipvs.Server{})},
		errs: map[int]error{0: os.ErrNotExist},
	},
	{
		name: "the scheduler none",
		ops:  []ipvs.Op{add(tcp4, ipvs.Server{Scheduler: "none"})},
		want: "tcp 10.96.0.10:80 none\n",
	},
	{
		name: "a scheduler with too long a name",
		ops:  []ipvs.Op{add(tcp4, ipvs.Server{Scheduler: "sixteen-bytes-ab"})},
		errs: map[int]error{0: errOther},
	},
	{
		name: "change of what is not there",
		ops:  []ipvs.Op{set(tcp4, rr), setReal(tcp4, real4a, 1), add(udp4, rr), setReal(udp4, real4a, 1)},
		errs: map[int]error{0: os.ErrNotExist, 1: os.ErrNotExist, 3: os.ErrNotExist},
		want: "udp 10.96.0.10:53 rr\n",
	},
	{
		name: "deletion of what is gone",
		ops:  []ipvs.Op{del(tcp4), delReal(tcp4, real4a), del(mark6), add(udp4, rr), delReal(udp4, real4a)},
		want: "udp 10.96.0.10:53 rr\n",
	},
	{
		name: "deletion of a server with its real servers",
		ops:  []ipvs.Op{add(tcp4, rr), addReal(tcp4, real4a, 1), del(tcp4), add(tcp4, rr)},
		want: "tcp 10.96.0.10:80 rr\n",
	},
	{
		name: "a real server comes, changes, goes and comes again",
		ops: []ipvs.Op{
			add(tcp4, rr), addReal(tcp4, real4a, 1), setReal(tcp4, real4a, 0), delReal(tcp4, real4a), addReal(tcp4, real4a, 7),
		},
		want: "tcp 10.96.0.10:80 rr\n  -> 10.244.1.2:8080 w7\n",
	},
	{
		name: "a real server twice",
		ops:  []ipvs.Op{add(tcp4, rr), addReal(tcp4, real4a, 1), addReal(tcp4, real4a, 2)},
		errs: map[int]error{2: os.ErrExist},
		want: "tcp 10.96.0.10:80 rr\n  -> 10.244.1.2:8080 w1\n",
	},
	{
		name: "a real server of another family",
		ops:  []ipvs.Op{add(tcp4, rr), addReal(tcp4, real6a, 1), add(mark6, rr), addReal(mark6, real4a, 1), setReal(tcp4, real6a, 1), delReal(tcp4, real6a)},
		errs: map[int]error{1: errOther, 3: errOther, 4: errOther},
		want: "mark 5 ipv6 rr\ntcp 10.96.0.10:80 rr\n",
	},
	{
		name: "a weight beyond the kernel's",
		ops:  []ipvs.Op{add(tcp4, rr), addReal(tcp4, real4a, 1<<31), addReal(tcp4, real4b, 1<<31-1), setReal(tcp4, real4b, 1<<31)},
		errs: map[int]error{1: errOther, 3: errOther},
		want: "tcp 10.96.0.10:80 rr\n  -> 10.244.1.3:8080 w2147483647\n",
	},
	{
		name: "addresses that no packet can be sent to",
		ops: []ipvs.Op{
			add(tcp4, rr), add(tcp6, rr),
			addReal(tcp4, netip.MustParseAddrPort("0.0.0.0:1"), 1), addReal(tcp4, netip.MustParseAddrPort("224.0.0.1:1"), 1),
			addReal(tcp4, netip.MustParseAddrPort("255.255.255.255:1"), 1), addReal(tcp6, netip.MustParseAddrPort("[::]:1"), 1),
			addReal(tcp6, netip.MustParseAddrPort("[ff02::1]:1"), 1), addReal(tcp6, netip.MustParseAddrPort("[fe80::1]:1"), 1),
			addReal(tcp6, netip.MustParseAddrPort("[::ffff:10.0.0.1]:1"), 1),
		},
		errs: map[int]error{2: errOther, 3: errOther, 4: errOther, 5: errOther, 6: errOther, 7: errOther, 8: errOther},
		want: "tcp 10.96.0.10:80 rr\ntcp [fd00::a]:80 rr\n",
	},
	{
		name: "addresses that are no addresses",
		ops:  []ipvs.Op{add(ipvs.Key{Proto: inet.TCP, Port: 80}, rr), add(tcp4, rr), addReal(tcp4, netip.AddrPort{}, 1), {Verb: 99, Key: tcp4}},
		errs: map[int]error{0: os.ErrInvalid, 2: os.ErrInvalid, 3: os.ErrInvalid},
		want: "tcp 10.96.0.10:80 rr\n",
	},
	{
		name: "one failure stops no other",
		ops:  []ipvs.Op{add(tcp4, rr), add(tcp4, rr), addReal(udp4, real4a, 1), addReal(tcp4, real4a, 1)},
		errs: map[int]error{1: os.ErrExist, 2: os.ErrNotExist},
		want: "tcp 10.96.0.10:80 rr\n  -> 10.244.1.2:8080 w1\n",
	},
	{
		name: "servers at port 0 and at the unspecified address",
		ops: []ipvs.Op{
			add(ipvs.AddrKey(inet.TCP, netip.MustParseAddrPort("10.96.0.10:0")), rr),
			add(ipvs.AddrKey(inet.TCP, netip.MustParseAddrPort("0.0.0.0:80")), rr),
			add(ipvs.AddrKey(inet.TCP, netip.MustParseAddrPort("[::]:80")), rr),
		},
		want: "tcp 0.0.0.0:80 rr\ntcp 10.96.0.10:0 rr\ntcp [::]:80 rr\n",
	},
	{
		name: "unusual addresses that packets can be sent to",
		ops: []ipvs.Op{
			add(tcp4, rr), add(tcp6, rr),
			addReal(tcp4, netip.MustParseAddrPort("127.0.0.1:1"), 1), addReal(tcp4, netip.MustParseAddrPort("240.0.0.1:1"), 1),
			addReal(tcp4, netip.MustParseAddrPort("10.0.0.1:0"), 1), addReal(tcp6, netip.MustParseAddrPort("[::1]:1"), 1),
		},
		want: "tcp 10.96.0.10:80 rr\n  -> 10.0.0.1:0 w1\n  -> 127.0.0.1:1 w1\n  -> 240.0.0.1:1 w1\ntcp [fd00::a]:80 rr\n  -> [::1]:1 w1\n",
	},
	{
		name: "a protocol that is not balanced",
		ops:  []ipvs.Op{add(ipvs.AddrKey(47, tcp4.AddrPort()), rr), addReal(ipvs.AddrKey(47, tcp4.AddrPort()), real4a, 1)},
		want: "protocol(47) 10.96.0.10:80 rr\n  -> 10.244.1.2:8080 w1\n",
	},
	{name: "more than fits into one send", ops: many(), want: manyText()},
}

// many is 300 servers of ten real servers each.
func many() (ops []ipvs.Op) {
	for i := range 300 {
		k := ipvs.AddrKey(inet.TCP, netip.AddrPortFrom(tcp4.Addr, uint16(1000+i)))
		ops = append(ops, add(k, rr))
		for j := range 10 {
			ops = append(ops, addReal(k, netip.AddrPortFrom(real4a.Addr(), uint16(j+1)), uint32(i)))
		}
	}
	return ops
}

func manyText() (text string) {
	for i := range 300 {
		text += fmt.Sprintf("tcp 10.96.0.10:%d rr\n", 1000+i)
		for j := range 10 {
			text += fmt.Sprintf("  -> 10.244.1.2:%d w%d\n", j+1, i)
		}
	}
	return text
}
