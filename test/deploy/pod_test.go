//go:build cluster

package deploy_test

import (
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"

	"kube-ipvs/test/cluster"
)

// TestPod runs the container of the DaemonSet as a node would, with the rights, flags and mounts that deploy/ gives it and
// no others, until the node reaches the API server by its Service. It takes curl, and unshare and setpriv (util-linux).
func TestPod(t *testing.T) {
	c := start(t, cluster.Config{Namespace: true})
	objects := readDeploy(t)
	if err := c.Apply(t.Context(), objects); err != nil {
		t.Fatal(err)
	}
	node := cluster.Node{
		Name:      "one",
		Addresses: []netip.Addr{netip.MustParsePrefix(cluster.TapPeer4).Addr(), netip.MustParsePrefix(cluster.TapPeer6).Addr()},
	}
	if err := c.CreateNode(t.Context(), node); err != nil {
		t.Fatal(err)
	}
	account, err := c.ServiceAccount(t.Context(), "kube-system", "kube-ipvs")
	if err != nil {
		t.Fatal(err)
	}
	program, err := cluster.Build(t.Context(), "kube-ipvs")
	if err != nil {
		t.Fatal(err)
	}
	pod := podOf(t, objects)
	mounts := append(hostPaths(pod), program+" "+programPath, secrets(t, account))
	command, err := c.InKernel(t.Context(), "bash", append([]string{"testdata/node.sh"}, container(pod)...)...)
	if err != nil {
		t.Fatal(err)
	}
	host, port, _ := strings.Cut(strings.TrimPrefix(c.URL(), "https://"), ":")
	command.Env = append(os.Environ(),
		"HOSTPATHS="+strings.Join(mounts, "\n"),
		"PROBE="+probeOf(pod),
		// what the ConfigMap says
		"KUBERNETES_SERVICE_HOST="+host, "KUBERNETES_SERVICE_PORT="+port,
	)
	output, err := command.CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, output)
	}
	for _, want := range []string{
		"service: Client sent an HTTP request to an HTTPS server.\n", // as the API server says; the proxy only forwards
		"probe: 200\n",
		"conntrack: 1\n", // it can change the node's settings
		"TCP  10.96.0.1:443 rr\n",
	} {
		if !strings.Contains(string(output), want) {
			t.Errorf("not on the node: %q", want)
		}
	}
	if t.Failed() {
		t.Logf("%s", output)
	}
}

// programPath is where the program is in the container.
const programPath = "/kube-ipvs"

// podOf returns the pods' specification in the DaemonSet.
func podOf(t *testing.T, objects []*unstructured.Unstructured) corev1.PodSpec {
	t.Helper()
	for _, object := range objects {
		if object.GetKind() != "DaemonSet" {
			continue
		}
		var set appsv1.DaemonSet
		if err := runtime.DefaultUnstructuredConverter.FromUnstructuredWithValidation(object.Object, &set, true); err != nil {
			t.Fatal(err)
		}
		return set.Spec.Template.Spec
	}
	t.Fatal("deploy/ has no DaemonSet")
	return corev1.PodSpec{}
}

// container returns the command that runs the pod's container.
func container(pod corev1.PodSpec) []string {
	main := pod.Containers[0]
	var capabilities strings.Builder
	for _, c := range main.SecurityContext.Capabilities.Add {
		fmt.Fprintf(&capabilities, ",+%s", strings.ToLower(string(c)))
	}
	command := []string{"bash", "testdata/container.sh", "/run/container", capabilities.String(), programPath}
	for _, arg := range main.Args {
		command = append(command, strings.ReplaceAll(arg, "$(NODE_NAME)", "one"))
	}
	return command
}

// probeOf returns the URL of the container's liveness probe.
func probeOf(pod corev1.PodSpec) string {
	probe := pod.Containers[0].LivenessProbe.HTTPGet
	return fmt.Sprintf("http://127.0.0.1:%v%s", probe.Port.IntValue(), probe.Path)
}

// hostPaths returns what the pod's container mounts of the node, "FROM TO".
func hostPaths(pod corev1.PodSpec) []string {
	from := make(map[string]string)
	for _, volume := range pod.Volumes {
		from[volume.Name] = volume.HostPath.Path
	}
	var paths []string
	for _, mount := range pod.Containers[0].VolumeMounts {
		paths = append(paths, from[mount.Name]+" "+mount.MountPath)
	}
	return paths
}

// secrets writes what proves to the API server who the pod is and returns where it is and where pods look for it.
func secrets(t *testing.T, account cluster.User) string {
	t.Helper()
	dir := t.TempDir()
	config := account.Config()
	for name, content := range map[string][]byte{"token": []byte(config.BearerToken), "ca.crt": config.CAData} {
		if err := os.WriteFile(filepath.Join(dir, name), content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir + " /run/secrets/kubernetes.io/serviceaccount"
}
