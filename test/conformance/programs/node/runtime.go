package main

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"net"
	"os"
	"path/filepath"
	"sync"

	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
	"k8s.io/cri-streaming/pkg/streaming"
	"k8s.io/klog/v2"
	"k8s.io/kubernetes/pkg/kubelet/server"
)

var (
	errNoImage = errors.New("there is no such image")
	errNot     = errors.New("not implemented")
)

// processes is a container runtime whose containers are plain processes. A kubelet calls it directly.
type processes struct {
	node, root, programs string
	tls                  *server.TLSOptions // for the servers of agnhost
	network              *network
	stream               streaming.Server

	mu         sync.Mutex
	sandboxes  map[string]*sandbox
	containers map[string]*container
}

// A sandbox is a pod.
type sandbox struct {
	id      string
	config  *runtimeapi.PodSandboxConfig
	created int64
	ready   bool
	net     *podNet // nil: the node's
}

// A container is a process with what the kubelet has said of it.
type container struct {
	id, image                  string
	sandbox                    *sandbox
	config                     *runtimeapi.ContainerConfig
	created, started, finished int64
	state                      runtimeapi.ContainerState
	code                       int32
	root                       string
	pid                        int
	log                        *logFile
	done                       chan struct{}
}

func newProcesses(o options, tls *server.TLSOptions) (*processes, error) {
	p := &processes{
		node: o.name, root: filepath.Join(o.root, "containers"), programs: o.programs, tls: tls, network: newNetwork(o.pods),
		sandboxes: map[string]*sandbox{}, containers: map[string]*container{},
	}
	if err := os.MkdirAll(p.root, 0o755); err != nil {
		return nil, err
	}
	config := streaming.DefaultConfig
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	config.Addr = l.Addr().String()
	l.Close()
	if p.stream, err = streaming.NewServer(config, streams{p}); err != nil {
		return nil, err
	}
	go func() { klog.ErrorS(p.stream.Start(true), "streaming") }()
	return p, nil
}

func newID() string {
	b := make([]byte, 16)
	rand.Read(b)
	return hex.EncodeToString(b)
}

func matches(labels, selector map[string]string) bool {
	for k, v := range selector {
		if labels[k] != v {
			return false
		}
	}
	return true
}

func (p *processes) Version(context.Context, string) (*runtimeapi.VersionResponse, error) {
	return &runtimeapi.VersionResponse{Version: "0.1.0", RuntimeName: "processes", RuntimeVersion: "1.0.0", RuntimeApiVersion: "v1"}, nil
}

func (p *processes) Status(context.Context, bool) (*runtimeapi.StatusResponse, error) {
	conditions := []*runtimeapi.RuntimeCondition{{Type: "RuntimeReady", Status: true}, {Type: "NetworkReady", Status: true}}
	return &runtimeapi.StatusResponse{Status: &runtimeapi.RuntimeStatus{Conditions: conditions}}, nil
}

func (p *processes) RuntimeConfig(context.Context) (*runtimeapi.RuntimeConfigResponse, error) {
	return &runtimeapi.RuntimeConfigResponse{}, nil
}

func (p *processes) UpdateRuntimeConfig(context.Context, *runtimeapi.RuntimeConfig) error { return nil }

func (p *processes) Close(context.Context) error { return nil }
