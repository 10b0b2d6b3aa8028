package check

import (
	"context"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"

	"golang.org/x/sys/unix"

	"kube-ipvs/iptables"
)

// A Node is where checks look: the machine and the network namespace of this process.
type Node struct {
	Proc, Sys, Modules string // directories: /proc, /sys, /lib/modules
	ProcSys            string // of kernel settings

	Survey func(context.Context) (iptables.Survey, error)
	API    func(context.Context, Wanted) (APIAnswer, error) // asks the API server
}

// NewNode returns this node. API asks the API server, once for all checks.
func NewNode(procSys string, api func(context.Context) (APIAnswer, error)) *Node {
	n := &Node{Proc: "/proc", Sys: "/sys", Modules: "/lib/modules", ProcSys: procSys}
	n.Survey = once(iptables.Look)
	ask := once(api)
	n.API = func(ctx context.Context, _ Wanted) (APIAnswer, error) { return ask(ctx) }
	return n
}

// once returns a function that keeps the first answer.
func once[T any](f func(context.Context) (T, error)) func(context.Context) (T, error) {
	var do sync.Once
	var value T
	var err error
	return func(ctx context.Context) (T, error) {
		do.Do(func() { value, err = f(ctx) })
		return value, err
	}
}

func (n *Node) release() string {
	var u unix.Utsname
	if err := unix.Uname(&u); err != nil {
		return ""
	}
	return unix.ByteSliceToString(u.Release[:])
}

// setting returns the path of a kernel setting.
func (n *Node) setting(name string) string {
	return filepath.Join(n.ProcSys, filepath.FromSlash(name))
}

// number reads a kernel setting that is a number.
func (n *Node) number(name string) (int, error) {
	text, err := os.ReadFile(n.setting(name))
	if err != nil {
		return 0, err
	}
	return strconv.Atoi(strings.TrimSpace(string(text)))
}

// capabilities returns the effective capabilities of this process, a bit each.
func capabilities() (uint64, error) {
	var data [2]unix.CapUserData
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	if err := unix.Capget(&header, &data[0]); err != nil {
		return 0, err
	}
	return uint64(data[0].Effective) | uint64(data[1].Effective)<<32, nil
}
