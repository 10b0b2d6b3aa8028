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
	"slices"
	"strings"
)

// SocketAddresses returns the own addresses of all TCP and UDP sockets of this network namespace: the sources of the node's
// connections. The kernel lists every socket for that, so it is for rare use. procNet is /proc/net, or a test's directory.
func SocketAddresses(procNet string) (map[netip.Addr]struct{}, error) {
	out := map[netip.Addr]struct{}{}
	for _, name := range []string{"tcp", "udp", "tcp6", "udp6"} {
		err := addSockets(filepath.Join(procNet, name), out)
		if err != nil && !errors.Is(err, os.ErrNotExist) { // without IPv6
			return nil, err
		}
	}
	return out, nil
}

func addSockets(path string, out map[netip.Addr]struct{}) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		fields := strings.Fields(lines.Text())
		if len(fields) < 2 || fields[0] == "sl" {
			continue
		}
		text, _, _ := strings.Cut(fields[1], ":")
		a, err := parseSocketAddr(text)
		if err != nil {
			return fmt.Errorf("%s: %w", path, err)
		}
		out[a] = struct{}{}
	}
	return lines.Err()
}

// littleEndian reports whether this machine has the least significant byte of a number first.
var littleEndian = binary.NativeEndian.Uint16([]byte{1, 0}) == 1

// parseSocketAddr parses an address as the kernel prints it: each 32 bits as a number of the machine.
func parseSocketAddr(text string) (netip.Addr, error) {
	raw, err := hex.DecodeString(text)
	if err != nil {
		return netip.Addr{}, fmt.Errorf("address %q: %w", text, err)
	}
	if len(raw) != 4 && len(raw) != 16 {
		return netip.Addr{}, fmt.Errorf("address %q: of %d bytes", text, len(raw))
	}
	if littleEndian {
		for word := range slices.Chunk(raw, 4) {
			slices.Reverse(word)
		}
	}
	a, _ := netip.AddrFromSlice(raw)
	return a.Unmap(), nil
}
