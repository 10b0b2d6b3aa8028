package config

import (
	"strings"
	"time"

	"github.com/spf13/pflag"
	cliflag "k8s.io/component-base/cli/flag"
	logsapi "k8s.io/component-base/logs/api/v1"
	_ "k8s.io/component-base/logs/json/register" // --logging-format=json
	"k8s.io/kube-proxy/config/v1alpha1"
)

// DefaultSocket is the default of --socket, of the program and of its subcommands. Its directory is made if it is missing.
const DefaultSocket = "/run/kube-ipvs/kube-ipvs.sock"

// Flags are the command line. Flags of kube-proxy fill the type of its configuration file, so that both ways lead through the
// same checks.
type Flags struct {
	set   *pflag.FlagSet
	proxy *v1alpha1.KubeProxyConfiguration

	// Flags of kube-proxy without a field in its file.
	file          string
	writeConfigTo string
	cleanup       bool
	initOnly      bool
	dryRun        bool
	version       versionFlag
	master        string
	hostname      string
	healthzPort   int32
	metricsPort   int32
	bootIDFile    string
	machineIDFile string

	// Flags of our own.
	mode          string
	vipMode       string
	kubelet       string
	manifests     string
	procSys       string
	socket        string
	drainLimit    time.Duration
	defaultTCP    time.Duration
	estimation    string
	schedulers    []string
	serveHealthz  bool
	serveMetrics  bool
	page          string
	trafficSeries int
}

// AddFlags declares the flags in a set, which accepts underscores for their hyphens, as kube-proxy does. Parse the set before Load.
func AddFlags(fs *pflag.FlagSet) *Flags {
	fs.SetNormalizeFunc(cliflag.WordSepNormalizeFunc)
	f := &Flags{set: fs, proxy: &v1alpha1.KubeProxyConfiguration{}}
	setDefaults(f.proxy)
	f.proxy.IPVS.MinSyncPeriod.Duration = time.Second // from a file it is 0
	f.addControl()
	f.addCluster()
	f.addNode()
	f.addIPVS()
	f.addConntrack()
	f.addServers()
	f.addOther()
	logsapi.AddFlags(&f.proxy.Logging, fs)
	return f
}

// addControl declares the flags of the program's purpose.
func (f *Flags) addControl() {
	fs := f.set
	fs.StringVar(&f.file, "config", "", "Path to a configuration file of kube-proxy (kubeproxy.config.k8s.io/v1alpha1). Most flags that kube-proxy has too are ignored then.")
	fs.StringVar(&f.writeConfigTo, "write-config-to", "", "Write the configuration, with all defaults, to this file and exit.")
	fs.BoolVar(&f.cleanup, "cleanup", false, "Remove everything that kube-ipvs owns from this node and exit.")
	fs.BoolVar(&f.initOnly, "init-only", false, "Load kernel modules, make the kernel settings and exit. Afterwards kube-ipvs can run without those privileges.")
	fs.BoolVar(&f.dryRun, "dry-run", false, "Print what a start would change, as commands, and exit: as the subcommand diff.")
	fs.Var(&f.version, "version", "Print the version and exit; --version=raw: with details.")
	fs.Lookup("version").NoOptDefVal = "true"

	fs.StringVar(&f.mode, "mode", "", "Proxy mode, whatever --proxy-mode or the configuration file says: ipvs.")
	fs.StringVar((*string)(&f.proxy.Mode), "proxy-mode", "", "Proxy mode as kube-proxy has it; only ipvs is served. Empty: ipvs, where kube-proxy would run iptables.")
	fs.StringVar(&f.vipMode, "vip-mode", string(Divert), "How this node takes packets for service addresses: divert (only of ports that a Service has), or bind (addresses on kube-ipvs0).")
	fs.DurationVar(&f.drainLimit, "drain-limit", 15*time.Minute, "How long an endpoint that no EndpointSlice lists any more may keep its connections.")
}

// addCluster declares the flags of the API server.
func (f *Flags) addCluster() {
	fs, c := f.set, &f.proxy.ClientConnection
	fs.StringVar(&c.Kubeconfig, "kubeconfig", "", "Path to a kubeconfig file. Without it, --master and --manifests, the service account of the pod is used.")
	fs.StringVar(&f.master, "master", "", "URL of the API server; overrides the kubeconfig's.")
	fs.StringVar(&f.kubelet, "kubelet-kubeconfig", "", "Path to the kubelet's kubeconfig, for the API server's address and certificate authority alone, where the pod's service account is used: the pod's own environment has the cluster IP.")
	fs.StringVar(&f.manifests, "manifests", "", "Directory of YAML files to serve instead of a cluster: Services, EndpointSlices, Nodes, ServiceCIDRs.")
	fs.Float32Var(&c.QPS, "kube-api-qps", c.QPS, "Requests per second to the API server.")
	fs.Int32Var(&c.Burst, "kube-api-burst", c.Burst, "Requests to the API server above that rate, for a moment.")
	fs.StringVar(&c.ContentType, "kube-api-content-type", c.ContentType, "Content type of requests to the API server.")
	fs.DurationVar(&f.proxy.ConfigSyncPeriod.Duration, "config-sync-period", f.proxy.ConfigSyncPeriod.Duration, "Accepted without effect: kube-ipvs needs no resync.")
}

// addNode declares the flags that describe this node and its pods.
func (f *Flags) addNode() {
	fs, p := f.set, f.proxy
	fs.StringVar(&f.hostname, "hostname-override", "", "Name of this node's Node, if it is not the host's name. Also overrides the configuration file.")
	fs.Var(ifGiven(&p.BindAddress, "ip"), "bind-address", "The node's primary address, if it is not the first of its Node. Nothing is bound to it.")
	fs.StringVar((*string)(&p.DetectLocalMode), "detect-local-mode", "", "How pods are told from other sources: "+list(detectModes)+". Empty: ClusterCIDR.")
	fs.StringVar(&p.ClusterCIDR, "cluster-cidr", "", "Address ranges of pods, one of each family at most. Traffic to cluster IPs from outside these ranges is masqueraded.")
	fs.StringVar(&p.DetectLocal.BridgeInterface, "pod-bridge-interface", "", "With --detect-local-mode=BridgeInterface: the bridge that pods are behind.")
	fs.StringVar(&p.DetectLocal.InterfaceNamePrefix, "pod-interface-name-prefix", "", "With --detect-local-mode=InterfaceNamePrefix: the beginning of the names of pods' interfaces.")
	fs.StringSliceVar(&p.NodePortAddresses, "nodeport-addresses", nil, "Ranges of the node's addresses that serve node ports, or keywords: primary (the Node's own addresses), localhost, all. Empty: all.")
	fs.StringVar(&f.procSys, "proc-sys", "/proc/sys", "Directory of the kernel settings: another mount of /proc/sys, in a container whose own is read-only.")
	fs.Int32Var(p.OOMScoreAdj, "oom-score-adj", *p.OOMScoreAdj, "oom_score_adj of the process, -1000 to 1000.")
}

// addIPVS declares the flags of virtual servers and masquerading.
func (f *Flags) addIPVS() {
	fs, p := f.set, f.proxy
	fs.StringVar(&p.IPVS.Scheduler, "ipvs-scheduler", "", "IPVS scheduler: "+list(schedulers)+". Empty: rr.")
	fs.StringSliceVar(&f.schedulers, "ipvs-service-schedulers", nil, "IPVS schedulers that a Service may choose instead, by its annotation kube-ipvs/scheduler. Empty: none.")
	fs.StringSliceVar(&p.IPVS.ExcludeCIDRs, "ipvs-exclude-cidrs", nil, "Ranges whose virtual servers are never touched.")
	fs.BoolVar(&p.IPVS.StrictARP, "ipvs-strict-arp", false, "Set arp_ignore to 1 and arp_announce to 2.")
	fs.DurationVar(&p.IPVS.SyncPeriod.Duration, "ipvs-sync-period", p.IPVS.SyncPeriod.Duration, "Health timeout, halved: the node reports unhealthy if a change stays unprogrammed for twice this period.")
	fs.DurationVar(&p.IPVS.MinSyncPeriod.Duration, "ipvs-min-sync-period", p.IPVS.MinSyncPeriod.Duration, "Accepted without effect: each change is programmed at once.")
	fs.DurationVar(&p.IPVS.TCPTimeout.Duration, "ipvs-tcp-timeout", 0, "Timeout of idle TCP connections, in whole seconds; 0: see --default-ipvs-tcp-timeout.")
	// IPVS's default of 15 minutes silently ends connections that conntrack keeps.
	fs.DurationVar(&f.defaultTCP, "default-ipvs-tcp-timeout", 24*time.Hour, "Timeout of idle TCP connections where --ipvs-tcp-timeout or ipvs.tcpTimeout is 0; 0: as the kernel has it.")
	fs.DurationVar(&p.IPVS.TCPFinTimeout.Duration, "ipvs-tcpfin-timeout", 0, "Timeout of TCP connections after a FIN, in whole seconds; 0: as the kernel has it.")
	fs.DurationVar(&p.IPVS.UDPTimeout.Duration, "ipvs-udp-timeout", 0, "Timeout of idle UDP flows, in whole seconds; 0: as the kernel has it.")
	fs.StringVar(&f.estimation, "ipvs-estimation", "", "Whether IPVS estimates rates, every two seconds for all virtual and real servers: on, or off (net.ipv4.vs.run_estimation, Linux 5.17 and later). Off, its counters of connections, packets and bytes stand still. Empty: as the kernel has it.")
	fs.Int32Var(p.IPTables.MasqueradeBit, "iptables-masquerade-bit", *p.IPTables.MasqueradeBit, "Bit of the firewall mark for packets to masquerade, 0 to 31.")
	fs.BoolVar(&p.IPTables.MasqueradeAll, "masquerade-all", false, "Masquerade all traffic to cluster IPs.")
	fs.BoolVar(p.IPTables.LocalhostNodePorts, "iptables-localhost-nodeports", true, "Accepted without effect: IPVS serves no node ports at loopback addresses.")
	fs.DurationVar(&p.IPTables.SyncPeriod.Duration, "iptables-sync-period", p.IPTables.SyncPeriod.Duration, "Accepted without effect: see --ipvs-sync-period.")
	fs.DurationVar(&p.IPTables.MinSyncPeriod.Duration, "iptables-min-sync-period", p.IPTables.MinSyncPeriod.Duration, "Accepted without effect: each change is programmed at once.")
}

// addConntrack declares the flags of connection tracking.
func (f *Flags) addConntrack() {
	fs, c := f.set, &f.proxy.Conntrack
	fs.Int32Var(c.MaxPerCore, "conntrack-max-per-core", *c.MaxPerCore, "Connections to track for each CPU; 0: as the kernel has it, whatever --conntrack-min is.")
	fs.Int32Var(c.Min, "conntrack-min", *c.Min, "Connections to track at least, whatever the number of CPUs.")
	fs.DurationVar(&c.TCPEstablishedTimeout.Duration, "conntrack-tcp-timeout-established", c.TCPEstablishedTimeout.Duration, "Conntrack timeout of idle TCP connections; 0: as the kernel has it.")
	fs.DurationVar(&c.TCPCloseWaitTimeout.Duration, "conntrack-tcp-timeout-close-wait", c.TCPCloseWaitTimeout.Duration, "Conntrack timeout of TCP connections in CLOSE_WAIT; 0: as the kernel has it.")
	fs.BoolVar(&c.TCPBeLiberal, "conntrack-tcp-be-liberal", false, "Set nf_conntrack_tcp_be_liberal to 1: packets outside the TCP window are not invalid.")
	fs.DurationVar(&c.UDPTimeout.Duration, "conntrack-udp-timeout", 0, "Conntrack timeout of UDP flows without a reply; 0: as the kernel has it.")
	fs.DurationVar(&c.UDPStreamTimeout.Duration, "conntrack-udp-timeout-stream", 0, "Conntrack timeout of UDP flows with replies; 0: as the kernel has it.")
}

// addServers declares the flags of the HTTP servers.
func (f *Flags) addServers() {
	fs, p := f.set, f.proxy
	fs.Var(ifGiven(&p.HealthzBindAddress, "ipport"), "healthz-bind-address", "Address of /healthz and /livez; without a port: port 10256.")
	fs.Var(ifGiven(&p.MetricsBindAddress, "ipport"), "metrics-bind-address", "Address of /metrics; without a port: port 10249.")
	fs.BoolVar(&f.serveHealthz, "serve-healthz", true, "Serve /healthz and /livez.")
	fs.BoolVar(&f.serveMetrics, "serve-metrics", true, "Serve /metrics.")
	fs.StringVar(&f.page, "page", string(PageLoopback), "Who may see the page for a browser, /page/ beside /metrics, that shows what this node serves: loopback (this node, and what is forwarded to its loopback address), all (whoever reaches /metrics), or none.")
	fs.IntVar(&f.trafficSeries, "traffic-series", 1000, "Bound on the series of the metrics of traffic: five for a Service, and five for an endpoint. 0: none, and the kernel's counters are not read.")
	fs.BoolVar(&p.BindAddressHardFail, "bind-address-hard-fail", false, "Exit if a server's address cannot be bound, instead of trying again.")
	fs.BoolVar(&p.EnableProfiling, "profiling", false, "Serve /debug/pprof beside /metrics.")
	fs.StringVar(&p.ShowHiddenMetricsForVersion, "show-hidden-metrics-for-version", "", "Accepted without effect: kube-ipvs hides no metrics. A minor version of Kubernetes, such as 1.36.")
	fs.StringVar(&f.socket, "socket", DefaultSocket, "Path of the local socket at which subcommands such as \"kube-ipvs get\" are answered, for the superuser and the program's own user; empty: none.")
	fs.Int32Var(&f.healthzPort, "healthz-port", healthzPort, "Port of a --healthz-bind-address that has none; 0: do not serve /healthz and /livez.")
	fs.Int32Var(&f.metricsPort, "metrics-port", metricsPort, "Port of a --metrics-bind-address that has none.")
	for old, now := range map[string]string{"healthz-port": "healthz-bind-address", "metrics-port": "metrics-bind-address"} {
		_ = fs.MarkDeprecated(old, "use --"+now) // fails only for a flag that is not declared
	}
}

// addOther declares the accepted flags of other versions and components.
func (f *Flags) addOther() {
	fs := f.set
	fs.Var(cliflag.NewMapStringBool(&f.proxy.FeatureGates), "feature-gates", "Feature gates of Kubernetes, as Name=true,Other=false. Every name is accepted; those that mean something here: "+list(knownGates())+".")
	fs.StringVar(&f.bootIDFile, "boot-id-file", "", "Accepted without effect: kube-proxy had it until 1.36.")
	fs.StringVar(&f.machineIDFile, "machine-id-file", "", "Accepted without effect: kube-proxy had it until 1.36.")
}

// ignored returns the given flags without effect beside a file, as --name, sorted.
func (f *Flags) ignored() []string {
	beside := map[string]bool{
		"config": true, "write-config-to": true, "cleanup": true, "init-only": true, "dry-run": true, "version": true, "master": true, "hostname-override": true,
		"mode": true, "vip-mode": true, "kubelet-kubeconfig": true, "manifests": true, "proc-sys": true, "drain-limit": true, "default-ipvs-tcp-timeout": true, "ipvs-estimation": true, "ipvs-service-schedulers": true,
		"serve-healthz": true, "serve-metrics": true, "socket": true, "traffic-series": true, "page": true, "boot-id-file": true, "machine-id-file": true,
	}
	var logging pflag.FlagSet
	logsapi.AddFlags(logsapi.NewLoggingConfiguration(), &logging)
	var out []string
	f.set.Visit(func(given *pflag.Flag) {
		if !beside[given.Name] && logging.Lookup(given.Name) == nil {
			out = append(out, "--"+given.Name)
		}
	})
	return out
}

// values returns the values of all flags by name.
func (f *Flags) values() map[string]string {
	out := map[string]string{}
	f.set.VisitAll(func(flag *pflag.Flag) { out[flag.Name] = flag.Value.String() })
	return out
}

// list joins names for a sentence.
func list[S ~string](names []S) string {
	var b strings.Builder
	for i, n := range names {
		if i > 0 {
			b.WriteString(", ")
		}
		b.WriteString(string(n))
	}
	return b.String()
}

// A stringFlag keeps its default if the value is empty, as kube-proxy's flags of addresses do.
type stringFlag struct {
	value *string
	kind  string
}

func ifGiven(value *string, kind string) *stringFlag { return &stringFlag{value, kind} }

// Set implements pflag.Value.
func (s *stringFlag) Set(text string) error {
	if text != "" {
		*s.value = text
	}
	return nil
}

// String implements pflag.Value.
func (s *stringFlag) String() string {
	if s.value == nil {
		return ""
	}
	return *s.value
}

// Type implements pflag.Value.
func (s *stringFlag) Type() string { return s.kind }
