// Package ipvsmode programs the plan with IPVS: a frontend is a virtual server, members of the sets that rules look up, and
// routes or addresses that deliver its packets to this host.
package ipvsmode

import (
	"net/netip"

	"kube-ipvs/ipset"
	"kube-ipvs/ipvs"
	"kube-ipvs/ipvs/steering"
	"kube-ipvs/sync/plan"
)

// KeyOf returns the key of a frontend's virtual server.
func KeyOf(a plan.Address) ipvs.Key { return ipvs.Key{Addr: a.Addr, Port: a.Port, Proto: a.Protocol} }

// AddressOf returns the frontend of a virtual server.
func AddressOf(k ipvs.Key) plan.Address {
	return plan.Address{Addr: k.Addr, Port: k.Port, Protocol: k.Proto}
}

// AliasKey returns the key of a frontend's alias.
func AliasKey(a plan.Address) ipvs.Key {
	return ipvs.Key{Addr: Alias(a.Addr), Port: a.Port, Proto: a.Protocol}
}

// MemberOf returns the set member of a virtual server.
func MemberOf(k ipvs.Key) ipset.Member {
	return ipset.Member{Addr: k.Addr, Proto: k.Proto, Port: k.Port}
}

// MemberKey returns the key of a set member's virtual server.
func MemberKey(m ipset.Member) ipvs.Key {
	return ipvs.Key{Addr: m.Addr, Proto: m.Proto, Port: m.Port}
}

// ServerOf returns the settings of a frontend's virtual server.
func ServerOf(fe *plan.Frontend) ipvs.Server {
	return ipvs.Server{Scheduler: fe.Scheduler, Timeout: uint32(fe.Affinity.Seconds()), Flags: flagsOf(fe.Scheduler)}
}

// flagsOf returns the flags for a scheduler. Schedulers by source hash drop a client's packets if their choice has weight
// 0, unless they may choose again (IP_VS_SVC_F_SCHED_SH_FALLBACK and IP_VS_SVC_F_SCHED_MH_FALLBACK
// in include/uapi/linux/ip_vs.h).
func flagsOf(scheduler string) ipvs.Flags {
	if scheduler == "sh" || scheduler == "mh" {
		return ipvs.Flag1
	}
	return 0
}

// TreatmentOf returns the treatment of a connection's first packet to a frontend.
func TreatmentOf(fe *plan.Frontend) Treatment {
	switch {
	case fe.Rejected: // or the answer would be masqueraded
		return KeepSource
	case fe.DropExternal:
		return DropExternal
	case fe.Masquerade == plan.MasqueradeExternal:
		return MasqueradeExternal
	case fe.Masquerade == plan.MasqueradeAll:
		return Masquerade
	}
	return KeepSource
}

// IsDiverted reports whether packets for a frontend must be diverted: the node does not have the address, and no route
// delivers them here. Bind: service addresses are put on the link.
func IsDiverted(fe *plan.Frontend, bind bool) bool {
	return !fe.OnNode && !bind && fe.Kind != plan.ClusterIP
}

// ItemsOf returns the routes or addresses that deliver packets for a frontend to the node, and the node's own route there.
// An address of the node itself needs none.
func ItemsOf(fe *plan.Frontend, bind bool) []steering.Item {
	host := netip.PrefixFrom(fe.Addr, fe.Addr.BitLen())
	switch {
	case fe.OnNode:
		return nil
	case bind:
		return []steering.Item{{Kind: steering.Address, Prefix: host}}
	case IsDiverted(fe, bind):
		return []steering.Item{{Kind: steering.Divert, Prefix: host}, {Kind: steering.LastRoute, Prefix: host}}
	case !fe.Allocated:
		return []steering.Item{{Kind: steering.Local, Prefix: host}}
	}
	return nil
}
