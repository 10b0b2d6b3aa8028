package cluster

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// packages says where each program comes from that Build knows.
func packages(program string) (module, pkg string, err error) {
	switch program {
	case "kube-ipvs", "kubectl-ipvs":
		return ".", "./cmd/" + program, nil
	case "inkernel":
		return ".", "./test/inkernel", nil
	case "agent":
		return ".", "./test/e2e/agent", nil
	case "etcd":
		return "test/etcd", "go.etcd.io/etcd/server/v3", nil
	case "release":
		return "deploy/release", ".", nil
	case "kube-apiserver", "kube-proxy":
		return "test/kubernetes", "k8s.io/kubernetes/cmd/" + program, nil
	case "kube-controller-manager", "kube-scheduler":
		return "test/conformance/programs", "k8s.io/kubernetes/cmd/" + program, nil
	}
	return "", "", fmt.Errorf("nothing here builds a program %q", program)
}

// Build brings a program up to date with its sources and returns its path: "kube-ipvs", "kubectl-ipvs", "inkernel", "agent" (of
// test/e2e), "release" (deploy/release), "etcd" as test/etcd/go.mod asks for it, or one of the Kubernetes that test/kubernetes/go.mod and
// test/conformance/programs/go.mod ask for: "kube-apiserver", "kube-proxy", "kube-controller-manager" and "kube-scheduler".
// Tests that run at the same time, also as other processes, build it once.
func Build(ctx context.Context, program string) (path string, err error) {
	module, pkg, err := packages(program)
	if err != nil {
		return "", err
	}
	root, err := repository()
	if err != nil {
		return "", err
	}
	bin := filepath.Join(root, ".bin")
	if err := os.MkdirAll(bin, 0o777); err != nil {
		return "", err
	}
	unlock, err := lock(filepath.Join(bin, program+".lock"))
	if err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, unlock()) }()

	path = filepath.Join(bin, program)
	build := exec.CommandContext(ctx, "go", "build", "-o", path, pkg)
	build.Dir = filepath.Join(root, module)
	if output, err := build.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build %s: %w\n%s", program, err, output)
	}
	return path, nil
}

// repository returns the root of the repository: the nearest folder above the current one that has test/kubernetes. Go
// runs a test in the folder of its package.
func repository() (string, error) {
	start, err := os.Getwd()
	if err != nil {
		return "", err
	}
	for dir := start; ; dir = filepath.Dir(dir) {
		_, err := os.Stat(filepath.Join(dir, "test", "kubernetes", "go.mod"))
		if err == nil {
			return dir, nil
		}
		if !errors.Is(err, fs.ErrNotExist) {
			return "", err
		}
		if dir == filepath.Dir(dir) {
			return "", fmt.Errorf("%s is not in the repository: no folder above it has test/kubernetes/go.mod", start)
		}
	}
}

// lock waits until no other process holds the lock of the file, and takes it.
func lock(path string) (unlock func() error, err error) {
	file, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o666)
	if err != nil {
		return nil, err
	}
	if err := unix.Flock(int(file.Fd()), unix.LOCK_EX); err != nil {
		return nil, errors.Join(&fs.PathError{Op: "flock", Path: path, Err: err}, file.Close())
	}
	return file.Close, nil // closing gives the lock up (flock(2))
}
