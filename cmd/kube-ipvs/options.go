package main

import (
	"net/netip"
	"os"
	"slices"

	"kube-ipvs/internal/config"
	"kube-ipvs/sync/ipvsmode"
)

// detector returns the distinction of pods from other sources. PodCIDRs are this node's.
func detector(d config.DetectLocal, podCIDRs []netip.Prefix) ipvsmode.Detector {
	switch d.Mode {
	case config.NodeCIDR:
		return ipvsmode.Detector{Prefixes: firstOfEach(podCIDRs)}
	case config.BridgeInterface:
		return ipvsmode.Detector{Interface: d.Interface}
	case config.InterfaceNamePrefix:
		return ipvsmode.Detector{Interface: d.Interface + "+"}
	}
	return ipvsmode.Detector{Prefixes: d.ClusterCIDRs}
}

// firstOfEach returns the first prefix of each family.
func firstOfEach(in []netip.Prefix) []netip.Prefix {
	var out []netip.Prefix
	for _, p := range in {
		if !slices.ContainsFunc(out, func(o netip.Prefix) bool { return o.Addr().Is4() == p.Addr().Is4() }) {
			out = append(out, p)
		}
	}
	return out
}

// nodeName returns the name of this node: as configured, or else the host's.
func nodeName(configured string) (string, error) {
	if configured != "" {
		return configured, nil
	}
	host, err := os.Hostname()
	if err != nil {
		return "", err
	}
	return config.NodeName("", host)
}
