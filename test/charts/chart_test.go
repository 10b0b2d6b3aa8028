package charts_test

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"helm.sh/helm/v4/pkg/chart/v2/lint"
	"helm.sh/helm/v4/pkg/chart/v2/lint/support"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/intstr"
)

func TestLint(t *testing.T) {
	for _, message := range lint.RunAll(deploy+"/chart", map[string]any{"platform": "kubeadm"}, "kube-system").Messages {
		if message.Severity > support.InfoSev {
			t.Error(message)
		}
	}
}

// TestRefused gives values that cannot work: each is refused before anything is installed, and the message names it.
func TestRefused(t *testing.T) {
	for _, tt := range []struct{ name, values, want string }{
		{"no platform", "{}", "at '/platform': value must be one of 'kubeadm', 'kind', 'k3s', 'rke2', 'standalone'"},
		{"no address of the API server", "platform: standalone", "cannot use one to reach the API server: set apiServer.host, or kubeletKubeconfig, or configMap"},
		{"a URL as its host", "{platform: standalone, apiServer: {host: 'https://api'}}", "at '/apiServer/host'"},
		{"a port that is none", "{platform: standalone, apiServer: {host: api, port: 65536}}", "at '/apiServer/port': maximum: got 65,536"},
		{"a misspelt value", "{platform: k3s, clusterCidr: 10.0.0.0/8}", "additional properties 'clusterCidr' not allowed"},
		{"three ranges", "{platform: k3s, clusterCIDR: '10.0.0.0/8,fd00::/56,fd01::/56'}", "at '/clusterCIDR'"},
		{"a flag without its dashes", "{platform: k3s, args: [v=2]}", "at '/args/0'"},
		{"a pod beside the old one", "{platform: k3s, updateStrategy: {rollingUpdate: {maxSurge: 1, maxUnavailable: 0}}}", "at '/updateStrategy/rollingUpdate/maxSurge': value must be one of 0, '0%'"},
		{"some pods beside old ones", "{platform: k3s, updateStrategy: {rollingUpdate: {maxSurge: 10%, maxUnavailable: 0}}}", "at '/updateStrategy/rollingUpdate/maxSurge'"},
		{"a label that is no text", "{platform: k3s, monitoring: {labels: {release: 1}}}", "at '/monitoring/labels/release': got number, want string"},
		{"a relative path", "{platform: k3s, kubeletKubeconfig: kubelet.conf}", "at '/kubeletKubeconfig'"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if _, err := template(t, tt.values); err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("%v, want %q", err, tt.want)
			}
		})
	}
}

// TestValues finds each value where it has its effect.
func TestValues(t *testing.T) {
	type pod = corev1.PodSpec
	args := func(p pod) any { return p.Containers[0].Args[2:] } // the first two are always there
	for _, tt := range []struct {
		name, values string
		get          func(pod) any
		want         any
	}{
		{"image", "{image: {repository: r/k, tag: v1, pullPolicy: Always}}",
			func(p pod) any {
				return []string{p.InitContainers[0].Image, p.Containers[0].Image, string(p.Containers[0].ImagePullPolicy)}
			},
			[]string{"r/k:v1", "r/k:v1", "Always"}},
		{"pull secrets", "imagePullSecrets: [{name: s}]", func(p pod) any { return p.ImagePullSecrets }, []corev1.LocalObjectReference{{Name: "s"}}},
		{"ranges before the platform's", "clusterCIDR: '10.1.0.0/16,fd00::/56'", args,
			[]string{"--kubelet-kubeconfig=/host/kubelet.kubeconfig", "--cluster-cidr=10.1.0.0/16,fd00::/56", "--conntrack-max-per-core=0"}},
		{"flags after the platform's", "args: [--v=2, --ipvs-scheduler=lc]", args,
			[]string{"--kubelet-kubeconfig=/host/kubelet.kubeconfig", "--cluster-cidr=10.244.0.0/16", "--conntrack-max-per-core=0", "--v=2", "--ipvs-scheduler=lc"}},
		{"metrics", "monitoring: {enabled: true, bindAddress: '[::]:10249'}", args,
			[]string{"--kubelet-kubeconfig=/host/kubelet.kubeconfig", "--cluster-cidr=10.244.0.0/16", "--conntrack-max-per-core=0", "--metrics-bind-address=[::]:10249"}},
		{"a path before the platform's", "kubeletKubeconfig: /k", func(p pod) any { return p.Volumes[len(p.Volumes)-1].HostPath.Path }, "/k"},
		{"a ConfigMap before a path", "configMap: c", args, []string{"--config=/var/lib/kube-proxy/config.conf", "--mode=ipvs", "--cluster-cidr=10.244.0.0/16", "--conntrack-max-per-core=0"}},
		{"account", "serviceAccount: a", func(p pod) any { return p.ServiceAccountName }, "a"},
		{"affinity", "affinity: {nodeAffinity: {}}", func(p pod) any { return p.Affinity.NodeAffinity != nil }, true},
		{"tolerations", "tolerations: []", func(p pod) any { return len(p.Tolerations) }, 0},
		{"priority", "priorityClassName: p", func(p pod) any { return p.PriorityClassName }, "p"},
		{"node selector", "nodeSelector: {a: b}", func(p pod) any { return p.NodeSelector }, map[string]string{"kubernetes.io/os": "linux", "a": "b"}},
		{"resources", "resources: {requests: {cpu: 1}}", func(p pod) any { return p.Containers[0].Resources.Requests.Cpu().String() }, "1"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			set := daemonSet(t, helm(t, "platform: kind", tt.values))
			if diff := cmp.Diff(tt.want, tt.get(set.Spec.Template.Spec)); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
	for _, surge := range []string{"0", "0%"} {
		set := daemonSet(t, helm(t, "platform: kind", "updateStrategy: {rollingUpdate: {maxSurge: "+surge+"}}"))
		if got := set.Spec.UpdateStrategy.RollingUpdate.MaxSurge.String(); got != surge {
			t.Errorf("maxSurge is %s, want %s", got, surge)
		}
	}
	set := daemonSet(t, helm(t, "platform: kind", "{podAnnotations: {a: b}, updateStrategy: {type: OnDelete, rollingUpdate: null}}"))
	if set.Spec.Template.Annotations["a"] != "b" || set.Spec.UpdateStrategy.Type != appsv1.OnDeleteDaemonSetStrategyType || set.Spec.UpdateStrategy.RollingUpdate != nil {
		t.Errorf("annotations %v, update strategy %v", set.Spec.Template.Annotations, set.Spec.UpdateStrategy)
	}
}

func daemonSet(t *testing.T, objects []*unstructured.Unstructured) *appsv1.DaemonSet {
	t.Helper()
	for _, object := range objects {
		if object.GetKind() == "DaemonSet" {
			set := new(appsv1.DaemonSet)
			if err := runtime.DefaultUnstructuredConverter.FromUnstructuredWithValidation(object.Object, set, true); err != nil {
				t.Fatal(err)
			}
			return set
		}
	}
	t.Fatal("there is no DaemonSet")
	return nil
}

// TestLeastPrivilege holds all overlays to the rights of the containers: no more than these.
func TestLeastPrivilege(t *testing.T) {
	for overlay := range overlays {
		t.Run(overlay, func(t *testing.T) {
			pod := daemonSet(t, kustomize(t, overlay)).Spec.Template.Spec
			if pod.HostPID || pod.HostIPC || !pod.HostNetwork || pod.SecurityContext.SeccompProfile.Type != corev1.SeccompProfileTypeRuntimeDefault {
				t.Errorf("hostPID %v, hostIPC %v, hostNetwork %v, seccomp %v", pod.HostPID, pod.HostIPC, pod.HostNetwork, pod.SecurityContext.SeccompProfile)
			}
			for _, c := range []struct {
				container corev1.Container
				want      []corev1.Capability
			}{
				{pod.InitContainers[0], []corev1.Capability{"SYS_MODULE"}},
				{pod.Containers[0], []corev1.Capability{"NET_ADMIN", "NET_RAW"}},
			} {
				have := c.container.SecurityContext
				want := &corev1.SecurityContext{
					AllowPrivilegeEscalation: new(false), ReadOnlyRootFilesystem: new(true),
					Capabilities: &corev1.Capabilities{Drop: []corev1.Capability{"ALL"}, Add: c.want},
				}
				if diff := cmp.Diff(want, have); diff != "" {
					t.Errorf("%s (-want +have):\n%s", c.container.Name, diff)
				}
			}
			writable := map[string]bool{"/proc/sys/net": true, "/run/xtables.lock": true}
			for _, volume := range pod.Volumes {
				for _, container := range append(pod.InitContainers, pod.Containers...) {
					for _, mount := range container.VolumeMounts {
						if mount.Name == volume.Name && !mount.ReadOnly && volume.EmptyDir == nil && (volume.HostPath == nil || !writable[volume.HostPath.Path]) {
							t.Errorf("%s may write %s", container.Name, mount.MountPath)
						}
					}
				}
			}
		})
	}
}

// TestProbes lets the kubelet ask where healthz answers at whatever address it is bound to: without a host it asks the node's address,
// where nothing answers if it is bound to loopback, as k3s binds the healthz of the kube-proxy that a pod waits for.
func TestProbes(t *testing.T) {
	for overlay := range overlays {
		container := daemonSet(t, kustomize(t, overlay)).Spec.Template.Spec.Containers[0]
		for path, probe := range map[string]*corev1.Probe{"/readyz": container.ReadinessProbe, "/livez": container.LivenessProbe} {
			want := &corev1.HTTPGetAction{Host: "127.0.0.1", Port: intstr.FromInt32(10256), Path: path}
			if diff := cmp.Diff(want, probe.HTTPGet); diff != "" {
				t.Errorf("%s (-want +have):\n%s", overlay, diff)
			}
		}
	}
}

// TestMonitoringLabels gives what a Prometheus reads the labels by which it selects, as kube-prometheus-stack's does by its release.
func TestMonitoringLabels(t *testing.T) {
	for by, objects := range map[string][]*unstructured.Unstructured{
		"Helm":      helm(t, "platform: kind", "monitoring: {enabled: true, labels: {release: stack}}"),
		"kustomize": kustomization(t, "{resources: [overlays/kind], components: [chart/monitoring], labels: [{pairs: {release: stack}}]}"),
	} {
		got := map[string]string{}
		for _, object := range objects {
			got[object.GetKind()] = object.GetLabels()["release"] + " " + object.GetLabels()["app.kubernetes.io/name"]
		}
		for _, kind := range []string{"PodMonitor", "PrometheusRule"} {
			if want := "stack kube-ipvs"; got[kind] != want {
				t.Errorf("%s: labels of the %s are %q, want %q", by, kind, got[kind], want)
			}
		}
	}
}

// TestNotes holds what an operator reads after the installation to the values.
func TestNotes(t *testing.T) {
	const noRanges, unlabelled = "Without clusterCIDR", "Set monitoring.labels if"
	const addresses = "Prometheus reaches no node's /metrics unless it has metricsBindAddress: 0.0.0.0:10249"
	for _, tt := range []struct {
		name, values string
		has, lacks   []string
	}{
		{"always", "platform: kind", []string{"rollout status daemonset/kube-ipvs", "reason=NotServed", "helm -n kube-system test kube-ipvs"}, []string{noRanges, addresses, unlabelled}},
		{"kube-proxy's ConfigMap", "platform: kubeadm", []string{"those of the ConfigMap kube-proxy"}, []string{noRanges, addresses}},
		{"with metrics", "{platform: kubeadm, monitoring: {enabled: true}}", []string{addresses, unlabelled}, []string{noRanges}},
		{"with labels", "{platform: kubeadm, monitoring: {enabled: true, labels: {release: stack}}}", []string{addresses}, []string{unlabelled}},
		{"no ranges", "{platform: standalone, apiServer: {host: api}}", []string{noRanges}, []string{addresses, "ConfigMap"}},
	} {
		files, err := template(t, tt.values)
		if err != nil {
			t.Fatal(err)
		}
		notes := files["kube-ipvs/templates/NOTES.txt"]
		for _, want := range tt.has {
			if !strings.Contains(notes, want) {
				t.Errorf("%s: the notes lack %q:\n%s", tt.name, want, notes)
			}
		}
		for _, other := range tt.lacks {
			if strings.Contains(notes, other) {
				t.Errorf("%s: the notes have %q:\n%s", tt.name, other, notes)
			}
		}
	}
}

// TestHook holds the pod of "helm test" apart from the DaemonSet's.
func TestHook(t *testing.T) {
	files, err := template(t, "platform: kind", "test: {image: busybox:1}")
	if err != nil {
		t.Fatal(err)
	}
	object := parse(t, []byte(files["kube-ipvs/templates/tests/cluster-ip.yaml"]))[0]
	var pod corev1.Pod
	if err := runtime.DefaultUnstructuredConverter.FromUnstructuredWithValidation(object.Object, &pod, true); err != nil {
		t.Fatal(err)
	}
	selector, err := metav1.LabelSelectorAsSelector(daemonSet(t, helm(t, "platform: kind")).Spec.Selector)
	if err != nil {
		t.Fatal(err)
	}
	if selector.Matches(labels.Set(pod.Labels)) {
		t.Errorf("the DaemonSet would adopt the test's pod: %v", pod.Labels)
	}
	if pod.Annotations["helm.sh/hook"] != "test" || pod.Spec.HostNetwork || pod.Spec.Containers[0].Image != "busybox:1" {
		t.Errorf("%v %v", pod.Annotations, pod.Spec)
	}
}
