//go:build cluster

// Package deploy_test holds deploy/ against the real API server.
package deploy_test

import (
	"context"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	authorizationv1 "k8s.io/api/authorization/v1"
	corev1 "k8s.io/api/core/v1"
	eventsv1 "k8s.io/api/events/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/discovery"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/kubernetes"

	"kube-ipvs/test/cluster"
)

// start starts a control plane for the test.
func start(t *testing.T, config cluster.Config) *cluster.Cluster {
	t.Helper()
	c, err := cluster.Start(t.Context(), config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.Close(); err != nil {
			t.Errorf("close the cluster: %v", err)
		}
	})
	return c
}

// overlays are those of deploy/; test/charts holds the Helm chart to them.
var overlays = []string{"kind", "k3s", "kubeadm", "rke2", "standalone"}

// objectsOf returns the objects of an overlay.
func objectsOf(t *testing.T, overlay string) []*unstructured.Unstructured {
	t.Helper()
	objects, err := cluster.ReadObjects("../../deploy/manifests/" + overlay + ".yaml")
	if err != nil {
		t.Fatal(err)
	}
	return objects
}

func TestDeploy(t *testing.T) {
	c := start(t, cluster.Config{})
	for _, overlay := range overlays {
		if err := c.DryRun(t.Context(), objectsOf(t, overlay)); err != nil {
			t.Errorf("dry run of the overlay %s: %v", overlay, err)
		}
	}
	if err := c.Apply(t.Context(), objectsOf(t, "standalone")); err != nil {
		t.Fatalf("apply: %v", err)
	}
	t.Run("the account that comes with it", func(t *testing.T) { testAccount(t, c, "kube-ipvs", granted) })
	if err := applyKubeProxy(t.Context(), c); err != nil {
		t.Fatal(err)
	}
	t.Run("the account of kube-proxy", func(t *testing.T) { testAccount(t, c, "kube-proxy", grantedToKubeProxy) })
	client, err := c.AdminClient()
	if err != nil {
		t.Fatal(err)
	}
	t.Run("the commands that the pages show", func(t *testing.T) { testCommands(t, client) })
}

// testAccount holds an account of kube-system to the rights that it should have, and uses those that kube-ipvs needs.
func testAccount(t *testing.T, c *cluster.Cluster, name string, granted []string) {
	account, err := c.ServiceAccount(t.Context(), "kube-system", name)
	if err != nil {
		t.Fatal(err)
	}
	client, err := account.Client()
	if err != nil {
		t.Fatal(err)
	}
	untyped, err := dynamic.NewForConfig(account.Config())
	if err != nil {
		t.Fatal(err)
	}
	t.Run("may do what is granted and nothing else", func(t *testing.T) { testRights(t, client, granted) })
	t.Run("lists and watches", func(t *testing.T) { testWatches(t, untyped) })
	t.Run("creates events, once each", func(t *testing.T) { testEvents(t, client, name) })
	t.Run("is refused the rest", func(t *testing.T) { testRefused(t, client) })
}

// applyKubeProxy makes the account of kube-proxy with the rights that kubeadm gives it.
func applyKubeProxy(ctx context.Context, c *cluster.Cluster) error {
	objects, err := cluster.ReadObjects("testdata/kube-proxy.yaml")
	if err != nil {
		return err
	}
	return c.Apply(ctx, objects)
}

// granted is all that the account may do in any namespace: what deploy/ grants, and what the API server grants to
// everybody who is authenticated (the ClusterRole system:basic-user) and, since 1.37, to every service account
// (system:cluster-trust-bundle-discovery).
var granted = []string{
	"create authentication.k8s.io/selfsubjectreviews",
	"create authorization.k8s.io/selfsubjectaccessreviews",
	"create authorization.k8s.io/selfsubjectrulesreviews",
	"create events.k8s.io/events",
	"get certificates.k8s.io/clustertrustbundles",
	"list /nodes",
	"list /services",
	"list certificates.k8s.io/clustertrustbundles",
	"list discovery.k8s.io/endpointslices",
	"list networking.k8s.io/servicecidrs",
	"watch /nodes",
	"watch /services",
	"watch certificates.k8s.io/clustertrustbundles",
	"watch discovery.k8s.io/endpointslices",
	"watch networking.k8s.io/servicecidrs",
}

// grantedToKubeProxy is all that kube-proxy's account may do: the ClusterRole system:node-proxier is the API server's own.
var grantedToKubeProxy = sorted(granted,
	"get /nodes", "list /endpoints", "watch /endpoints",
	"create /events", "patch /events", "update /events", "patch events.k8s.io/events", "update events.k8s.io/events",
)

func sorted(names []string, more ...string) []string {
	all := slices.Concat(names, more)
	slices.Sort(all)
	return all
}

// testRights asks for every verb on every resource, subresources included, that the API server has.
func testRights(t *testing.T, client *kubernetes.Clientset, granted []string) {
	verbs := []string{
		"get", "list", "watch", "create", "update", "patch", "delete", "deletecollection",
		"bind", "escalate", "impersonate", "approve", "sign", "use", "*",
	}
	var got []string
	asked := 0
	for _, resource := range resources(t, client) {
		for _, verb := range verbs {
			asked++
			if may(t, client, verb, resource) {
				got = append(got, verb+" "+resource)
			}
		}
	}
	slices.Sort(got)
	if diff := cmp.Diff(granted, got); diff != "" {
		t.Errorf("rights (-want +got):\n%s", diff)
	}
	if asked < 1000 { // a server of this version has some 160 resources
		t.Errorf("asked for only %d verbs on resources", asked)
	}
}

// resources returns the resources of every group, "GROUP/RESOURCE" or "GROUP/RESOURCE/SUBRESOURCE".
func resources(t *testing.T, client *kubernetes.Clientset) []string {
	t.Helper()
	_, lists, err := discovery.ServerGroupsAndResources(client.Discovery())
	if err != nil {
		t.Fatal(err)
	}
	names := []string{"*/*"}
	for _, list := range lists {
		group, _, found := strings.Cut(list.GroupVersion, "/")
		if !found {
			group = ""
		}
		for _, resource := range list.APIResources {
			names = append(names, group+"/"+resource.Name)
		}
	}
	slices.Sort(names)
	return slices.Compact(names) // a resource may have several versions
}

func may(t *testing.T, client *kubernetes.Clientset, verb, name string) bool {
	t.Helper()
	group, resource, _ := strings.Cut(name, "/")
	resource, subresource, _ := strings.Cut(resource, "/")
	review := &authorizationv1.SelfSubjectAccessReview{Spec: authorizationv1.SelfSubjectAccessReviewSpec{
		ResourceAttributes: &authorizationv1.ResourceAttributes{
			Verb: verb, Group: group, Resource: resource, Subresource: subresource, // no namespace: in all of them
		},
	}}
	answer, err := client.AuthorizationV1().SelfSubjectAccessReviews().Create(t.Context(), review, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	return answer.Status.Allowed
}

func testWatches(t *testing.T, client dynamic.Interface) {
	for _, resource := range []schema.GroupVersionResource{
		{Version: "v1", Resource: "services"},
		{Version: "v1", Resource: "nodes"},
		{Group: "discovery.k8s.io", Version: "v1", Resource: "endpointslices"},
		{Group: "networking.k8s.io", Version: "v1", Resource: "servicecidrs"},
	} {
		list, err := client.Resource(resource).List(t.Context(), metav1.ListOptions{})
		if err != nil {
			t.Errorf("list %s: %v", resource.Resource, err)
			continue
		}
		watch, err := client.Resource(resource).Watch(t.Context(), metav1.ListOptions{ResourceVersion: list.GetResourceVersion()})
		if err != nil {
			t.Errorf("watch %s: %v", resource.Resource, err)
			continue
		}
		watch.Stop()
	}
}

func testEvents(t *testing.T, client *kubernetes.Clientset, name string) {
	event := &eventsv1.Event{
		ObjectMeta:          metav1.ObjectMeta{Name: name, Namespace: "default"},
		EventTime:           metav1.NowMicro(),
		ReportingController: "kube-ipvs",
		ReportingInstance:   "kube-ipvs-one",
		Action:              "Proxy",
		Reason:              "Test",
		Type:                corev1.EventTypeWarning,
		Regarding:           corev1.ObjectReference{Kind: "Service", Namespace: "default", Name: "kubernetes"},
	}
	events := client.EventsV1().Events("default")
	if _, err := events.Create(t.Context(), event, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	if _, err := events.Create(t.Context(), event, metav1.CreateOptions{}); !apierrors.IsAlreadyExists(err) {
		t.Errorf("the same again: %v, want that it exists already", err)
	}
}

func testRefused(t *testing.T, client *kubernetes.Clientset) {
	core := client.CoreV1()
	service := &corev1.Service{ObjectMeta: metav1.ObjectMeta{Name: "kubernetes"}}
	for name, do := range map[string]func(context.Context) error{
		"read secrets": func(ctx context.Context) error {
			_, err := core.Secrets("").List(ctx, metav1.ListOptions{})
			return err
		},
		"read pods": func(ctx context.Context) error { _, err := core.Pods("").List(ctx, metav1.ListOptions{}); return err },
		"change Service": func(ctx context.Context) error {
			_, err := core.Services("default").Update(ctx, service, metav1.UpdateOptions{})
			return err
		},
		"delete node": func(ctx context.Context) error { return core.Nodes().Delete(ctx, "one", metav1.DeleteOptions{}) },
	} {
		if err := do(t.Context()); !apierrors.IsForbidden(err) {
			t.Errorf("%s: %v, want forbidden", name, err)
		}
	}
}
