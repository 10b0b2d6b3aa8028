package reconcile

import "github.com/prometheus/client_golang/prometheus"

// Counters are the metrics of one layer.
type Counters struct {
	Operations, Failures, Reads prometheus.Counter

	Beat func() // called as the layer makes progress
}

// Asked counts the changes requested from the kernel.
func (c *Counters) Asked(changes int) {
	c.Operations.Add(float64(changes))
	c.Beat()
}
