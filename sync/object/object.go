// Package object reduces Kubernetes API objects to the plan's input. Its functions are pure: they parse each string
// once, and leave out unusable fields with a Problem that names them.
package object

import (
	"fmt"

	corev1 "k8s.io/api/core/v1"

	"kube-ipvs/internal/inet"
	"kube-ipvs/sync/plan"
)

// A reader parses the fields of one object and collects their problems.
type reader struct {
	object   string
	problems []plan.Problem
}

// newReader returns a reader of an object that kubectl knows as kind and namespace/name.
func newReader(kind, namespace, name string) *reader {
	if namespace != "" {
		name = namespace + "/" + name
	}
	return &reader{object: kind + " " + name}
}

// add reports an unusable field: it cannot be served as written.
func (r *reader) add(field, format string, args ...any) {
	r.problems = append(r.problems, plan.Problem{Object: r.object, Field: field, Reason: fmt.Sprintf(format, args...)})
}

// note reports a field of unusual form and clear meaning.
func (r *reader) note(field, format string, args ...any) {
	r.problems = append(r.problems, plan.Problem{Object: r.object, Field: field, Reason: fmt.Sprintf(format, args...), Note: true})
}

// protocol returns the number of a named protocol. No name means TCP, as in the API.
func protocol(name corev1.Protocol) (inet.Protocol, bool) {
	switch name {
	case corev1.ProtocolTCP, "":
		return inet.TCP, true
	case corev1.ProtocolUDP:
		return inet.UDP, true
	case corev1.ProtocolSCTP:
		return inet.SCTP, true
	}
	return 0, false
}

// portNumber returns a valid port number, and reports an invalid one.
func (r *reader) portNumber(field string, n int32) (uint16, bool) {
	if n < 1 || n > 65535 {
		r.add(field, "%d is not a port number (1 to 65535)", n)
		return 0, false
	}
	return uint16(n), true
}
