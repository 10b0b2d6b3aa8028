package main

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"time"

	"kube-ipvs/internal/inet"
	"kube-ipvs/sync/plan"
	"kube-ipvs/test/lab"
)

// How often an endpoint is changed in a turn to measure what that costs, and to see when its first packet comes.
const (
	costChanges   = 400
	packetChanges = 5
)

// change measures what one changed endpoint costs, and how long it takes: from the write into the source in memory, which
// is what a watch event becomes, until the kernel has been told, and until a pod that asks again and again gets its first
// answer from the new endpoint.
func change(ctx context.Context, s size) (measurement, error) {
	st, err := newStage(ctx, s)
	if err != nil {
		return measurement{}, err
	}
	turn := func(ctx context.Context) (figures, error) {
		seen, err := st.cost(ctx)
		if err != nil {
			return nil, err
		}
		seen["packet"], err = st.firstPacket(ctx)
		return seen, err
	}
	return measurement{turn, st.close}, nil
}

// A stage is a laboratory with a proxy on its node. The last of the Services is the target: behind it pods answer.
type stage struct {
	*lab.Lab
	*proxy
	target plan.Service
}

func newStage(ctx context.Context, s size) (*stage, error) {
	l, err := newLab(false)
	if err != nil {
		return nil, err
	}
	st := &stage{Lab: l, target: service(s.Services - 1)}
	m := newMemory(s)
	m.Put(st.target, slicesOf(st.target.Name, []plan.Endpoint{st.endpoint("old")})...)
	if st.proxy, err = start(ctx, m); err != nil {
		return nil, errors.Join(err, l.Close())
	}
	if err := errors.Join(st.program(ctx), st.settle(ctx)); err != nil {
		return nil, errors.Join(err, st.close())
	}
	return st, nil
}

// newLab returns a laboratory in which two pods of the node serve, and one asks. The node forwards packets if it is told so
// here, or by its proxy.
func newLab(forward bool) (*lab.Lab, error) {
	l, err := newQuietLab(forward)
	if err != nil {
		return nil, err
	}
	for _, pod := range []string{"old", "new"} {
		if _, err := l.Serve(l.Pod(pod), inet.TCP, podPort, pod); err != nil {
			return nil, errors.Join(err, l.Close())
		}
	}
	return l, nil
}

// newQuietLab is newLab without servers, which see all packets that reach their pods, and cost all packets of this kernel a little.
func newQuietLab(forward bool) (*lab.Lab, error) {
	return lab.New(lab.Config{Forward: forward, Pods: []string{"asker", "old", "new"}, RemotePods: []string{"far"}, Wait: 10 * time.Second})
}

func (s *stage) close() error { return errors.Join(s.proxy.end(), s.Lab.Close()) }

func (s *stage) endpoint(pod string) plan.Endpoint { return ready(s.Pod(pod).Addr(false), "node1") }

// frontend is where the target is asked.
func (s *stage) frontend() netip.AddrPort {
	return netip.AddrPortFrom(s.target.ClusterIPs[0], servicePort)
}

// cost lets an endpoint come and go while no packet is on its way.
func (s *stage) cost(ctx context.Context) (figures, error) {
	count := func() (figures, error) {
		ops, err1 := s.total("kube_ipvs_layer_operations_total")
		reads, err2 := s.total("kube_ipvs_layer_reads_total")
		cpu, err3 := cpuTime()
		return figures{"messages": float64(s.kernel.IPVS.Stats().Messages), "operations": ops, "reads": reads, "cpu": cpu.Seconds()},
			errors.Join(err1, err2, err3)
	}
	before, err := count()
	if err != nil {
		return nil, err
	}
	var coming []float64
	for range costChanges / 2 {
		began := time.Now()
		if err := s.change(ctx, s.target.Name, s.endpoint("old"), s.endpoint("new")); err != nil {
			return nil, err
		}
		coming = append(coming, time.Since(began).Seconds())
		if err := s.change(ctx, s.target.Name, s.endpoint("old")); err != nil {
			return nil, err
		}
	}
	after, err := count()
	for name := range after {
		after[name] = (after[name] - before[name]) / costChanges
	}
	after["programmed"] = median(coming)
	return after, err
}

// firstPacket returns the median of the times until the new endpoint answers.
func (s *stage) firstPacket(ctx context.Context) (float64, error) {
	var times []float64
	for range packetChanges {
		began := time.Now()
		s.serve(s.target.Name, s.endpoint("old"), s.endpoint("new"))
		for {
			answer := s.Ask(ctx, s.Pod("asker"), inet.TCP, s.frontend())
			if answer.Err != nil {
				return 0, fmt.Errorf("ask the Service: %w", answer.Err)
			}
			if answer.Who == "new" {
				break
			}
		}
		times = append(times, time.Since(began).Seconds())
		if err := s.change(ctx, s.target.Name, s.endpoint("old")); err != nil {
			return 0, err
		}
	}
	return median(times), nil
}
