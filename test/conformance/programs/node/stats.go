package main

import (
	"context"
	"os"
	"path/filepath"

	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

func (p *processes) ContainerStats(_ context.Context, id string) (*runtimeapi.ContainerStats, error) {
	return nil, errNot
}

func (p *processes) ListContainerStats(context.Context, *runtimeapi.ContainerStatsFilter) ([]*runtimeapi.ContainerStats, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	var list []*runtimeapi.ContainerStats
	for _, c := range p.containers {
		list = append(list, &runtimeapi.ContainerStats{
			Attributes: &runtimeapi.ContainerAttributes{
				Id: c.id, Metadata: c.config.Metadata, Labels: c.config.Labels, Annotations: c.config.Annotations,
			},
			WritableLayer: usage(c.used()),
		})
	}
	return list, nil
}

// used returns how much the container has written into its own files.
func (c *container) used() (n uint64) {
	filepath.Walk(c.root, func(_ string, i os.FileInfo, err error) error {
		if err == nil && i.Mode().IsRegular() {
			n += uint64(i.Size())
		}
		return nil
	})
	return n
}

func (p *processes) PodSandboxStats(context.Context, string) (*runtimeapi.PodSandboxStats, error) {
	return nil, errNot
}

func (p *processes) ListPodSandboxStats(context.Context, *runtimeapi.PodSandboxStatsFilter) ([]*runtimeapi.PodSandboxStats, error) {
	return nil, nil
}

func (p *processes) ListMetricDescriptors(context.Context) ([]*runtimeapi.MetricDescriptor, error) {
	return nil, nil
}

func (p *processes) ListPodSandboxMetrics(context.Context) ([]*runtimeapi.PodSandboxMetrics, error) {
	return nil, nil
}
