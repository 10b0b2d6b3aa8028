package reconcile

import "github.com/prometheus/client_golang/prometheus"

// Counters are the metrics of one layer.
type Counters struct {
	Operations, Reads prometheus.Counter

	Batch  prometheus.Observer // of the number of operations requested at once
	Failed func(error)         // counts a failed operation
	Beat   func()              // called as the layer makes progress
}

// Asked counts the changes requested from the kernel at once.
func (c *Counters) Asked(changes int) {
	c.Operations.Add(float64(changes))
	c.Batch.Observe(float64(changes))
	c.Beat()
}
