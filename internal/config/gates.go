package config

import (
	"errors"
	"maps"
	"slices"

	"k8s.io/apimachinery/pkg/util/version"
	"k8s.io/component-base/featuregate"
	logsapi "k8s.io/component-base/logs/api/v1"
	metricsapi "k8s.io/component-base/metrics/features"
	zpages "k8s.io/component-base/zpages/features"
)

// The gates with an effect here that no library reads. Those of client-go are named in ClientGates.
const (
	AllowServiceExternalIPs featuregate.Feature = "AllowServiceExternalIPs"

	ComponentFlagz   = zpages.ComponentFlagz
	ComponentStatusz = zpages.ComponentStatusz
	NativeHistograms = metricsapi.NativeHistograms
)

// newGates returns the gates with an effect here, with the defaults of the Kubernetes whose libraries these are, and
// AllAlpha and AllBeta.
func newGates() featuregate.MutableVersionedFeatureGate {
	gates := featuregate.NewFeatureGate()
	err := errors.Join(
		logsapi.AddFeatureGates(gates),
		metricsapi.AddFeatureGates(gates),
		zpages.AddFeatureGates(gates),
		gates.AddVersioned(map[featuregate.Feature]featuregate.VersionedSpecs{
			AllowServiceExternalIPs: {{Version: version.MustParse("1.0"), Default: true, PreRelease: featuregate.GA}},
		}),
	)
	if err != nil {
		panic(err) // only for gates that are added twice
	}
	return gates
}

// ClientGates are the gates of client-go, which users set to work around faults of clients.
func ClientGates() []string {
	return []string{
		"AtomicFIFO", "ClientsAllowCARotation", "ClientsAllowCBOR", "ClientsAllowTLSCacheGC", "ClientsPreferCBOR", "InOrderInformers",
		"InOrderInformersBatchProcess", "InformerResourceVersion", "UnlockWhileProcessingFIFO", "WatchListClient",
	}
}

// knownGates returns the names of all gates with an effect here, sorted.
func knownGates() []string {
	names := ClientGates()
	for gate := range newGates().GetAll() {
		names = append(names, string(gate))
	}
	slices.Sort(names)
	return names
}

// set returns the gates with an effect here, as given or by default.
func set(given map[string]bool) featuregate.MutableFeatureGate {
	gates := newGates()
	known, values := gates.GetAll(), maps.Clone(given)
	maps.DeleteFunc(values, func(name string, _ bool) bool { _, ok := known[featuregate.Feature(name)]; return !ok })
	if err := gates.SetFromMap(values); err != nil {
		panic(err) // only for unknown or locked gates, and these are neither
	}
	return gates
}

// Enabled reports whether a gate is on.
func (c *Config) Enabled(gate featuregate.Feature) bool { return c.Gates.Enabled(gate) }

// gates takes over the feature gates. An unknown one is not refused, as kube-proxy would: one list often goes to all
// components of a cluster, of several versions.
func (r *review) gates(given map[string]bool) map[string]bool {
	known := knownGates()
	var others []string
	for _, name := range slices.Sorted(maps.Keys(given)) {
		switch {
		case name == "KubeProxyIPVS" && !given[name]:
			r.note(setGates, "KubeProxyIPVS=false", "kube-ipvs serves nevertheless: the gate is about the ipvs mode of kube-proxy")
		case name != "KubeProxyIPVS" && !slices.Contains(known, name):
			others = append(others, name)
		}
	}
	if len(others) > 0 {
		r.note(setGates, list(others), "not looked at")
	}
	return maps.Clone(given)
}
