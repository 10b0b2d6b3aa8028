package charts_test

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"helm.sh/helm/v4/pkg/strvals"
	"sigs.k8s.io/yaml"
)

func page(t *testing.T, name string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("../../docs", name))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// commands returns the lines of a page that are shown as commands.
func commands(t *testing.T, name string) []string {
	t.Helper()
	var out []string
	for _, m := range regexp.MustCompile(`(?m)^    (\S.*)$`).FindAllStringSubmatch(page(t, name), -1) {
		out = append(out, m[1])
	}
	return out
}

// TestInstallPage runs the commands of Helm and kustomize on docs/install.md, by their libraries, and renders the overlay that it
// shows. Commands that ask the API server are run by test/deploy, and those of a release by deploy/release.
func TestInstallPage(t *testing.T) {
	var overlay strings.Builder
	ran := 0
	for _, command := range commands(t, "install.md") {
		words := strings.Fields(command)
		switch {
		case words[0] == "helm" && (words[1] == "install" || words[1] == "upgrade"):
			ran++
			if objects := helm(t, valuesOf(t, words)); len(objects) < 4 {
				t.Errorf("%s: %d objects", command, len(objects))
			}
		case strings.HasPrefix(command, "kubectl apply -k ") || strings.HasPrefix(command, "kubectl delete -k "):
			ran++
			kustomize(t, filepath.Base(words[3]))
		case strings.HasPrefix(command, "kubectl apply -f "):
			ran++
			if _, err := os.Stat(filepath.Join("../..", words[3])); err != nil {
				t.Error(err)
			}
		case strings.Contains(words[0], ":"):
			overlay.WriteString(command + "\n")
		}
	}
	if ran < 5 {
		t.Errorf("%d commands ran, which cannot be all", ran)
	}
	objects := kustomization(t, overlay.String())
	pod := daemonSet(t, objects).Spec.Template.Spec
	if want := "registry.example.com/kube-ipvs:v1.2.3"; pod.Containers[0].Image != want || pod.InitContainers[0].Image != want {
		t.Errorf("image %s", pod.Containers[0].Image)
	}
	if len(objects) != 7 { // four, and monitoring's three
		t.Errorf("%d objects", len(objects))
	}
}

// valuesOf returns what a command of Helm sets, as YAML.
func valuesOf(t *testing.T, words []string) string {
	t.Helper()
	values := map[string]any{}
	for i, word := range words {
		if word == "--set" {
			if err := strvals.ParseInto(words[i+1], values); err != nil {
				t.Fatal(err)
			}
		}
	}
	text, err := yaml.Marshal(values)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// TestAlertsPage holds docs/alerts.md to the rules: an entry for each alert, in their order.
func TestAlertsPage(t *testing.T) {
	var have []string
	for _, m := range regexp.MustCompile(`(?m)^## (\w+)\n\n(.)`).FindAllStringSubmatch(page(t, "alerts.md"), -1) {
		have = append(have, m[1])
	}
	want := alerts(t)
	slices.Sort(have)
	slices.Sort(want)
	if diff := cmp.Diff(want, have); diff != "" {
		t.Errorf("alerts (-rules +page):\n%s", diff)
	}
}

// TestPlatformsPage holds the table of platforms on docs/install.md to those that the chart and kustomize have.
func TestPlatformsPage(t *testing.T) {
	have := map[string]string{}
	for _, m := range regexp.MustCompile("(?m)^\\| `(\\w+)` \\| (.*)$").FindAllStringSubmatch(page(t, "install.md"), -1) {
		have[m[1]] = m[2]
	}
	for overlay, values := range overlays {
		row, ok := have[overlay]
		if !ok || len(have) != len(overlays) {
			t.Fatalf("the page has platforms %v, and not just %s", have, overlay)
		}
		args := strings.Join(daemonSet(t, helm(t, values)).Spec.Template.Spec.Containers[0].Args, " ")
		if strings.Contains(args, "--kubelet-kubeconfig=") != strings.Contains(row, "the kubelet's kubeconfig") {
			t.Errorf("%s: %q, but the flags are %s", overlay, row, args)
		}
		if _, ranges, ok := strings.Cut(args, "--cluster-cidr="); ok && overlay != "standalone" && !strings.Contains(row, strings.Fields(ranges)[0]) {
			t.Errorf("%s: %q, but the flags are %s", overlay, row, args)
		}
	}
}

// TestSupportPage holds the versions on docs/support.md to those that the tests have.
func TestSupportPage(t *testing.T) {
	rows := map[string]string{}
	for _, m := range regexp.MustCompile(`(?m)^\| ([^|]+) \| ([^|]+) \|`).FindAllStringSubmatch(page(t, "support.md"), -1) {
		rows[m[1]] += m[2] + ";"
	}
	for _, tt := range []struct{ row, file, version string }{
		{"Kubernetes API server", "../../test/kubernetes/go.mod", `k8s\.io/kubernetes v([\d.]+)`},
		{"kube-proxy's flags and configuration", "../../go.mod", `k8s\.io/kube-proxy v0\.(\d+)`},
		{"iptables", "../../deploy/release/packages.lock", `/iptables_([\d.]+)-`},
	} {
		text, err := os.ReadFile(tt.file)
		if err != nil {
			t.Fatal(err)
		}
		version := regexp.MustCompile(tt.version).FindStringSubmatch(string(text))
		if version == nil || !strings.Contains(rows[tt.row], version[1]) {
			t.Errorf("%s: %q, but %s has %q", tt.row, rows[tt.row], tt.file, version)
		}
	}
}
