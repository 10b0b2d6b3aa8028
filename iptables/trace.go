package iptables

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"unsafe"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// Trace is part of Kernel. With nft it is the number of the ruleset's generation; with legacy tables the number and size
// of each table's entries, so that a rule which took the place of one just as long is not noticed.
func (p *Programs) Trace(ctx context.Context, f Family) (Trace, error) {
	if err := ctx.Err(); err != nil {
		return "", err
	}
	legacy, err := legacyTrace(f)
	if err != nil {
		return "", fmt.Errorf("sizes of the legacy tables: %w", err)
	}
	nft, err := nftTrace()
	if err != nil {
		return "", fmt.Errorf("generation of the nft ruleset: %w", err)
	}
	return Trace(legacy + nft), nil
}

// getInfo is IPT_SO_GET_INFO and IP6T_SO_GET_INFO (include/uapi/linux/netfilter_ipv4/ip_tables.h).
const getInfo = 64

// A tableInfo is struct ipt_getinfo, and ip6t_getinfo, which is the same.
type tableInfo struct {
	name       [32]byte
	validHooks uint32
	hookEntry  [5]uint32
	underflow  [5]uint32
	entries    uint32
	size       uint32
}

// legacyTrace asks for the sizes of the tables that we have chains in. A kernel without such a table has none there.
func legacyTrace(f Family) (string, error) {
	family, level := unix.AF_INET, unix.SOL_IP
	if f == IPv6 {
		family, level = unix.AF_INET6, unix.SOL_IPV6
	}
	fd, err := unix.Socket(family, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.IPPROTO_RAW)
	if errors.Is(err, unix.EAFNOSUPPORT) {
		return "", nil
	}
	if err != nil {
		return "", err
	}
	defer unix.Close(fd)
	out := ""
	for _, table := range []string{"mangle", "nat", "filter"} {
		var info tableInfo
		copy(info.name[:], table)
		size := uint32(unsafe.Sizeof(info))
		_, _, errno := unix.Syscall6(unix.SYS_GETSOCKOPT, uintptr(fd), uintptr(level), getInfo,
			uintptr(unsafe.Pointer(&info)), uintptr(unsafe.Pointer(&size)), 0)
		switch errno {
		case 0:
			out += fmt.Sprintf("%s %d %d;", table, info.entries, info.size)
		case unix.ENOENT, unix.ENOPROTOOPT, unix.EOPNOTSUPP:
		default:
			return "", errno
		}
	}
	return out, nil
}

// The message that asks for the generation of the nft ruleset, and the attribute that has it
// (include/uapi/linux/netfilter/nf_tables.h).
const (
	getGeneration  = unix.NFNL_SUBSYS_NFTABLES<<8 | unix.NFT_MSG_GETGEN
	generationAttr = unix.NFTA_GEN_ID
)

// nftTrace asks for the generation of the nft ruleset, which every change of any table makes another. A kernel without
// nf_tables has none.
func nftTrace() (string, error) {
	req := nl.NewNetlinkRequest(getGeneration, 0)
	req.AddData(&nl.Nfgenmsg{NfgenFamily: unix.AF_UNSPEC, Version: unix.NFNETLINK_V0})
	replies, err := req.Execute(unix.NETLINK_NETFILTER, 0)
	if errors.Is(err, unix.EINVAL) || errors.Is(err, unix.EOPNOTSUPP) || errors.Is(err, unix.EPROTONOSUPPORT) {
		return "", nil
	}
	if err != nil {
		return "", err
	}
	for _, reply := range replies {
		if len(reply) < nl.SizeofNfgenmsg {
			continue
		}
		attrs, err := nl.ParseRouteAttr(reply[nl.SizeofNfgenmsg:])
		if err != nil {
			return "", err
		}
		for _, a := range attrs {
			if a.Attr.Type == generationAttr && len(a.Value) >= 4 {
				return fmt.Sprintf("generation %d", binary.BigEndian.Uint32(a.Value)), nil
			}
		}
	}
	return "", nil
}
