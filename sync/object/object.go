// Package object reduces Kubernetes API objects to what the plan needs of them. Its functions are pure: strings are parsed
// once, here, and what cannot be used of an object is left out with a Problem that names it.
package object

import (
	"fmt"

	corev1 "k8s.io/api/core/v1"

	"kube-ipvs/internal/inet"
	"kube-ipvs/sync/plan"
)

// A report collects what cannot be used of one object.
type report struct {
	object   string
	problems []plan.Problem
}

// reportOn begins the report on an object that kubectl knows as kind and namespace/name.
func reportOn(kind, namespace, name string) *report {
	if namespace != "" {
		name = namespace + "/" + name
	}
	return &report{object: kind + " " + name}
}

// add reports what is wrong with a field, so that it cannot be served as it is asked for.
func (r *report) add(field, format string, args ...any) {
	r.problems = append(r.problems, plan.Problem{Object: r.object, Field: field, Reason: fmt.Sprintf(format, args...)})
}

// note reports what is odd about a field, although it is plain what is meant.
func (r *report) note(field, format string, args ...any) {
	r.problems = append(r.problems, plan.Problem{Object: r.object, Field: field, Reason: fmt.Sprintf(format, args...), Note: true})
}

// protocol returns the number of a protocol's name. Unnamed is TCP, as in the API.
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

// portNumber reports numbers that are no port.
func (r *report) portNumber(field string, n int32) (uint16, bool) {
	if n < 1 || n > 65535 {
		r.add(field, "%d is not a port number (1 to 65535)", n)
		return 0, false
	}
	return uint16(n), true
}
