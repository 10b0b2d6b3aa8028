package ipset

import "golang.org/x/sys/unix"

// nfnetlink's number of the sets (include/uapi/linux/netfilter/nfnetlink.h).
const subsystem = 6

// From include/uapi/linux/netfilter/ipset/ip_set.h.
const (
	protocolMax = 7
	protocolMin = 6
	maxNameLen  = 31 // IPSET_MAXNAMELEN less the final zero
)

// Commands: enum ipset_cmd.
const (
	cmdProtocol = 1
	cmdCreate   = 2
	cmdDestroy  = 3
	cmdList     = 7
	cmdAdd      = 9
	cmdDel      = 10
	cmdTest     = 11
	cmdType     = 13
)

// Attributes of a command.
const (
	attrProtocol   = 1
	attrSetName    = 2
	attrTypeName   = 3
	attrRevision   = 4
	attrFamily     = 5
	attrFlags      = 6
	attrData       = 7
	attrADT        = 8
	attrLine       = 9
	attrVersionMin = 10 // of the protocol, or of a type's revision
)

// Attributes of a set's data and of a member's.
const (
	attrIP        = 1
	attrCIDR      = 3
	attrPort      = 4
	attrTimeout   = 6
	attrProto     = 7
	attrDataFlags = 8
	attrMaxElem   = 19
	attrNetmask   = 20
	attrElements  = 24
	attrIP2       = 20
	attrCIDR2     = 21
	attrSkbMark   = 27
)

// Attributes of an address.
const (
	attrIPv4 = 1
	attrIPv6 = 2
)

// Flags of a command (attrFlags) and of a set's data (attrDataFlags).
const (
	flagListNames   = 1 << 1
	flagListHeader  = 1 << 2
	flagForceAdd    = 1 << 5
	flagWithSkbInfo = 1 << 6
)

// netOrder flags numbers in network order in their type.
const netOrder = unix.NLA_F_NET_BYTEORDER

// The kernel's errors: enum ipset_errno, and those of the hash types in ip_set_hash.h.
const (
	errnoPrivate       = 4096
	errnoProtocol      = 4097
	errnoFindType      = 4098
	errnoMaxSets       = 4099
	errnoBusy          = 4100
	errnoTypeMismatch  = 4102
	errnoExist         = 4103
	errnoInvalidCIDR   = 4104
	errnoInvalidFamily = 4106
	errnoReferenced    = 4108
	errnoNotIPv4       = 4109
	errnoNotIPv6       = 4110
	errnoSkbInfo       = 4114
	errnoHashFull      = 4352
	errnoHashElem      = 4353
	errnoInvalidProto  = 4354
	errnoMissingProto  = 4355
)
