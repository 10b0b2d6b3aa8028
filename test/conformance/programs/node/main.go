// The program node is a Kubernetes node without containers: the real kubelet, as a library, with a container runtime of its
// own that starts each container's program as a plain process, in the network namespace of its pod.
//
// It runs in a network namespace that stands for the node. What a kubelet asks of cgroups and of cAdvisor is answered by
// the stubs that Kubernetes' own kubemark uses.
package main

import (
	"context"
	"flag"
	"net/netip"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"time"

	cadvisorapi "github.com/google/cadvisor/lib/model"
	noopoteltrace "go.opentelemetry.io/otel/trace/noop"
	"golang.org/x/sys/unix"
	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	clientset "k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/clientcmd"
	certutil "k8s.io/client-go/util/cert"
	"k8s.io/klog/v2"
	kubeletapp "k8s.io/kubernetes/cmd/kubelet/app"
	"k8s.io/kubernetes/cmd/kubelet/app/options"
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

// The main goroutine keeps the first thread, so that no other one changes that thread's network namespace.
func init() { runtime.LockOSThread() }

// manager is kubemark's stub, with room on the disk.
type manager struct{ cm.ContainerManager }

func (m manager) GetCapacity(klog.Logger, bool) v1.ResourceList {
	return v1.ResourceList{v1.ResourceEphemeralStorage: resource.MustParse("100Gi")}
}

// machine is kubemark's fake cAdvisor, of a larger machine.
type machine struct{ cadvisortest.Fake }

func (m *machine) MachineInfo(klog.Logger) (*cadvisorapi.MachineInfo, error) {
	return &cadvisorapi.MachineInfo{NumCores: 16, InstanceID: cadvisorapi.InstanceID(m.NodeName), MachineID: m.NodeName, SystemUUID: m.NodeName, MemoryCapacity: 64 << 30}, nil
}

// ContainerInfoV2 has an empty entry for the machine itself, without which the kubelet has no numbers of the pods either.
func (m *machine) ContainerInfoV2(name string, _ cadvisorapi.RequestOptions) (map[string]cadvisorapi.ContainerInfo, error) {
	if name != "/" {
		return nil, nil
	}
	spec := cadvisorapi.ContainerSpec{CreationTime: start, HasCpu: true, HasMemory: true, Memory: cadvisorapi.MemorySpec{Limit: 64 << 30}}
	return map[string]cadvisorapi.ContainerInfo{"/": {Spec: spec, Stats: []*cadvisorapi.ContainerStats{{Timestamp: time.Now()}}}}, nil
}

var start = time.Now()

func disk() (cadvisorapi.FsInfo, error) {
	inodes, free := uint64(1<<30), uint64(1<<29)
	return cadvisorapi.FsInfo{Timestamp: time.Now(), Device: "disk", Mountpoint: "/", Capacity: 100 << 30, Available: 90 << 30, Usage: 10 << 30, Inodes: &inodes, InodesFree: &free}, nil
}

func (m *machine) ImagesFsInfo(context.Context) (cadvisorapi.FsInfo, error)    { return disk() }
func (m *machine) RootFsInfo() (cadvisorapi.FsInfo, error)                     { return disk() }
func (m *machine) ContainerFsInfo(context.Context) (cadvisorapi.FsInfo, error) { return disk() }
func (m *machine) GetDirFsInfo(string) (cadvisorapi.FsInfo, error)             { return disk() }

func (m *machine) VersionInfo() (*cadvisorapi.VersionInfo, error) {
	var u unix.Utsname
	unix.Uname(&u)
	return &cadvisorapi.VersionInfo{KernelVersion: unix.ByteSliceToString(u.Release[:]), ContainerOsVersion: "processes"}, nil
}

func must(err error) {
	if err != nil {
		klog.ErrorS(err, "node")
		klog.FlushAndExit(klog.ExitFlushTimeout, 1)
	}
}

func main() {
	klog.InitFlags(nil)
	name := flag.String("name", "node1", "the node's name")
	ips := flag.String("ip", "", "the node's addresses, with commas between")
	cidrs := flag.String("pods", "", "the prefixes of its pods' addresses, with commas between")
	kubeconfig := flag.String("kubeconfig", "", "how to reach the API server")
	root := flag.String("root", "/run/node", "where everything of the node is, on a tmpfs")
	programs := flag.String("programs", "", "where podinit, agnhost and the like are")
	dns := flag.String("dns", "", "address of the cluster's DNS")
	labels := flag.String("labels", "", "labels of the node, as KEY=VALUE, with commas between")
	flag.Parse()

	ctx := context.Background()
	var pods []netip.Prefix
	for _, s := range strings.Split(*cidrs, ",") {
		pods = append(pods, netip.MustParsePrefix(s))
	}
	rt, err := newProcesses(*name, filepath.Join(*root, "containers"), *programs, pods)
	must(err)

	rest, err := clientcmd.BuildConfigFromFlags("", *kubeconfig)
	must(err)
	rest.QPS, rest.Burst = 100, 200
	rest.ContentType = "application/vnd.kubernetes.protobuf"
	client, err := clientset.NewForConfig(rest)
	must(err)
	rest.Timeout = 10 * time.Second
	beat, err := clientset.NewForConfig(rest)
	must(err)

	f := options.NewKubeletFlags()
	f.RootDirectory = filepath.Join(*root, "kubelet")
	f.CertDirectory = filepath.Join(*root, "pki")
	f.HostnameOverride = *name
	f.NodeIP = *ips
	f.NodeLabels = map[string]string{}
	for _, l := range strings.Split(*labels, ",") {
		if k, v, ok := strings.Cut(l, "="); ok {
			f.NodeLabels[k] = v
		}
	}
	c, err := options.NewKubeletConfiguration()
	must(err)
	c.PodLogsDir = filepath.Join(*root, "logs")
	c.StaticPodPath = ""
	c.EnableServer = true
	c.Address = "0.0.0.0"
	c.Port = 10250
	c.MaxPods = 110
	c.RegisterNode = true
	c.CgroupsPerQOS = false
	c.EnforceNodeAllocatable = nil
	c.EvictionHard = map[string]string{}
	c.EnableControllerAttachDetach = false
	c.EnableDebuggingHandlers = true
	c.EnableSystemLogHandler = true
	c.ClusterDomain = "cluster.local"
	c.ClusterDNS = []string{*dns}
	c.ResolverConfig = filepath.Join(*root, "resolv.conf")
	c.SerializeImagePulls = false
	c.ProviderID = "processes://" + *name
	c.ConfigMapAndSecretChangeDetectionStrategy = kubeletconfig.WatchChangeDetectionStrategy
	for _, d := range []string{f.RootDirectory, f.CertDirectory, c.PodLogsDir} {
		must(os.MkdirAll(d, 0o755))
	}
	certificate, key, err := certutil.GenerateSelfSignedCertKey(*name, nil, nil) // the API server looks at no kubelet's
	must(err)
	certFile, keyFile := filepath.Join(f.CertDirectory, "kubelet.crt"), filepath.Join(f.CertDirectory, "kubelet.key")
	must(os.WriteFile(certFile, certificate, 0o600))
	must(os.WriteFile(keyFile, key, 0o600))
	must(os.WriteFile(c.ResolverConfig, []byte("nameserver 127.0.0.1\n"), 0o644))

	var plugins []volume.VolumePlugin
	plugins = append(plugins, emptydir.ProbeVolumePlugins()...)
	plugins = append(plugins, hostpath.ProbeVolumePlugins(volume.VolumeConfig{})...)
	plugins = append(plugins, secret.ProbeVolumePlugins()...)
	plugins = append(plugins, downwardapi.ProbeVolumePlugins()...)
	plugins = append(plugins, configmap.ProbeVolumePlugins()...)
	plugins = append(plugins, projected.ProbeVolumePlugins()...)

	mounter := &mount.FakeMounter{}
	deps := &kubelet.Dependencies{
		KubeClient:                client,
		HeartbeatClient:           beat,
		EventClient:               client.CoreV1(),
		RemoteRuntimeService:      rt,
		RemoteImageService:        images{},
		CAdvisorInterface:         &machine{cadvisortest.Fake{NodeName: *name}},
		OSInterface:               kubecontainer.RealOS{},
		ContainerManager:          manager{cm.NewStubContainerManager()},
		VolumePlugins:             plugins,
		TLSOptions:                &server.TLSOptions{CertFile: certFile, KeyFile: keyFile},
		OOMAdjuster:               oom.NewFakeOOMAdjuster(),
		Mounter:                   mounter,
		Subpather:                 &subpath.FakeSubpath{},
		HostUtil:                  hostutil.NewHostUtil(),
		PodStartupLatencyTracker:  kubeletutil.NewPodStartupLatencyTracker(),
		NodeStartupLatencyTracker: kubeletutil.NewNodeStartupLatencyTracker(klog.Background()),
		TracerProvider:            noopoteltrace.NewTracerProvider(),
	}
	must(kubeletapp.RunKubelet(ctx, &options.KubeletServer{KubeletFlags: *f, KubeletConfiguration: *c}, deps))
	select {}
}
