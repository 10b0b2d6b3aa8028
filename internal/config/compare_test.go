//go:build compare

package config

import (
	"errors"
	"flag"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/tools/txtar"
)

var kubeProxy = flag.String("kube-proxy", "../../.bin/kube-proxy", "the program kube-proxy")

// TestCompareFiles lets the real kube-proxy write the configuration that it makes of each distribution's files and flags, and of
// single flags, and holds ours to it.
func TestCompareFiles(t *testing.T) {
	program, err := filepath.Abs(*kubeProxy)
	if err != nil {
		t.Fatal(err)
	}
	cases := map[string]map[string]string{}
	for _, args := range []string{
		"", "--bind-address=::", "--bind-address= --healthz-bind-address= --metrics-bind-address=", "--cluster-cidr=10.0.0.0/8,fd00::/8",
		"--oom-score-adj=5 --conntrack-min=7 --conntrack-tcp-be-liberal --conntrack-udp-timeout=1s --conntrack-udp-timeout-stream=2s",
		"--ipvs-sync-period=5s --ipvs-min-sync-period=2s --iptables-sync-period=9s --ipvs-strict-arp --ipvs-tcp-timeout=1s --ipvs-udp-timeout=2s --ipvs-tcpfin-timeout=3s",
		"--ipvs-scheduler=lc --ipvs-exclude-cidrs=10.0.0.0/8,fd00::/8 --masquerade-all --iptables-masquerade-bit=3 --profiling --bind-address-hard-fail",
		"--hostname-override= Node1", "--kube-api-qps=7 --kube-api-burst=8 --kube-api-content-type=application/json --kubeconfig=/x", "--nodeport-addresses=primary",
		"--detect-local-mode=BridgeInterface --pod-bridge-interface=cni0 --pod-interface-name-prefix=cali", "--v=3 --vmodule=a=1,b=2", "--logging-format=json",
		"--feature-gates=NativeHistograms=false", "--config-sync-period=1m", "--config=nameless.conf --v=5 --oom-score-adj=7",
	} {
		cases[args] = map[string]string{"flags": "--proxy-mode=ipvs\n" + strings.ReplaceAll(args, " --", "\n--"), "nameless.conf": header + "mode: ipvs\nbindAddress: '::1'\nhealthzBindAddress: 1.2.3.4\nmode: ipvs\nlogging: {verbosity: 1}\n"}
	}
	files, err := filepath.Glob("testdata/distributions/*.txtar")
	if err != nil || len(files) == 0 {
		t.Fatalf("%v: %v", files, err)
	}
	for _, file := range files {
		archive, err := txtar.ParseFile(file)
		if err != nil {
			t.Fatal(err)
		}
		cases[file] = map[string]string{}
		for _, part := range archive.Files {
			cases[file][part.Name] = string(part.Data)
		}
	}
	for name, parts := range cases {
		t.Run(name, func(t *testing.T) {
			t.Chdir(t.TempDir())
			for _, file := range []string{"config.conf", "nameless.conf"} {
				if err := os.WriteFile(file, []byte(parts[file]), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			// It refuses gates of other components, and when it writes a file it adds no ports to the addresses of flags.
			adapt := strings.NewReplacer("InTreePluginAWSUnregister=true", "", "RotateKubeletServerCertificate: true", "", "NodeSwap: false", "",
				"healthz-bind-address=127.0.0.1\n", "healthz-bind-address=127.0.0.1:10256\n", "metrics-bind-address=127.0.0.1\n", "metrics-bind-address=127.0.0.1:10249\n")
			if err := os.WriteFile("config.conf", []byte(adapt.Replace(parts["config.conf"])), 0o600); err != nil {
				t.Fatal(err)
			}
			args := strings.FieldsFunc(adapt.Replace(parts["flags"]), func(r rune) bool { return r == '\n' })
			if out, err := exec.CommandContext(t.Context(), program, append(args, "--write-config-to=theirs")...).CombinedOutput(); err != nil {
				t.Fatalf("kube-proxy: %v\n%s", err, out)
			}
			theirs, err := os.ReadFile("theirs")
			if err != nil {
				t.Fatal(err)
			}
			want, faults, err := Decode(theirs)
			if err != nil || len(faults) > 0 {
				t.Fatal(faults, err)
			}
			cfg, _, err := parsed(t, append(args, "--write-config-to=ours")...).Load()
			if err != nil {
				t.Fatal(err)
			}
			text, err := Encode(cfg.KubeProxy)
			if err != nil {
				t.Fatal(err)
			}
			got, faults, err := Decode(text)
			if err != nil || len(faults) > 0 {
				t.Fatal(faults, err)
			}
			// Kube-proxy forgets the periods of modes that it does not run in.
			want.IPTables.SyncPeriod, want.IPTables.MinSyncPeriod = got.IPTables.SyncPeriod, got.IPTables.MinSyncPeriod
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("(-kube-proxy +kube-ipvs):\n%s", diff)
			}
			// And kube-proxy reads ours, without a fault.
			if err := os.WriteFile("ours", text, 0o600); err != nil {
				t.Fatal(err)
			}
			out, err := exec.CommandContext(t.Context(), program, "--config=ours", "--write-config-to=again").CombinedOutput()
			if err != nil || strings.Contains(string(out), "lenient") {
				t.Errorf("kube-proxy with our file: %v\n%s", err, out)
			}
		})
	}
}

// TestCompareRefusals finds the names of fields that our messages take from kube-proxy in its own.
func TestCompareRefusals(t *testing.T) {
	f := withFile(t, strings.Replace(faultyFile, "mode: iptables", "mode: ipvs", 1))
	_, _, err := f.Load()
	joined, ok := err.(interface{ Unwrap() []error })
	if !ok {
		joined, ok = errors.Unwrap(err).(interface{ Unwrap() []error })
	}
	if !ok || len(joined.Unwrap()) < 10 {
		t.Fatalf("%v", err)
	}
	out, err := exec.CommandContext(t.Context(), *kubeProxy, "--config="+f.file, "--write-config-to="+filepath.Join(t.TempDir(), "out")).CombinedOutput()
	if err == nil {
		t.Fatalf("kube-proxy takes it: %s", out)
	}
	for _, err := range joined.Unwrap() {
		var p *Problem
		if errors.As(err, &p) && !strings.Contains(string(out), p.Path) {
			t.Errorf("kube-proxy does not name %s:\n%s", p.Path, out)
		}
	}
}

// TestCompareDefaults holds the list of kube-proxy's flags and defaults to its help text.
func TestCompareDefaults(t *testing.T) {
	out, err := exec.CommandContext(t.Context(), *kubeProxy, "--help").CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	var theirs []string
	for line := range strings.Lines(string(out)) {
		if name := regexp.MustCompile(`^ +(?:-v, )?--([a-z0-9-]+)`).FindStringSubmatch(line); name != nil && name[1] != "help" {
			theirs = append(theirs, name[1])
		}
	}
	ours := slices.DeleteFunc(slices.Sorted(maps.Keys(kubeProxyFlags)), func(name string) bool {
		return name == "healthz-port" || name == "metrics-port" // deprecated flags have no help
	})
	slices.Sort(theirs)
	theirs = slices.DeleteFunc(theirs, func(name string) bool { return slices.Contains(olderFlags, name) })
	if diff := cmp.Diff(ours, theirs); diff != "" {
		t.Errorf("(-ours +kube-proxy):\n%s", diff)
	}
}
