package main

import (
	"context"

	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

func (p *processes) UpdateContainerResources(context.Context, string, *runtimeapi.ContainerResources) error {
	return nil
}

func (p *processes) ReopenContainerLog(context.Context, string) error { return nil }

func (p *processes) CheckpointContainer(context.Context, *runtimeapi.CheckpointContainerRequest) error {
	return errNot
}

func (p *processes) CheckpointPod(context.Context, *runtimeapi.CheckpointPodRequest) error {
	return errNot
}

func (p *processes) RestorePod(context.Context, *runtimeapi.RestorePodRequest) (*runtimeapi.RestorePodResponse, error) {
	return nil, errNot
}

func (p *processes) GetContainerEvents(context.Context, chan *runtimeapi.ContainerEventResponse,
	func(runtimeapi.RuntimeService_GetContainerEventsClient)) error {
	return errNot
}
