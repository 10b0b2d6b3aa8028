//go:build kernel

package packet

import (
	"slices"
)

// The truth: what must happen to a packet, straight from the words of the specification, without a look at the code
// that is tested.

// A source is where a packet comes from.
type source string

const (
	fromPod      source = "pod here"           // L: a pod on this node
	fromEndpoint source = "endpoint"           // H: a pod on this node that serves the Service itself
	fromFarSelf  source = "endpoint elsewhere" // a pod on another node that serves the Service itself, and sends to this one
	fromNode     source = "node"               // N: a process of the node
	fromFarPod   source = "pod elsewhere"      // R: a pod on another node that sends to this one
	fromOutside  source = "outside"            // X: a client that is no part of the cluster
	fromClosed   source = "closed pod"         // a pod on this node that another agent's policies are for
)

// A frontend is the kind of address that a packet goes to.
type frontend string

const (
	toClusterIP    frontend = "cluster IP"
	toNodePort     frontend = "node port"
	toExternalIP   frontend = "external IP"
	toLoadBalancer frontend = "load balancer"
)

// An outcome is what happens to a packet.
type outcome struct {
	fate        string     // "answered", "refused" or "silence"
	who         []endpoint // who may answer; all of them do, sooner or later
	masqueraded bool       // the endpoint sees the node and not the source; one that answers itself always does
}

// An endpoint is a pod of the laboratory in some state.
type endpoint struct {
	pod                         string
	here                        bool
	ready, serving, terminating bool
}

func ready(pod string, here bool) endpoint { return endpoint{pod, here, true, true, false} }
func going(pod string, here bool) endpoint { return endpoint{pod, here, false, true, true} }
func down(pod string, here bool) endpoint  { return endpoint{pod, here, false, false, false} }

// A rule is what the truth depends on beside source and frontend.
type rule struct {
	internalLocal, externalLocal bool
	masqueradeAll                bool
	inside                       map[source]bool // who is found inside by the detector; nil: there is none
	endpoints                    []endpoint
}

// usable returns the ready endpoints, or those that still serve while they terminate if none is ready.
func usable(in []endpoint) []endpoint {
	var ready, fallback []endpoint
	for _, e := range in {
		switch {
		case e.ready:
			ready = append(ready, e)
		case e.serving && e.terminating:
			fallback = append(fallback, e)
		}
	}
	if len(ready) > 0 {
		return ready
	}
	return fallback
}

func onlyHere(in []endpoint) []endpoint {
	return slices.DeleteFunc(slices.Clone(in), func(e endpoint) bool { return !e.here })
}

// truth says what happens to a packet from a source to a frontend.
func (r rule) truth(from source, to frontend) outcome {
	cluster, local := usable(r.endpoints), usable(onlyHere(r.endpoints))
	inside := r.inside[from]
	if to == toClusterIP {
		masqueraded := r.masqueradeAll || !inside && r.inside != nil
		if r.internalLocal {
			return result(local, masqueraded, len(cluster) > 0)
		}
		return result(cluster, masqueraded, false)
	}
	switch {
	case !r.externalLocal:
		return result(cluster, true, false)
	case inside:
		return result(cluster, false, false)
	case from == fromNode:
		return result(cluster, true, false)
	}
	return result(local, false, len(cluster) > 0)
}

// result is the outcome of a list of endpoints. Without any, packets are refused if there is none anywhere.
func result(list []endpoint, masqueraded, elsewhere bool) outcome {
	switch {
	case len(list) > 0:
		return outcome{"answered", list, masqueraded}
	case elsewhere:
		return outcome{fate: "silence"}
	}
	return outcome{fate: "refused"}
}
