// Package conntrack deletes stale flows: those to removed endpoints. IPVS forgets a real server at once; the kernel's
// connection tracking keeps a UDP client's flow, and with it the endpoint's address, as long as the client sends.
package conntrack

import (
	"context"
	"fmt"
	"net/netip"

	"kube-ipvs/internal/inet"
)

// A Frontend is a service's address and port, with the endpoints that its flows may keep.
type Frontend struct {
	Proto inet.Protocol
	At    netip.AddrPort // original destination of the flows
	Keep  map[netip.AddrPort]struct{}
}

// String returns the command that lists the frontend's flows.
func (f Frontend) String() string {
	return fmt.Sprintf("conntrack -L -p %v --orig-dst %v --orig-port-dst %d", f.Proto, f.At.Addr(), f.At.Port())
}

// A Kernel is a table of tracked flows.
type Kernel interface {
	// Delete deletes the flows addressed to one of the frontends and answered by an endpoint that it does not keep,
	// and returns their number. It is safe to repeat. After an error some may be left. Frontends must differ in
	// protocol, address or port.
	Delete(context.Context, []Frontend) (deleted int, err error)
}

// A Flow is a tracked flow.
type Flow struct {
	Proto    inet.Protocol
	Client   netip.AddrPort // original source
	Frontend netip.AddrPort // original destination
	Endpoint netip.AddrPort // source of the replies; the frontend itself without translation
}

// String returns the flow with the client first.
func (f Flow) String() string {
	return fmt.Sprintf("%v: %v to %v by %v", f.Proto, f.Client, f.Frontend, f.Endpoint)
}

// frontends index the endpoints to keep, for one lookup per flow.
type frontends map[destination]map[netip.AddrPort]struct{}

type destination struct {
	at    netip.AddrPort
	proto inet.Protocol
}

func index(list []Frontend) frontends {
	out := make(frontends, len(list))
	for _, f := range list {
		out[destination{at: f.At, proto: f.Proto}] = f.Keep
	}
	return out
}

// stale reports whether a flow goes from one of the frontends to an endpoint that it does not keep.
func (fs frontends) stale(f Flow) bool {
	keep, ok := fs[destination{at: f.Frontend, proto: f.Proto}]
	if !ok {
		return false
	}
	_, kept := keep[f.Endpoint]
	return !kept
}
