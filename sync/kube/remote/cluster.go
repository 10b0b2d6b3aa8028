package remote

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/metadata"
	"k8s.io/client-go/rest"
)

// A Cluster is a cluster with kube-ipvs on its nodes. Its methods may be called from any goroutine.
type Cluster struct {
	config  *rest.Config
	client  kubernetes.Interface
	nodes   metadata.Interface
	pods    pods
	timeout time.Duration // of a request
}

// A Node is a node, and the pod of kube-ipvs on it.
type Node struct {
	Name string
	OS   string // as its label has it, such as "linux"; or ""
	Pod  string // its name, or "": there is none

	// Down has the reason why the pod cannot be asked, or "".
	Down string
}

// pageSize is the number of objects in a page of a list, so that memory is bounded, however large the cluster is.
const pageSize = 500

// Nodes returns the nodes that a label selector chooses, in the order of their names, also those without a pod.
func (c *Cluster) Nodes(ctx context.Context, selector string) ([]Node, error) {
	var out []Node
	err := c.pages(ctx, "nodes", metav1.ListOptions{LabelSelector: selector}, func(ctx context.Context, o metav1.ListOptions) (string, error) {
		list, err := c.nodes.Resource(corev1.SchemeGroupVersion.WithResource("nodes")).List(ctx, o)
		if err != nil {
			return "", err
		}
		for i := range list.Items {
			out = append(out, Node{Name: list.Items[i].Name, OS: list.Items[i].Labels[corev1.LabelOSStable]})
		}
		return list.Continue, nil
	})
	if err != nil {
		return nil, err
	}
	pods, err := c.findPods(ctx, "")
	if err != nil {
		return nil, err
	}
	for i := range out {
		out[i].Pod, out[i].Down = pods[out[i].Name].name, pods[out[i].Name].down
	}
	slices.SortFunc(out, func(a, b Node) int { return cmp.Compare(a.Name, b.Name) })
	return out, nil
}

// Node returns one node. It needs no right to list nodes: only its pod is looked for.
func (c *Cluster) Node(ctx context.Context, name string) (Node, error) {
	pods, err := c.findPods(ctx, fields.OneTermEqualSelector("spec.nodeName", name).String())
	if err != nil {
		return Node{}, err
	}
	p, found := pods[name]
	if !found {
		return Node{}, fmt.Errorf("node %s has no pod of kube-ipvs (%s in namespace %s), or does not exist", name, c.pods.selector, c.pods.namespace)
	}
	if p.down != "" {
		return Node{}, fmt.Errorf("node %s: %s", name, p.down)
	}
	return Node{Name: name, Pod: p.name}, nil
}

// pages reads all pages of a list, each with a deadline.
func (c *Cluster) pages(ctx context.Context, resource string, o metav1.ListOptions, page func(context.Context, metav1.ListOptions) (string, error)) error {
	o.Limit = pageSize
	for {
		limited, cancel := context.WithTimeout(ctx, c.timeout)
		next, err := page(limited, o)
		cancel()
		if err != nil {
			return fmt.Errorf("list %s: %w", resource, err)
		}
		if o.Continue = next; next == "" {
			return nil
		}
	}
}

// A pod has the few fields that are kept of a pod.
type pod struct {
	name, down string
	created    time.Time
}

// findPods returns the pods by node. Of several on one node it is one that runs, and the youngest of these.
func (c *Cluster) findPods(ctx context.Context, fieldSelector string) (map[string]pod, error) {
	out := map[string]pod{}
	o := metav1.ListOptions{LabelSelector: c.pods.selector, FieldSelector: fieldSelector}
	err := c.pages(ctx, "pods in namespace "+c.pods.namespace, o, func(ctx context.Context, o metav1.ListOptions) (string, error) {
		list, err := c.client.CoreV1().Pods(c.pods.namespace).List(ctx, o)
		if err != nil {
			return "", err
		}
		for i := range list.Items {
			p := &list.Items[i]
			now := pod{p.Name, downOf(p, c.pods.container), p.CreationTimestamp.Time}
			if before, has := out[p.Spec.NodeName]; !has || now.isBetter(before) {
				out[p.Spec.NodeName] = now
			}
		}
		return list.Continue, nil
	})
	return out, err
}

// isBetter reports whether a pod is to be asked in the place of another one on its node.
func (p pod) isBetter(o pod) bool {
	if up, otherUp := p.down == "", o.down == ""; up != otherUp {
		return up
	}
	return p.created.After(o.created)
}

// downOf returns the reason why a pod's container cannot be asked, or "".
func downOf(p *corev1.Pod, container string) string {
	if p.DeletionTimestamp != nil {
		return "pod " + p.Name + " is being deleted"
	}
	for _, s := range p.Status.ContainerStatuses {
		switch {
		case s.Name != container || s.State.Running != nil:
		case s.State.Waiting != nil:
			return strings.TrimSuffix(fmt.Sprintf("pod %s: %s: %s", p.Name, s.State.Waiting.Reason, s.State.Waiting.Message), ": ")
		case s.State.Terminated != nil:
			return strings.TrimSuffix(fmt.Sprintf("pod %s: container has ended with status %d: %s", p.Name, s.State.Terminated.ExitCode, s.State.Terminated.Reason), ": ")
		}
	}
	if p.Status.Phase != corev1.PodRunning {
		return fmt.Sprintf("pod %s is %s", p.Name, cmp.Or(p.Status.Phase, corev1.PodPending))
	}
	return ""
}
