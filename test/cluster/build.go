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

// Build brings a program of Kubernetes, "kube-apiserver" or "kube-proxy", up to date with what test/kubernetes/go.mod
// asks for and returns its path. Tests that run at the same time, also as other processes, build it once.
func Build(ctx context.Context, program string) (path string, err error) {
	return build(ctx, target{name: program, module: "test/kubernetes", pkg: "k8s.io/kubernetes/cmd/" + program})
}

// A target is a program that can be built from this repository.
type target struct {
	name   string
	module string // folder of the module, from the root of the repository
	pkg    string // as that module names it
}

func build(ctx context.Context, t target) (path string, err error) {
	root, err := repository()
	if err != nil {
		return "", err
	}
	bin := filepath.Join(root, ".bin")
	if err := os.MkdirAll(bin, 0o777); err != nil {
		return "", err
	}
	unlock, err := lock(filepath.Join(bin, t.name+".lock"))
	if err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, unlock()) }()

	path = filepath.Join(bin, t.name)
	build := exec.CommandContext(ctx, "go", "build", "-o", path, t.pkg)
	build.Dir = filepath.Join(root, t.module)
	if output, err := build.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build %s: %w\n%s", t.name, err, output)
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
