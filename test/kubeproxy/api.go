// Package kubeproxy runs Kubernetes's own kube-proxy on objects that a test makes up, so that what is asked of kube-ipvs can
// be asked of kube-proxy too. kube-proxy is a program of its own (cluster.Build), and its API server is a few hundred lines
// inside the test: a real one does not fit into the test kernel beside everything else.
package kubeproxy

import (
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strconv"
	"sync"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
)

// An Object is a Service, EndpointSlice, Node or ServiceCIDR.
type Object interface {
	metav1.Object
	runtime.Object
}

// An API serves objects to a kube-proxy: it answers lists and watches, and takes Events and forgets them. Of selectors it
// knows only those of an object's name; the objects are a test's, which does not make what kube-proxy would leave out.
// Its methods are safe for use by several goroutines.
type API struct {
	server   *http.Server
	listener net.Listener
	done     chan error

	mu        sync.Mutex
	version   int // of the newest change
	resources map[string]*resource
}

// resources by the paths where Kubernetes has them.
var paths = map[string]metav1.TypeMeta{
	"/api/v1/services": {APIVersion: "v1", Kind: "Service"},
	"/api/v1/nodes":    {APIVersion: "v1", Kind: "Node"},
	"/apis/discovery.k8s.io/v1/endpointslices": {APIVersion: "discovery.k8s.io/v1", Kind: "EndpointSlice"},
	"/apis/networking.k8s.io/v1/servicecidrs":  {APIVersion: "networking.k8s.io/v1", Kind: "ServiceCIDR"},
}

// NewAPI serves no object yet, to programs in this network namespace.
func NewAPI() (*API, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	a := &API{listener: listener, done: make(chan error, 1), resources: map[string]*resource{}}
	mux := http.NewServeMux()
	for path, kind := range paths {
		r := newResource(kind)
		a.resources[path] = r
		mux.HandleFunc("GET "+path, func(w http.ResponseWriter, q *http.Request) { a.serve(w, q, r) })
	}
	mux.HandleFunc("POST /apis/events.k8s.io/v1/namespaces/{namespace}/events", takeEvent)
	a.server = &http.Server{Handler: mux}
	go func() { a.done <- a.server.Serve(listener) }()
	return a, nil
}

// URL is where the API is, for kube-proxy's --master.
func (a *API) URL() string { return "http://" + a.listener.Addr().String() }

// Close ends the API and everybody's watches.
func (a *API) Close() error {
	err := a.server.Close()
	if end := <-a.done; !errors.Is(end, http.ErrServerClosed) {
		err = errors.Join(err, end)
	}
	return err
}

// Set creates the objects, or puts them in the place of those of their names. They are the caller's to change afterwards.
func (a *API) Set(objects ...Object) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, object := range objects {
		if err := a.change(object, (*resource).set); err != nil {
			return err
		}
	}
	return nil
}

// Delete deletes the objects of these names and kinds. Those that are not there are none.
func (a *API) Delete(objects ...Object) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, object := range objects {
		if err := a.change(object, (*resource).delete); err != nil {
			return err
		}
	}
	return nil
}

// change makes the next version of an object and does something with it. The caller holds the lock.
func (a *API) change(object Object, do func(*resource, entry)) error {
	path, err := pathOf(object)
	if err != nil {
		return err
	}
	r := a.resources[path]
	own := object.DeepCopyObject().(Object)
	own.GetObjectKind().SetGroupVersionKind(r.kind.GroupVersionKind())
	own.SetResourceVersion(strconv.Itoa(a.version + 1))
	text, err := json.Marshal(own)
	if err != nil {
		return fmt.Errorf("%s %s/%s: %w", r.kind.Kind, own.GetNamespace(), own.GetName(), err)
	}
	a.version++
	do(r, entry{version: a.version, namespace: own.GetNamespace(), name: own.GetName(), text: text})
	return nil
}

func pathOf(object Object) (string, error) {
	switch object.(type) {
	case *corev1.Service:
		return "/api/v1/services", nil
	case *corev1.Node:
		return "/api/v1/nodes", nil
	case *discoveryv1.EndpointSlice:
		return "/apis/discovery.k8s.io/v1/endpointslices", nil
	case *networkingv1.ServiceCIDR:
		return "/apis/networking.k8s.io/v1/servicecidrs", nil
	}
	return "", fmt.Errorf("kube-proxy does not ask for a %T", object)
}
