package main

import (
	"fmt"
	"runtime"
	"time"

	"golang.org/x/sys/unix"
)

// figures are all that was measured. CPU time is in seconds.
type figures struct {
	On         string // when, and on what
	Sizes      [3]sized
	Events     []changed  // by endpoints in a slice, in an empty cluster
	Deliveries []delivery // the same
	Rollouts   []rollout
	Restart    traffic // until a node has read everything again, at the largest size
}

// A sized is a node in a cluster of a size.
type sized struct {
	Services         int
	Listed, Streamed first
	Requests         float64 // of a first read by a watch, until all is watched
	Heap, Resident   float64 // bytes: live, and resident at most, after the first programming
	Idle             traffic // a minute without a change
	Change           changed
	Cut              traffic // until the node watches again
}

// A first is a node's first read. The node's CPU time is that of the process until everything is programmed.
type first struct{ Bytes, NodeCPU, ServerCPU float64 }

// A traffic is between a node and the API server, both ways.
type traffic struct{ In, Out, Requests float64 }

func trafficOf(r reading) traffic { return traffic{float64(r.In), float64(r.Out), float64(r.Requests)} }

func (t traffic) bytes() float64 { return t.In + t.Out }

// A changed is the change of one endpoint of a slice.
type changed struct {
	Endpoints              int // in the slice
	Events, Bytes, NodeCPU float64
}

// A delivery is a change of a slice that one more node hears of.
type delivery struct {
	Endpoints        int // in the slice
	Bytes, ServerCPU float64
}

// A rollout replaces all pods of a Service.
type rollout struct {
	Pods, Batch int     // a batch of pods at a time
	Events      float64 // changes of slices
	Bytes       float64 // that a node got
}

// machine says when and on what was measured.
func machine() string {
	var u unix.Utsname
	release := "an unknown kernel"
	if unix.Uname(&u) == nil {
		release = "Linux " + unix.ByteSliceToString(u.Release[:])
	}
	return fmt.Sprintf("on %s, on %s, %s, %d CPUs", time.Now().Format(time.DateOnly), release, runtime.Version(), runtime.NumCPU())
}
