package cluster

import (
	"context"
	"fmt"
	"net/netip"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// A Node is what a test says of a node.
type Node struct {
	Name      string
	Labels    map[string]string
	Addresses []netip.Addr   // its internal addresses, the primary family's first
	PodCIDRs  []netip.Prefix // at most one of each family
}

// CreateNode registers a node that is ready, as its kubelet would.
func (c *Cluster) CreateNode(ctx context.Context, node Node) error {
	client, err := c.AdminClient()
	if err != nil {
		return err
	}
	nodes := client.CoreV1().Nodes()
	object, err := nodes.Create(ctx, node.object(), metav1.CreateOptions{})
	if err != nil {
		return fmt.Errorf("create node %s: %w", node.Name, err)
	}
	object.Status = node.status()
	if _, err := nodes.UpdateStatus(ctx, object, metav1.UpdateOptions{}); err != nil {
		return fmt.Errorf("set status of node %s: %w", node.Name, err)
	}
	return nil
}

func (n Node) object() *corev1.Node {
	object := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: n.Name, Labels: n.Labels}}
	for _, cidr := range n.PodCIDRs {
		object.Spec.PodCIDRs = append(object.Spec.PodCIDRs, cidr.String())
	}
	if len(n.PodCIDRs) > 0 {
		object.Spec.PodCIDR = object.Spec.PodCIDRs[0]
	}
	return object
}

func (n Node) status() corev1.NodeStatus {
	status := corev1.NodeStatus{Conditions: []corev1.NodeCondition{{Type: corev1.NodeReady, Status: corev1.ConditionTrue}}}
	for _, a := range n.Addresses {
		status.Addresses = append(status.Addresses, corev1.NodeAddress{Type: corev1.NodeInternalIP, Address: a.String()})
	}
	return status
}
