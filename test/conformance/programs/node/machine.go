package main

import (
	"context"
	"time"

	cadvisorapi "github.com/google/cadvisor/lib/model"
	"golang.org/x/sys/unix"
	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/klog/v2"
	cadvisortest "k8s.io/kubernetes/pkg/kubelet/cadvisor/testing"
	"k8s.io/kubernetes/pkg/kubelet/cm"
)

// manager is kubemark's stub, with room on the disk.
type manager struct{ cm.ContainerManager }

func (m manager) GetCapacity(klog.Logger, bool) v1.ResourceList {
	return v1.ResourceList{v1.ResourceEphemeralStorage: resource.MustParse("100Gi")}
}

// machine is kubemark's fake cAdvisor, of a larger machine.
type machine struct{ cadvisortest.Fake }

func (m *machine) MachineInfo(klog.Logger) (*cadvisorapi.MachineInfo, error) {
	return &cadvisorapi.MachineInfo{
		NumCores: 16, MemoryCapacity: 64 << 30,
		InstanceID: cadvisorapi.InstanceID(m.NodeName), MachineID: m.NodeName, SystemUUID: m.NodeName,
	}, nil
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
	return cadvisorapi.FsInfo{
		Timestamp: time.Now(), Device: "disk", Mountpoint: "/",
		Capacity: 100 << 30, Available: 90 << 30, Usage: 10 << 30, Inodes: &inodes, InodesFree: &free,
	}, nil
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
