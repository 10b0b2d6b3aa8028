package health

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strconv"
	"sync"
	"time"

	"kube-ipvs/sync/plan"
)

// NodePorts serves health-check node ports, on which load balancers ask whether this node has endpoints of a Service. It
// responds to every path and method with kube-proxy's codes, headers and body (pkg/proxy/healthcheck).
type NodePorts struct {
	state   *State
	onError func(plan.Name, error) // called if a port cannot be opened

	mu       sync.Mutex
	addrs    []netip.Addr // addresses to listen on; nil: all
	services map[plan.Name]*instance
	ports    map[uint16][]plan.Name // the Services that want each port; the first has it
}

// An instance is the health-check node port of one Service.
type instance struct {
	want     plan.Health
	servers  map[string]server // by address and port; some are missing if they could not be opened, all if another Service has the port
	failures []string          // of the last attempt to open it, as reported
}

// retryInterval is the interval of attempts to open a port.
const retryInterval = 10 * time.Second

// NewNodePorts returns a server of health-check node ports on these addresses or, if they are nil, on all. It calls
// onError for a port that cannot be opened, once for each reason.
func NewNodePorts(state *State, addrs []netip.Addr, onError func(plan.Name, error)) *NodePorts {
	return &NodePorts{state: state, addrs: addrs, onError: onError, services: map[plan.Name]*instance{}, ports: map[uint16][]plan.Name{}}
}

// SetAddresses replaces the addresses that NewNodePorts was given. The ports stay open at those addresses that stay.
func (n *NodePorts) SetAddresses(addrs []netip.Addr) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if slices.Equal(addrs, n.addrs) && (addrs == nil) == (n.addrs == nil) {
		return
	}
	n.addrs = slices.Clone(addrs)
	for _, in := range n.services {
		in.closeBut(n.listenOn(in.want.Port))
	}
	for _, names := range n.ports {
		n.open(names[0], n.services[names[0]])
	}
}

// Set sets the response of a Service's port; nil closes it. Services may be set in any order when a port moves from one
// to another: the port opens for the second when the first releases it.
func (n *NodePorts) Set(name plan.Name, want *plan.Health) {
	n.mu.Lock()
	defer n.mu.Unlock()
	have := n.services[name]
	if have != nil && (want == nil || want.Port != have.want.Port) {
		n.remove(name, have)
		have = nil
	}
	switch {
	case want == nil:
		return
	case have == nil:
		n.add(name, &instance{want: *want, servers: map[string]server{}})
	default:
		have.want = *want
	}
}

// add opens a Service's port, or queues the Service for it.
func (n *NodePorts) add(name plan.Name, in *instance) {
	n.services[name] = in
	n.ports[in.want.Port] = append(n.ports[in.want.Port], name)
	if len(n.ports[in.want.Port]) == 1 {
		n.open(name, in)
	}
}

// remove closes a Service's port, and opens it for the next Service in the queue.
func (n *NodePorts) remove(name plan.Name, in *instance) {
	in.close()
	delete(n.services, name)
	port := in.want.Port
	first := n.ports[port][0]
	n.ports[port] = slices.DeleteFunc(n.ports[port], func(o plan.Name) bool { return o == name })
	switch names := n.ports[port]; {
	case len(names) == 0:
		delete(n.ports, port)
	case first == name:
		n.open(names[0], n.services[names[0]])
	}
}

// Run retries to open ports until the context ends; then it closes all.
func (n *NodePorts) Run(ctx context.Context) error {
	tick := time.NewTicker(retryInterval)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			n.retry()
		case <-ctx.Done():
			n.closeAll()
			return nil
		}
	}
}

func (n *NodePorts) retry() {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, names := range n.ports {
		n.open(names[0], n.services[names[0]])
		for _, name := range names[1:] {
			n.report(name, n.services[name], fmt.Errorf("it is served for Service %v", names[0]))
		}
	}
}

func (n *NodePorts) closeAll() {
	n.mu.Lock()
	defer n.mu.Unlock()
	for name, in := range n.services {
		in.close()
		delete(n.services, name)
	}
	clear(n.ports)
}

// open listens on the addresses on which the port is not open yet. One that fails does not close the others: a new IPv6 address cannot
// be listened on until the kernel has found that no other host has it, and never if one has.
func (n *NodePorts) open(name plan.Name, in *instance) {
	var errs []error
	for _, at := range n.listenOn(in.want.Port) {
		if _, isOpen := in.servers[at]; isOpen {
			continue
		}
		l, err := net.Listen("tcp", at)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		s := &http.Server{Handler: n.handler(name), ReadHeaderTimeout: 10 * time.Second, IdleTimeout: time.Minute}
		in.servers[at] = server{s, l}
		go func() { _ = s.Serve(l) }() // returns when the server is closed
	}
	n.report(name, in, errs...)
}

// report reports the errors of an attempt to open a port that the attempt before did not have.
func (n *NodePorts) report(name plan.Name, in *instance, errs ...error) {
	before := in.failures
	in.failures = nil
	for _, err := range errs {
		in.failures = append(in.failures, err.Error())
	}
	errs = slices.DeleteFunc(errs, func(err error) bool { return slices.Contains(before, err.Error()) })
	if err := errors.Join(errs...); err != nil {
		n.onError(name, fmt.Errorf("health-check node port %d: %w", in.want.Port, err))
	}
}

func (n *NodePorts) listenOn(port uint16) []string {
	if n.addrs == nil {
		return []string{net.JoinHostPort("", strconv.Itoa(int(port)))}
	}
	var out []string
	for _, a := range n.addrs {
		out = append(out, netip.AddrPortFrom(a, port).String())
	}
	return out
}

// A server keeps its listener: shortly after its start, an http.Server may not know it yet.
type server struct {
	*http.Server
	listener net.Listener
}

// close returns when the port is free.
func (in *instance) close() { in.closeBut(nil) }

// closeBut closes the port at all addresses but those to keep.
func (in *instance) closeBut(keep []string) {
	for at, s := range in.servers {
		if slices.Contains(keep, at) {
			continue
		}
		_ = s.listener.Close()
		_ = s.Close()
		delete(in.servers, at)
	}
}

type nodePortBody struct {
	Service struct {
		Namespace string `json:"namespace"`
		Name      string `json:"name"`
	} `json:"service"`
	LocalEndpoints      int  `json:"localEndpoints"`
	ServiceProxyHealthy bool `json:"serviceProxyHealthy"`
}

func (n *NodePorts) handler(name plan.Name) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		var b nodePortBody
		b.Service.Namespace, b.Service.Name = name.Namespace, name.Name
		b.LocalEndpoints = n.localEndpoints(name)
		b.ServiceProxyHealthy = n.state.unready() == "" // kube-proxy does not open the port before all is programmed
		code := http.StatusServiceUnavailable
		if b.LocalEndpoints > 0 && b.ServiceProxyHealthy {
			code = http.StatusOK
		}
		w.Header().Set("X-Load-Balancing-Endpoint-Weight", strconv.Itoa(b.LocalEndpoints))
		text, err := json.MarshalIndent(b, "", "\t")
		writeJSON(w, code, text, err)
	})
}

// localEndpoints returns the number of a Service's local endpoints; 0 if its port is being closed.
func (n *NodePorts) localEndpoints(name plan.Name) int {
	n.mu.Lock()
	defer n.mu.Unlock()
	if in := n.services[name]; in != nil {
		return in.want.LocalEndpoints
	}
	return 0
}
