package check

import (
	"bufio"
	"context"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// A listener is a TCP socket that listens.
type listener struct {
	at      netip.AddrPort
	inode   string
	program string // whose it is; empty: of a process that this one cannot see
}

type portFacts struct {
	listeners []listener
	runs      bool // a kube-ipvs is running
}

func lookPorts(_ context.Context, n *Node, w Wanted) (portFacts, error) {
	var f portFacts
	for _, file := range []string{"thread-self/net/tcp", "thread-self/net/tcp6"} {
		found, err := readListeners(filepath.Join(n.Proc, file))
		if err != nil && !errors.Is(err, fs.ErrNotExist) { // no IPv6
			return f, err
		}
		for _, l := range found {
			for _, p := range w.Ports {
				if l.meets(p.At) {
					l.program = n.programOf(l.inode)
					f.listeners = append(f.listeners, l)
				}
			}
		}
	}
	var err error
	f.runs, err = n.runs()
	return f, err
}

// meets reports whether nobody else can listen at an address.
func (l listener) meets(at netip.AddrPort) bool {
	return l.at.Port() == at.Port() && (l.at.Addr() == at.Addr() || l.at.Addr().IsUnspecified() || at.Addr().IsUnspecified())
}

// readListeners reads a list of sockets: local address and state are the second and fourth field, the inode is the tenth.
func readListeners(file string) ([]listener, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	var out []listener
	const listens = "0A"
	for lines := bufio.NewScanner(f); lines.Scan(); {
		fields := strings.Fields(lines.Text())
		if len(fields) < 10 || fields[3] != listens {
			continue
		}
		at, err := parseHex(fields[1])
		if err != nil {
			return nil, fmt.Errorf("%s: %q: %w", file, fields[1], err)
		}
		out = append(out, listener{at: at, inode: fields[9]})
	}
	return out, nil
}

// parseHex parses an address and port in hexadecimal: each word of the address is in the order of this machine.
func parseHex(text string) (netip.AddrPort, error) {
	addr, port, _ := strings.Cut(text, ":")
	words, err := hex.DecodeString(addr)
	n, err2 := strconv.ParseUint(port, 16, 16)
	if err := errors.Join(err, err2); err != nil {
		return netip.AddrPort{}, err
	}
	for i := 0; i+4 <= len(words); i += 4 {
		binary.NativeEndian.PutUint32(words[i:], binary.BigEndian.Uint32(words[i:]))
	}
	a, ok := netip.AddrFromSlice(words)
	if !ok {
		return netip.AddrPort{}, errors.New("no address")
	}
	return netip.AddrPortFrom(a.Unmap(), uint16(n)), nil
}

// programOf returns the name of the process that has a socket, or "".
func (n *Node) programOf(inode string) string {
	files, _ := filepath.Glob(filepath.Join(n.Proc, "[0-9]*/fd/*")) // the pattern is valid
	for _, file := range files {
		if to, err := os.Readlink(file); err == nil && to == "socket:["+inode+"]" {
			name, _ := os.ReadFile(filepath.Join(filepath.Dir(filepath.Dir(file)), "comm")) // it may have ended
			return strings.TrimSpace(string(name))
		}
	}
	return ""
}

func judgePorts(f portFacts, w Wanted) []Finding {
	if len(w.Ports) == 0 {
		return []Finding{{Severity: OK, Found: "none are needed"}}
	}
	var out []Finding
	for _, p := range w.Ports {
		finding := Finding{Severity: OK, Found: fmt.Sprintf("%s can listen on %v", p.For, p.At)}
		for _, l := range f.listeners {
			if !l.meets(p.At) {
				continue
			}
			switch {
			case l.program == "kube-ipvs" || l.program == "" && f.runs:
				finding = Finding{Severity: OK, Found: fmt.Sprintf("kube-ipvs listens on %v (%s)", l.at, p.For)}
			default:
				who := l.program
				if who == "" {
					who = "a process that cannot be seen from here"
				}
				finding = Finding{Severity: Error, Found: fmt.Sprintf("%s listens on %v, which is needed for %s", who, l.at, p.For),
					Do: fmt.Sprintf("ss -ltnp sport = %d; stop it, or give %s another address", l.at.Port(), p.For)}
			}
		}
		out = append(out, finding)
	}
	return out
}
