package main

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/spf13/pflag"

	"kube-ipvs/ipvs"
	"kube-ipvs/sync/plan"
)

// Options are the flags. Where kube-proxy has a flag for something it has the same name, default and meaning here
// (cmd/kube-proxy/app/options.go).
type options struct {
	mode    string
	cleanup bool
	version bool

	kubeconfig  string
	master      string
	manifests   string
	qps         float32
	burst       int
	contentType string

	hostname          string
	clusterCIDRs      []string
	detectLocalMode   string
	bridgeInterface   string
	interfacePrefix   string
	nodePortAddresses []string
	vipMode           string

	scheduler     string
	excludeCIDRs  []string
	strictARP     bool
	syncPeriod    time.Duration
	drainLimit    time.Duration
	timeouts      ipvs.Timeouts
	masqueradeBit int
	masqueradeAll bool

	healthzAddress string
	metricsAddress string
	profiling      bool
	procSys        string
}

// register declares the flags.
func (o *options) register(fs *pflag.FlagSet) {
	fs.StringVar(&o.mode, "mode", "ipvs", "Which mode to run in: ipvs.")
	fs.StringVar(&o.mode, "proxy-mode", "ipvs", "Another name of --mode.")
	fs.BoolVar(&o.cleanup, "cleanup", false, "Remove everything that is kube-ipvs's from this node and exit.")
	fs.BoolVar(&o.version, "version", false, "Print the version and exit.")

	fs.StringVar(&o.kubeconfig, "kubeconfig", "", "Path to a kubeconfig file. Without it, --master and --manifests the service account of the pod is used.")
	fs.StringVar(&o.master, "master", "", "URL of the API server; overrides the kubeconfig's.")
	fs.StringVar(&o.manifests, "manifests", "", "A folder of YAML files to serve instead of a cluster: Services, EndpointSlices, Nodes, ServiceCIDRs.")
	fs.Float32Var(&o.qps, "kube-api-qps", 5, "Requests per second to the API server.")
	fs.IntVar(&o.burst, "kube-api-burst", 10, "Requests to the API server above that rate for a moment.")
	fs.StringVar(&o.contentType, "kube-api-content-type", "application/vnd.kubernetes.protobuf", "Content type of requests to the API server.")

	fs.StringVar(&o.hostname, "hostname-override", "", "Name of this node, where it is not the host's name.")
	fs.StringSliceVar(&o.clusterCIDRs, "cluster-cidr", nil, "Ranges of pod addresses: a source outside of them is masqueraded on its way to a cluster IP. At most one of each family.")
	fs.StringVar(&o.detectLocalMode, "detect-local-mode", "ClusterCIDR", "How to tell pods from other sources: "+strings.Join(detectModes, ", ")+".")
	fs.StringVar(&o.bridgeInterface, "pod-bridge-interface", "", "With --detect-local-mode=BridgeInterface: the bridge that pods are behind.")
	fs.StringVar(&o.interfacePrefix, "pod-interface-name-prefix", "", "With --detect-local-mode=InterfaceNamePrefix: what the names of pods' interfaces begin with.")
	fs.StringSliceVar(&o.nodePortAddresses, "nodeport-addresses", nil, "Ranges of the node's addresses that serve node ports, or \"primary\" for the Node's own; without any, all.")
	fs.StringVar(&o.vipMode, "vip-mode", "divert", "How this node takes packets for service addresses: divert (only of ports that a Service has), or bind (addresses on kube-ipvs0).")

	fs.StringVar(&o.scheduler, "ipvs-scheduler", "rr", "IPVS scheduler: "+strings.Join(schedulers, ", ")+".")
	fs.StringSliceVar(&o.excludeCIDRs, "ipvs-exclude-cidrs", nil, "Accepted for kube-proxy's sake: virtual servers of others are never touched.")
	fs.BoolVar(&o.strictARP, "ipvs-strict-arp", false, "Set arp_ignore to 1 and arp_announce to 2.")
	fs.DurationVar(&o.syncPeriod, "ipvs-sync-period", 30*time.Second, "How long a change may wait to be programmed, half: after twice this time the proxy is unhealthy.")
	fs.DurationVar(&o.drainLimit, "drain-limit", 15*time.Minute, "How long an endpoint that no EndpointSlice lists any more may keep its connections.")
	// IPVS's own 15 minutes end connections that conntrack keeps and whose ends know nothing of it.
	fs.DurationVar(&o.timeouts.TCP, "ipvs-tcp-timeout", 24*time.Hour, "How long an idle TCP connection is kept, in whole seconds; 0: as the kernel has it.")
	fs.DurationVar(&o.timeouts.TCPFin, "ipvs-tcpfin-timeout", 0, "How long a TCP connection is kept after a FIN, in whole seconds; 0: as the kernel has it.")
	fs.DurationVar(&o.timeouts.UDP, "ipvs-udp-timeout", 0, "How long an idle UDP flow is kept, in whole seconds; 0: as the kernel has it.")
	fs.IntVar(&o.masqueradeBit, "iptables-masquerade-bit", 14, "Bit of the firewall mark for packets to masquerade, 0 to 31.")
	fs.BoolVar(&o.masqueradeAll, "masquerade-all", false, "Masquerade all traffic to cluster IPs.")

	fs.StringVar(&o.healthzAddress, "healthz-bind-address", "0.0.0.0:10256", "Address and port of /healthz and /livez; empty: none.")
	fs.StringVar(&o.metricsAddress, "metrics-bind-address", "127.0.0.1:10249", "Address and port of /metrics; empty: none.")
	fs.BoolVar(&o.profiling, "profiling", false, "Answer /debug/pprof where /metrics is, too.")
	fs.StringVar(&o.procSys, "proc-sys", "/proc/sys", "Where kernel settings are: another mount of /proc/sys in a container whose own is read-only.")
}

var (
	detectModes = []string{"ClusterCIDR", "NodeCIDR", "BridgeInterface", "InterfaceNamePrefix"}
	schedulers  = []string{"rr", "wrr", "lc", "wlc", "lblc", "lblcr", "sh", "dh", "mh", "sed", "nq", "fo", "ovf", "twos"}
)

// validate returns all that is wrong with the flags, each in a line that says what to do.
func (o *options) validate() error {
	var errs []error
	bad := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	switch o.mode {
	case "ipvs":
	case "iptables", "nftables", "userspace", "kernelspace":
		bad("--mode=%s: that is kube-proxy's; kube-ipvs has the mode ipvs", o.mode)
	default:
		bad("--mode=%s: no such mode; kube-ipvs has the mode ipvs", o.mode)
	}
	if !slices.Contains(detectModes, o.detectLocalMode) {
		bad("--detect-local-mode=%s: must be one of %s", o.detectLocalMode, strings.Join(detectModes, ", "))
	}
	if o.detectLocalMode == "BridgeInterface" && o.bridgeInterface == "" {
		bad("--detect-local-mode=BridgeInterface needs --pod-bridge-interface")
	}
	if o.detectLocalMode == "InterfaceNamePrefix" && o.interfacePrefix == "" {
		bad("--detect-local-mode=InterfaceNamePrefix needs --pod-interface-name-prefix")
	}
	if len(o.bridgeInterface) > 15 || len(o.interfacePrefix) > 15 {
		bad("--pod-bridge-interface, --pod-interface-name-prefix: an interface's name has at most 15 characters")
	}
	if !slices.Contains(schedulers, o.scheduler) {
		bad("--ipvs-scheduler=%s: must be one of %s", o.scheduler, strings.Join(schedulers, ", "))
	}
	if o.vipMode != "divert" && o.vipMode != "bind" {
		bad("--vip-mode=%s: must be divert or bind", o.vipMode)
	}
	if o.masqueradeBit < 0 || o.masqueradeBit > 31 {
		bad("--iptables-masquerade-bit=%d: must be 0 to 31", o.masqueradeBit)
	}
	for name, d := range map[string]time.Duration{"ipvs-sync-period": o.syncPeriod, "drain-limit": o.drainLimit} {
		if d <= 0 {
			bad("--%s=%v: must be more than 0", name, d)
		}
	}
	for name, d := range map[string]time.Duration{"tcp": o.timeouts.TCP, "tcpfin": o.timeouts.TCPFin, "udp": o.timeouts.UDP} {
		if d < 0 || d > mostTimeout || d%time.Second != 0 {
			bad("--ipvs-%s-timeout=%v: must be whole seconds from 0 to %v", name, d, mostTimeout)
		}
	}
	errs = append(errs, o.addresses()...)
	return errors.Join(errs...)
}

// mostTimeout is less than what the kernel takes, whatever its clock (ip_vs_set_timeout in net/netfilter/ipvs/ip_vs_ctl.c).
const mostTimeout = 500 * time.Hour

// addresses returns what is wrong with flags that hold addresses.
func (o *options) addresses() []error {
	var errs []error
	for name, list := range map[string][]string{"cluster-cidr": o.clusterCIDRs, "ipvs-exclude-cidrs": o.excludeCIDRs, "nodeport-addresses": o.nodePortAddresses} {
		if name == "nodeport-addresses" && o.primaryOnly() {
			continue
		}
		if _, err := prefixes(list); err != nil {
			errs = append(errs, fmt.Errorf("--%s: %w", name, err))
		}
	}
	for name, addr := range map[string]string{"healthz-bind-address": o.healthzAddress, "metrics-bind-address": o.metricsAddress} {
		if addr == "" {
			continue
		}
		if _, _, err := net.SplitHostPort(addr); err != nil {
			errs = append(errs, fmt.Errorf("--%s=%s: must be ADDRESS:PORT", name, addr))
		}
	}
	slices.SortFunc(errs, func(a, b error) int { return strings.Compare(a.Error(), b.Error()) })
	return errs
}

// primaryOnly says that node ports are served on the Node's own addresses.
func (o *options) primaryOnly() bool { return slices.Equal(o.nodePortAddresses, []string{"primary"}) }

// prefixes parses ranges.
func prefixes(list []string) ([]netip.Prefix, error) {
	var out []netip.Prefix
	for _, s := range list {
		p, err := netip.ParsePrefix(strings.TrimSpace(s))
		if err != nil {
			return nil, fmt.Errorf("%q is not a range like 10.0.0.0/8", s)
		}
		out = append(out, p.Masked())
	}
	return out, nil
}

// detector returns how pods are told from other sources. PodCIDRs are this node's.
func (o *options) detector(podCIDRs []netip.Prefix) plan.Detector {
	switch o.detectLocalMode {
	case "NodeCIDR":
		return plan.Detector{Prefixes: firstOfEach(podCIDRs)}
	case "BridgeInterface":
		return plan.Detector{Interface: o.bridgeInterface}
	case "InterfaceNamePrefix":
		return plan.Detector{Interface: o.interfacePrefix + "+"}
	}
	clusterCIDRs, _ := prefixes(o.clusterCIDRs) // validated
	return plan.Detector{Prefixes: firstOfEach(clusterCIDRs)}
}

// firstOfEach returns the first prefix of each family.
func firstOfEach(in []netip.Prefix) []netip.Prefix {
	var out []netip.Prefix
	for _, p := range in {
		if !slices.ContainsFunc(out, func(o netip.Prefix) bool { return o.Addr().Is4() == p.Addr().Is4() }) {
			out = append(out, p)
		}
	}
	return out
}
