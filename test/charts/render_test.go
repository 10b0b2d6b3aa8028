// Package charts_test holds the chart and the overlays of deploy/ to each other, by the libraries of Helm and kustomize, and the
// rules and the dashboard to Prometheus's. It is a module of its own, so that none of them enters the product's go.sum.
package charts_test

import (
	"bufio"
	"bytes"
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"helm.sh/helm/v4/pkg/chart/common"
	"helm.sh/helm/v4/pkg/chart/common/util"
	"helm.sh/helm/v4/pkg/chart/v2/loader"
	"helm.sh/helm/v4/pkg/engine"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	utilyaml "k8s.io/apimachinery/pkg/util/yaml"
	"sigs.k8s.io/kustomize/api/krusty"
	"sigs.k8s.io/kustomize/kyaml/filesys"
	"sigs.k8s.io/yaml"
)

var update = flag.Bool("update", false, "write deploy/manifests")

const deploy = "../../deploy"

// overlays are the overlays of kustomize, and the chart's values that mean the same.
var overlays = map[string]string{
	"kubeadm":    "platform: kubeadm",
	"kind":       "platform: kind",
	"k3s":        "platform: k3s",
	"rke2":       "platform: rke2",
	"standalone": "{platform: standalone, clusterCIDR: 10.244.0.0/16, apiServer: {host: control-plane.example.com}}",
}

// TestSame renders each overlay by kustomize and by Helm: the objects are the same, but for the labels that Helm asks for.
func TestSame(t *testing.T) {
	for overlay, values := range overlays {
		for name, monitoring := range map[string]string{"": "", "-monitoring": "monitoring: {enabled: true}"} {
			t.Run(overlay+name, func(t *testing.T) {
				var components []string
				if monitoring != "" {
					components = []string{"chart/monitoring"}
				}
				want := kustomize(t, overlay, components...)
				got := byName(t, helm(t, values, monitoring))
				for _, object := range got {
					labels := object.GetLabels()
					delete(labels, "app.kubernetes.io/managed-by")
					delete(labels, "helm.sh/chart")
					object.SetLabels(labels)
				}
				if diff := cmp.Diff(byName(t, want), got); diff != "" {
					t.Errorf("(-kustomize +Helm):\n%s", diff)
				}
			})
		}
	}
}

// TestManifests holds deploy/manifests, for those who have neither Helm nor kustomize, to the overlays; go test -update writes them.
func TestManifests(t *testing.T) {
	folders, err := filepath.Glob(deploy + "/overlays/*")
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, folder := range folders {
		name := filepath.Base(folder)
		names = append(names, name)
		text := "# Generated from deploy/overlays/" + name + ", whose comments give the reasons.\n"
		for i, object := range kustomize(t, name) {
			document, err := yaml.Marshal(object.Object)
			if err != nil {
				t.Fatal(err)
			}
			if i > 0 {
				text += "---\n"
			}
			text += string(document)
		}
		file := filepath.Join(deploy, "manifests", name+".yaml")
		if *update {
			if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		have, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(text, string(have)); diff != "" {
			t.Errorf("%s is not its overlay's; go test ./... -update in test/charts (-want +have):\n%s", file, diff)
		}
	}
	if diff := cmp.Diff(slices.Sorted(maps.Keys(overlays)), names); diff != "" {
		t.Errorf("overlays (-tested +there):\n%s", diff)
	}
}

// helm renders the chart with values, each a YAML text, as "helm install -n kube-system kube-ipvs" does, without the tests.
func helm(t *testing.T, values ...string) []*unstructured.Unstructured {
	t.Helper()
	files, err := template(t, values...)
	if err != nil {
		t.Fatal(err)
	}
	var objects []*unstructured.Unstructured
	for _, name := range slices.Sorted(maps.Keys(files)) {
		if filepath.Ext(name) == ".yaml" && !strings.Contains(name, "/tests/") {
			objects = append(objects, parse(t, []byte(files[name]))...)
		}
	}
	return objects
}

// template returns the chart's rendered files by name.
func template(t *testing.T, values ...string) (map[string]string, error) {
	t.Helper()
	chart, err := loader.Load(deploy + "/chart")
	if err != nil {
		t.Fatal(err)
	}
	given := map[string]any{}
	for _, v := range values {
		if err := yaml.UnmarshalStrict([]byte(v), &given); err != nil {
			t.Fatal(err)
		}
	}
	release := common.ReleaseOptions{Name: "kube-ipvs", Namespace: "kube-system", IsInstall: true, Revision: 1}
	all, err := util.ToRenderValues(chart, given, release, common.DefaultCapabilities)
	if err != nil {
		return nil, err
	}
	return engine.Engine{Strict: true}.RenderWithContext(t.Context(), chart, all)
}

// kustomize renders an overlay with components, folders of deploy/, as "kubectl kustomize" does.
func kustomize(t *testing.T, overlay string, components ...string) []*unstructured.Unstructured {
	t.Helper()
	root, err := yaml.Marshal(map[string]any{"resources": []string{"overlays/" + overlay}, "components": components})
	if err != nil {
		t.Fatal(err)
	}
	return kustomization(t, string(root))
}

// kustomization renders a kustomization.yaml in deploy/.
func kustomization(t *testing.T, text string) []*unstructured.Unstructured {
	t.Helper()
	files := copyOf(t, os.DirFS(deploy))
	if err := files.WriteFile("/kustomization.yaml", []byte(text)); err != nil {
		t.Fatal(err)
	}
	rendered, err := krusty.MakeKustomizer(krusty.MakeDefaultOptions()).Run(files, "/")
	if err != nil {
		t.Fatal(err)
	}
	out, err := rendered.AsYaml()
	if err != nil {
		t.Fatal(err)
	}
	return parse(t, out)
}

// copyOf returns a copy in memory, in which a test can add files.
func copyOf(t *testing.T, of fs.FS) filesys.FileSystem {
	t.Helper()
	out := filesys.MakeFsInMemory()
	err := fs.WalkDir(of, ".", func(name string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		text, err := fs.ReadFile(of, name)
		if err != nil {
			return err
		}
		return out.WriteFile("/"+name, text)
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// parse returns the objects of a YAML text of several documents. A key that is there twice is an error.
func parse(t *testing.T, text []byte) []*unstructured.Unstructured {
	t.Helper()
	var objects []*unstructured.Unstructured
	documents := utilyaml.NewYAMLReader(bufio.NewReader(bytes.NewReader(text)))
	for {
		document, err := documents.Read()
		if errors.Is(err, io.EOF) {
			return objects
		}
		if err != nil {
			t.Fatal(err)
		}
		object := new(unstructured.Unstructured)
		if err := yaml.UnmarshalStrict(document, &object.Object); err != nil {
			t.Fatalf("%v in\n%s", err, document)
		}
		if object.Object != nil { // comments alone are no object
			objects = append(objects, object)
		}
	}
}

// byName returns objects by kind, namespace and name, each of which is there once.
func byName(t *testing.T, objects []*unstructured.Unstructured) map[string]*unstructured.Unstructured {
	t.Helper()
	out := map[string]*unstructured.Unstructured{}
	for _, object := range objects {
		name := fmt.Sprintf("%s %s/%s", object.GetKind(), object.GetNamespace(), object.GetName())
		if out[name] != nil {
			t.Errorf("there are two of %s", name)
		}
		out[name] = object
	}
	return out
}
