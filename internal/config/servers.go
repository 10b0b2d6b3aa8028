package config

import (
	"net/netip"
	"regexp"

	"k8s.io/kube-proxy/config/v1alpha1"
)

// takePorts adds the ports of the deprecated flags to addresses without port.
func (f *Flags) takePorts(proxy *v1alpha1.KubeProxyConfiguration, r *review) {
	if r.fromFile {
		return
	}
	for _, s := range []struct {
		setting
		port    int32
		address *string
		server  setting
	}{
		{setHealthzPort, f.healthzPort, &proxy.HealthzBindAddress, setHealthz},
		{setMetricsPort, f.metricsPort, &proxy.MetricsBindAddress, setMetrics},
	} {
		switch {
		case s.port < 0 || s.port > 65535:
			r.bad(s.setting, s.port, "must be a port")
			continue
		case s.port == 0 && s.setting == setMetricsPort:
			r.bad(s.setting, s.port, "kube-proxy does not start with it; --serve-metrics=false turns the server off")
			continue
		case s.port == 0:
			continue
		}
		before := *s.address
		*s.address = withPort(before, int(s.port))
		if *s.address == before && f.set.Changed(s.flag) {
			r.note(s.setting, s.port, "has no effect, also in kube-proxy: %s is %s", r.name(s.server), before)
		}
	}
}

// minorVersion is a minor version of Kubernetes. Each kube-proxy takes the one before its own alone, which is not ours to know.
var minorVersion = regexp.MustCompile(`^\d+\.\d+$`)

// servers checks the addresses of the HTTP servers.
func (r *review) servers(f *Flags, proxy *v1alpha1.KubeProxyConfiguration, c *Config) {
	c.Healthz = r.server(setHealthz, proxy.HealthzBindAddress, f.serveHealthz && (r.fromFile || f.healthzPort != 0))
	c.Metrics = r.server(setMetrics, proxy.MetricsBindAddress, f.serveMetrics)
	if v := proxy.ShowHiddenMetricsForVersion; v != "" {
		if !minorVersion.MatchString(v) {
			r.bad(setHidden, v, "must be MAJOR.MINOR, like 1.36")
		}
		r.note(setHidden, v, "kube-ipvs hides no metrics")
	}
}

func (r *review) server(s setting, address string, serve bool) netip.AddrPort {
	a, ok := parseAddrPort(address)
	if !ok {
		r.bad(s, address, "must be ADDRESS or ADDRESS:PORT, like 127.0.0.1:10249 or [::1]:10249")
	}
	if !serve {
		return netip.AddrPort{}
	}
	return a
}

// withoutEffect notes the settings without effect, unless they have kube-proxy's defaults.
func (r *review) withoutEffect(f *Flags, proxy *v1alpha1.KubeProxyConfiguration) {
	var defaults v1alpha1.KubeProxyConfiguration
	setDefaults(&defaults)
	unless := func(s setting, value, byDefault any, why string) {
		if value != byDefault {
			r.note(s, value, "has no effect: %s", why)
		}
	}
	const atOnce, otherMode, windows = "each change is programmed at once", "it is of another mode", "it is of Windows"
	if r.fromFile || f.set.Changed(setMinSync.flag) { // the flag's own default is another
		unless(setMinSync, proxy.IPVS.MinSyncPeriod.Duration, defaults.IPVS.MinSyncPeriod.Duration, atOnce)
	}
	unless(setLocalhost, *proxy.IPTables.LocalhostNodePorts, true, "IPVS serves no node ports at loopback addresses")
	unless(setIPTablesSync, proxy.IPTables.SyncPeriod.Duration, defaults.IPTables.SyncPeriod.Duration, otherMode)
	unless(setIPTablesMinSync, proxy.IPTables.MinSyncPeriod.Duration, defaults.IPTables.MinSyncPeriod.Duration, otherMode)
	unless(setting{field: "nftables.masqueradeBit"}, *proxy.NFTables.MasqueradeBit, *defaults.NFTables.MasqueradeBit, otherMode)
	unless(setting{field: "nftables.masqueradeAll"}, proxy.NFTables.MasqueradeAll, false, otherMode)
	unless(setting{field: "nftables.syncPeriod"}, proxy.NFTables.SyncPeriod.Duration, defaults.NFTables.SyncPeriod.Duration, otherMode)
	unless(setting{field: "nftables.minSyncPeriod"}, proxy.NFTables.MinSyncPeriod.Duration, defaults.NFTables.MinSyncPeriod.Duration, otherMode)
	unless(setting{field: "winkernel.networkName"}, proxy.Winkernel.NetworkName, "", windows)
	unless(setting{field: "winkernel.sourceVip"}, proxy.Winkernel.SourceVip, "", windows)
	unless(setting{field: "winkernel.enableDSR"}, proxy.Winkernel.EnableDSR, false, windows)
	unless(setting{field: "winkernel.rootHnsEndpointName"}, proxy.Winkernel.RootHnsEndpointName, "", windows)
	unless(setting{field: "winkernel.forwardHealthCheckVip"}, proxy.Winkernel.ForwardHealthCheckVip, false, windows)
	unless(setWinService, proxy.WindowsRunAsService, false, windows)
	unless(setConfigSync, proxy.ConfigSyncPeriod.Duration, defaults.ConfigSyncPeriod.Duration, "kube-ipvs needs no resync")
	unless(setPortRange, proxy.PortRange, "", "no mode of today opens ports for Services")
	const until = "kube-proxy had it until 1.36"
	unless(setBootID, f.bootIDFile, "", until)
	unless(setMachineID, f.machineIDFile, "", until)
}
