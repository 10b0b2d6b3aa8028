package config

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/spf13/pflag"
	"k8s.io/component-base/featuregate"
)

// TestPrecedence says which of a flag and the file counts.
func TestPrecedence(t *testing.T) {
	const file = header + "mode: ipvs\nhostnameOverride: File\noomScoreAdj: 5\nlogging: {verbosity: 3, vmodule: [{filePattern: f, verbosity: 1}]}\nipvs: {tcpTimeout: 1h}\n"
	for _, tt := range []struct{ name, args, want string }{
		{"the file alone", "", "Hostname: file\nIPVS.TCPTimeout: 1h0m0s\nOOMScoreAdj: 5\nLogging.Verbosity: 3\nLogging.VModule: [{f 1}]\n"},
		{"the name of the flag", "--hostname-override=Flag", "Hostname: flag\nIPVS.TCPTimeout: 1h0m0s\nOOMScoreAdj: 5\nLogging.Verbosity: 3\nLogging.VModule: [{f 1}]\n"},
		{"the log's flags", "-v=1 --vmodule=g=2", "Hostname: file\nIPVS.TCPTimeout: 1h0m0s\nOOMScoreAdj: 5\nLogging.Verbosity: 1\nLogging.VModule: [{g 2} {f 1}]\n"},
		{"underscores", "--hostname_override=Flag", "Hostname: flag\nIPVS.TCPTimeout: 1h0m0s\nOOMScoreAdj: 5\nLogging.Verbosity: 3\nLogging.VModule: [{f 1}]\n"},
		{"the API server", "--master=https://api", "Hostname: file\nAPI.Master: https://api\nIPVS.TCPTimeout: 1h0m0s\nOOMScoreAdj: 5\nLogging.Verbosity: 3\nLogging.VModule: [{f 1}]\n"},
		{"the kubelet's kubeconfig", "--kubelet-kubeconfig=kubelet.conf", "Hostname: file\nAPI.KubeletKubeconfig: kubelet.conf\nIPVS.TCPTimeout: 1h0m0s\nOOMScoreAdj: 5\nLogging.Verbosity: 3\nLogging.VModule: [{f 1}]\n"},
		{"our own flags", "--vip-mode=bind --serve-metrics=false --socket=/s --page=all --ipvs-estimation=off --ipvs-service-schedulers=lc,sh", "Socket: /s\nVIPMode: bind\nHostname: file\nIPVS.Schedulers: [lc sh]\nIPVS.Estimation: off\nIPVS.TCPTimeout: 1h0m0s\nOOMScoreAdj: 5\nMetrics: invalid AddrPort\nPage: all\nLogging.Verbosity: 3\nLogging.VModule: [{f 1}]\n"},
		{"the others do not count", "--oom-score-adj=7 --masquerade-all --healthz-port=0 --metrics-port=0", "Hostname: file\nIPVS.TCPTimeout: 1h0m0s\nOOMScoreAdj: 5\nLogging.Verbosity: 3\nLogging.VModule: [{f 1}]\n"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			cfg, notes, err := withFile(t, file, strings.Fields(tt.args)...).Load()
			if err != nil {
				t.Fatal(err)
			}
			cfg.File = ""
			if diff := cmp.Diff(tt.want, differences(Default(), cfg)); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
			said := strings.Contains(lines(notes), "the file counts, and not --healthz-port, --masquerade-all, --metrics-port, --oom-score-adj\n")
			if said != strings.Contains(tt.name, "others") || !said && len(notes) > 0 {
				t.Errorf("notes:\n%s", lines(notes))
			}
		})
	}
}

// TestDecodesAsKubeProxy takes what kube-proxy takes with a warning, and says what is wrong.
func TestDecodesAsKubeProxy(t *testing.T) {
	const file = header + "mode: iptables\nmode: ipvs\nMode: nftables\ncolor: red\nipvs: {udpIdleTimeout: 0s, scheduler: lc, tcpTimeout: 1h}\n"
	cfg, notes, err := withFile(t, file).Load()
	if err != nil {
		t.Fatal(err)
	}
	if cfg.IPVS.Scheduler != "lc" || cfg.Mode != ModeIPVS {
		t.Errorf("%+v", cfg)
	}
	var got []string
	for _, n := range notes {
		got = append(got, n.Message)
	}
	want := []string{
		`line 4: key "mode" already set in map, which is ignored`,
		`unknown field "Mode", which is ignored`, `unknown field "color", which is ignored`, `unknown field "ipvs.udpIdleTimeout", which is ignored`,
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// TestNotes says what is accepted without effect, or with another than in kube-proxy.
func TestNotes(t *testing.T) {
	const quiet = "--proxy-mode=ipvs --ipvs-tcp-timeout=1h "
	for _, tt := range []struct{ name, args, want string }{
		{"nothing", "", ""},
		{"kernel's timeout", "--ipvs-tcp-timeout=0s --default-ipvs-tcp-timeout=0s", ""},
		{"the mode by our own flag", "--proxy-mode=iptables --mode=ipvs", ""},
		{"gates that are looked at", "--feature-gates=NativeHistograms=false,WatchListClient=true,KubeProxyIPVS=true", ""},
		{"gates", "--feature-gates=B=true,KubeProxyIPVS=false,A=false", "--feature-gates: KubeProxyIPVS=false: kube-ipvs serves nevertheless: the gate is about the ipvs mode of kube-proxy\n--feature-gates: A, B: not looked at\n"},
		{"loopback", "--nodeport-addresses=localhost,127.0.0.0/8,10.0.0.0/8", "--nodeport-addresses: localhost, 127.0.0.0/8: IPVS serves no node ports at loopback addresses, also in kube-proxy\n"},
		{"a port that does not count", "--healthz-port=1", "--healthz-port: 1: has no effect, also in kube-proxy: --healthz-bind-address is 0.0.0.0:10256\n"},
		{"a port that counts", "--healthz-port=1 --healthz-bind-address=127.0.0.1", ""},
		{"other modes", "--iptables-sync-period=1m --iptables-min-sync-period=0s --iptables-localhost-nodeports=false", "--iptables-localhost-nodeports: false: has no effect: IPVS serves no node ports at loopback addresses\n--iptables-sync-period: 1m0s: has no effect: it is of another mode\n--iptables-min-sync-period: 0s: has no effect: it is of another mode\n"},
		{"waiting", "--ipvs-min-sync-period=2s --config-sync-period=1m", "--ipvs-min-sync-period: 2s: has no effect: each change is programmed at once\n--config-sync-period: 1m0s: has no effect: kube-ipvs needs no resync\n"},
		{"a version that another kube-proxy takes", "--show-hidden-metrics-for-version=1.35", "--show-hidden-metrics-for-version: 1.35: kube-ipvs hides no metrics\n"},
		{"older flags", "--boot-id-file=a --machine-id-file=b --show-hidden-metrics-for-version=1.36", "--show-hidden-metrics-for-version: 1.36: kube-ipvs hides no metrics\n--boot-id-file: a: has no effect: kube-proxy had it until 1.36\n--machine-id-file: b: has no effect: kube-proxy had it until 1.36\n"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, notes, err := parsed(t, strings.Fields(quiet+tt.args)...).Load()
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tt.want, lines(notes)); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
	_, notes, err := withFile(t, header+"mode: ipvs\nportRange: 1-2\nwindowsRunAsService: true\nwinkernel: {networkName: a, sourceVip: b, enableDSR: true, rootHnsEndpointName: c, forwardHealthCheckVip: true}\nnftables: {masqueradeBit: 3, masqueradeAll: true, syncPeriod: 1s, minSyncPeriod: 2s}\nipvs: {tcpTimeout: 1h, minSyncPeriod: 1s}\n").Load()
	if err != nil || len(notes) != 12 {
		t.Errorf("%v, %d notes:\n%s", err, len(notes), lines(notes))
	}
}

func TestActions(t *testing.T) {
	for _, tt := range []struct {
		args string
		want Action
	}{
		{"", Serve},
		{"--init-only", InitOnly}, {"--dry-run", DryRun}, {"--init-only --dry-run", InitOnly},
		{"--cleanup --init-only", Cleanup},
		{"--write-config-to=x --cleanup", WriteConfig},
		{"--version --write-config-to=x", ShowVersion},
		{"--version=raw --proxy-mode=wrong", ShowVersion},
		{"--version=true", ShowVersion},
		{"--version=false", Serve},
	} {
		cfg, _, err := parsed(t, strings.Fields(tt.args)...).Load()
		if err != nil || cfg.Action != tt.want || cfg.RawVersion != strings.Contains(tt.args, "raw") {
			t.Errorf("%q: %+v, %v, want to %s", tt.args, cfg, err, tt.want)
		}
	}
	fs := pflag.NewFlagSet("", pflag.ContinueOnError)
	AddFlags(fs)
	if err := fs.Parse([]string{"--version=v1.2.3"}); err == nil || !strings.Contains(err.Error(), "must be true, false or raw") {
		t.Errorf("another version: %v", err)
	}
}

// TestAddresses holds the addresses of the two servers to kube-proxy's rules.
func TestAddresses(t *testing.T) {
	for _, tt := range []struct{ name, args, file, healthz, metrics string }{
		{"empty flags leave the defaults", "--healthz-bind-address= --metrics-bind-address= --bind-address=", "", "0.0.0.0:10256", "127.0.0.1:10249"},
		{"without ports", "--healthz-bind-address=127.0.0.1 --metrics-bind-address=::1", "", "127.0.0.1:10256", "[::1]:10249"},
		{"deprecated ports", "--healthz-bind-address=127.0.0.1 --healthz-port=1 --metrics-bind-address=::1 --metrics-port=2", "", "127.0.0.1:1", "[::1]:2"},
		{"no health checks", "--healthz-port=0", "", "invalid AddrPort", "127.0.0.1:10249"},
		{"none, by flags of our own", "--serve-healthz=false --serve-metrics=false", "", "invalid AddrPort", "invalid AddrPort"},
		{"leading zeros", "--healthz-bind-address=010.000.000.001:1", "", "10.0.0.1:1", "127.0.0.1:10249"},
		{"IPv4 in IPv6's form", "--healthz-bind-address=[::ffff:10.0.0.1]:1", "", "10.0.0.1:1", "127.0.0.1:10249"},
		{"a bind address of IPv6, by flag", "--bind-address=::", "", "0.0.0.0:10256", "127.0.0.1:10249"},
		{"a bind address of IPv6, in a file", "", "bindAddress: '::'", "[::]:10256", "[::1]:10249"},
		{"without ports in a file", "", "healthzBindAddress: 127.0.0.1\nmetricsBindAddress: '::1'", "127.0.0.1:10256", "[::1]:10249"},
	} {
		f := parsed(t, strings.Fields(tt.args)...)
		if tt.file != "" {
			f = withFile(t, header+"mode: ipvs\n"+tt.file)
		}
		cfg, _, err := f.Load()
		if err != nil {
			t.Fatalf("%s: %v", tt.name, err)
		}
		if cfg.Healthz.String() != tt.healthz || cfg.Metrics.String() != tt.metrics {
			t.Errorf("%s: %v and %v, want %s and %s", tt.name, cfg.Healthz, cfg.Metrics, tt.healthz, tt.metrics)
		}
	}
}

// Gates have the defaults of Kubernetes, and one for many counts as there.
func TestGates(t *testing.T) {
	cfg, _, err := parsed(t, "--feature-gates=NativeHistograms=false,LoggingAlphaOptions=true,AllBeta=false,Unheard=true", "--log-text-split-stream").Load()
	if err != nil {
		t.Fatal(err)
	}
	for gate, want := range map[featuregate.Feature]bool{
		NativeHistograms: false, ComponentFlagz: false, AllowServiceExternalIPs: true, "LoggingAlphaOptions": true, "LoggingBetaOptions": false,
	} {
		if got := cfg.Enabled(gate); got != want {
			t.Errorf("%s is on: %t", gate, got)
		}
	}
	for _, gate := range []featuregate.Feature{NativeHistograms, ComponentFlagz, ComponentStatusz, AllowServiceExternalIPs} {
		if !Default().Enabled(gate) {
			t.Errorf("%s is off by default", gate)
		}
	}
	if !cfg.Logging.Options.Text.SplitStream {
		t.Error("the gate of the log does not count")
	}
}
