package main

// A line is a model: a constant part, and one for each unit.
type line struct{ base, slope float64 }

// through returns the line through two points.
func through(x1, y1, x2, y2 float64) line {
	slope := (y2 - y1) / (x2 - x1)
	return line{y1 - slope*x1, slope}
}

func (l line) at(x float64) float64 { return l.base + l.slope*x }

// A quantity is something that was measured at all sizes.
type quantity struct {
	name string
	unit func(float64) string
	of   func(sized) float64
	flat bool // does not depend on the size
}

var (
	streamedBytes = quantity{"first read by a watch", size, func(s sized) float64 { return s.Streamed.Bytes }, false}
	listedBytes   = quantity{"first read by lists", size, func(s sized) float64 { return s.Listed.Bytes }, false}
	streamedCPU   = quantity{"first read by a watch: the API server's CPU time", span, func(s sized) float64 { return s.Streamed.ServerCPU }, false}
	listedCPU     = quantity{"first read by lists: the API server's CPU time", span, func(s sized) float64 { return s.Listed.ServerCPU }, false}
	nodeCPU       = quantity{"first read and programming: the node's CPU time", span, func(s sized) float64 { return s.Streamed.NodeCPU }, false}
	heap          = quantity{"the node's live heap", size, func(s sized) float64 { return s.Heap }, false}
	resident      = quantity{"the node's memory at most", size, func(s sized) float64 { return s.Resident }, false}
	idleBytes     = quantity{"a minute in which nothing changes", size, func(s sized) float64 { return s.Idle.bytes() }, true}
	cutBytes      = quantity{"a connection that ended, until all is watched again", size, func(s sized) float64 { return s.Cut.bytes() }, true}
	changeBytes   = quantity{"one endpoint's change", size, func(s sized) float64 { return s.Change.Bytes }, true}
	changeCPU     = quantity{"one endpoint's change: the node's CPU time", span, func(s sized) float64 { return s.Change.NodeCPU }, true}
	firstRequests = quantity{"requests of a first read by a watch, until all is watched", count, func(s sized) float64 { return s.Requests }, true}
	cutRequests   = quantity{"requests after a connection that ended", count, func(s sized) float64 { return s.Cut.Requests }, true}

	quantities = []quantity{streamedBytes, listedBytes, streamedCPU, listedCPU, nodeCPU, heap, resident, idleBytes, cutBytes, changeBytes, changeCPU}
	counts     = []quantity{firstRequests, cutRequests}
)

// between returns the line of a quantity through two of the sizes: level, at their mean, if it does not depend on the size.
func (f figures) between(q quantity, i, j int) line {
	a, b := f.Sizes[i], f.Sizes[j]
	if q.flat {
		return line{base: (q.of(a) + q.of(b)) / 2}
	}
	return through(float64(a.Services), q.of(a), float64(b.Services), q.of(b))
}

// checked returns a quantity at the largest size by the line through the other two, and the line's error there in percent.
func (f figures) checked(q quantity) (model, percent float64) {
	largest := f.Sizes[2]
	model = f.between(q, 0, 1).at(float64(largest.Services))
	return model, deviation(model, q.of(largest))
}

// in returns a quantity in a cluster of so many Services, by the line through the smallest and the largest size.
func (f figures) in(q quantity, services int) float64 {
	return f.between(q, 0, 2).at(float64(services))
}

// deviation is by how many percent a model misses what was measured.
func deviation(model, measured float64) float64 { return (model - measured) / measured * 100 }

// eventBytes is the model of a change by the endpoints in its slice, from the two smaller slices that were delivered.
func (f figures) eventBytes() line {
	a, b := f.Deliveries[0], f.Deliveries[1]
	return through(float64(a.Endpoints), a.Bytes, float64(b.Endpoints), b.Bytes)
}

// eventError is by how many percent the line misses the largest slice.
func (f figures) eventError() float64 {
	last := f.Deliveries[len(f.Deliveries)-1]
	return deviation(f.eventBytes().at(float64(last.Endpoints)), last.Bytes)
}

// A target is a cluster that is reckoned, and what its API server has: cores, and bytes a second on its network card.
type target struct {
	nodes, services int
	cores, card     float64
}

var large = target{nodes: 5000, services: 20_000, cores: 32, card: 25e9 / 8}

// A pace is what a rollout at a number of pods a second costs.
type pace struct {
	events     float64 // changes of slices a second
	deliveries float64 // events a second that reach a node
	bytes      float64 // a second
	cores      float64 // of the API server
}

// pace returns what a rollout costs whose Services have slices like that delivery's, if each step of each pod is a change of its
// own.
func (f figures) pace(t target, pods float64, d delivery) (p pace) {
	p.events = pods * f.steps()
	p.deliveries = p.events * float64(t.nodes)
	p.bytes, p.cores = p.deliveries*d.Bytes, p.deliveries*d.ServerCPU
	return p
}

// steps is how many changes of slices one pod's replacement makes at most: as measured when pods are replaced one by one.
func (f figures) steps() float64 { return f.Rollouts[0].Events / float64(f.Rollouts[0].Pods) }

// wall returns at how many pods a second a rollout has all of the API server's cores, and all of its card.
func (f figures) wall(t target, d delivery) (cores, card float64) {
	one := f.pace(t, 1, d)
	return t.cores / one.cores, t.card / one.bytes
}

// controllerLimit is how many slices a second the controller manager writes unless --kube-api-qps says otherwise.
const controllerLimit = 20
