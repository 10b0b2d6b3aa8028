package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"

	"golang.org/x/sys/unix"
)

// hostKernel is the kernel that runs already: the job gets network, mount and process namespaces of its own. They end
// with the first process in them.
type hostKernel struct{}

func (hostKernel) machine() *machine { return nil }

func (hostKernel) command(dir string, o options) (*exec.Cmd, error) {
	if os.Geteuid() != 0 {
		return nil, errors.New("namespaces on the host need root; without it use -kernel=uml")
	}
	if o.tap != "" {
		return nil, errors.New("-net=tap connects a kernel of its own: it needs -kernel=uml")
	}
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	cmd := exec.Command(self)
	cmd.Env = []string{jobVariable + "=" + dir}
	cmd.SysProcAttr = &unix.SysProcAttr{
		Cloneflags: unix.CLONE_NEWNET | unix.CLONE_NEWNS | unix.CLONE_NEWPID,
	}
	return cmd, nil
}

// choose finds the kernel of that name. auto takes the host's if it can do what the tests need.
func choose(o options) (kernel, error) {
	switch o.kernel {
	case "uml":
		return userModeLinux{}, nil
	case "host":
		return hostKernel{}, nil
	case "qemu":
		return qemu{linux: o.linux, arch: o.arch, legacy: o.legacy, cpus: o.cpus}, nil
	case "icount":
		return qemu{linux: o.linux, arch: o.arch, legacy: o.legacy, cpus: 1, countsInstructions: true, possible: o.possible}, nil
	case "auto":
		if os.Geteuid() == 0 && hostHasIPVS() {
			return hostKernel{}, nil
		}
		return userModeLinux{}, nil
	}
	return nil, fmt.Errorf("-kernel=%s: want uml, host, qemu, icount or auto", o.kernel)
}

// hostHasIPVS loads ip_vs where that is possible, and looks for its file. A missing modprobe or module is an answer, too.
func hostHasIPVS() bool {
	if modprobe, err := lookTool("modprobe"); err == nil {
		_ = exec.Command(modprobe, "--quiet", "ip_vs").Run()
	}
	_, err := os.Stat("/proc/net/ip_vs")
	return err == nil
}
