package config

import (
	"bytes"
	"io"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/spf13/pflag"
)

// FuzzFlags: whatever a command line says, it is refused with reasons, or everything that is made of it is usable.
func FuzzFlags(f *testing.F) {
	for _, args := range []string{
		"", "--mode=ipvs\n--cluster-cidr=10.244.0.0/16,fd00::/48", "--cluster-cidr=10.0.0.0/8,10.1.0.0/8,,/", "--nodeport-addresses=primary",
		"--nodeport-addresses=primary,10.0.0.0/8,localhost,all", "--detect-local-mode=InterfaceNamePrefix\n--pod-interface-name-prefix=cali",
		"--detect-local-mode=BridgeInterface", "--iptables-masquerade-bit=31", "--iptables-masquerade-bit=-1", "--ipvs-sync-period=-1s",
		"--drain-limit=9999999h", "--healthz-bind-address=[::]:10256", "--metrics-bind-address=:", "--ipvs-scheduler=\x00", "--vip-mode=bind", "x",
		"--healthz-port=0", "--feature-gates=A=true,B", "--version=raw", "--cluster-cidr=::ffff:10.0.0.0/104", "--bind-address=::ffff:1.2.3.4",
	} {
		f.Add(args)
	}
	f.Fuzz(func(t *testing.T, args string) {
		fs := pflag.NewFlagSet("kube-ipvs", pflag.ContinueOnError)
		fs.SetOutput(io.Discard)
		fs.Usage = func() {}
		flags := AddFlags(fs)
		if fs.Parse(strings.Split(args, "\n")) != nil || flags.file != "" {
			return
		}
		cfg, _, err := flags.Load()
		usable(t, cfg, err)
	})
}

// FuzzFile: whatever a file holds, it is refused with reasons, or it is usable and means the same when it is written and read
// again.
func FuzzFile(f *testing.F) {
	for _, seed := range []string{
		"", header, header + "mode: ipvs\nmode: ipvs\ncolor: red\n", header + "ipvs: {syncPeriod: 1e9, tcpTimeout: 9999999h}",
		header + "nodePortAddresses: [primary, '::/0']\nclusterCIDR: ', ,'", header + "conntrack: {maxPerCore: null, min: -1}",
		header + "logging: {flushFrequency: 1, vmodule: [{filePattern: a, verbosity: 2}], options: {json: {infoBufferSize: 1Ki}}}",
		header + "featureGates: {A: true}\nhostnameOverride: ' X '", `{"kind":"KubeProxyConfiguration","apiVersion":"kubeproxy.config.k8s.io/v1alpha1","qps":1e40}`,
		header + "---\n" + header, "\x00", header + "bindAddress: 1.2.3.4.5\nhealthzBindAddress: ':'",
	} {
		f.Add([]byte(seed))
	}
	files, err := filepath.Glob("testdata/distributions/*.txtar")
	if err != nil {
		f.Fatal(err)
	}
	for _, name := range files {
		if content, err := os.ReadFile(name); err == nil {
			_, after, _ := bytes.Cut(content, []byte("-- config.conf --\n"))
			file, _, _ := bytes.Cut(after, []byte("-- config --\n"))
			f.Add(file)
		}
	}
	f.Fuzz(func(t *testing.T, content []byte) {
		flags := AddFlags(pflag.NewFlagSet("kube-ipvs", pflag.ContinueOnError))
		cfg, _, err := flags.loadFile(content)
		usable(t, cfg, err)
		if err != nil {
			return
		}
		text, err := Encode(cfg.KubeProxy)
		if err != nil {
			t.Fatal(err)
		}
		again, notes, err := AddFlags(pflag.NewFlagSet("kube-ipvs", pflag.ContinueOnError)).loadFile(text)
		if err != nil {
			t.Fatalf("%v in\n%s", err, text)
		}
		if diff := differences(cfg, again); diff != "" {
			t.Errorf("other after a round trip:\n%s%s", diff, text)
		}
		if slices.ContainsFunc(notes, func(n Note) bool { return n.Setting == "--config" }) {
			t.Errorf("what was written is not clean: %v", notes)
		}
	})
}

// usable fails a test unless there is an error or a configuration that keeps its promises.
func usable(t *testing.T, c *Config, err error) {
	t.Helper()
	if err != nil || c.Action == ShowVersion {
		if (err == nil) != (c != nil) || err != nil && err.Error() == "" {
			t.Fatalf("%+v, %v", c, err)
		}
		return
	}
	families := map[bool]bool{}
	for _, p := range c.DetectLocal.ClusterCIDRs {
		if families[p.Addr().Is4()] {
			t.Errorf("ranges of pods %v", c.DetectLocal.ClusterCIDRs)
		}
		families[p.Addr().Is4()] = true
	}
	for _, p := range slices.Concat(c.DetectLocal.ClusterCIDRs, c.NodePorts.Ranges, c.IPVS.ExcludeCIDRs) {
		if !p.IsValid() || p != p.Masked() {
			t.Errorf("range %v", p)
		}
	}
	byInterface := c.DetectLocal.Mode == BridgeInterface || c.DetectLocal.Mode == InterfaceNamePrefix
	if (c.DetectLocal.Interface != "") != byInterface || len(c.DetectLocal.Interface) > maxInterfaceName {
		t.Errorf("%+v", c.DetectLocal)
	}
	for _, a := range []netip.AddrPort{c.Healthz, c.Metrics} {
		if a.IsValid() && (a.Port() == 0 || a.Addr().Is4In6()) {
			t.Errorf("address %v", a)
		}
	}
	for _, d := range []time.Duration{c.IPVS.TCPTimeout, c.IPVS.TCPFinTimeout, c.IPVS.UDPTimeout} {
		if d < 0 || d > maxTimeout || d%time.Second != 0 {
			t.Errorf("timeouts %+v", c.IPVS)
		}
	}
	for _, s := range first(c.Conntrack.Settings(4096, ConntrackNow{})) {
		if s.Value == "" || s.Value[0] == '-' {
			t.Errorf("setting %+v", s)
		}
	}
	if c.DrainLimit <= 0 || c.IPVS.SyncPeriod <= 0 || c.Masquerade.Bit < 0 || c.Masquerade.Bit > 31 || !slices.Contains(schedulers, c.IPVS.Scheduler) ||
		!c.BindAddress.IsValid() || c.Mode != ModeIPVS || c.KubeProxy == nil {
		t.Errorf("%+v", c)
	}
}

func first[A, B any](a A, _ B) A { return a }
