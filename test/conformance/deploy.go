package main

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
)

const (
	// proxyLabel is the label of a node, and of pods, that names the proxy.
	proxyLabel = "service-proxy"
	// aProxy selects the pods of every proxy. Tests find them by this label, which kube-proxy's pods have.
	aProxy = "k8s-app=kube-proxy"
	// healthzPort is where a proxy reports its health.
	healthzPort = 10256
	// nodeRun is where the pod sees the test kernel's /run.
	nodeRun = "/node/run"
)

// deploy makes the proxy's DaemonSet and returns when each node's pod is ready.
func (b *bed) deploy(ctx context.Context) error {
	p, err := b.proxy()
	if err != nil {
		return err
	}
	sets := b.client.AppsV1().DaemonSets(metav1.NamespaceSystem)
	if _, err := sets.Create(ctx, p.daemonSet(b.setting), metav1.CreateOptions{}); err != nil {
		return err
	}
	return b.until(ctx, p.name+" is ready on each node", func() (bool, error) {
		set, err := sets.Get(ctx, p.name, metav1.GetOptions{})
		return err == nil && int(set.Status.NumberReady) == b.count, err
	})
}

// daemonSet returns what runs the proxy on the nodes that ask for it by their label, as its users run it.
func (p proxy) daemonSet(s setting) *appsv1.DaemonSet {
	labels := map[string]string{"k8s-app": "kube-proxy", proxyLabel: p.name}
	// Its output outlives the pod and the test kernel.
	log := filepath.Join(s.logs(), p.name+"-$NODE_NAME.log")
	c := container("proxy", s, append([]string{"/bin/sh", "-c", `exec "$0" "$@" >>` + log + ` 2>&1`}, p.command(s)...)...)
	c.ReadinessProbe = &corev1.Probe{
		ProbeHandler:  corev1.ProbeHandler{HTTPGet: &corev1.HTTPGetAction{Path: p.ready, Port: intstr.FromInt32(healthzPort)}},
		PeriodSeconds: 1, TimeoutSeconds: 5,
	}
	spec := nodePod(s, c)
	spec.NodeSelector = map[string]string{proxyLabel: p.name}
	return &appsv1.DaemonSet{
		ObjectMeta: metav1.ObjectMeta{Name: p.name, Namespace: metav1.NamespaceSystem},
		Spec: appsv1.DaemonSetSpec{
			Selector: &metav1.LabelSelector{MatchLabels: labels},
			Template: corev1.PodTemplateSpec{ObjectMeta: metav1.ObjectMeta{Labels: labels}, Spec: spec},
		},
	}
}

// container returns a container that runs a program of the machine's, or of the bed's.
func container(name string, s setting, command ...string) corev1.Container {
	c := corev1.Container{
		Name: name, Image: "busybox", Command: command,
		Env: []corev1.EnvVar{
			{Name: "NODE_NAME", ValueFrom: &corev1.EnvVarSource{FieldRef: &corev1.ObjectFieldSelector{FieldPath: "spec.nodeName"}}},
			{Name: "PATH", Value: nodeRun + "/inkernel/bin:/usr/sbin:/usr/bin:/sbin:/bin"},      // with the iptables that the test kernel has
			{Name: "XTABLES_LOCKFILE", Value: filepath.Join(nodeRun, "$(NODE_NAME)", lockFile)}, // the kubelet's
		},
		VolumeMounts: []corev1.VolumeMount{{Name: "run", MountPath: nodeRun}},
	}
	for name, path := range folders(s) {
		c.VolumeMounts = append(c.VolumeMounts, corev1.VolumeMount{Name: name, MountPath: path})
	}
	return c
}

// folders are those of the machine that containers of the bed's own see, at the same place.
func folders(s setting) map[string]string { return map[string]string{"bin": s.bin, "state": s.state} }

// nodePod returns the specification of a pod in the network namespace of its node.
func nodePod(s setting, c corev1.Container) corev1.PodSpec {
	spec := corev1.PodSpec{
		HostNetwork: true, PriorityClassName: "system-node-critical", Tolerations: []corev1.Toleration{{Operator: corev1.TolerationOpExists}},
		AutomountServiceAccountToken: new(bool), Containers: []corev1.Container{c}, Volumes: []corev1.Volume{hostPath("run", "/run")},
	}
	for name, path := range folders(s) {
		spec.Volumes = append(spec.Volumes, hostPath(name, path))
	}
	return spec
}

func hostPath(name, path string) corev1.Volume {
	return corev1.Volume{Name: name, VolumeSource: corev1.VolumeSource{HostPath: &corev1.HostPathVolumeSource{Path: path}}}
}

// crashes returns an error that names each proxy that ended by itself: the kubelet starts it again, and no test may notice.
func (b *bed) crashes(ctx context.Context) error {
	pods, err := b.client.CoreV1().Pods(metav1.NamespaceSystem).List(ctx, metav1.ListOptions{LabelSelector: aProxy})
	if err != nil {
		return err
	}
	var errs []error
	for _, pod := range pods.Items {
		for _, c := range pod.Status.ContainerStatuses {
			if c.RestartCount > 0 {
				errs = append(errs, fmt.Errorf("the proxy on %s ended %d times; logs are in %s", pod.Spec.NodeName, c.RestartCount, b.logs()))
			}
		}
	}
	return errors.Join(errs...)
}

// until waits until something holds. What it asks may fail meanwhile.
func (b *bed) until(ctx context.Context, what string, holds func() (bool, error)) error {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Minute)
	defer cancel()
	for {
		ok, err := holds()
		if ok {
			return nil
		}
		select {
		case <-time.After(time.Second):
		case <-b.down:
			return b.lastWords()
		case <-ctx.Done():
			return errors.Join(fmt.Errorf("until %s: %w", what, ctx.Err()), err)
		}
	}
}
