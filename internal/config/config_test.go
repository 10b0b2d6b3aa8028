package config

import (
	"flag"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/spf13/pflag"
	"go.uber.org/goleak"
	"golang.org/x/tools/txtar"
	"k8s.io/kube-proxy/config/v1alpha1"
)

var update = flag.Bool("update", false, "write golden files and generated pages anew")

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// parsed returns the flags of a command line.
func parsed(t testing.TB, args ...string) *Flags {
	t.Helper()
	fs := pflag.NewFlagSet("kube-ipvs", pflag.ContinueOnError)
	f := AddFlags(fs)
	if err := fs.Parse(args); err != nil {
		t.Fatal(err)
	}
	return f
}

// TestDistributions starts with the configuration that each distribution writes: the shape of its file or its flags, as it is.
// What is wanted is what differs from a start without configuration, and the notes.
func TestDistributions(t *testing.T) {
	files, err := filepath.Glob("testdata/distributions/*.txtar")
	if err != nil || len(files) < 9 {
		t.Fatalf("%v: %v", files, err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txtar"), func(t *testing.T) {
			file, err := filepath.Abs(file)
			if err != nil {
				t.Fatal(err)
			}
			archive, err := txtar.ParseFile(file)
			if err != nil {
				t.Fatal(err)
			}
			parts := map[string]string{}
			for _, part := range archive.Files {
				parts[part.Name] = string(part.Data)
			}
			t.Chdir(t.TempDir())
			if content, ok := parts["config.conf"]; ok {
				if err := os.WriteFile("config.conf", []byte(content), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			cfg, notes, err := parsed(t, strings.Fields(parts["flags"])...).Load()
			if err != nil {
				t.Fatal(err)
			}
			got := map[string]string{"config": differences(Default(), cfg), "notes": lines(notes)}
			for _, name := range []string{"config", "notes"} {
				if diff := cmp.Diff(parts[name], got[name]); diff != "" && !*update {
					t.Errorf("%s (-want +got):\n%s", name, diff)
				}
			}
			if *update {
				renew(t, file, archive, got)
			}
		})
	}
}

// renew writes an archive with other contents of some of its files.
func renew(t *testing.T, file string, archive *txtar.Archive, got map[string]string) {
	t.Helper()
	for i, part := range archive.Files {
		if text, ok := got[part.Name]; ok {
			archive.Files[i].Data = []byte(text)
		}
	}
	if err := os.WriteFile(file, txtar.Format(archive), 0o600); err != nil {
		t.Fatal(err)
	}
}

func lines[T fmt.Stringer](list []T) string {
	var b strings.Builder
	for _, l := range list {
		fmt.Fprintln(&b, l)
	}
	return b.String()
}

// differences returns the fields of a configuration that another does not have, a line each.
func differences(without, with *Config) string {
	var b strings.Builder
	differ(&b, "", reflect.ValueOf(*without), reflect.ValueOf(*with))
	return b.String()
}

func differ(b *strings.Builder, name string, x, y reflect.Value) {
	for i := range x.NumField() {
		field := x.Type().Field(i)
		path := name + field.Name
		switch {
		case slices.Contains([]string{"KubeProxy", "FileContent", "Refuses", "Flags", "Gates"}, path): // the input, in other words
		case path == "Logging" || field.Type.Kind() == reflect.Struct && field.Type.PkgPath() == reflect.TypeFor[Config]().PkgPath():
			differ(b, path+".", x.Field(i), y.Field(i))
		case !reflect.DeepEqual(x.Field(i).Interface(), y.Field(i).Interface()):
			fmt.Fprintf(b, "%s: %v\n", path, y.Field(i).Interface())
		}
	}
}

// TestDefaults holds the configuration without flags to what kube-proxy 1.37 does without any.
func TestDefaults(t *testing.T) {
	got, notes, err := parsed(t).Load()
	if err != nil {
		t.Fatal(err)
	}
	want := &Config{
		Action: Serve, ProcSys: "/proc/sys",
		Socket: DefaultSocket, Mode: ModeIPVS, VIPMode: Divert, DrainLimit: 15 * time.Minute,
		BindAddress: netip.IPv4Unspecified(),
		API:         API{ContentType: "application/vnd.kubernetes.protobuf", QPS: 5, Burst: 10},
		IPVS:        IPVS{Scheduler: "rr", SyncPeriod: 30 * time.Second, TCPTimeout: 24 * time.Hour},
		Masquerade:  Masquerade{Bit: 14},
		DetectLocal: DetectLocal{Mode: ClusterCIDR},
		Conntrack:   Conntrack{MaxPerCore: 32768, Min: 131072, TCPEstablishedTimeout: 24 * time.Hour, TCPCloseWaitTimeout: time.Hour},
		OOMScoreAdj: -999, Page: PageLoopback, TrafficSeries: 1000,
		Healthz: netip.MustParseAddrPort("0.0.0.0:10256"),
		Metrics: netip.MustParseAddrPort("127.0.0.1:10249"),
	}
	if got.Logging.Format != "text" || got.Logging.FlushFrequency.Duration.Duration != 5*time.Second {
		t.Errorf("logging %+v", got.Logging)
	}
	want.Logging, want.KubeProxy, want.FeatureGates = got.Logging, got.KubeProxy, map[string]bool{}
	if diff := differences(want, got); diff != "" {
		t.Errorf("other than wanted:\n%s", diff)
	}
	if text := lines(notes); strings.Count(text, "\n") != 2 || !strings.Contains(text, "--proxy-mode: not set") || !strings.Contains(text, "--ipvs-tcp-timeout: 0s: set to 24h0m0s") {
		t.Errorf("notes:\n%s", text)
	}
}

// TestRoundTrip writes configurations as a file and reads them again: they mean the same, and the file needs no leniency.
func TestRoundTrip(t *testing.T) {
	for _, args := range [][]string{
		nil,
		{"--proxy-mode=ipvs", "--cluster-cidr=10.244.0.0/16,fd00::/48", "--nodeport-addresses=primary,10.0.0.0/8", "--ipvs-scheduler=sh"},
		{"--hostname-override= NODE1 ", "--healthz-bind-address=127.0.0.1", "--feature-gates=A=true,B=false", "--conntrack-max-per-core=0", "-v=4"},
		{"--bind-address=fd00::1", "--oom-score-adj=0", "--ipvs-tcp-timeout=2h", "--ipvs-exclude-cidrs=10.9.0.0/16", "--vmodule=a=2,b=3"},
	} {
		before, _, err := parsed(t, args...).Load()
		if err != nil {
			t.Fatalf("%q: %v", args, err)
		}
		text, err := Encode(before.KubeProxy)
		if err != nil {
			t.Fatal(err)
		}
		file := filepath.Join(t.TempDir(), "config")
		if err := os.WriteFile(file, text, 0o600); err != nil {
			t.Fatal(err)
		}
		after, notes, err := parsed(t, "--config="+file).Load()
		if err != nil {
			t.Fatalf("%q: %v", args, err)
		}
		after.File = ""
		if diff := differences(before, after); diff != "" {
			t.Errorf("%q: other after a round trip:\n%s", args, diff)
		}
		for _, n := range notes {
			if n.Setting == "--config" {
				t.Errorf("%q: %v", args, n)
			}
		}
		if strings.Contains(string(text), "mode: \"\"") {
			t.Errorf("%q: the file has no mode:\n%s", args, text)
		}
	}
	if _, err := Encode(nil); err == nil {
		t.Error("nothing was written without an error")
	}
	var _ *v1alpha1.KubeProxyConfiguration = Default().KubeProxy
}
