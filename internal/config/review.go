package config

import (
	"net/netip"
	"slices"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/util/validation/field"
	logsapi "k8s.io/component-base/logs/api/v1"
	"k8s.io/kube-proxy/config/v1alpha1"
)

var (
	detectModes = []DetectMode{ClusterCIDR, NodeCIDR, BridgeInterface, InterfaceNamePrefix}
	pages       = []Page{PageLoopback, PageAll, PageNone}
	estimations = []Estimation{EstimationOn, EstimationOff}
	schedulers  = []string{"rr", "wrr", "lc", "wlc", "lblc", "lblcr", "sh", "dh", "mh", "sed", "nq", "fo", "ovf", "twos"}
)

// maxTimeout is below the kernel's limit at any clock rate (ip_vs_set_timeout in net/netfilter/ipvs/ip_vs_ctl.c).
const maxTimeout = 500 * time.Hour

// maxInterfaceName is the length of an interface's name (IFNAMSIZ, less the zero byte).
const maxInterfaceName = 15

// ownFlags checks the flags that kube-proxy lacks.
func (r *review) ownFlags(f *Flags, c *Config) {
	if c.VIPMode = VIPMode(f.vipMode); c.VIPMode != Divert && c.VIPMode != Bind {
		r.bad(setVIPMode, f.vipMode, "must be %s or %s", Divert, Bind)
	}
	if f.drainLimit <= 0 {
		r.bad(setDrainLimit, f.drainLimit, "must be more than 0")
	}
	if !slices.Contains(pages, c.Page) {
		r.bad(setPage, f.page, "must be one of %s", list(pages))
	}
	if f.trafficSeries < 0 {
		r.bad(setTrafficSeries, f.trafficSeries, "must be 0 or more")
	}
	if f.procSys == "" {
		r.bad(setProcSys, f.procSys, "must be a directory, such as /proc/sys")
	}
}

// mode checks the mode: our own flag's, or else kube-proxy's.
func (r *review) mode(f *Flags, proxy *v1alpha1.KubeProxyConfiguration, c *Config) {
	c.Mode = ModeIPVS
	if f.mode != "" && f.mode != string(ModeIPVS) {
		r.bad(setOurMode, f.mode, "kube-ipvs has the mode %s", ModeIPVS)
	}
	switch {
	case f.mode != "" || proxy.Mode == v1alpha1.ProxyMode(ModeIPVS):
	case proxy.Mode == "":
		r.note(setMode, "", "not set: kube-ipvs serves with IPVS, where kube-proxy would run iptables")
	case slices.Contains([]v1alpha1.ProxyMode{"iptables", "nftables", "kernelspace"}, proxy.Mode):
		r.bad(setMode, proxy.Mode, "that is kube-proxy's; set it to %s, or give --mode=%[1]s", ModeIPVS)
	default:
		r.bad(setMode, proxy.Mode, "no such mode; set it to %s", ModeIPVS)
	}
	proxy.Mode = v1alpha1.ProxyMode(ModeIPVS)
}

// node checks the name and the address of this node.
func (r *review) node(f *Flags, proxy *v1alpha1.KubeProxyConfiguration, c *Config) {
	given, from := proxy.HostnameOverride, *r
	if f.hostname != "" {
		given, from.fromFile = f.hostname, false // the flag wins
	}
	if given != "" {
		name, err := NodeName(given, "")
		if err != nil {
			r.problems = append(r.problems, &Problem{Setting: from.name(setHostname), Value: given, Message: "must not be blank"})
		}
		c.Hostname, proxy.HostnameOverride = name, name
	}
	bind, ok := parseAddr(proxy.BindAddress)
	if !ok {
		r.bad(setBindAddress, proxy.BindAddress, "must be an address")
	}
	c.BindAddress = bind
	if c.OOMScoreAdj < -1000 || c.OOMScoreAdj > 1000 {
		r.bad(setOOM, c.OOMScoreAdj, "must be -1000 to 1000")
	}
}

// detectLocal checks the detection of pods as sources.
func (r *review) detectLocal(proxy *v1alpha1.KubeProxyConfiguration, c *Config) {
	fill(&proxy.DetectLocalMode, v1alpha1.LocalMode(ClusterCIDR))
	d := &c.DetectLocal
	d.Mode = DetectMode(proxy.DetectLocalMode)
	switch d.Mode {
	case ClusterCIDR:
		d.ClusterCIDRs = r.clusterCIDRs(proxy.ClusterCIDR)
	case NodeCIDR:
	case BridgeInterface:
		d.Interface = proxy.DetectLocal.BridgeInterface
		r.interfaceName(setBridge, d)
	case InterfaceNamePrefix:
		d.Interface = proxy.DetectLocal.InterfaceNamePrefix
		r.interfaceName(setPrefix, d)
	default:
		r.bad(setDetectMode, d.Mode, "must be one of %s", list(detectModes))
	}
}

func (r *review) interfaceName(s setting, d *DetectLocal) {
	switch {
	case d.Interface == "":
		r.bad(s, "", "is missing: %s=%s needs it", r.name(setDetectMode), d.Mode)
	case len(d.Interface) > maxInterfaceName:
		r.bad(s, d.Interface, "an interface's name has at most %d characters", maxInterfaceName)
	}
}

// clusterCIDRs returns the ranges of pods.
func (r *review) clusterCIDRs(given string) []netip.Prefix {
	if strings.TrimSpace(given) == "" {
		return nil
	}
	out := r.prefixes(setClusterCIDR, strings.Split(given, ","))
	if len(out) > 2 || len(out) == 2 && out[0].Addr().Is4() == out[1].Addr().Is4() {
		r.bad(setClusterCIDR, given, "must be one range, or one of each family")
	}
	return out
}

// nodePorts expands the keywords of addresses for node ports.
func (r *review) nodePorts(proxy *v1alpha1.KubeProxyConfiguration, c *Config) {
	v4, v6 := netip.PrefixFrom(netip.IPv4Unspecified(), 0), netip.PrefixFrom(netip.IPv6Unspecified(), 0)
	keywords := map[string][]netip.Prefix{
		"primary": nil, "all": {v4, v6},
		"localhost": {netip.PrefixFrom(netip.AddrFrom4([4]byte{127}), 8), netip.PrefixFrom(netip.IPv6Loopback(), 128)},
	}
	var seen, loopback []string
	for _, text := range proxy.NodePortAddresses {
		ranges, isKeyword := keywords[text]
		if isKeyword && slices.Contains(seen, text) {
			r.bad(setNodePorts, text, "is there twice")
		}
		seen = append(seen, text)
		c.NodePorts.Primary = c.NodePorts.Primary || text == "primary"
		if !isKeyword {
			p, ok := parsePrefix(text)
			if !ok {
				r.bad(setNodePorts, text, "must be a range like 10.0.0.0/8, or primary, localhost or all")
				continue
			}
			ranges = []netip.Prefix{p}
		}
		if slices.ContainsFunc(ranges, func(p netip.Prefix) bool { return p.Addr().IsLoopback() }) {
			loopback = append(loopback, text)
		}
		c.NodePorts.Ranges = append(c.NodePorts.Ranges, ranges...)
	}
	if len(loopback) > 0 {
		r.note(setNodePorts, list(loopback), "IPVS serves no node ports at loopback addresses, also in kube-proxy")
	}
}

// ipvs checks virtual servers and masquerading.
func (r *review) ipvs(f *Flags, proxy *v1alpha1.KubeProxyConfiguration, c *Config) {
	p := &proxy.IPVS
	c.IPVS = IPVS{Scheduler: p.Scheduler, Schedulers: f.schedulers, SyncPeriod: p.SyncPeriod.Duration, StrictARP: p.StrictARP, ExcludeCIDRs: r.prefixes(setExclude, p.ExcludeCIDRs), Estimation: Estimation(f.estimation)}
	if c.IPVS.Estimation != EstimationAsIs && !slices.Contains(estimations, c.IPVS.Estimation) {
		r.bad(setEstimation, f.estimation, "must be one of %s, or empty", list(estimations))
	}
	fill(&c.IPVS.Scheduler, "rr")
	if !slices.Contains(schedulers, c.IPVS.Scheduler) {
		r.bad(setScheduler, c.IPVS.Scheduler, "must be one of %s", list(schedulers))
	}
	for _, s := range c.IPVS.Schedulers {
		if !slices.Contains(schedulers, s) {
			r.bad(setSchedulers, s, "must be one of %s", list(schedulers))
		}
	}
	minPeriod := p.MinSyncPeriod.Duration
	switch {
	case c.IPVS.SyncPeriod <= 0:
		r.bad(setSync, c.IPVS.SyncPeriod, "must be more than 0")
	case minPeriod < 0:
		r.bad(setMinSync, minPeriod, "must be 0 or more")
	case minPeriod > c.IPVS.SyncPeriod:
		r.bad(setSync, c.IPVS.SyncPeriod, "must not be less than %s, which is %v", r.name(setMinSync), minPeriod)
	}
	c.IPVS.TCPTimeout = r.timeout(setTCP, p.TCPTimeout.Duration)
	c.IPVS.TCPFinTimeout = r.timeout(setTCPFin, p.TCPFinTimeout.Duration)
	c.IPVS.UDPTimeout = r.timeout(setUDP, p.UDPTimeout.Duration)
	if byDefault := r.timeout(setDefaultTCP, f.defaultTCP); c.IPVS.TCPTimeout == 0 && byDefault > 0 {
		c.IPVS.TCPTimeout = byDefault
		r.note(setTCP, "0s", "set to %v, where kube-proxy would leave the kernel's 15m0s; --default-ipvs-tcp-timeout=0s leaves it too", byDefault)
	}
	c.Masquerade = Masquerade{Bit: int(*proxy.IPTables.MasqueradeBit), All: proxy.IPTables.MasqueradeAll}
	if c.Masquerade.Bit < 0 || c.Masquerade.Bit > 31 {
		r.bad(setMasqueradeBit, c.Masquerade.Bit, "must be 0 to 31")
	}
}

// timeout checks a timeout of IPVS.
func (r *review) timeout(s setting, d time.Duration) time.Duration {
	if d < 0 || d > maxTimeout || d%time.Second != 0 {
		r.bad(s, d, "must be whole seconds from 0 to %v", maxTimeout)
	}
	return d
}

// conntrack checks connection tracking.
func (r *review) conntrack(proxy *v1alpha1.KubeProxyConfiguration, c *Config) {
	p := &proxy.Conntrack
	c.Conntrack = Conntrack{
		MaxPerCore: int(*p.MaxPerCore), Min: int(*p.Min), TCPBeLiberal: p.TCPBeLiberal,
		TCPEstablishedTimeout: p.TCPEstablishedTimeout.Duration, TCPCloseWaitTimeout: p.TCPCloseWaitTimeout.Duration,
		UDPTimeout: p.UDPTimeout.Duration, UDPStreamTimeout: p.UDPStreamTimeout.Duration,
	}
	for _, n := range []struct {
		setting
		value int
	}{{setMaxPerCore, c.Conntrack.MaxPerCore}, {setMin, c.Conntrack.Min}} {
		if n.value < 0 {
			r.bad(n.setting, n.value, "must be 0 or more")
		}
	}
	for _, d := range []struct {
		setting
		value time.Duration
	}{
		{setEstablished, c.Conntrack.TCPEstablishedTimeout}, {setCloseWait, c.Conntrack.TCPCloseWaitTimeout},
		{setUDPFlow, c.Conntrack.UDPTimeout}, {setUDPStream, c.Conntrack.UDPStreamTimeout},
	} {
		if d.value < 0 {
			r.bad(d.setting, d.value, "must be 0 or more")
		}
	}
}

// client checks the connection to the API server.
func (r *review) client(proxy *v1alpha1.KubeProxyConfiguration) {
	if burst := proxy.ClientConnection.Burst; burst < 0 {
		r.bad(setBurst, burst, "must be 0 or more")
	}
	if period := proxy.ConfigSyncPeriod.Duration; period <= 0 {
		r.bad(setConfigSync, period, "must be more than 0")
	}
}

// logging takes over the settings of the log.
func (r *review) logging(proxy *v1alpha1.KubeProxyConfiguration, c *Config) {
	c.Logging = *proxy.Logging.DeepCopy()
	for _, err := range logsapi.Validate(&c.Logging, c.Gates, field.NewPath("logging")) {
		r.problems = append(r.problems, err)
	}
}
