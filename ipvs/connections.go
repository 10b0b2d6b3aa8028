package ipvs

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"iter"
	"net/netip"

	"kube-ipvs/internal/inet"
)

// A Connection is one that IPVS forwards, or forwarded not long ago.
type Connection struct {
	Proto  inet.Protocol
	Client netip.AddrPort // as IPVS sees it: before masquerading
	Server netip.AddrPort // the virtual server
	Real   netip.AddrPort
	State  string // the kernel's word, such as ESTABLISHED
}

// Connections yields the connections in the text of /proc/net/ip_vs_conn (ip_vs_conn_seq_show in net/netfilter/ipvs/ip_vs_conn.c):
//
//	Pro FromIP   FPrt ToIP     TPrt DestIP   DPrt State       Expires PEName PEData
//	TCP 0AF4010D BF8C 0A60000D 0050 0AF4020B 1F90 ESTABLISHED   86396
//
// It leaves out other protocols than those of frontends, and the templates of persistence, which have no client port. An error ends it.
func Connections(text io.Reader) iter.Seq2[Connection, error] {
	return func(yield func(Connection, error) bool) {
		lines := bufio.NewScanner(text)
		for n := 1; lines.Scan(); n++ {
			if n == 1 { // the heading
				continue
			}
			c, err := parseConnection(lines.Bytes())
			if err != nil {
				yield(c, fmt.Errorf("/proc/net/ip_vs_conn: line %d: %w", n, err))
				return
			}
			if c.Proto != 0 && c.Client.Port() != 0 && !yield(c, nil) {
				return
			}
		}
		if err := lines.Err(); err != nil {
			yield(Connection{}, fmt.Errorf("/proc/net/ip_vs_conn: %w", err))
		}
	}
}

// parseConnection parses a line.
func parseConnection(line []byte) (c Connection, err error) {
	proto, rest := word(line)
	c.Proto = parseListedProtocol(proto)
	var errs []error
	for _, at := range []*netip.AddrPort{&c.Client, &c.Server, &c.Real} {
		var host, port []byte
		host, rest = word(rest)
		port, rest = word(rest)
		*at, err = parseListedPair(host, port)
		errs = append(errs, err)
	}
	state, _ := word(rest)
	c.State = string(state)
	return c, errors.Join(errs...)
}
