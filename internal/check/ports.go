package check

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"strings"

	"kube-ipvs/sync/node"
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

// readListeners reads the kernel's list of TCP sockets.
func readListeners(file string) (out []listener, err error) {
	const listens = "0A"
	err = node.EachSocket(file, func(s node.Socket) {
		if s.State == listens {
			out = append(out, listener{at: s.Local, inode: s.Inode})
		}
	})
	return out, err
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
