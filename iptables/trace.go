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

// A tracer asks the kernel for traces, over sockets that it opens when it first needs them and keeps: a trace is asked for
// again and again. The zero tracer is ready for use.
type tracer struct {
	mu     sync.Mutex
	legacy map[inet.Family]int // raw sockets
	nft    *netlink.Conn
}

// Trace is part of Kernel. With nft it is the number of the ruleset's generation; with legacy tables the number and size
// of each table's entries, so that a rule which took the place of one just as long is not noticed.
func (p *Programs) Trace(ctx context.Context, f inet.Family) (Trace, error) {
	p.tracer.mu.Lock()
	defer p.tracer.mu.Unlock()
	if p.nft {
		generation, err := p.tracer.generation(ctx)
		if err != nil {
			return "", fmt.Errorf("generation of the nft ruleset: %w", err)
		}
		return Trace(generation), nil
	}
	sizes, err := p.tracer.sizes(f)
	if err != nil {
		return "", fmt.Errorf("sizes of the legacy tables: %w", err)
	}
	return Trace(sizes), nil
}

// close closes the sockets.
func (t *tracer) close() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	var errs []error
	for _, fd := range t.legacy {
		errs = append(errs, unix.Close(fd))
	}
	if t.nft != nil {
		errs = append(errs, t.nft.Close())
	}
	t.legacy, t.nft = nil, nil
	return errors.Join(errs...)
}

// getInfo is IPT_SO_GET_INFO and IP6T_SO_GET_INFO (include/uapi/linux/netfilter_ipv4/ip_tables.h).
const getInfo = 64

// A tableInfo is struct ipt_getinfo, and ip6t_getinfo, which is the same.
type tableInfo struct {
	name    [32]byte
	_       uint32    // valid_hooks
	_       [5]uint32 // hook_entry
	_       [5]uint32 // underflow
	entries uint32
	size    uint32
}

// sizes asks for the sizes of the legacy tables that we have chains in. A kernel without such a table has none there.
func (t *tracer) sizes(f inet.Family) (string, error) {
	level := unix.SOL_IP
	if f == inet.IPv6 {
		level = unix.SOL_IPV6
	}
	fd, err := t.raw(f)
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

// raw returns the socket of a family that legacy tables are asked for over.
func (t *tracer) raw(f inet.Family) (int, error) {
	if fd, ok := t.legacy[f]; ok {
		return fd, nil
	}
	family := unix.AF_INET
	if f == inet.IPv6 {
		family = unix.AF_INET6
	}
	fd, err := unix.Socket(family, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.IPPROTO_RAW)
	if err != nil {
		return 0, err
	}
	if t.legacy == nil {
		t.legacy = map[inet.Family]int{}
	}
	t.legacy[f] = fd
	return fd, nil
}

// getGeneration is the message that asks for the generation of the nft ruleset
// (include/uapi/linux/netfilter/nf_tables.h).
const getGeneration = unix.NFNL_SUBSYS_NFTABLES<<8 | unix.NFT_MSG_GETGEN

// nfgenLen is the size of struct nfgenmsg, which is before the attributes of every message.
const nfgenLen = 4

// generation asks for the generation of the nft ruleset, which every change of any table makes another. A kernel without
// nf_tables has none.
func (t *tracer) generation(ctx context.Context) (string, error) {
	if t.nft == nil {
		conn, err := netlink.Dial(unix.NETLINK_NETFILTER)
		if errors.Is(err, unix.EPROTONOSUPPORT) {
			return "", ctx.Err()
		}
		if err != nil {
			return "", err
		}
		t.nft = conn
	}
	var ask netlink.Batch
	ask.Begin(getGeneration, 0)
	ask.Raw(unix.AF_UNSPEC, unix.NFNETLINK_V0, 0, 0)
	ask.End()
	out := ""
	err := t.nft.Query(ctx, &ask, func(_ uint16, reply []byte) error {
		if len(reply) < nfgenLen {
			return netlink.ErrMalformed
		}
		for a := netlink.Parse(reply[nfgenLen:]); a.Next(); {
			if a.Type() == unix.NFTA_GEN_ID {
				out = fmt.Sprintf("generation %d", a.Uint32BE())
			}
		}
		return nil
	})
	if errors.Is(err, unix.EINVAL) || errors.Is(err, unix.EOPNOTSUPP) {
		return "", nil
	}
	return out, err
}
