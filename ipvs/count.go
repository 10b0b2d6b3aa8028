package ipvs

import (
	"context"
	"errors"
	"fmt"

	"golang.org/x/sys/unix"

	"kube-ipvs/internal/sockopt"
)

// getInfo is IP_VS_SO_GET_INFO (include/uapi/linux/ip_vs.h). Only the older interface to IPVS, by socket options, counts
// virtual servers without listing them.
const getInfo = 64 + 1024 + 64 + 1

// info is struct ip_vs_getinfo.
type info struct {
	Version  uint32
	Size     uint32 // of the table of connections
	Services uint32 // IPv4 virtual servers, those of marks included (ip_vs_add_service)
}

// Count implements Kernel.
func (c *Conn) Count(context.Context) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.messages.Add(1)
	if c.older < 0 {
		fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			return 0, fmt.Errorf("count virtual servers: %w", err)
		}
		c.older = fd
	}
	var got info
	err := sockopt.Get(c.older, unix.SOL_IP, getInfo, &got)
	switch err {
	case nil:
		return int(got.Services), nil
	case unix.ENOPROTOOPT, unix.EOPNOTSUPP:
		return 0, fmt.Errorf("count virtual servers: %w: %w", errors.ErrUnsupported, err)
	}
	c.errors.Add(1)
	return 0, fmt.Errorf("count virtual servers: %w", err)
}
