package ipvs

import (
	"context"
	"fmt"
	"os"
	"time"

	"github.com/moby/ipvs"
)

// Timeouts are the lifetimes of idle connections in the table, in whole seconds.
type Timeouts struct {
	TCP    time.Duration // established
	TCPFin time.Duration // after a FIN
	UDP    time.Duration
}

// Timeouts returns the kernel's timeouts, in the network namespace of the calling thread.
func (c *Conn) Timeouts(ctx context.Context) (Timeouts, error) {
	h, err := c.handle(ctx)
	if err != nil {
		return Timeouts{}, fmt.Errorf("read IPVS timeouts: %w", err)
	}
	defer h.Close()
	c.messages.Add(1)
	config, err := h.GetConfig()
	if err != nil {
		c.errors.Add(1)
		return Timeouts{}, fmt.Errorf("read IPVS timeouts: %w", err)
	}
	return Timeouts{TCP: config.TimeoutTCP, TCPFin: config.TimeoutTCPFin, UDP: config.TimeoutUDP}, nil
}

// SetTimeouts changes the timeouts that are not zero, in the network namespace of the calling thread. The error is
// os.ErrInvalid for one that is not whole seconds.
func (c *Conn) SetTimeouts(ctx context.Context, t Timeouts) error {
	for _, d := range []time.Duration{t.TCP, t.TCPFin, t.UDP} {
		if d < 0 || d%time.Second != 0 {
			return fmt.Errorf("set IPVS timeouts: %v: %w", d, os.ErrInvalid)
		}
	}
	h, err := c.handle(ctx)
	if err != nil {
		return fmt.Errorf("set IPVS timeouts: %w", err)
	}
	defer h.Close()
	c.messages.Add(1)
	if err := h.SetConfig(&ipvs.Config{TimeoutTCP: t.TCP, TimeoutTCPFin: t.TCPFin, TimeoutUDP: t.UDP}); err != nil {
		c.errors.Add(1)
		return fmt.Errorf("set IPVS timeouts: %w", err)
	}
	return nil
}

// handle opens a handle of moby/ipvs, which only serves the timeouts: once, at start, it saves encoding two commands
// here. That package resolves the family once for the process; without IPVS it continues with number 0, and the kernel
// then accepts everything. So the family is resolved here first.
func (c *Conn) handle(ctx context.Context) (*ipvs.Handle, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := c.resolve(ctx); err != nil {
		return nil, err
	}
	return ipvs.New("")
}
