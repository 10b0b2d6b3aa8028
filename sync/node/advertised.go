package node

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"
	"strconv"
	"strings"
)

// Flags of a route: RTF_DEFAULT and RTF_ADDRCONF in include/uapi/linux/ipv6_route.h. What has both the kernel has from a
// router advertisement, and drops when it begins to forward (rt6_purge_dflt_routers in net/ipv6/route.c).
const advertisedFlags = 0x00010000 | 0x00040000

// AdvertisedDefault returns the names of the links over which the kernel has an IPv6 default route from a router
// advertisement. What another program made of one, such as a network manager, is not among them.
func AdvertisedDefault() ([]string, error) {
	file, err := os.Open("/proc/thread-self/net/ipv6_route")
	if errors.Is(err, fs.ErrNotExist) { // no IPv6
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("routes of router advertisements: %w", err)
	}
	defer file.Close()
	return advertised(file)
}

// advertised parses /proc/net/ipv6_route: ten fields a line, of which the ninth are the flags and the last is the link.
func advertised(in io.Reader) (links []string, err error) {
	lines := bufio.NewScanner(in)
	for lines.Scan() {
		fields := strings.Fields(lines.Text())
		if len(fields) != 10 {
			return nil, fmt.Errorf("route %q: not 10 fields", lines.Text())
		}
		flags, err := strconv.ParseUint(fields[8], 16, 32)
		if err != nil {
			return nil, fmt.Errorf("route %q: flags: %w", lines.Text(), err)
		}
		if flags&advertisedFlags == advertisedFlags && !slices.Contains(links, fields[9]) {
			links = append(links, fields[9])
		}
	}
	return links, lines.Err()
}
