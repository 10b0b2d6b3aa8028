package conntrack

import "golang.org/x/sys/unix"

// Messages of include/uapi/linux/netfilter/nfnetlink_conntrack.h.
const (
	msgGet    = unix.NFNL_SUBSYS_CTNETLINK<<8 | 1 // IPCTNL_MSG_CT_GET
	msgDelete = unix.NFNL_SUBSYS_CTNETLINK<<8 | 2 // IPCTNL_MSG_CT_DELETE
)

// Attributes of the same header (CTA_*).
const (
	attrOrig   = 1
	attrReply  = 2
	attrID     = 12
	attrZone   = 18
	attrFilter = 25

	tupleIP    = 1
	tupleProto = 2

	ipV4Src = 1
	ipV4Dst = 2
	ipV6Src = 3
	ipV6Dst = 4

	protoNum = 1
	protoSrc = 2
	protoDst = 3

	filterOrig = 1 // CTA_FILTER_ORIG_FLAGS
)

// Fields of the original tuple for a filtered dump (CTA_FILTER_F_* in net/netfilter/nf_internals.h, since Linux 5.8).
const (
	filterAddrDst = 1 << 1
	filterProto   = 1 << 3
	filterPortDst = 1 << 5
)
