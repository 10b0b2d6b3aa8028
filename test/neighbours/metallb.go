//go:build kernel && neighbours

package neighbours

import (
	"context"
	"errors"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"time"

	"kube-ipvs/test/child"
	"kube-ipvs/test/lab"
)

// metalLB announces addresses in the LAN, which nobody has, as the node's.
type metalLB struct {
	*Place
	program *child.Program
}

// NewMetalLB is the announcer of MetalLB's speaker in layer 2.
func NewMetalLB(p *Place) Neighbour { return &metalLB{Place: p} }

// announced is how many addresses of each family are announced.
const announced = 16

// Announced returns the address number n that is announced, of those in the LAN.
func Announced(n int, v6 bool) netip.Addr {
	bytes := lab.LAN.Prefix(v6).Addr().AsSlice()
	bytes[len(bytes)-1] = byte(150 + n%announced)
	addr, _ := netip.AddrFromSlice(bytes)
	return addr
}

func (m *metalLB) Version(ctx context.Context) (string, error) {
	return run(ctx, filepath.Join(m.Bin, "announcer"), "-version")
}

func (m *metalLB) How() string {
	return "the speaker's package internal/layer2 (ARP, NDP) on all links, told the addresses by hand, as the speaker needs an API server with its own kinds; " +
		"load-balancer IPs are in the LAN and routed nowhere"
}

func (m *metalLB) Start(ctx context.Context) (err error) {
	if m.program == nil {
		words := []string{filepath.Join(m.Bin, "announcer")}
		for n := range announced {
			words = append(words, Announced(n, false).String(), Announced(n, true).String())
		}
		if m.program, err = m.Place.program(m.Node, nil, words...); err != nil {
			return err
		}
	}
	if err := os.RemoveAll(m.program.Log); err != nil { // of an earlier life
		return err
	}
	if err := m.program.Start(); err != nil {
		return err
	}
	return until(ctx, time.Minute, func() error {
		text, err := os.ReadFile(m.program.Log)
		if err == nil && !strings.Contains(string(text), "announces") {
			err = m.program.LastWords()
		}
		return errors.Join(m.program.Alive(), err)
	})
}

// Works lets those forget who ask in the LAN: what they ask afterwards is answered only if somebody announces it.
func (m *metalLB) Works(ctx context.Context) error {
	var errs []error
	for _, host := range []*lab.Host{m.Router, m.Node2} {
		_, err := m.on(ctx, host, "ip", "neigh", "flush", "all")
		errs = append(errs, err)
	}
	return errors.Join(append(errs, m.program.Alive())...)
}

func (m *metalLB) Stop(context.Context) error { return end(m.program) }

// Remove has nothing to do: it leaves nothing.
func (m *metalLB) Remove(ctx context.Context) error { return m.Stop(ctx) }
