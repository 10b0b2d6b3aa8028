package main

import (
	"os"
	"path/filepath"
	"time"

	noopoteltrace "go.opentelemetry.io/otel/trace/noop"
	clientset "k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/clientcmd"
	certutil "k8s.io/client-go/util/cert"
	"k8s.io/klog/v2"
	kubeletoptions "k8s.io/kubernetes/cmd/kubelet/app/options"
	"k8s.io/kubernetes/pkg/kubelet"
	kubeletconfig "k8s.io/kubernetes/pkg/kubelet/apis/config"
	cadvisortest "k8s.io/kubernetes/pkg/kubelet/cadvisor/testing"
	"k8s.io/kubernetes/pkg/kubelet/cm"
	kubecontainer "k8s.io/kubernetes/pkg/kubelet/container"
	"k8s.io/kubernetes/pkg/kubelet/server"
	kubeletutil "k8s.io/kubernetes/pkg/kubelet/util"
	"k8s.io/kubernetes/pkg/util/oom"
	"k8s.io/kubernetes/pkg/volume"
	"k8s.io/kubernetes/pkg/volume/configmap"
	"k8s.io/kubernetes/pkg/volume/downwardapi"
	"k8s.io/kubernetes/pkg/volume/emptydir"
	"k8s.io/kubernetes/pkg/volume/hostpath"
	"k8s.io/kubernetes/pkg/volume/projected"
	"k8s.io/kubernetes/pkg/volume/secret"
	"k8s.io/kubernetes/pkg/volume/util/hostutil"
	"k8s.io/kubernetes/pkg/volume/util/subpath"
	"k8s.io/mount-utils"
)

// settings returns the kubelet's flags and configuration, and makes the folders that these name.
func (o options) settings() (*kubeletoptions.KubeletServer, error) {
	f := kubeletoptions.NewKubeletFlags()
	f.RootDirectory = filepath.Join(o.root, "kubelet")
	f.CertDirectory = filepath.Join(o.root, "pki")
	f.HostnameOverride = o.name
	f.NodeIP = o.addresses
	f.NodeLabels = o.labels
	c, err := kubeletoptions.NewKubeletConfiguration()
	if err != nil {
		return nil, err
	}
	c.PodLogsDir = filepath.Join(o.root, "logs")
	c.EnableServer = true
	c.Address = "0.0.0.0"
	c.Port = 10250
	c.RegisterNode = true
	c.CgroupsPerQOS = false
	c.EnforceNodeAllocatable = nil
	c.EvictionHard = map[string]string{}
	c.EnableControllerAttachDetach = false
	c.EnableDebuggingHandlers = true
	c.EnableSystemLogHandler = true
	c.ClusterDomain = "cluster.local"
	c.ClusterDNS = []string{o.dns}
	c.ResolverConfig = filepath.Join(o.root, "resolv.conf")
	c.SerializeImagePulls = false
	c.ProviderID = "processes://" + o.name
	c.ConfigMapAndSecretChangeDetectionStrategy = kubeletconfig.WatchChangeDetectionStrategy
	for _, folder := range []string{f.RootDirectory, f.CertDirectory, c.PodLogsDir} {
		if err := os.MkdirAll(folder, 0o755); err != nil {
			return nil, err
		}
	}
	err = os.WriteFile(c.ResolverConfig, []byte("nameserver 127.0.0.1\n"), 0o644) // a pod without the cluster's DNS has none
	return &kubeletoptions.KubeletServer{KubeletFlags: *f, KubeletConfiguration: *c}, err
}

// needs returns what the kubelet calls.
func (o options) needs(containers *processes, tls *server.TLSOptions) (*kubelet.Dependencies, error) {
	config, err := clientcmd.BuildConfigFromFlags("", o.kubeconfig)
	if err != nil {
		return nil, err
	}
	config.QPS, config.Burst = 100, 200
	config.ContentType = "application/vnd.kubernetes.protobuf"
	client, err := clientset.NewForConfig(config)
	if err != nil {
		return nil, err
	}
	config.Timeout = 10 * time.Second
	heartbeat, err := clientset.NewForConfig(config)
	if err != nil {
		return nil, err
	}
	var plugins []volume.VolumePlugin
	for _, list := range [][]volume.VolumePlugin{
		emptydir.ProbeVolumePlugins(), hostpath.ProbeVolumePlugins(volume.VolumeConfig{}), secret.ProbeVolumePlugins(),
		downwardapi.ProbeVolumePlugins(), configmap.ProbeVolumePlugins(), projected.ProbeVolumePlugins(),
	} {
		plugins = append(plugins, list...)
	}
	return &kubelet.Dependencies{
		KubeClient:                client,
		HeartbeatClient:           heartbeat,
		EventClient:               client.CoreV1(),
		RemoteRuntimeService:      containers,
		RemoteImageService:        images{},
		CAdvisorInterface:         &machine{cadvisortest.Fake{NodeName: o.name}},
		OSInterface:               kubecontainer.RealOS{},
		ContainerManager:          manager{cm.NewStubContainerManager()},
		VolumePlugins:             plugins,
		TLSOptions:                tls,
		OOMAdjuster:               oom.NewFakeOOMAdjuster(),
		Mounter:                   &mount.FakeMounter{},
		Subpather:                 &subpath.FakeSubpath{},
		HostUtil:                  hostutil.NewHostUtil(),
		PodStartupLatencyTracker:  kubeletutil.NewPodStartupLatencyTracker(),
		NodeStartupLatencyTracker: kubeletutil.NewNodeStartupLatencyTracker(klog.Background()),
		TracerProvider:            noopoteltrace.NewTracerProvider(),
	}, nil
}

// certificate writes a certificate for the kubelet's server, and for servers in agnhost's containers. No client looks at it.
func (o options) certificate() (*server.TLSOptions, error) {
	certificate, key, err := certutil.GenerateSelfSignedCertKey(o.name, nil, nil)
	if err != nil {
		return nil, err
	}
	files := &server.TLSOptions{CertFile: filepath.Join(o.root, "kubelet.crt"), KeyFile: filepath.Join(o.root, "kubelet.key")}
	if err := os.WriteFile(files.CertFile, certificate, 0o600); err != nil {
		return nil, err
	}
	return files, os.WriteFile(files.KeyFile, key, 0o600)
}
