// Package ipvsmode makes the kernel forward as the plan says by IPVS: a frontend is a virtual server, members of sets that rules
// look up, and what leads packets there.
package ipvsmode

import (
	"net/netip"

	"kube-ipvs/internal/inet"
	"kube-ipvs/ipset"
	"kube-ipvs/ipvs"
	"kube-ipvs/ipvs/vip"
	"kube-ipvs/sync/plan"
)

// KeyOf returns the key of a frontend's virtual server.
func KeyOf(a plan.Address) ipvs.Key { return ipvs.Key{Addr: a.Addr, Port: a.Port, Proto: a.Protocol} }

// AddressOf returns the frontend that a virtual server is.
func AddressOf(k ipvs.Key) plan.Address {
	return plan.Address{Addr: k.Addr, Port: k.Port, Protocol: k.Proto}
}

// AliasKey returns the key of a frontend's alias.
func AliasKey(a plan.Address) ipvs.Key {
	return ipvs.Key{Addr: Alias(a.Addr), Port: a.Port, Proto: a.Protocol}
}

// MemberOf returns the member of sets that stands for a virtual server.
func MemberOf(k ipvs.Key) ipset.Member {
	return ipset.Member{Addr: k.Addr, Proto: uint8(k.Proto), Port: k.Port}
}

// MemberKey returns the key of the virtual server that a member of a set stands for.
func MemberKey(m ipset.Member) ipvs.Key {
	return ipvs.Key{Addr: m.Addr, Proto: inet.Protocol(m.Proto), Port: m.Port}
}

// ServerOf returns the settings of a frontend's virtual server.
func ServerOf(fe *plan.Frontend) ipvs.Server {
	return ipvs.Server{Scheduler: fe.Scheduler, Timeout: uint32(fe.Affinity.Seconds()), Flags: flagsOf(fe.Scheduler)}
}

// flagsOf returns the flags for a scheduler. Those that choose by the client's address drop its packets when their choice
// has weight 0, unless they are told to choose again (IP_VS_SVC_F_SCHED_SH_FALLBACK and IP_VS_SVC_F_SCHED_MH_FALLBACK
// in include/uapi/linux/ip_vs.h).
func flagsOf(scheduler string) ipvs.Flags {
	if scheduler == "sh" || scheduler == "mh" {
		return ipvs.Flag1
	}
	return 0
}

// TreatmentOf returns how the first packet of a connection to a frontend is treated.
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

// IsDiverted reports whether packets for a frontend must be diverted: the node does not have the address, and nothing leads
// them here. Bind: service addresses are put on the link.
func IsDiverted(fe *plan.Frontend, bind bool) bool {
	return !fe.OnNode && !bind && fe.Kind != plan.ClusterIP
}

// ItemsOf returns what makes the node take packets for a frontend, and what gives the node itself a way there. What the node
// has anyway needs nothing.
func ItemsOf(fe *plan.Frontend, bind bool) []vip.Item {
	host := netip.PrefixFrom(fe.Addr, fe.Addr.BitLen())
	switch {
	case fe.OnNode:
		return nil
	case bind:
		return []vip.Item{{Kind: vip.Address, Prefix: host}}
	case IsDiverted(fe, bind):
		return []vip.Item{{Kind: vip.Divert, Prefix: host}, {Kind: vip.LastRoute, Prefix: host}}
	case !fe.Allocated:
		return []vip.Item{{Kind: vip.Local, Prefix: host}}
	}
	return nil
}
