// Package config holds the configuration of a node's proxy as values. Flags fill it, or kube-proxy's configuration file
// (kubeproxy.config.k8s.io/v1alpha1): with the names, defaults, precedence and checks of kube-proxy 1.37, so that kube-ipvs
// starts where kube-proxy did. Text is parsed here and nowhere else.
package config

import (
	"net/netip"
	"time"

	"k8s.io/component-base/featuregate"
	logsapi "k8s.io/component-base/logs/api/v1"
	"k8s.io/kube-proxy/config/v1alpha1"
)

// Action is the purpose of a run of the program.
type Action string

// The actions, in the order in which they take precedence over each other.
const (
	ShowVersion Action = "show version" // --version
	WriteConfig Action = "write config" // --write-config-to
	Cleanup     Action = "clean up"     // --cleanup
	InitOnly    Action = "init only"    // --init-only
	DryRun      Action = "dry run"      // --dry-run
	Serve       Action = "serve"
)

// Mode selects the method of forwarding.
type Mode string

// ModeIPVS is the only mode so far.
const ModeIPVS Mode = "ipvs"

// VIPMode selects the way in which the node accepts packets for service addresses.
type VIPMode string

// The ways to accept packets.
const (
	Divert VIPMode = "divert" // route the packets of a Service's ports to IPVS
	Bind   VIPMode = "bind"   // add the addresses to kube-ipvs0
)

// Page selects who may see the page for a browser on the address of the metrics.
type Page string

// The askers that may see the page.
const (
	PageLoopback Page = "loopback" // this node, and what is forwarded to its loopback address
	PageAll      Page = "all"      // whoever reaches the metrics
	PageNone     Page = "none"
)

// Estimation tells whether IPVS estimates the rates of virtual and real servers.
type Estimation string

// Whether IPVS estimates.
const (
	EstimationAsIs Estimation = "" // as the kernel has it
	EstimationOn   Estimation = "on"
	EstimationOff  Estimation = "off" // the kernel's counters of connections, packets and bytes stand still
)

// DetectMode selects the way to tell sources inside the cluster from others.
type DetectMode string

// The ways to recognise a pod as source.
const (
	ClusterCIDR         DetectMode = "ClusterCIDR"
	NodeCIDR            DetectMode = "NodeCIDR"
	BridgeInterface     DetectMode = "BridgeInterface"
	InterfaceNamePrefix DetectMode = "InterfaceNamePrefix"
)

// Config is a valid configuration, complete with defaults. Nobody changes it after Load returned it.
type Config struct {
	Action        Action
	RawVersion    bool   // with ShowVersion: details instead of one line
	WriteConfigTo string // with WriteConfig: the file

	File        string // of kube-proxy's configuration; empty: flags only
	FileContent []byte // of that file when it was loaded, see Watch

	// Refuses returns why a start would refuse other content of that file, as far as the file alone tells, or nil. It is nil without a
	// file.
	Refuses func(content []byte) error

	Manifests string // directory to serve instead of a cluster; empty: a cluster
	ProcSys   string // directory of the kernel settings
	Socket    string // where subcommands are answered; empty: nowhere

	Mode       Mode
	VIPMode    VIPMode
	DrainLimit time.Duration // connections of an unlisted endpoint end after it

	Hostname    string     // the Node's name, normalised; empty: the host's, see NodeName
	BindAddress netip.Addr // overrides the node's primary address, unless unspecified (0.0.0.0, ::); nothing binds to it
	API         API

	IPVS          IPVS
	Masquerade    Masquerade
	DetectLocal   DetectLocal
	NodePorts     NodePorts
	Conntrack     Conntrack
	OOMScoreAdj   int
	Healthz       netip.AddrPort // the zero value: no server
	Metrics       netip.AddrPort // the zero value: no server
	BindHardFail  bool           // a server that cannot bind its address ends the program
	Profiling     bool
	Page          Page
	TrafficSeries int                            // bound on the series of metrics of traffic; 0: none
	FeatureGates  map[string]bool                // as given, of any component
	Gates         featuregate.MutableFeatureGate // those with an effect here, and not in client-go
	Logging       logsapi.LoggingConfiguration

	// Flags has the values of all flags of the command line, for /flagz.
	Flags map[string]string

	// KubeProxy is the configuration in kube-proxy's own form, complete with defaults: for /configz and --write-config-to.
	KubeProxy *v1alpha1.KubeProxyConfiguration
}

// API configures the connection to the API server.
type API struct {
	Kubeconfig         string // path; empty, as Master: the pod's service account
	Master             string // URL; overrides the kubeconfig's
	KubeletKubeconfig  string // path; where the API server is, if the pod's service account is used
	ContentType        string
	AcceptContentTypes string
	QPS                float32
	Burst              int
}

// IPVS configures virtual servers.
type IPVS struct {
	Scheduler    string
	Schedulers   []string       // that Services may choose
	SyncPeriod   time.Duration  // half of the time after which a change that is not programmed makes the node unhealthy
	ExcludeCIDRs []netip.Prefix // virtual servers with these addresses are foreign
	StrictARP    bool
	Estimation   Estimation

	// Timeouts of idle connections, in whole seconds. Zero: the kernel's.
	TCPTimeout, TCPFinTimeout, UDPTimeout time.Duration
}

// Masquerade selects the packets that get the node's address as source.
type Masquerade struct {
	Bit int  // of the firewall mark, 0 to 31
	All bool // also packets from inside the cluster to cluster IPs
}

// DetectLocal tells sources inside the cluster from others.
type DetectLocal struct {
	Mode         DetectMode
	ClusterCIDRs []netip.Prefix // with ClusterCIDR: none, or one of a family, or one of each
	Interface    string         // with BridgeInterface: its name; with InterfaceNamePrefix: the beginning of names
}
