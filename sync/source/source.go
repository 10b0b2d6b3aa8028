// Package source is the contract between a source of Services (an API server, a directory of manifests) and its user, the
// proxy. It is level-triggered: a Handler learns which Service changed and reads the current state from the Source. Package
// sourcetest checks implementations.
package source

import (
	"context"
	"net/netip"

	"kube-ipvs/sync/object"
	"kube-ipvs/sync/plan"
)

// Services are the Services of a source. Returned values are shared and must not be changed. The methods may be called at
// any time from any goroutine, also by a Handler; before Synced their results are incomplete.
type Services interface {
	// Names returns the names of all Services to serve, in no order.
	Names() []plan.Name

	// Service returns a Service with its slices, these in the order of their names. It reports false if there is no such
	// Service, or none to serve.
	Service(plan.Name) (plan.Service, []plan.Slice, bool)
}

// A Source keeps the desired state of a node. The rules of Services hold for its methods, too.
type Source interface {
	Services

	// Run reads the state and keeps it current until the context ends, and returns the context's error then. It is called
	// once, and calls the Handler.
	Run(context.Context) error

	// Node returns this node. Without a Node object it has its name, and the defaults of the source.
	Node() object.Node

	// ServiceCIDRs returns the ranges of cluster IPs, sorted; none if the source does not know them.
	ServiceCIDRs() []netip.Prefix
}

// A Handler receives a source's notifications, one at a time. Its methods must return soon.
type Handler interface {
	// Synced is called first, and once: the source has read everything, and all of Names is new.
	Synced()

	// ServiceChanged is called after a Service, or the Service and its slices, were added, changed or removed.
	ServiceChanged(plan.Name)

	// EndpointsChanged is called after a slice of a Service was added, changed or removed, by sources that can tell.
	EndpointsChanged(plan.Name)

	// NodeChanged is called after Node or ServiceCIDRs changed.
	NodeChanged()
}

// Problems is called with the unusable parts of a source after Synced, if it has any, and whenever they change, without those of Services
// that are served: these carry their own. It is called as a Handler is: one at a time, and it must return soon.
type Problems func([]plan.Problem)
