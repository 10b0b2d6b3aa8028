package ipvs

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"maps"
	"net/netip"
	"os"
	"strconv"
	"strings"

	"kube-ipvs/internal/inet"
)

// openListing opens the kernel's listing of the table. It has the real servers of all virtual servers, which otherwise
// take a dump each. It is the calling thread's: other threads may be in other network namespaces.
func openListing() (io.ReadCloser, error) { return os.Open("/proc/thread-self/net/ip_vs") }

// reals are the real servers of virtual servers.
type reals map[Key]map[netip.AddrPort]RealState

// parseListing parses the text of /proc/net/ip_vs (ip_vs_info_seq_show in net/netfilter/ipvs/ip_vs_ctl.c):
//
//	IP Virtual Server version 1.2.1 (size=4096)
//	Prot LocalAddress:Port Scheduler Flags
//	  -> RemoteAddress:Port Forward Weight ActiveConn InActConn
//	TCP  0A60000A:0050 rr persistent 1080000 FFFFFFFF
//	  -> 0AF40102:1F90      Masq    1      0          0
//	TCP  [fd00:0000:0000:0000:0000:0000:0000:000a]:0050 rr
//	FWM  00000001 rr
//
// The line of a mark lacks the family: it is that of its real servers, and a mark without any is left out. So are
// servers of other protocols.
func parseListing(text io.Reader) (reals, error) {
	found := make(reals)
	err := walkListing(text, func(key Key, e Entry) { found[key] = maps.Clone(e.Reals) })
	if err != nil {
		return nil, err
	}
	return found, nil
}

// walkListing calls fn for each virtual server of the listing. The real servers are valid until fn returns.
func walkListing(text io.Reader, fn func(Key, Entry)) error {
	l := listing{found: fn, entry: Entry{Reals: make(map[netip.AddrPort]RealState)}}
	lines := bufio.NewScanner(text)
	for n := 1; lines.Scan(); n++ {
		if n <= 3 { // the heading
			continue
		}
		if err := l.take(lines.Bytes()); err != nil {
			return fmt.Errorf("/proc/net/ip_vs: line %d: %w", n, err)
		}
	}
	if err := lines.Err(); err != nil {
		return fmt.Errorf("/proc/net/ip_vs: %w", err)
	}
	l.flush()
	return nil
}

// A listing collects one virtual server at a time.
type listing struct {
	found func(Key, Entry)
	begun bool // there was a virtual server
	key   Key  // of the current virtual server; without Addr for a mark, zero for one to leave out
	entry Entry
}

func (l *listing) take(line []byte) error {
	if real, ok := bytes.CutPrefix(line, []byte("  -> ")); ok {
		if !l.begun {
			return fmt.Errorf("real server %q without virtual server", line)
		}
		return l.real(real)
	}
	l.flush()
	key, rest, err := parseListedKey(line)
	if err != nil {
		return err
	}
	l.begun, l.key = true, key
	clear(l.entry.Reals)
	return l.server(rest)
}

// server parses the settings of a virtual server, "rr persistent 1080000 FFFFFFFF". The time is in ticks of the kernel,
// whose frequency user space cannot read. From 2³¹ ticks on, 25 days at 1000 Hz, it is negative: the kernel prints an unsigned
// number as a signed one (ip_vs_info_seq_show in net/netfilter/ipvs/ip_vs_ctl.c).
func (l *listing) server(line []byte) error {
	name, rest := word(line)
	if string(name) != l.entry.Server.Scheduler { // most are the same and share one string
		l.entry.Server.Scheduler = string(name)
	}
	l.entry.Server.Timeout = 0
	for flag, rest := word(rest); len(flag) > 0; flag, rest = word(rest) {
		if string(flag) != "persistent" {
			continue
		}
		ticks, _ := word(rest)
		timeout, err := strconv.ParseInt(string(ticks), 10, 64)
		if err != nil {
			return err
		}
		l.entry.Server.Timeout = uint32(timeout)
	}
	return nil
}

func (l *listing) real(line []byte) error {
	var s RealState
	at, rest := word(line)
	_, rest = word(rest) // the forwarding method
	weight, rest := word(rest)
	active, rest := word(rest)
	inactive, _ := word(rest)
	addr, err := parseListedAddr(at)
	if err != nil {
		return err
	}
	for _, n := range []struct {
		to   *uint32
		text []byte
	}{{&s.Weight, weight}, {&s.Active, active}, {&s.Inactive, inactive}} {
		v, err := strconv.ParseInt(string(n.text), 10, 32)
		if err != nil {
			return err
		}
		*n.to = uint32(v)
	}
	l.entry.Reals[addr] = s
	return nil
}

// flush reports the current virtual server.
func (l *listing) flush() {
	if l.key.Addr.IsValid() {
		l.found(l.key, l.entry)
	}
	if l.key.Mark == 0 {
		return
	}
	// A mark with real servers of both families (tunnelled ones) is reported twice; no dump has one of the keys.
	var seen [2]bool
	for at := range l.entry.Reals {
		family := 0
		if at.Addr().Is6() {
			family = 1
		}
		if !seen[family] {
			seen[family] = true
			l.found(MarkKey(l.key.Mark, at.Addr()), l.entry)
		}
	}
}

// parseListedKey parses the beginning of a virtual server's line and returns the rest.
func parseListedKey(line []byte) (key Key, rest []byte, err error) {
	proto, rest := word(line)
	at, rest := word(rest)
	if string(proto) == "FWM" {
		mark, err := strconv.ParseUint(string(at), 16, 32)
		return Key{Mark: uint32(mark)}, rest, err
	}
	addr, err := parseListedAddr(at)
	if err != nil {
		return Key{}, nil, err
	}
	if p := parseListedProtocol(proto); p != 0 {
		return AddrKey(p, addr), rest, nil
	}
	return Key{}, rest, nil
}

// parseListedAddr parses "0A60000A:0050" and "[fd00:0000:...:000a]:0050". Ports are hexadecimal.
func parseListedAddr(p []byte) (netip.AddrPort, error) {
	i := bytes.LastIndexByte(p, ':')
	if i < 0 {
		return netip.AddrPort{}, fmt.Errorf("address %q", p)
	}
	host := p[:i]
	if len(host) > 2 && host[0] == '[' && host[len(host)-1] == ']' {
		host = host[1 : len(host)-1]
	}
	return parseListedPair(host, p[i+1:])
}

// parseListedPair parses "0A60000A", or "fd00:0000:...:000a", and "0050".
func parseListedPair(host, port []byte) (netip.AddrPort, error) {
	n, err := strconv.ParseUint(string(port), 16, 16)
	if err != nil {
		return netip.AddrPort{}, err
	}
	if len(host) != len("0A60000A") {
		addr, err := netip.ParseAddr(string(host))
		return netip.AddrPortFrom(addr, uint16(n)), err
	}
	v, err := strconv.ParseUint(string(host), 16, 32)
	addr := netip.AddrFrom4([4]byte{byte(v >> 24), byte(v >> 16), byte(v >> 8), byte(v)})
	return netip.AddrPortFrom(addr, uint16(n)), err
}

// listedProtocols are those of frontends.
var listedProtocols = []inet.Protocol{inet.TCP, inet.UDP, inet.SCTP}

// parseListedProtocol parses "TCP". Others than those of frontends are 0.
func parseListedProtocol(name []byte) inet.Protocol {
	for _, p := range listedProtocols {
		if strings.EqualFold(string(name), p.String()) {
			return p
		}
	}
	return 0
}

// word returns the first word of a line and the rest.
func word(p []byte) (first, rest []byte) {
	p = bytes.TrimLeft(p, " ")
	if i := bytes.IndexByte(p, ' '); i >= 0 {
		return p[:i], p[i:]
	}
	return p, nil
}
