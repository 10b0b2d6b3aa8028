package kube

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"path"
	"strconv"
	"sync"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"

	"kube-ipvs/sync/plan"
	"kube-ipvs/sync/source/sourcetest"
)

// An api is an API server over HTTP, with a history that can be lost. As a real one, it is silent to a watch from a version that it
// has not given yet.
type api struct {
	mu      sync.Mutex
	objects map[string][]any // by resource
	version int              // that it has reached; watches from earlier ones have expired
	down    bool
	cached  bool                       // without etcd, only what is cached is answered: watches, and lists at a version
	watches map[chan watchEvent]string // resources
	reads   map[string]int             // of all objects, by resource
	refused map[string]int             // lists without etcd, by resource
}

// A watchEvent is a line of a watch.
type watchEvent struct {
	Type   string `json:"type"`
	Object any    `json:"object"`
}

// kinds are the kinds of the lists of resources.
var kinds = map[string][2]string{
	"services": {"ServiceList", "v1"}, "endpointslices": {"EndpointSliceList", "discovery.k8s.io/v1"},
	"nodes": {"NodeList", "v1"}, "servicecidrs": {"ServiceCIDRList", "networking.k8s.io/v1"},
}

// ServeHTTP implements http.Handler.
func (a *api) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	resource, q := path.Base(r.URL.Path), r.URL.Query()
	watching := q.Get("watch") != ""
	a.mu.Lock()
	down, version, items, refused := a.down, a.version, a.objects[resource], a.cached && !watching && q.Get("resourceVersion") == ""
	switch {
	case down || watching:
	case refused:
		a.refused[resource]++
	case q.Get("limit") != "1":
		a.reads[resource]++
	}
	a.mu.Unlock()
	kind, known := kinds[resource]
	from, _ := strconv.Atoi(q.Get("resourceVersion"))
	switch {
	case down:
		panic(http.ErrAbortHandler)
	case !known:
		http.NotFound(w, r)
	case refused:
		fail(w, http.StatusInternalServerError, metav1.StatusReasonInternalError)
	case q.Get("sendInitialEvents") == "true":
		fail(w, http.StatusUnprocessableEntity, metav1.StatusReasonInvalid)
	case watching && from < version:
		fail(w, http.StatusGone, metav1.StatusReasonExpired)
	case !watching && from > version:
		fail(w, http.StatusGatewayTimeout, metav1.StatusReasonTimeout, metav1.StatusCause{Type: metav1.CauseTypeResourceVersionTooLarge})
	case watching:
		events := make(chan watchEvent, 100)
		a.mu.Lock()
		a.watches[events] = resource
		a.mu.Unlock()
		stream(w, r, events)
	default:
		reply(w, http.StatusOK, map[string]any{
			"kind": kind[0], "apiVersion": kind[1], "items": items, "metadata": map[string]string{"resourceVersion": strconv.Itoa(version)},
		})
	}
}

func reply(w http.ResponseWriter, status int, body any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(body)
}

func fail(w http.ResponseWriter, code int, reason metav1.StatusReason, causes ...metav1.StatusCause) {
	reply(w, code, metav1.Status{
		TypeMeta: metav1.TypeMeta{Kind: "Status", APIVersion: "v1"}, Status: metav1.StatusFailure, Code: int32(code), Reason: reason,
		Details: &metav1.StatusDetails{Causes: causes},
	})
}

func stream(w http.ResponseWriter, r *http.Request, events chan watchEvent) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(http.StatusOK)
	w.(http.Flusher).Flush()
	for {
		select {
		case <-r.Context().Done():
			return
		case e, open := <-events:
			if !open {
				panic(http.ErrAbortHandler)
			}
			_ = json.NewEncoder(w).Encode(e)
			w.(http.Flusher).Flush()
		}
	}
}

// newAPI returns a server with a history and objects.
func newAPI(version int, objects map[string][]any) *api {
	return &api{version: version, objects: objects, watches: map[chan watchEvent]string{}, reads: map[string]int{}, refused: map[string]int{}}
}

// leave crashes the server: it does not respond, and all watches break.
func (a *api) leave() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.down = true
	for resource := range kinds {
		a.end(resource)
	}
}

// lose ends the watches of a resource, and etcd is away.
func (a *api) lose(resource string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.cached = true
	a.end(resource)
}

// end ends the watches of a resource. The caller has the lock.
func (a *api) end(resource string) {
	for events, of := range a.watches {
		if of == resource {
			close(events)
			delete(a.watches, events)
		}
	}
}

// find brings etcd back.
func (a *api) find() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.cached = false
}

// back restarts the server with another history and other objects.
func (a *api) back(version int, objects map[string][]any) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.down, a.version, a.objects = false, version, objects
}

// send sends an event to all watchers of a resource.
func (a *api) send(resource, typ string, object any) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for events, of := range a.watches {
		if of == resource {
			events <- watchEvent{typ, object}
		}
	}
}

// written is a JSON object with its type and a version.
func written(kind, apiVersion string, version int, o any) map[string]any {
	text, _ := json.Marshal(o)
	out := map[string]any{}
	_ = json.Unmarshal(text, &out)
	out["kind"], out["apiVersion"] = kind, apiVersion
	out["metadata"].(map[string]any)["resourceVersion"] = strconv.Itoa(version)
	return out
}

func versioned(name string, version int, port int32) any {
	svc := service(name)
	svc.Spec.Ports[0].Port = port
	return written("Service", "v1", version, svc)
}

// collect counts the calls until none came for a while.
func collect(calls sourcetest.Recorder, quiet time.Duration) map[string]int {
	out := map[string]int{}
	for {
		select {
		case got := <-calls:
			out[got]++
		case <-time.After(quiet):
			return out
		}
	}
}

// TestAnotherHistory: the API server is away, and comes back from a backup: with lower versions, without some objects and
// with others. Vanished objects are removed, unchanged ones are not touched, and repeated events cause no work.
func TestAnotherHistory(t *testing.T) {
	slices := func(version int, addresses map[string]string) []any {
		var out []any
		for _, name := range []string{"same", "changed", "gone", "new", "orphan"} {
			if a, ok := addresses[name]; ok {
				out = append(out, written("EndpointSlice", "discovery.k8s.io/v1", version, slice(name+"-1", name, a)))
			}
		}
		return out
	}
	nodes := []any{written("Node", "v1", 1, node("a"))}
	server := newAPI(1000, map[string][]any{
		"services":       {versioned("same", 900, 80), versioned("changed", 901, 80), versioned("gone", 902, 80)},
		"endpointslices": slices(903, map[string]string{"same": "10.1.0.1", "changed": "10.1.0.2", "gone": "10.1.0.3", "orphan": "10.1.0.4"}),
		"nodes":          nodes, "servicecidrs": {},
	})
	s, calls := runWith(t, Config{Client: clientOf(t, server), NodeName: "n1"})
	calls.Next(t, "synced")

	for range 3 { // duplicates, and one object removed twice
		server.send("services", "MODIFIED", versioned("same", 900, 80))
		server.send("services", "ADDED", versioned("same", 900, 80))
		server.send("services", "DELETED", versioned("never", 950, 80))
		for _, es := range slices(903, map[string]string{"same": "10.1.0.1"}) {
			server.send("endpointslices", "ADDED", es)
		}
	}
	if got := collect(calls, 300*time.Millisecond); len(got) > 1 || len(got) == 1 && got["default/never"] == 0 {
		t.Errorf("called with %v for events that say nothing new", got)
	}

	server.leave()
	if got := collect(calls, 2*time.Second); len(got) > 0 {
		t.Errorf("called with %v while the API server is away", got)
	}
	if got := len(s.Names()); got != 3 {
		t.Errorf("%d Services are known while the API server is away, want 3", got)
	}
	server.back(5, map[string][]any{
		"services":       {versioned("same", 3, 80), versioned("changed", 3, 81), versioned("new", 4, 80)},
		"endpointslices": slices(4, map[string]string{"same": "10.1.0.1", "changed": "10.1.0.9", "new": "10.1.0.5"}),
		"nodes":          nodes, "servicecidrs": {},
	})
	want := map[string]bool{"default/changed": true, "default/gone": true, "default/new": true, "default/orphan": true}
	got := map[string]int{}
	// The watches of Services and slices return at different times, each at its next retry.
	for begin := time.Now(); time.Since(begin) < time.Minute; {
		for name, n := range collect(calls, time.Second) {
			got[name] += n
		}
		svc, in, _ := s.Service(plan.Name{Namespace: "default", Name: "changed"})
		if len(s.Names()) == 3 && got["default/gone"] > 0 && got["default/orphan"] > 0 && len(svc.Ports) == 1 && svc.Ports[0].Port == 81 && len(in) == 1 {
			break
		}
	}
	for name := range want {
		if got[name] == 0 {
			t.Errorf("not called with %s", name)
		}
	}
	for name := range got {
		if !want[name] {
			t.Errorf("called with %s, which is as before", name)
		}
	}
	for name, there := range map[string]bool{"same": true, "changed": true, "gone": false, "new": true} {
		svc, in, ok := s.Service(plan.Name{Namespace: "default", Name: name})
		if ok != there || ok && len(in) != 1 {
			t.Errorf("%s: %v, with %d slices; want %v", name, ok, len(in), there)
		}
		if name == "changed" && (svc.Ports[0].Port != 81 || fmt.Sprint(in[0].Endpoints[0].Addr) != "10.1.0.9") {
			t.Errorf("changed is %+v at %v", svc, in)
		}
	}
}

// clientOf returns a client of a server that ends with the test.
func clientOf(t *testing.T, server http.Handler) kubernetes.Interface {
	t.Helper()
	front := httptest.NewServer(server)
	t.Cleanup(front.Close)
	client, err := Connection{Master: front.URL, QPS: 1000, Burst: 1000, ContentType: "application/json"}.Client()
	if err != nil {
		t.Fatal(err)
	}
	return client
}

// While etcd is away, a watch that ends goes on from its version when etcd is back, and nothing is read anew: each node would read
// the whole cluster again every few minutes, just then.
func TestWatchGoesOnAfterETCDWasAway(t *testing.T) {
	t.Parallel()
	const services = "services"
	server := newAPI(1000, map[string][]any{
		services: {versioned("a", 900, 80)}, "endpointslices": {}, "nodes": {written("Node", "v1", 1, node("a"))}, "servicecidrs": {},
	})
	_, calls := runWith(t, Config{Client: clientOf(t, server), NodeName: "n1"})
	calls.Next(t, "synced")
	until := func(what string, is func() bool) {
		t.Helper()
		for begin := time.Now(); time.Since(begin) < time.Minute; time.Sleep(10 * time.Millisecond) {
			server.mu.Lock()
			done := is()
			server.mu.Unlock()
			if done {
				return
			}
		}
		t.Fatalf("%s: not within a minute", what)
	}
	isWatched := func() bool {
		for _, resource := range server.watches {
			if resource == services {
				return true
			}
		}
		return false
	}
	until("the first watch", isWatched)
	server.send(services, "MODIFIED", versioned("a", 1000, 81)) // client-go takes a watch without an event for one that failed
	calls.Next(t, "default/a")
	before := server.reads[services]
	server.lose(services)
	until("the watch is tried twice, or everything is read", func() bool { return server.refused[services] > 1 || server.reads[services] > before })
	server.find()
	until("the watch goes on", isWatched)
	server.send(services, "MODIFIED", versioned("a", 1001, 82))
	calls.Next(t, "default/a")
	if got := server.reads[services]; got != before {
		t.Errorf("all Services were read %d times more", got-before)
	}
}
