package reconcile

import "github.com/prometheus/client_golang/prometheus"

// Counters are the metrics of one layer.
type Counters struct {
	Operations, Failures, Reads prometheus.Counter

	Beat func() // is told that the layer makes progress
}

// Asked notes that the kernel is asked for so many changes.
func (c *Counters) Asked(changes int) {
	c.Operations.Add(float64(changes))
	c.Beat()
}
