package config

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// header begins a configuration file.
const header = "apiVersion: kubeproxy.config.k8s.io/v1alpha1\nkind: KubeProxyConfiguration\n"

// withFile returns the flags of a command line that names a file with this content.
func withFile(t testing.TB, content string, args ...string) *Flags {
	t.Helper()
	file := filepath.Join(t.TempDir(), "config.conf")
	if err := os.WriteFile(file, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	return parsed(t, append(args, "--config="+file)...)
}

// TestProblemsOfFlags names what is wrong with a flag, its value and what to do.
func TestProblemsOfFlags(t *testing.T) {
	for _, tt := range []struct{ name, args, want string }{
		{"kube-proxy's mode", "--proxy-mode=nftables", "--proxy-mode=nftables: that is kube-proxy's; set it to ipvs, or give --mode=ipvs"},
		{"no mode at all", "--proxy-mode=fast", "--proxy-mode=fast: no such mode; set it to ipvs"},
		{"our own flag", "--mode=iptables", "--mode=iptables: kube-ipvs has the mode ipvs"},
		{"a way to take packets", "--vip-mode=steal", "--vip-mode=steal: must be divert or bind"},
		{"nobody of these", "--page=friends", "--page=friends: must be one of loopback, all, none"},
		{"a choice of estimation", "--ipvs-estimation=0", "--ipvs-estimation=0: must be one of on, off, or empty"},
		{"a scheduler of Services", "--ipvs-service-schedulers=lc,best", "--ipvs-service-schedulers=best: must be one of rr, wrr, lc, wlc, lblc, lblcr, sh, dh, mh, sed, nq, fo, ovf, twos"},
		{"no time to drain", "--drain-limit=0s", "--drain-limit=0s: must be more than 0"},
		{"no settings", "--proc-sys=", "--proc-sys=: must be a directory, such as /proc/sys"},
		{"a blank name", "--hostname-override=\t", "--hostname-override=\t: must not be blank"},
		{"no address", "--bind-address=node1", "--bind-address=node1: must be an address"},
		{"a score", "--oom-score-adj=1001", "--oom-score-adj=1001: must be -1000 to 1000"},
		{"a detector", "--detect-local-mode=Guess", "--detect-local-mode=Guess: must be one of ClusterCIDR, NodeCIDR, BridgeInterface, InterfaceNamePrefix"},
		{"no bridge", "--detect-local-mode=BridgeInterface", "--pod-bridge-interface=: is missing: --detect-local-mode=BridgeInterface needs it"},
		{"no prefix", "--detect-local-mode=InterfaceNamePrefix", "--pod-interface-name-prefix=: is missing: --detect-local-mode=InterfaceNamePrefix needs it"},
		{"a long name", "--detect-local-mode=BridgeInterface --pod-bridge-interface=a234567890123456", "--pod-bridge-interface=a234567890123456: an interface's name has at most 15 characters"},
		{"an address for a range", "--cluster-cidr=10.0.0.0", "--cluster-cidr=10.0.0.0: must be a range like 10.0.0.0/8"},
		{"two ranges of a family", "--cluster-cidr=10.0.0.0/8,11.0.0.0/8", "--cluster-cidr=10.0.0.0/8,11.0.0.0/8: must be one range, or one of each family"},
		{"three ranges", "--cluster-cidr=10.0.0.0/8,fd00::/8,11.0.0.0/8", "--cluster-cidr=10.0.0.0/8,fd00::/8,11.0.0.0/8: must be one range, or one of each family"},
		{"node ports at an interface", "--nodeport-addresses=primary,eth0", "--nodeport-addresses=eth0: must be a range like 10.0.0.0/8, or primary, localhost or all"},
		{"a keyword twice", "--nodeport-addresses=all,10.0.0.0/8,all", "--nodeport-addresses=all: is there twice"},
		{"a scheduler", "--ipvs-scheduler=best", "--ipvs-scheduler=best: must be one of rr, wrr, lc, wlc, lblc, lblcr, sh, dh, mh, sed, nq, fo, ovf, twos"},
		{"no sync period", "--ipvs-sync-period=0s", "--ipvs-sync-period=0s: must be more than 0"},
		{"a negative sync period", "--ipvs-min-sync-period=-1s", "--ipvs-min-sync-period=-1s: must be 0 or more"},
		{"a sync period less than the least", "--ipvs-sync-period=1s --ipvs-min-sync-period=2s", "--ipvs-sync-period=1s: must not be less than --ipvs-min-sync-period, which is 2s"},
		{"a part of a second", "--ipvs-tcp-timeout=1500ms", "--ipvs-tcp-timeout=1.5s: must be whole seconds from 0 to 500h0m0s"},
		{"a time before now", "--ipvs-tcpfin-timeout=-1s", "--ipvs-tcpfin-timeout=-1s: must be whole seconds from 0 to 500h0m0s"},
		{"a time that the kernel cannot count", "--ipvs-udp-timeout=501h", "--ipvs-udp-timeout=501h0m0s: must be whole seconds from 0 to 500h0m0s"},
		{"our default", "--default-ipvs-tcp-timeout=501h", "--default-ipvs-tcp-timeout=501h0m0s: must be whole seconds from 0 to 500h0m0s"},
		{"no range to leave alone", "--ipvs-exclude-cidrs=10.0.0.0/8,x", "--ipvs-exclude-cidrs=x: must be a range like 10.0.0.0/8"},
		{"a bit that a mark does not have", "--iptables-masquerade-bit=32", "--iptables-masquerade-bit=32: must be 0 to 31"},
		{"negative numbers", "--conntrack-max-per-core=-1 --conntrack-min=-2", "--conntrack-max-per-core=-1: must be 0 or more\n--conntrack-min=-2: must be 0 or more"},
		{"negative timeouts", "--conntrack-tcp-timeout-established=-1s --conntrack-tcp-timeout-close-wait=-2s --conntrack-udp-timeout=-3s --conntrack-udp-timeout-stream=-4s",
			"--conntrack-tcp-timeout-established=-1s: must be 0 or more\n--conntrack-tcp-timeout-close-wait=-2s: must be 0 or more\n--conntrack-udp-timeout=-3s: must be 0 or more\n--conntrack-udp-timeout-stream=-4s: must be 0 or more"},
		{"a host name for an address", "--healthz-bind-address=localhost:1", "--healthz-bind-address=localhost:1: must be ADDRESS or ADDRESS:PORT, like 127.0.0.1:10249 or [::1]:10249"},
		{"a port of 0", "--metrics-bind-address=127.0.0.1:0", "--metrics-bind-address=127.0.0.1:0: must be ADDRESS or ADDRESS:PORT, like 127.0.0.1:10249 or [::1]:10249"},
		{"no metrics port", "--metrics-port=0", "--metrics-port=0: kube-proxy does not start with it; --serve-metrics=false turns the server off"},
		{"no port", "--healthz-port=65536", "--healthz-port=65536: must be a port"},
		{"a version that is none", "--show-hidden-metrics-for-version=v1.36", "--show-hidden-metrics-for-version=v1.36: must be MAJOR.MINOR, like 1.36"},
		{"a version with a patch", "--show-hidden-metrics-for-version=1.36.1", "--show-hidden-metrics-for-version=1.36.1: must be MAJOR.MINOR, like 1.36"},
		{"requests", "--kube-api-burst=-1", "--kube-api-burst=-1: must be 0 or more"},
		{"a resync", "--config-sync-period=0s", "--config-sync-period=0s: must be more than 0"},
		{"a format of logs", "--logging-format=xml", `logging.format: Invalid value: "xml": Unsupported log format`},
		{"logging that is not ready", "--log-text-split-stream", `logging.options.text.splitStream: Forbidden: Feature LoggingAlphaOptions is disabled`},
		{
			"everything at once, in an order that stays",
			"--vip-mode=steal --ipvs-sync-period=0s --cluster-cidr=x --ipvs-exclude-cidrs=y --ipvs-udp-timeout=-1s --ipvs-tcp-timeout=-1s --drain-limit=0s --proxy-mode=iptables",
			`--vip-mode=steal: must be divert or bind
--drain-limit=0s: must be more than 0
--proxy-mode=iptables: that is kube-proxy's; set it to ipvs, or give --mode=ipvs
--cluster-cidr=x: must be a range like 10.0.0.0/8
--ipvs-exclude-cidrs=y: must be a range like 10.0.0.0/8
--ipvs-sync-period=0s: must be more than 0
--ipvs-tcp-timeout=-1s: must be whole seconds from 0 to 500h0m0s
--ipvs-udp-timeout=-1s: must be whole seconds from 0 to 500h0m0s`,
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			cfg, _, err := parsed(t, strings.Split(tt.args, " ")...).Load()
			if err == nil || cfg != nil {
				t.Fatalf("%+v, %v, want an error", cfg, err)
			}
			if diff := cmp.Diff(tt.want, err.Error()); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

// faultyFile has something wrong in many fields.
const faultyFile = header + `
mode: iptables
bindAddress: node1
healthzBindAddress: 127.0.0.1:x
clusterCIDR: 10.0.0.0/8,11.0.0.0/8
configSyncPeriod: -1s
clientConnection: {burst: -1}
conntrack: {maxPerCore: -1, tcpCloseWaitTimeout: -1s}
iptables: {masqueradeBit: 40}
ipvs: {scheduler: best, syncPeriod: 5s, minSyncPeriod: 10s, tcpTimeout: -1s, excludeCIDRs: [10.0.0.0/8, x]}
nodePortAddresses: [primary, primary]
oomScoreAdj: 2000
`

// TestProblemsOfFiles names fields as the file does, and as kube-proxy's messages do.
func TestProblemsOfFiles(t *testing.T) {
	want := `mode: iptables: that is kube-proxy's; set it to ipvs, or give --mode=ipvs (KubeProxyConfiguration.Mode.ProxyMode)
bindAddress: node1: must be an address (KubeProxyConfiguration.BindAddress)
oomScoreAdj: 2000: must be -1000 to 1000 (KubeProxyConfiguration.KubeProxyLinuxConfiguration.OOMScoreAdj)
clusterCIDR: 10.0.0.0/8,11.0.0.0/8: must be one range, or one of each family (KubeProxyConfiguration.DetectLocalConfiguration.ClusterCIDRs)
nodePortAddresses: primary: is there twice (KubeProxyConfiguration.NodePortAddresses)
ipvs.excludeCIDRs: x: must be a range like 10.0.0.0/8 (KubeProxyConfiguration.KubeProxyIPVSConfiguration.ExcludeCidrs)
ipvs.scheduler: best: must be one of rr, wrr, lc, wlc, lblc, lblcr, sh, dh, mh, sed, nq, fo, ovf, twos
ipvs.syncPeriod: 5s: must not be less than ipvs.minSyncPeriod, which is 10s (KubeProxyConfiguration.SyncPeriod)
ipvs.tcpTimeout: -1s: must be whole seconds from 0 to 500h0m0s (KubeProxyConfiguration.KubeProxyIPVSConfiguration.TCPTimeout)
iptables.masqueradeBit: 40: must be 0 to 31 (KubeProxyConfiguration.KubeProxyIPTablesConfiguration.MasqueradeBit)
conntrack.maxPerCore: -1: must be 0 or more (KubeProxyConfiguration.KubeProxyLinuxConfiguration.KubeProxyConntrackConfiguration.MaxPerCore)
conntrack.tcpCloseWaitTimeout: -1s: must be 0 or more (KubeProxyConfiguration.KubeProxyLinuxConfiguration.KubeProxyConntrackConfiguration.TCPCloseWaitTimeout)
healthzBindAddress: 127.0.0.1:x: must be ADDRESS or ADDRESS:PORT, like 127.0.0.1:10249 or [::1]:10249 (KubeProxyConfiguration.HealthzBindAddress)
clientConnection.burst: -1: must be 0 or more (KubeProxyConfiguration.ClientConnection.Burst)
configSyncPeriod: -1s: must be more than 0 (KubeProxyConfiguration.ConfigSyncPeriod)`
	f := withFile(t, faultyFile)
	_, _, err := f.Load()
	if err == nil {
		t.Fatal("no error")
	}
	if diff := cmp.Diff("--config="+f.file+":\n"+want, err.Error()); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	var p *Problem
	if !errors.As(err, &p) || p.Setting != "mode" || p.Value != "iptables" {
		t.Errorf("the first problem is %+v", p)
	}
}

// TestFilesThatCannotBeRead ends with a message that names the file.
func TestFilesThatCannotBeRead(t *testing.T) {
	for _, tt := range []struct{ name, content, want string }{
		{"empty", "", "Object 'Kind' is missing"},
		{"no YAML", "a: b: c", "yaml"},
		{"no kind", "apiVersion: kubeproxy.config.k8s.io/v1alpha1", "Object 'Kind' is missing"},
		{"no version", "kind: KubeProxyConfiguration", "Object 'apiVersion' is missing"},
		{"another version", "apiVersion: kubeproxy.config.k8s.io/v1beta1\nkind: KubeProxyConfiguration", `no kind "KubeProxyConfiguration" is registered for version "kubeproxy.config.k8s.io/v1beta1"`},
		{"another kind", "apiVersion: kubelet.config.k8s.io/v1beta1\nkind: KubeletConfiguration", `no kind "KubeletConfiguration" is registered`},
		{"a wrong type", header + "oomScoreAdj: high", "oomScoreAdj of type int32"},
		{"a wrong duration", header + "ipvs: {syncPeriod: soon}", `invalid duration`},
		{"a wrong type beside an unknown field", header + "color: red\noomScoreAdj: high", "oomScoreAdj of type int32"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			f := withFile(t, tt.content)
			cfg, _, err := f.Load()
			if cfg != nil || err == nil || !strings.Contains(err.Error(), tt.want) || !strings.HasPrefix(err.Error(), "--config="+f.file+": ") {
				t.Errorf("%v, want %q", err, tt.want)
			}
		})
	}
	if _, _, err := parsed(t, "--config=/nowhere/config.conf").Load(); !errors.Is(err, os.ErrNotExist) || !strings.HasPrefix(err.Error(), "--config: open /nowhere/config.conf") {
		t.Errorf("a file that does not exist: %v", err)
	}
}
