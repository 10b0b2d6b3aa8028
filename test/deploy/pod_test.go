//go:build cluster

package deploy_test

import (
	"cmp"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"

	"kube-ipvs/test/cluster"
)

// TestPod runs the container of each kind of overlay as a node would, in the image's root, with the rights, flags and mounts that
// deploy/ gives it and no others, until the node reaches the API server by its Service. The kubelet gives it the cluster IP alone; each overlay finds
// the API server in its own way. It takes curl, and unshare and setpriv (util-linux).
func TestPod(t *testing.T) {
	c := start(t, cluster.Config{Namespace: true})
	if err := applyKubeProxy(t.Context(), c); err != nil {
		t.Fatal(err)
	}
	node := cluster.Node{
		Name:      "one",
		Addresses: []netip.Addr{netip.MustParsePrefix(cluster.TapPeer4).Addr(), netip.MustParsePrefix(cluster.TapPeer6).Addr()},
	}
	if err := c.CreateNode(t.Context(), node); err != nil {
		t.Fatal(err)
	}
	for _, overlay := range []string{"kubeadm", "k3s", "standalone"} { // kind and rke2 are as k3s
		t.Run(overlay, func(t *testing.T) { testPod(t, c, node, overlay) })
	}
}

func testPod(t *testing.T, c *cluster.Cluster, node cluster.Node, overlay string) {
	objects := objectsOf(t, overlay)
	if err := c.Apply(t.Context(), objects); err != nil {
		t.Fatal(err)
	}
	pod := podOf(t, objects)
	account, err := c.ServiceAccount(t.Context(), "kube-system", pod.ServiceAccountName)
	if err != nil {
		t.Fatal(err)
	}
	program, err := cluster.Build(t.Context(), "kube-ipvs")
	if err != nil {
		t.Fatal(err)
	}
	mounts := append(mountsOf(t, c, pod), program+" "+programPath, secrets(t, account))
	command, err := c.InKernel(t.Context(), "bash", append([]string{"testdata/node.sh"}, container(pod, image(t))...)...)
	if err != nil {
		t.Fatal(err)
	}
	command.Env = append(os.Environ(), "HOSTPATHS="+strings.Join(mounts, "\n"), "PROBE="+probeOf(pod, node))
	command.Env = append(command.Env, environment(c, pod)...)
	output, err := command.CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, output)
	}
	for _, want := range []string{
		"service: Client sent an HTTP request to an HTTPS server.\n", // as the API server says; the proxy only forwards
		"probe: 200\n",
		"conntrack: 1\n", // it can change the node's settings
		"metrics of tracked connections: 2\n",
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

// environment returns the container's environment: that of the kubelet, and then the pod's own. An operator has put the address of
// the API server where the overlay standalone has an example.
func environment(c *cluster.Cluster, pod corev1.PodSpec) []string {
	host, port, _ := strings.Cut(strings.TrimPrefix(c.URL(), "https://"), ":")
	own := map[string]string{"control-plane.example.com": host, "6443": port}
	out := []string{"KUBERNETES_SERVICE_HOST=10.96.0.1", "KUBERNETES_SERVICE_PORT=443", "KUBERNETES_PORT=tcp://10.96.0.1:443"}
	for _, variable := range pod.Containers[0].Env {
		out = append(out, variable.Name+"="+cmp.Or(own[variable.Value], variable.Value))
	}
	return out
}

// programPath is where the program is in the container.
const programPath = "/usr/local/bin/kube-ipvs"

// image returns a directory with the image's root, without the program.
func image(t *testing.T) string {
	t.Helper()
	release, err := cluster.Build(t.Context(), "release")
	if err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(t.TempDir(), "image")
	cache := filepath.Join(filepath.Dir(release), "debs")
	if output, err := exec.CommandContext(t.Context(), release, "-rootfs", dir, "-cache", cache).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, output)
	}
	return dir
}

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
func container(pod corev1.PodSpec, root string) []string {
	main := pod.Containers[0]
	var capabilities strings.Builder
	for _, c := range main.SecurityContext.Capabilities.Add {
		fmt.Fprintf(&capabilities, ",+%s", strings.ToLower(string(c)))
	}
	command := []string{"bash", "testdata/container.sh", root, capabilities.String(), programPath}
	for _, arg := range main.Args {
		command = append(command, strings.ReplaceAll(arg, "$(NODE_NAME)", "one"))
	}
	return command
}

// probeOf returns the URL that the kubelet asks for the container's liveness probe. Without a host, that is the pod's address: with
// hostNetwork, the node's.
func probeOf(pod corev1.PodSpec, node cluster.Node) string {
	probe := pod.Containers[0].LivenessProbe.HTTPGet
	return fmt.Sprintf("http://%s:%v%s", cmp.Or(probe.Host, node.Addresses[0].String()), probe.Port.IntValue(), probe.Path)
}

// mountsOf returns what the pod's container mounts, "FROM TO". Files that are a distribution's are written.
func mountsOf(t *testing.T, c *cluster.Cluster, pod corev1.PodSpec) []string {
	t.Helper()
	from := make(map[string]string)
	for _, volume := range pod.Volumes {
		switch {
		case volume.ConfigMap != nil:
			from[volume.Name] = kubeProxyConfig(t, c)
		case volume.EmptyDir != nil:
			from[volume.Name] = t.TempDir()
		case strings.Contains(volume.HostPath.Path, "kubelet"):
			from[volume.Name] = kubeletKubeconfig(t, c)
		default:
			from[volume.Name] = volume.HostPath.Path
		}
	}
	var paths []string
	for _, mount := range pod.Containers[0].VolumeMounts {
		paths = append(paths, from[mount.Name]+" "+mount.MountPath)
	}
	return paths
}

// kubeProxyConfig writes kube-proxy's ConfigMap, as kubeadm has it but for the address of healthz, to a directory.
func kubeProxyConfig(t *testing.T, c *cluster.Cluster) string {
	t.Helper()
	const account = "/var/run/secrets/kubernetes.io/serviceaccount"
	dir := t.TempDir()
	write(t, filepath.Join(dir, "config.conf"), `apiVersion: kubeproxy.config.k8s.io/v1alpha1
kind: KubeProxyConfiguration
clientConnection: {kubeconfig: /var/lib/kube-proxy/kubeconfig.conf}
clusterCIDR: 10.244.0.0/16
healthzBindAddress: 127.0.0.1
mode: iptables
`)
	write(t, filepath.Join(dir, "kubeconfig.conf"), `apiVersion: v1
kind: Config
clusters: [{name: default, cluster: {certificate-authority: `+account+`/ca.crt, server: "`+c.URL()+`"}}]
contexts: [{name: default, context: {cluster: default, namespace: default, user: default}}]
current-context: default
users: [{name: default, user: {tokenFile: `+account+`/token}}]
`)
	return dir
}

// kubeletKubeconfig writes the kubelet's kubeconfig as k3s has it. Certificate authority and credentials are files that the container
// does not have.
func kubeletKubeconfig(t *testing.T, c *cluster.Cluster) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "kubelet")
	write(t, file, `apiVersion: v1
kind: Config
clusters: [{name: default, cluster: {certificate-authority: /var/lib/rancher/k3s/agent/server-ca.crt, server: "`+c.URL()+`"}}]
contexts: [{name: default, context: {cluster: default, user: default}}]
current-context: default
users: [{name: default, user: {client-certificate: /var/lib/rancher/k3s/agent/client-kubelet.crt}}]
`)
	return file
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
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
