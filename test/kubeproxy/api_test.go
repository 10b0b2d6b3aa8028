package kubeproxy

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/cache"
)

// A client as kube-proxy has it is told what is there, what comes, what changes and what goes.
func TestAPI(t *testing.T) {
	api, err := NewAPI()
	if err != nil {
		t.Fatal(err)
	}
	defer api.Close()
	set := func(name string, port int32) {
		t.Helper()
		if err := api.Set(named(name, port)); err != nil {
			t.Fatal(err)
		}
	}
	set("a", 1)
	set("b", 2)
	heard := watchServices(t, api.URL())
	expectAnyOrder(t, heard, "add a 1", "add b 2")
	set("a", 3)
	set("c", 4)
	expect(t, heard, "update a 3", "add c 4")
	if err := api.Delete(named("b", 0), named("never", 0)); err != nil {
		t.Fatal(err)
	}
	expect(t, heard, "delete b")
	if got, want := listServices(t, api.URL()), []string{"a 3", "c 4"}; !slices.Equal(got, want) {
		t.Errorf("listed %q, want %q", got, want)
	}
	if err := api.Set(&corev1.Pod{}); err == nil {
		t.Error("a pod is served, which no kube-proxy asks for")
	}
}

func named(name string, port int32) *corev1.Service {
	return &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Namespace: "test", Name: name},
		Spec:       corev1.ServiceSpec{Ports: []corev1.ServicePort{{Port: port}}},
	}
}

func clientOf(t *testing.T, url string) kubernetes.Interface {
	t.Helper()
	client, err := kubernetes.NewForConfig(&rest.Config{Host: url})
	if err != nil {
		t.Fatal(err)
	}
	return client
}

// listServices is what a client gets that asks for a list.
func listServices(t *testing.T, url string) (out []string) {
	t.Helper()
	list, err := clientOf(t, url).CoreV1().Services(metav1.NamespaceAll).List(t.Context(), metav1.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	for _, svc := range list.Items {
		out = append(out, fmt.Sprintf("%s %d", svc.Name, svc.Spec.Ports[0].Port))
	}
	return out
}

// watchServices says what an informer says, which gets what there is as a stream (KEP-3157).
func watchServices(t *testing.T, url string) <-chan string {
	t.Helper()
	client := clientOf(t, url)
	ctx, stop := context.WithCancel(context.Background())
	factory := informers.NewSharedInformerFactory(client, 0)
	t.Cleanup(func() { stop(); factory.Shutdown() })
	heard := make(chan string, 100)
	say := func(verb string, object any) {
		svc := object.(*corev1.Service)
		heard <- fmt.Sprintf("%s %s %d", verb, svc.Name, svc.Spec.Ports[0].Port)
	}
	if _, err := factory.Core().V1().Services().Informer().AddEventHandler(cache.ResourceEventHandlerFuncs{
		AddFunc:    func(o any) { say("add", o) },
		UpdateFunc: func(_, o any) { say("update", o) },
		DeleteFunc: func(o any) { heard <- "delete " + o.(*corev1.Service).Name },
	}); err != nil {
		t.Fatal(err)
	}
	factory.StartWithContext(ctx)
	return heard
}

// expectAnyOrder holds what is heard next against what is to be: what is there at first comes in no order.
func expectAnyOrder(t *testing.T, heard <-chan string, want ...string) {
	t.Helper()
	var got []string
	for range want {
		select {
		case what := <-heard:
			got = append(got, what)
		case <-time.After(10 * time.Second):
			t.Fatalf("heard %q, want %q", got, want)
		}
	}
	slices.Sort(got)
	if !slices.Equal(got, want) {
		t.Errorf("heard %q, want %q", got, want)
	}
}

// expect holds what is heard next against what is to be, in this order.
func expect(t *testing.T, heard <-chan string, want ...string) {
	t.Helper()
	for _, w := range want {
		select {
		case got := <-heard:
			if got != w {
				t.Errorf("heard %q, want %q", got, w)
			}
		case <-time.After(10 * time.Second):
			t.Fatalf("%q was never heard", w)
		}
	}
}
