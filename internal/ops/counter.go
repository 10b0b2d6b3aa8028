package ops

import "sync/atomic"

// A Counter counts the use of a fake kernel that embeds it. It is safe for use by several goroutines.
type Counter struct{ ops, reads atomic.Int64 }

// Ops returns the number of operations given to Do so far.
func (c *Counter) Ops() int { return int(c.ops.Load()) }

// Reads returns the number of calls of Read so far.
func (c *Counter) Reads() int { return int(c.reads.Load()) }

// CountOps counts n operations.
func (c *Counter) CountOps(n int) { c.ops.Add(int64(n)) }

// CountRead counts one call of Read.
func (c *Counter) CountRead() { c.reads.Add(1) }
