package main

import (
	"context"
	"fmt"
	"os"
	"time"

	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

func (p *processes) RunPodSandbox(_ context.Context, config *runtimeapi.PodSandboxConfig, _ string) (string, error) {
	s := &sandbox{id: newID(), config: config, created: time.Now().UnixNano(), ready: true}
	if config.GetLinux().GetSecurityContext().GetNamespaceOptions().GetNetwork() != runtimeapi.NamespaceMode_NODE {
		var err error
		if s.net, err = p.network.add(s.id); err != nil {
			return "", fmt.Errorf("network of pod %s: %w", config.GetMetadata().GetName(), err)
		}
		for _, m := range config.PortMappings {
			if m.HostPort != 0 {
				s.net.hostPort(m)
			}
		}
	}
	if config.LogDirectory != "" {
		if err := os.MkdirAll(config.LogDirectory, 0o755); err != nil {
			return "", err
		}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.sandboxes[s.id] = s
	return s.id, nil
}

func (p *processes) StopPodSandbox(ctx context.Context, id string) error {
	p.mu.Lock()
	s := p.sandboxes[id]
	var kill []*container
	for _, c := range p.containers {
		if c.sandbox.id == id {
			kill = append(kill, c)
		}
	}
	p.mu.Unlock()
	if s == nil {
		return nil
	}
	for _, c := range kill {
		if err := p.StopContainer(ctx, c.id, 0); err != nil {
			return err
		}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if s.ready {
		s.ready = false
		if s.net != nil {
			p.network.remove(s.net)
		}
	}
	return nil
}

func (p *processes) RemovePodSandbox(ctx context.Context, id string) error {
	if err := p.StopPodSandbox(ctx, id); err != nil {
		return err
	}
	p.mu.Lock()
	var gone []string
	for _, c := range p.containers {
		if c.sandbox.id == id {
			gone = append(gone, c.id)
		}
	}
	delete(p.sandboxes, id)
	p.mu.Unlock()
	for _, c := range gone {
		p.RemoveContainer(ctx, c)
	}
	return nil
}

func (s *sandbox) state() runtimeapi.PodSandboxState {
	if s.ready {
		return runtimeapi.PodSandboxState_SANDBOX_READY
	}
	return runtimeapi.PodSandboxState_SANDBOX_NOTREADY
}

func (p *processes) PodSandboxStatus(_ context.Context, id string, _ bool) (*runtimeapi.PodSandboxStatusResponse, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	s := p.sandboxes[id]
	if s == nil {
		return nil, notFound("sandbox", id)
	}
	st := &runtimeapi.PodSandboxStatus{
		Id: id, Metadata: s.config.Metadata, State: s.state(), CreatedAt: s.created, Labels: s.config.Labels, Annotations: s.config.Annotations,
		Network: &runtimeapi.PodSandboxNetworkStatus{},
		Linux: &runtimeapi.LinuxPodSandboxStatus{
			Namespaces: &runtimeapi.Namespace{Options: s.config.GetLinux().GetSecurityContext().GetNamespaceOptions()},
		},
	}
	if s.net != nil && s.ready {
		for i, a := range s.net.addresses {
			if i == 0 {
				st.Network.Ip = a.String()
			} else {
				st.Network.AdditionalIps = append(st.Network.AdditionalIps, &runtimeapi.PodIP{Ip: a.String()})
			}
		}
	}
	return &runtimeapi.PodSandboxStatusResponse{Status: st, Timestamp: time.Now().UnixNano()}, nil
}

func (p *processes) ListPodSandbox(_ context.Context, f *runtimeapi.PodSandboxFilter) ([]*runtimeapi.PodSandbox, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	var list []*runtimeapi.PodSandbox
	for _, s := range p.sandboxes {
		if f != nil && (f.Id != "" && f.Id != s.id || f.State != nil && f.State.State != s.state() ||
			!matches(s.config.Labels, f.LabelSelector)) {
			continue
		}
		list = append(list, &runtimeapi.PodSandbox{
			Id: s.id, Metadata: s.config.Metadata, State: s.state(),
			CreatedAt: s.created, Labels: s.config.Labels, Annotations: s.config.Annotations,
		})
	}
	return list, nil
}

func (p *processes) UpdatePodSandboxResources(context.Context, *runtimeapi.UpdatePodSandboxResourcesRequest) (
	*runtimeapi.UpdatePodSandboxResourcesResponse, error) {
	return &runtimeapi.UpdatePodSandboxResourcesResponse{}, nil
}
