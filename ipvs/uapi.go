package ipvs

// The numbers of include/uapi/linux/ip_vs.h: the kernel's generic netlink interface to IPVS.
const (
	familyName    = "IPVS"
	familyVersion = 1

	// oldestVersion of the table (1.2.1) is the first with generic netlink, since Linux 2.6.28.
	oldestVersion = 1<<16 | 2<<8 | 1
)

// Commands (IPVS_CMD_*).
const (
	cmdNewService = 1
	cmdSetService = 2
	cmdDelService = 3
	cmdGetService = 4
	cmdNewDest    = 5
	cmdSetDest    = 6
	cmdDelDest    = 7
	cmdGetDest    = 8
	cmdGetInfo    = 15
)

// Attributes of commands (IPVS_CMD_ATTR_*) and of the reply to GET_INFO (IPVS_INFO_ATTR_*).
const (
	attrService     = 1
	attrDest        = 2
	attrInfoVersion = 1
)

// Attributes of a virtual server (IPVS_SVC_ATTR_*).
const (
	svcFamily    = 1
	svcProtocol  = 2
	svcAddr      = 3
	svcPort      = 4
	svcMark      = 5
	svcScheduler = 6
	svcFlags     = 7
	svcTimeout   = 8
	svcNetmask   = 9
	svcStats     = 10
	svcStats64   = 12 // since Linux 4.1
)

// Attributes of a real server (IPVS_DEST_ATTR_*).
const (
	destAddr      = 1
	destPort      = 2
	destForward   = 3
	destWeight    = 4
	destUpper     = 5
	destLower     = 6
	destActive    = 7
	destInactive  = 8
	destStats     = 10
	destStats64   = 12 // since Linux 4.1
	destFamily    = 11 // since Linux 3.18; without it the family is the virtual server's
	forwardMasq   = 0  // IP_VS_CONN_F_MASQ
	flagPersist   = 1  // IP_VS_SVC_F_PERSISTENT
	flagHashed    = 2  // IP_VS_SVC_F_HASHED, the kernel's own
	netmaskIPv4   = 0xffffffff
	prefixLenIPv6 = 128
)

// Attributes of counters (IPVS_STATS_ATTR_*).
const (
	statConnections = 1
	statInPackets   = 2
	statOutPackets  = 3
	statInBytes     = 4
	statOutBytes    = 5
)
