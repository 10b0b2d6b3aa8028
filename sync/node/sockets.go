package node

import (
	"bufio"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// A Socket is one that the kernel lists.
type Socket struct {
	Local netip.AddrPort
	State string // as the kernel writes it: "0A" listens, for TCP
	Inode string // as /proc names it, socket:[INODE], or ""
}

// EachSocket calls do for each socket in one of the kernel's lists, such as /proc/net/tcp6.
func EachSocket(file string, do func(Socket)) error {
	f, err := os.Open(file)
	if err != nil {
		return err
	}
	defer f.Close()
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		fields := strings.Fields(lines.Text()) // number, local and remote address, state, five more, inode
		if len(fields) < 4 || fields[0] == "sl" {
			continue
		}
		local, err := parseSocketAddr(fields[1])
		if err != nil {
			return fmt.Errorf("%s: %w", file, err)
		}
		s := Socket{Local: local, State: fields[3]}
		if len(fields) > 9 {
			s.Inode = fields[9]
		}
		do(s)
	}
	return lines.Err()
}

// SocketAddresses returns the own addresses of all TCP and UDP sockets of this network namespace: the sources of the node's
// connections. The kernel lists every socket for that, so it is for rare use. procNet is /proc/net, or a test's directory.
func SocketAddresses(procNet string) (map[netip.Addr]struct{}, error) {
	out := map[netip.Addr]struct{}{}
	for _, name := range []string{"tcp", "udp", "tcp6", "udp6"} {
		err := EachSocket(filepath.Join(procNet, name), func(s Socket) { out[s.Local.Addr()] = struct{}{} })
		if err != nil && !errors.Is(err, os.ErrNotExist) { // without IPv6
			return nil, err
		}
	}
	return out, nil
}

// parseSocketAddr parses an address and port as the kernel prints them: in hexadecimal, each 32 bits of the address as a number of
// the machine.
func parseSocketAddr(text string) (netip.AddrPort, error) {
	addr, port, _ := strings.Cut(text, ":")
	words, err := hex.DecodeString(addr)
	n, err2 := strconv.ParseUint(port, 16, 16)
	if err := errors.Join(err, err2); err != nil {
		return netip.AddrPort{}, fmt.Errorf("address %q: %w", text, err)
	}
	for i := 0; i+4 <= len(words); i += 4 {
		binary.NativeEndian.PutUint32(words[i:], binary.BigEndian.Uint32(words[i:]))
	}
	a, ok := netip.AddrFromSlice(words)
	if !ok {
		return netip.AddrPort{}, fmt.Errorf("address %q: of %d bytes", text, len(words))
	}
	return netip.AddrPortFrom(a.Unmap(), uint16(n)), nil
}
