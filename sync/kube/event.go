package kube

import (
	"cmp"
	"fmt"
	"hash/fnv"
	"strings"

	corev1 "k8s.io/api/core/v1"
	eventsv1 "k8s.io/api/events/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"kube-ipvs/sync/object"
	"kube-ipvs/sync/plan"
)

// An Event is a message to the users of a Service, or of the node.
type Event struct {
	Type      string // Normal or Warning (k8s.io/api/core/v1, EventTypeNormal)
	Reason    string // in CamelCase, for machines; at most 128 bytes
	Note      string // in words; cut to the length that the API permits
	Action    string // what was done, in CamelCase; empty: Proxy
	NodeLocal bool   // concerns this node only; the note then names it
	Repeats   bool   // each time is an Event of its own
}

// PostEvent posts an Event on a Service after a random delay of up to half a minute. Unless it is node-local, it has the
// same name on every node and so exists once in a cluster; the API server expires it like all Events. PostEvent does
// nothing if the Service is gone. Refused Events are logged, and all are counted by result.
func (s *Source) PostEvent(name plan.Name, e Event) {
	if c, ok := get[plan.Service](s.services, name.String()); ok {
		s.events.add(eventOf(c, e, s.cfg.NodeName))
	}
}

// PostNodeEvent posts an Event on this Node. Its namespace and UID are those for which `kubectl describe node` searches;
// the UID is the node's name, as in kubelet's Events.
func (s *Source) PostNodeEvent(e Event) {
	name := s.cfg.NodeName
	s.events.add(newEvent(corev1.ObjectReference{APIVersion: "v1", Kind: nodeKind, Name: name, UID: types.UID(name)}, e, name))
}

// nodeKind is the kind of object of Events on the Node.
const nodeKind = "Node"

// The API's limits for texts in an Event, in bytes (pkg/apis/core/validation/events.go).
const (
	maxNote     = 1024
	maxInstance = 128
)

// eventOf returns the API's Event on a Service. `kubectl describe` searches for the Service's UID.
func eventOf(c *object.Cached[plan.Service], e Event, node string) *eventsv1.Event {
	if e.NodeLocal {
		e.Note = "on node " + node + ": " + e.Note
	}
	return newEvent(corev1.ObjectReference{APIVersion: "v1", Kind: "Service", Namespace: c.Namespace, Name: c.Name, UID: c.UID}, e, node)
}

// newEvent returns the API's Event on an object, in "default" if the object has no namespace. Its name is a hash of its
// content, so that the API server stores it only once, and of the time if it repeats.
func newEvent(on corev1.ObjectReference, e Event, node string) *eventsv1.Event {
	note := clip(e.Note, maxNote)
	sum := fnv.New64a()
	for _, part := range []string{string(on.UID), e.Type, e.Reason, note} {
		fmt.Fprintf(sum, "%q", part)
	}
	now := metav1.NowMicro()
	if e.Repeats {
		fmt.Fprint(sum, now.UnixNano())
	}
	return &eventsv1.Event{
		ObjectMeta: metav1.ObjectMeta{Namespace: cmp.Or(on.Namespace, metav1.NamespaceDefault), Name: fmt.Sprintf("%s.%016x", on.Name, sum.Sum64())},
		Regarding:  on,
		EventTime:  now,
		Type:       e.Type, Reason: e.Reason, Note: note, Action: cmp.Or(e.Action, "Proxy"),
		ReportingController: "kube-ipvs", ReportingInstance: clip("kube-ipvs-"+node, maxInstance),
	}
}

// clip cuts a text to at most maxLen bytes, between characters.
func clip(s string, maxLen int) string {
	if len(s) <= maxLen {
		return s
	}
	return strings.ToValidUTF8(s[:maxLen-len("…")], "") + "…"
}
