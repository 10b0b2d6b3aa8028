package kubeproxy

import (
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/watch"
)

// A resource is the objects of one kind, as text: each is turned into JSON once and sent often. The API's lock guards it.
type resource struct {
	kind    metav1.TypeMeta
	objects map[string]entry // by namespace and name
	log     []event          // every change there was, so that no watch is ever too old
	changed chan struct{}    // closed at the next change
}

// An entry is an object in one version.
type entry struct {
	version         int
	namespace, name string
	text            json.RawMessage
}

func (e entry) key() string { return e.namespace + "/" + e.name }

// An event is a change of an object.
type event struct {
	kind watch.EventType
	entry
}

func newResource(kind metav1.TypeMeta) *resource {
	return &resource{kind: kind, objects: map[string]entry{}, changed: make(chan struct{})}
}

func (r *resource) set(e entry) {
	kind := watch.Added
	if _, ok := r.objects[e.key()]; ok {
		kind = watch.Modified
	}
	r.objects[e.key()] = e
	r.note(event{kind, e})
}

func (r *resource) delete(e entry) {
	if _, ok := r.objects[e.key()]; ok {
		delete(r.objects, e.key())
		r.note(event{watch.Deleted, e})
	}
}

func (r *resource) note(e event) {
	r.log = append(r.log, e)
	close(r.changed)
	r.changed = make(chan struct{})
}

// since returns the changes after a version, and what is closed at the next one.
func (r *resource) since(version int) ([]event, <-chan struct{}) {
	i, _ := slices.BinarySearchFunc(r.log, version+1, func(e event, v int) int { return cmp.Compare(e.version, v) })
	return r.log[i:len(r.log):len(r.log)], r.changed
}

// serve answers a list or a watch.
func (a *API) serve(w http.ResponseWriter, q *http.Request, r *resource) {
	w.Header().Set("Content-Type", "application/json")
	options := q.URL.Query()
	name, named := strings.CutPrefix(options.Get("fieldSelector"), "metadata.name=")
	wanted := func(e entry) bool { return !named || e.name == name }
	version, err := strconv.Atoi(cmp.Or(options.Get("resourceVersion"), "0"))
	switch {
	case err != nil:
		refuse(w, fmt.Sprint("resourceVersion: ", err))
	case options.Get("watch") == "true" || options.Get("watch") == "1":
		if options.Get("sendInitialEvents") == "true" {
			version = a.stream(w, r, wanted)
		}
		a.watch(w, q, r, version, wanted)
	default:
		a.list(w, r, wanted)
	}
}

// now returns all objects, oldest change first, and the version of them all.
func (a *API) now(r *resource) ([]entry, int) {
	a.mu.Lock()
	defer a.mu.Unlock()
	return slices.SortedFunc(maps.Values(r.objects), func(a, b entry) int { return cmp.Compare(a.version, b.version) }), a.version
}

// stream sends all objects as a watch's first events, and the mark behind them. It returns their version.
func (a *API) stream(w http.ResponseWriter, r *resource, wanted func(entry) bool) int {
	entries, version := a.now(r)
	for _, e := range entries {
		if wanted(e) {
			fmt.Fprintf(w, `{"type":%q,"object":%s}`+"\n", watch.Added, e.text)
		}
	}
	fmt.Fprintf(w, `{"type":%q,"object":{"apiVersion":%q,"kind":%q,"metadata":{"resourceVersion":"%d","annotations":{%q:"true"}}}}`+"\n",
		watch.Bookmark, r.kind.APIVersion, r.kind.Kind, version, metav1.InitialEventsAnnotationKey)
	return version
}

// list sends all objects, whatever page was asked for.
func (a *API) list(w http.ResponseWriter, r *resource, wanted func(entry) bool) {
	entries, version := a.now(r)
	fmt.Fprintf(w, `{"apiVersion":%q,"kind":"%sList","metadata":{"resourceVersion":"%d"},"items":[`, r.kind.APIVersion, r.kind.Kind, version)
	separator := ""
	for _, e := range entries {
		if wanted(e) {
			io.WriteString(w, separator)
			w.Write(e.text)
			separator = ","
		}
	}
	io.WriteString(w, "]}")
}

// watch sends the changes after a version, until the client goes or the server is closed, which ends the request's context.
func (a *API) watch(w http.ResponseWriter, q *http.Request, r *resource, version int, wanted func(entry) bool) {
	for {
		a.mu.Lock()
		events, changed := r.since(version)
		a.mu.Unlock()
		for _, e := range events {
			version = e.version
			if wanted(e.entry) {
				fmt.Fprintf(w, `{"type":%q,"object":%s}`+"\n", e.kind, e.text)
			}
		}
		if err := http.NewResponseController(w).Flush(); err != nil {
			return
		}
		select {
		case <-changed:
		case <-q.Context().Done():
			return
		}
	}
}

// refuse says that a question is invalid.
func refuse(w http.ResponseWriter, why string) {
	w.WriteHeader(http.StatusUnprocessableEntity)
	json.NewEncoder(w).Encode(metav1.Status{
		TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "Status"},
		Status:   metav1.StatusFailure, Reason: metav1.StatusReasonInvalid, Code: http.StatusUnprocessableEntity, Message: why,
	})
}

// takeEvent accepts an Event, which nobody reads.
func takeEvent(w http.ResponseWriter, q *http.Request) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(http.StatusCreated)
	io.Copy(w, q.Body)
}
