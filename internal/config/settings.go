package config

// A setting is a value that kube-proxy's flag, its file or both can give.
type setting struct {
	flag  string // without dashes; empty: none
	field string // path in the file; empty: none
	path  string // of kube-proxy's own message, below KubeProxyConfiguration; empty: it does not check the value
}

// The settings that have checks or notes, with kube-proxy's names.
var (
	setMode          = setting{"proxy-mode", "mode", "Mode.ProxyMode"}
	setHostname      = setting{"hostname-override", "hostnameOverride", ""}
	setBindAddress   = setting{"bind-address", "bindAddress", "BindAddress"}
	setHealthz       = setting{"healthz-bind-address", "healthzBindAddress", "HealthzBindAddress"}
	setHealthzPort   = setting{"healthz-port", "", ""}
	setMetrics       = setting{"metrics-bind-address", "metricsBindAddress", "MetricsBindAddress"}
	setMetricsPort   = setting{"metrics-port", "", ""}
	setHidden        = setting{"show-hidden-metrics-for-version", "showHiddenMetricsForVersion", "ShowHiddenMetricsForVersion"}
	setBurst         = setting{"kube-api-burst", "clientConnection.burst", "ClientConnection.Burst"}
	setConfigSync    = setting{"config-sync-period", "configSyncPeriod", "ConfigSyncPeriod"}
	setOOM           = setting{"oom-score-adj", "oomScoreAdj", "KubeProxyLinuxConfiguration.OOMScoreAdj"}
	setPortRange     = setting{"", "portRange", ""}
	setWinService    = setting{"", "windowsRunAsService", ""}
	setGates         = setting{"feature-gates", "featureGates", "featureGates"}
	setBootID        = setting{"boot-id-file", "", ""}
	setMachineID     = setting{"machine-id-file", "", ""}
	setDetectMode    = setting{"detect-local-mode", "detectLocalMode", "DetectLocalMode"}
	setBridge        = setting{"pod-bridge-interface", "detectLocal.bridgeInterface", "DetectLocalConfiguration.InterfaceName"}
	setPrefix        = setting{"pod-interface-name-prefix", "detectLocal.interfaceNamePrefix", "DetectLocalConfiguration.InterfacePrefix"}
	setClusterCIDR   = setting{"cluster-cidr", "clusterCIDR", "DetectLocalConfiguration.ClusterCIDRs"}
	setNodePorts     = setting{"nodeport-addresses", "nodePortAddresses", "NodePortAddresses"}
	setMasqueradeBit = setting{"iptables-masquerade-bit", "iptables.masqueradeBit", "KubeProxyIPTablesConfiguration.MasqueradeBit"}

	setScheduler     = setting{"ipvs-scheduler", "ipvs.scheduler", ""}
	setSync          = setting{"ipvs-sync-period", "ipvs.syncPeriod", "SyncPeriod"}
	setMinSync       = setting{"ipvs-min-sync-period", "ipvs.minSyncPeriod", "MinSyncPeriod"}
	setExclude       = setting{"ipvs-exclude-cidrs", "ipvs.excludeCIDRs", "KubeProxyIPVSConfiguration.ExcludeCidrs"}
	setTCP           = setting{"ipvs-tcp-timeout", "ipvs.tcpTimeout", "KubeProxyIPVSConfiguration.TCPTimeout"}
	setTCPFin        = setting{"ipvs-tcpfin-timeout", "ipvs.tcpFinTimeout", "KubeProxyIPVSConfiguration.TCPFinTimeout"}
	setUDP           = setting{"ipvs-udp-timeout", "ipvs.udpTimeout", "KubeProxyIPVSConfiguration.UDPTimeout"}
	setOurMode       = setting{"mode", "", ""}
	setVIPMode       = setting{"vip-mode", "", ""}
	setDrainLimit    = setting{"drain-limit", "", ""}
	setProcSys       = setting{"proc-sys", "", ""}
	setPage          = setting{"page", "", ""}
	setTrafficSeries = setting{"traffic-series", "", ""}
	setDefaultTCP    = setting{"default-ipvs-tcp-timeout", "", ""}
	setEstimation    = setting{"ipvs-estimation", "", ""}
	setSchedulers    = setting{"ipvs-service-schedulers", "", ""}

	setMaxPerCore  = conntrackSetting("max-per-core", "maxPerCore", "MaxPerCore")
	setMin         = conntrackSetting("min", "min", "Min")
	setEstablished = conntrackSetting("tcp-timeout-established", "tcpEstablishedTimeout", "TCPEstablishedTimeout")
	setCloseWait   = conntrackSetting("tcp-timeout-close-wait", "tcpCloseWaitTimeout", "TCPCloseWaitTimeout")
	setUDPFlow     = conntrackSetting("udp-timeout", "udpTimeout", "UDPTimeout")
	setUDPStream   = conntrackSetting("udp-timeout-stream", "udpStreamTimeout", "UDPStreamTimeout")

	setLocalhost       = setting{"iptables-localhost-nodeports", "iptables.localhostNodePorts", ""}
	setIPTablesSync    = setting{"iptables-sync-period", "iptables.syncPeriod", ""}
	setIPTablesMinSync = setting{"iptables-min-sync-period", "iptables.minSyncPeriod", ""}
)

func conntrackSetting(flag, field, path string) setting {
	return setting{"conntrack-" + flag, "conntrack." + field, "KubeProxyLinuxConfiguration.KubeProxyConntrackConfiguration." + path}
}
