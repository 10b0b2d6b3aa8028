package kube

import (
	"context"
	"fmt"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/tools/events"
	"k8s.io/klog/v2"

	"kube-ipvs/sync/object"
	"kube-ipvs/sync/plan"
)

// maxNote is the API's limit for the text of an Event, in bytes (events.k8s.io/v1, Event.note).
const maxNote = 1024

// startEvents lets Warn post Events until stop is called.
func (s *Source) startEvents(ctx context.Context) (stop func(), err error) {
	b := events.NewBroadcaster(&events.EventSinkImpl{Interface: s.cfg.Client.EventsV1()})
	if err := b.StartRecordingToSinkWithContext(ctx); err != nil {
		b.Shutdown()
		return nil, fmt.Errorf("record events: %w", err)
	}
	recorder := b.NewRecorder(runtime.NewScheme(), "kube-ipvs").WithLogger(klog.FromContext(ctx))
	s.recorder.Store(&recorder)
	return func() {
		s.recorder.Store(nil)
		b.Shutdown()
	}, nil
}

// Warn posts a Warning Event on a Service. Events of the same reason on the same Service are counted instead of repeated.
// It does nothing if the Service is gone, or Run does not run; what the API server refuses is logged by the recorder.
func (s *Source) Warn(name plan.Name, reason, message string) {
	recorder := s.recorder.Load()
	c, ok := get[plan.Service](s.services, name.String())
	if recorder == nil || !ok {
		return
	}
	(*recorder).Eventf(regarding(c), nil, corev1.EventTypeWarning, reason, "Proxy", "%s", clip(message))
}

// regarding names the Service as `kubectl describe` looks for it: with its UID.
func regarding(c *object.Cached[plan.Service]) *corev1.ObjectReference {
	return &corev1.ObjectReference{
		APIVersion: "v1", Kind: "Service",
		Namespace: c.Namespace, Name: c.Name, UID: types.UID(c.UID),
	}
}

// clip cuts a text to what an Event may hold, between letters.
func clip(s string) string {
	if len(s) <= maxNote {
		return s
	}
	return strings.ToValidUTF8(s[:maxNote-len("…")], "") + "…"
}
