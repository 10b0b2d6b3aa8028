package config

import (
	"maps"
	"slices"

	"k8s.io/component-base/featuregate"
	logsapi "k8s.io/component-base/logs/api/v1"
)

// A Gate is a feature gate of Kubernetes.
type Gate string

// The gates with an effect here. Those of client-go are named in ClientGates.
const (
	AllowServiceExternalIPs Gate = "AllowServiceExternalIPs"
	ComponentFlagz          Gate = "ComponentFlagz"
	ComponentStatusz        Gate = "ComponentStatusz"
	NativeHistograms        Gate = "NativeHistograms"
	ContextualLogging       Gate = "ContextualLogging"
	LoggingAlphaOptions     Gate = "LoggingAlphaOptions"
	LoggingBetaOptions      Gate = "LoggingBetaOptions"
)

// gateDefaults are the defaults of Kubernetes 1.37.
var gateDefaults = map[Gate]bool{
	AllowServiceExternalIPs: true, ComponentFlagz: true, ComponentStatusz: true, NativeHistograms: true,
	ContextualLogging: true, LoggingAlphaOptions: false, LoggingBetaOptions: true,
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
	for gate := range gateDefaults {
		names = append(names, string(gate))
	}
	slices.Sort(names)
	return names
}

// Enabled reports whether a gate is on: as given, or by default.
func (c *Config) Enabled(gate Gate) bool {
	if on, given := c.FeatureGates[string(gate)]; given {
		return on
	}
	return gateDefaults[gate]
}

// LoggingGates returns the gates of the logging library, in its type.
func (c *Config) LoggingGates() featuregate.FeatureGate {
	gates := featuregate.NewFeatureGate()
	values := map[string]bool{}
	for _, gate := range []Gate{ContextualLogging, LoggingAlphaOptions, LoggingBetaOptions} {
		values[string(gate)] = c.Enabled(gate)
	}
	if err := logsapi.AddFeatureGates(gates); err != nil {
		panic(err) // only for gates that are added twice
	}
	if err := gates.SetFromMap(values); err != nil {
		panic(err) // only for unknown or locked gates, and these are neither
	}
	return gates
}

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
