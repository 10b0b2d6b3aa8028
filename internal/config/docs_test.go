package config

import (
	"bytes"
	"fmt"
	"maps"
	"os"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/spf13/pflag"
	clientfeatures "k8s.io/client-go/features"
	"k8s.io/kube-proxy/config/v1alpha1"
)

const page = "../../docs/flags.md"

// kubeProxyFlags are the flags of kube-proxy 1.37 and their defaults, less those of the log and of klog.
var kubeProxyFlags = map[string]string{
	"bind-address": "0.0.0.0", "bind-address-hard-fail": "false", "cleanup": "false", "cluster-cidr": "", "config": "", "config-sync-period": "15m0s",
	"conntrack-max-per-core": "32768", "conntrack-min": "131072", "conntrack-tcp-be-liberal": "false", "conntrack-tcp-timeout-close-wait": "1h0m0s",
	"conntrack-tcp-timeout-established": "24h0m0s", "conntrack-udp-timeout": "0s", "conntrack-udp-timeout-stream": "0s", "detect-local-mode": "",
	"feature-gates": "", "healthz-bind-address": "0.0.0.0:10256", "healthz-port": "10256", "hostname-override": "", "init-only": "false",
	"iptables-localhost-nodeports": "true", "iptables-masquerade-bit": "14", "iptables-min-sync-period": "1s", "iptables-sync-period": "30s",
	"ipvs-exclude-cidrs": "[]", "ipvs-min-sync-period": "1s", "ipvs-scheduler": "", "ipvs-strict-arp": "false", "ipvs-sync-period": "30s",
	"ipvs-tcp-timeout": "0s", "ipvs-tcpfin-timeout": "0s", "ipvs-udp-timeout": "0s", "kube-api-burst": "10",
	"kube-api-content-type": "application/vnd.kubernetes.protobuf", "kube-api-qps": "5", "kubeconfig": "", "log-flush-frequency": "5s",
	"log-json-info-buffer-size": "0", "log-json-split-stream": "false", "log-text-info-buffer-size": "0", "log-text-split-stream": "false",
	"logging-format": "text", "masquerade-all": "false", "master": "", "metrics-bind-address": "127.0.0.1:10249", "metrics-port": "10249",
	"nodeport-addresses": "[]", "oom-score-adj": "-999", "pod-bridge-interface": "", "pod-interface-name-prefix": "", "profiling": "false",
	"proxy-mode": "", "show-hidden-metrics-for-version": "", "v": "0", "version": "false", "vmodule": "", "write-config-to": "",
}

// olderFlags are those that kube-proxy had until 1.36.
var olderFlags = []string{"boot-id-file", "machine-id-file"}

// flagOf names the flag of each field of the file. Fields that the page explains in another way have a sentence instead.
var flagOf = map[string]string{
	"mode": "proxy-mode", "bindAddress": "bind-address", "bindAddressHardFail": "bind-address-hard-fail", "clusterCIDR": "cluster-cidr",
	"configSyncPeriod": "config-sync-period", "detectLocalMode": "detect-local-mode", "enableProfiling": "profiling", "featureGates": "feature-gates",
	"healthzBindAddress": "healthz-bind-address", "hostnameOverride": "hostname-override", "metricsBindAddress": "metrics-bind-address",
	"nodePortAddresses": "nodeport-addresses", "oomScoreAdj": "oom-score-adj", "showHiddenMetricsForVersion": "show-hidden-metrics-for-version",
	"clientConnection.burst": "kube-api-burst", "clientConnection.contentType": "kube-api-content-type", "clientConnection.kubeconfig": "kubeconfig",
	"clientConnection.qps": "kube-api-qps", "detectLocal.bridgeInterface": "pod-bridge-interface", "detectLocal.interfaceNamePrefix": "pod-interface-name-prefix",
	"conntrack.maxPerCore": "conntrack-max-per-core", "conntrack.min": "conntrack-min", "conntrack.tcpBeLiberal": "conntrack-tcp-be-liberal",
	"conntrack.tcpCloseWaitTimeout": "conntrack-tcp-timeout-close-wait", "conntrack.tcpEstablishedTimeout": "conntrack-tcp-timeout-established",
	"conntrack.udpStreamTimeout": "conntrack-udp-timeout-stream", "conntrack.udpTimeout": "conntrack-udp-timeout",
	"iptables.localhostNodePorts": "iptables-localhost-nodeports", "iptables.masqueradeAll": "masquerade-all", "iptables.masqueradeBit": "iptables-masquerade-bit",
	"iptables.minSyncPeriod": "iptables-min-sync-period", "iptables.syncPeriod": "iptables-sync-period",
	"ipvs.excludeCIDRs": "ipvs-exclude-cidrs", "ipvs.minSyncPeriod": "ipvs-min-sync-period", "ipvs.scheduler": "ipvs-scheduler", "ipvs.strictARP": "ipvs-strict-arp",
	"ipvs.syncPeriod": "ipvs-sync-period", "ipvs.tcpFinTimeout": "ipvs-tcpfin-timeout", "ipvs.tcpTimeout": "ipvs-tcp-timeout", "ipvs.udpTimeout": "ipvs-udp-timeout",
	"logging.flushFrequency": "log-flush-frequency", "logging.format": "logging-format", "logging.verbosity": "v", "logging.vmodule": "vmodule",
	"logging.options.json.infoBufferSize": "log-json-info-buffer-size", "logging.options.json.splitStream": "log-json-split-stream",
	"logging.options.text.infoBufferSize": "log-text-info-buffer-size", "logging.options.text.splitStream": "log-text-split-stream",
}

// alone explains the fields that have no flag.
var alone = map[string]string{
	"clientConnection.acceptContentTypes": "Content types that the API server may answer with.",
	"portRange":                           "Accepted without effect: no mode of today opens ports for Services.",
	"windowsRunAsService":                 "Accepted without effect.",
	"nftables.masqueradeAll":              "Accepted without effect.", "nftables.masqueradeBit": "Accepted without effect.",
	"nftables.minSyncPeriod": "Accepted without effect.", "nftables.syncPeriod": "Accepted without effect.",
	"winkernel.enableDSR": "Accepted without effect.", "winkernel.forwardHealthCheckVip": "Accepted without effect.", "winkernel.networkName": "Accepted without effect.",
	"winkernel.rootHnsEndpointName": "Accepted without effect.", "winkernel.sourceVip": "Accepted without effect.",
}

// fieldsOf returns the paths of all fields of the file's type.
func fieldsOf(t reflect.Type, path string) []string {
	var out []string
	for i := range t.NumField() {
		field := t.Field(i)
		name, _, _ := strings.Cut(field.Tag.Get("json"), ",")
		ours := strings.Contains(field.Type.PkgPath(), "config/v1alpha1") || strings.Contains(field.Type.PkgPath(), "logs/api")
		nested := field.Type.Kind() == reflect.Struct && ours && field.Type.Name() != "TimeOrMetaDuration"
		switch {
		case field.Name == "TypeMeta":
		case field.Anonymous:
			out = append(out, fieldsOf(field.Type, path)...)
		case nested:
			out = append(out, fieldsOf(field.Type, path+name+".")...)
		default:
			out = append(out, path+name)
		}
	}
	return out
}

// TestFieldsAreExplained holds the page to the file's type: no field is left out, and none is invented.
func TestFieldsAreExplained(t *testing.T) {
	got := slices.Sorted(slices.Values(fieldsOf(reflect.TypeFor[v1alpha1.KubeProxyConfiguration](), "")))
	want := slices.Sorted(slices.Values(slices.Concat(slices.Collect(maps.Keys(flagOf)), slices.Collect(maps.Keys(alone)))))
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-explained +there):\n%s", diff)
	}
}

// TestFlagsOfKubeProxy finds each flag of kube-proxy 1.37 here, with its default.
func TestFlagsOfKubeProxy(t *testing.T) {
	fs := parsed(t).set
	for name, want := range kubeProxyFlags {
		flag := fs.Lookup(name)
		if flag == nil {
			t.Errorf("--%s is missing", name)
		} else if flag.DefValue != want {
			t.Errorf("--%s is %q by default, want %q", name, flag.DefValue, want)
		}
	}
	if v := fs.ShorthandLookup("v"); v == nil || v.Name != "v" {
		t.Error("-v is missing")
	}
}

// TestFlagsPage holds docs/flags.md to the flags; go test -update writes it.
func TestFlagsPage(t *testing.T) {
	var want bytes.Buffer
	writePage(&want, parsed(t).set)
	if *update {
		if err := os.WriteFile(page, want.Bytes(), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want.String(), string(got)); diff != "" {
		t.Errorf("docs/flags.md is not that of these flags; go test ./internal/config -update (-want +got):\n%s", diff)
	}
}

func writePage(out *bytes.Buffer, fs *pflag.FlagSet) {
	out.WriteString(`# Flags, and the configuration file

This page is generated from the program. kube-ipvs accepts every flag of kube-proxy 1.37, and its configuration file
(kubeproxy.config.k8s.io/v1alpha1, ` + "`--config`" + `). Beside a file, the flags of kube-proxy are ignored, except
` + "`--hostname-override`" + ` and ` + "`--master`" + `, those of the log and those of the program's own actions (` + "`--cleanup`, `--init-only`, `--dry-run`, `--write-config-to`, `--version`" + `).
Flags of kube-ipvs's own count in both cases.

A setting without effect is noted once in the log, unless it has kube-proxy's default. Unknown and doubled fields of a file are
ignored and noted. Everything that is wrong with a configuration is reported at once, with exit status 1.

## Flags of kube-ipvs

| Flag | Default | Meaning |
|---|---|---|
`)
	fields := map[string]string{}
	for field, flag := range flagOf {
		fields[flag] = field
	}
	row := func(cells ...string) {
		for i, c := range cells {
			cells[i] = strings.ReplaceAll(strings.Join(strings.Fields(c), " "), "|", `\|`)
		}
		fmt.Fprintf(out, "| %s |\n", strings.Join(cells, " | "))
	}
	code := func(s string) string {
		if s == "" {
			return ""
		}
		return "`" + s + "`"
	}
	each := func(ofKubeProxy bool, do func(*pflag.Flag)) {
		fs.VisitAll(func(f *pflag.Flag) {
			_, is := kubeProxyFlags[f.Name]
			if (is || slices.Contains(olderFlags, f.Name)) == ofKubeProxy {
				do(f)
			}
		})
	}
	each(false, func(f *pflag.Flag) { row(code("--"+f.Name), code(f.DefValue), f.Usage) })
	out.WriteString("\n## Flags of kube-proxy\n\n| Flag | Field of the file | Default | Meaning |\n|---|---|---|---|\n")
	each(true, func(f *pflag.Flag) {
		usage := f.Usage
		if f.Deprecated != "" {
			usage += " Deprecated: " + f.Deprecated + "."
		}
		row(code("--"+f.Name), code(fields[f.Name]), code(f.DefValue), usage)
	})
	out.WriteString("\n## Fields without a flag\n\n| Field of the file | Meaning |\n|---|---|\n")
	for _, field := range slices.Sorted(maps.Keys(alone)) {
		row(code(field), alone[field])
	}
}

// A registry collects the names of gates.
type registry []string

func (r *registry) AddVersioned(gates map[clientfeatures.Feature]clientfeatures.VersionedSpecs) error {
	for name := range gates {
		*r = append(*r, string(name))
	}
	slices.Sort(*r)
	return nil
}

// TestClientGates holds the names of client-go's gates to client-go.
func TestClientGates(t *testing.T) {
	var want registry
	if err := clientfeatures.AddVersionedFeaturesToExistingFeatureGates(&want); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string(want), ClientGates()); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}
