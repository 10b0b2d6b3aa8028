package cluster

import (
	"context"
	"errors"
	"os/exec"
)

// KernelLink is the name of the test kernel's link to the tap device.
const KernelLink = "vec0"

// InKernel returns a command that runs a program in a test kernel (test/inkernel) that is attached to the cluster's tap
// device. KernelLink is up there and has the addresses TapPeer4 and TapPeer6. The program sees the machine's files, and the
// environment of the command. It builds the kernel's runner first. It takes a cluster with a namespace of its own.
func (c *Cluster) InKernel(ctx context.Context, program string, args ...string) (*exec.Cmd, error) {
	if c.namespace == nil {
		return nil, errors.New("a test kernel reaches a cluster only in a namespace of its own")
	}
	runner, err := Build(ctx, "inkernel")
	if err != nil {
		return nil, err
	}
	const setUp = "ip address add " + TapPeer4 + " dev " + KernelLink +
		" && ip address add " + TapPeer6 + " dev " + KernelLink + " nodad" +
		" && ip link set " + KernelLink + " up" +
		` && exec "$@"`
	inside := append([]string{"-kernel=uml", "-net=tap=" + TapName, "/bin/sh", "-c", setUp, "sh", program}, args...)
	return c.Command(runner, inside...), nil
}
