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

// A Notice is what the users of a Service are told.
type Notice struct {
	Type   string // Normal or Warning (k8s.io/api/core/v1, EventTypeNormal)
	Reason string // in CamelCase, for machines; at most 128 bytes
	Note   string // in words; what an Event cannot hold is cut off
	Here   bool   // it is this node's own affair, and the Event says so
}

// Notify has an Event on a Service posted, once a while of up to half a minute is over. What is no node's own affair is the
// same Event whoever posts it, however often, and so there once in a cluster; it goes when the API server forgets it, as all
// Events do. Nothing is done if the Service is gone. What cannot be posted is logged and counted.
func (s *Source) Notify(name plan.Name, n Notice) {
	if c, ok := get[plan.Service](s.services, name.String()); ok {
		s.poster.add(eventOf(c, n, s.cfg.NodeName))
	}
}

// NotifyNode is Notify for what concerns this node and no single Service. The Event is on the Node, in the namespace and with
// the UID that `kubectl describe node` looks for: the name, as kubelet has it.
func (s *Source) NotifyNode(n Notice) {
	name := s.cfg.NodeName
	s.poster.add(newEvent(corev1.ObjectReference{APIVersion: "v1", Kind: "Node", Name: name, UID: types.UID(name)}, n, name))
}

// The API's limits for texts in an Event, in bytes (pkg/apis/core/validation/events.go).
const (
	maxNote     = 1024
	maxInstance = 128
)

// eventOf returns the Event that is posted for a notice by a node. Its name says what it is about, so that the API server
// has it only once. The Service is named as `kubectl describe` looks for it: with its UID.
func eventOf(c *object.Cached[plan.Service], n Notice, node string) *eventsv1.Event {
	if n.Here {
		n.Note = "on node " + node + ": " + n.Note
	}
	return newEvent(corev1.ObjectReference{APIVersion: "v1", Kind: "Service", Namespace: c.Namespace, Name: c.Name, UID: c.UID}, n, node)
}

// newEvent returns the Event of a notice on an object. That of an object without namespace is in "default".
func newEvent(on corev1.ObjectReference, n Notice, node string) *eventsv1.Event {
	note := clip(n.Note, maxNote)
	sum := fnv.New64a()
	for _, part := range []string{string(on.UID), n.Type, n.Reason, note} {
		fmt.Fprintf(sum, "%q", part)
	}
	return &eventsv1.Event{
		ObjectMeta: metav1.ObjectMeta{Namespace: cmp.Or(on.Namespace, metav1.NamespaceDefault), Name: fmt.Sprintf("%s.%016x", on.Name, sum.Sum64())},
		Regarding:  on,
		EventTime:  metav1.NowMicro(),
		Type:       n.Type, Reason: n.Reason, Note: note, Action: "Proxy",
		ReportingController: "kube-ipvs", ReportingInstance: clip("kube-ipvs-"+node, maxInstance),
	}
}

// clip cuts a text to at most so many bytes, between letters.
func clip(s string, most int) string {
	if len(s) <= most {
		return s
	}
	return strings.ToValidUTF8(s[:most-len("…")], "") + "…"
}
