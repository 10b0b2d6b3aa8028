package kube

import (
	"maps"

	"k8s.io/client-go/features"
)

// gates are client-go's feature gates, some with given values.
type gates struct {
	features.Gates
	given map[string]bool
}

// Enabled implements features.Gates.
func (g gates) Enabled(key features.Feature) bool {
	if on, ok := g.given[string(key)]; ok {
		return on
	}
	return g.Gates.Enabled(key)
}

// SetFeatures sets feature gates of client-go by name, for the whole process. Unknown names have no effect. It must be
// called before the first client is made.
func SetFeatures(given map[string]bool) {
	if len(given) > 0 {
		features.ReplaceFeatureGates(gates{features.FeatureGates(), maps.Clone(given)})
	}
}
