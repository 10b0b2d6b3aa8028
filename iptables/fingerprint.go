package iptables

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"golang.org/x/sys/unix"

	"kube-ipvs/internal/inet"
	"kube-ipvs/internal/netlink"
	"kube-ipvs/internal/sockopt"
)

// fingerprints reads fingerprints from the kernel. It keeps its sockets from first use on, since fingerprints are read
// often. The zero value is ready for use.
type fingerprints struct {
	mu     sync.Mutex
	legacy map[inet.Family]int // raw sockets
	nft    *netlink.Conn
}

// Fingerprint implements Kernel. With nft it is the number of the ruleset's generation; with legacy tables the number and size
// of each table's entries, so that replacing a rule by one of the same length goes unnoticed.
func (p *Commands) Fingerprint(ctx context.Context, f inet.Family) (Fingerprint, error) {
	p.fingerprints.mu.Lock()
	defer p.fingerprints.mu.Unlock()
	if p.nft {
		generation, err := p.fingerprints.generation(ctx)
		if err != nil {
			return "", fmt.Errorf("generation of the nft ruleset: %w", err)
		}
		return Fingerprint(generation), nil
	}
	sizes, err := p.fingerprints.sizes(f)
	if err != nil {
		return "", fmt.Errorf("sizes of the legacy tables: %w", err)
	}
	return Fingerprint(sizes), nil
}

// close closes the sockets.
func (p *fingerprints) close() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	var errs []error
	for _, fd := range p.legacy {
		errs = append(errs, unix.Close(fd))
	}
	if p.nft != nil {
		errs = append(errs, p.nft.Close())
	}
	p.legacy, p.nft = nil, nil
	return errors.Join(errs...)
}

// getInfo is IPT_SO_GET_INFO and IP6T_SO_GET_INFO (include/uapi/linux/netfilter_ipv4/ip_tables.h).
const getInfo = 64

// A tableInfo is struct ipt_getinfo, which equals ip6t_getinfo.
type tableInfo struct {
	name    [32]byte
	_       uint32    // valid_hooks
	_       [5]uint32 // hook_entry
	_       [5]uint32 // underflow
	entries uint32
	size    uint32
}

// sizes reads the sizes of the legacy tables that may have owned chains. It leaves missing tables out.
func (p *fingerprints) sizes(f inet.Family) (string, error) {
	level := unix.SOL_IP
	if f == inet.IPv6 {
		level = unix.SOL_IPV6
	}
	fd, err := p.raw(f)
	if errors.Is(err, unix.EAFNOSUPPORT) {
		return "", nil
	}
	if err != nil {
		return "", err
	}
	out := ""
	for _, table := range tables {
		var info tableInfo
		copy(info.name[:], table)
		switch err := sockopt.Get(fd, level, getInfo, &info); err {
		case nil:
			out += fmt.Sprintf("%s %d %d;", table, info.entries, info.size)
		case unix.ENOENT, unix.ENOPROTOOPT, unix.EOPNOTSUPP:
		default:
			return "", err
		}
	}
	return out, nil
}

// raw returns the raw socket for the legacy tables of a family.
func (p *fingerprints) raw(f inet.Family) (int, error) {
	if fd, ok := p.legacy[f]; ok {
		return fd, nil
	}
	fd, err := unix.Socket(int(f), unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.IPPROTO_RAW)
	if err != nil {
		return 0, err
	}
	if p.legacy == nil {
		p.legacy = map[inet.Family]int{}
	}
	p.legacy[f] = fd
	return fd, nil
}

// getGeneration requests the generation of the nft ruleset (include/uapi/linux/netfilter/nf_tables.h).
const getGeneration = unix.NFNL_SUBSYS_NFTABLES<<8 | unix.NFT_MSG_GETGEN

// generation reads the generation of the nft ruleset, which every change of any table increments. It is "" without
// nf_tables.
func (p *fingerprints) generation(ctx context.Context) (string, error) {
	if p.nft == nil {
		conn, err := netlink.Dial(unix.NETLINK_NETFILTER)
		if errors.Is(err, unix.EPROTONOSUPPORT) {
			return "", ctx.Err()
		}
		if err != nil {
			return "", err
		}
		p.nft = conn
	}
	var get netlink.Batch
	get.BeginNetfilter(getGeneration, 0, unix.AF_UNSPEC)
	get.End()
	out := ""
	err := p.nft.Query(ctx, &get, func(_ uint16, reply []byte) error {
		a := netlink.ParseNetfilter(reply)
		for a.Next() {
			if a.Type() == unix.NFTA_GEN_ID {
				out = fmt.Sprintf("generation %d", a.Uint32BE())
			}
		}
		return a.Err()
	})
	if errors.Is(err, unix.EINVAL) || errors.Is(err, unix.EOPNOTSUPP) {
		return "", nil
	}
	return out, err
}
