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

// advertisedFlags are RTF_DEFAULT and RTF_ADDRCONF in include/uapi/linux/ipv6_route.h. A route with both comes from a
// router advertisement, and the kernel drops it when it begins to forward (rt6_purge_dflt_routers in net/ipv6/route.c).
const advertisedFlags = 0x00010000 | 0x00040000

// AdvertisedDefault returns the names of the links with an IPv6 default route that the kernel made of a router
// advertisement. Routes that another program made, such as a network manager, do not count.
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

// advertised parses /proc/net/ipv6_route: ten fields per line, the ninth with the flags, the last with the link.
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
