package kube

import (
	"maps"

	"k8s.io/client-go/features"
)

// gates are feature gates of client-go, some of which were given values.
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

// SetFeatures gives feature gates of client-go values, by their names, for the whole process. Names that client-go does not
// know do nothing. It is to be called before the first client is made.
func SetFeatures(given map[string]bool) {
	if len(given) > 0 {
		features.ReplaceFeatureGates(gates{features.FeatureGates(), maps.Clone(given)})
	}
}
