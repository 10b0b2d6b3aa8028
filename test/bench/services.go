package main

import (
	"fmt"
	"net/netip"

	"kube-ipvs/internal/inet"
	"kube-ipvs/sync/plan"
	"kube-ipvs/test/wire"
)

const (
	servicePort = 80
	podPort     = 8080
)

// serviceCIDR is where the cluster IPs are from; the laboratory's router knows it, too.
var serviceCIDR = netip.MustParsePrefix("10.96.0.0/12")

// newMemory returns a source of that size. No two Services share an endpoint.
func newMemory(s size) *wire.Memory {
	m := wire.NewMemory()
	for i := range s.Services {
		svc := service(i)
		m.Put(svc, slicesOf(svc.Name, endpoints(i, s.Endpoints))...)
	}
	return m
}

// service is the n-th Service.
func service(n int) plan.Service {
	return plan.Service{
		Name:       plan.Name{Namespace: "bench", Name: fmt.Sprintf("service-%05d", n)},
		ClusterIPs: []netip.Addr{clusterIP(n)},
		Ports:      []plan.Port{{Name: "http", Proto: inet.TCP, Port: servicePort}},
	}
}

func clusterIP(n int) netip.Addr {
	return netip.AddrFrom4([4]byte{10, 96 + byte(n>>16), byte(n >> 8), byte(n)})
}

// endpoints are the n-th Service's, on another node.
func endpoints(n, count int) []plan.Endpoint {
	out := make([]plan.Endpoint, count)
	for i := range out {
		at := n*count + i
		out[i] = ready(netip.AddrFrom4([4]byte{10, 128 + byte(at>>16), byte(at >> 8), byte(at)}), "node2")
	}
	return out
}

func ready(addr netip.Addr, node string) plan.Endpoint {
	return plan.Endpoint{Addr: addr, Node: node, Ready: true, Serving: true}
}

// slicesOf cuts endpoints as the slice controller does: at most a hundred in a slice.
func slicesOf(name plan.Name, all []plan.Endpoint) []plan.Slice {
	const most = 100
	var out []plan.Slice
	for first := 0; first < len(all); first += most {
		out = append(out, plan.Slice{
			Service: name, Ports: []plan.SlicePort{{Name: "http", Proto: inet.TCP, Port: podPort}},
			Endpoints: all[first:min(first+most, len(all))],
		})
	}
	return out
}
