package sysctl

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"

	"kube-ipvs/internal/ops"
)

// Files are the running kernel's settings, as files. Those below net/ belong to the network namespace of the thread
// that first reads them: a file stays open once it was read, so that reading a setting again takes one system call. It
// is safe for use by several goroutines.
type Files struct {
	Root string // directory of the files; empty: /proc/sys

	mu   sync.Mutex
	open map[string]int // descriptors, by name
}

var _ Kernel = (*Files)(nil)

// Close closes the open files. The settings stay.
func (f *Files) Close() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	var errs []error
	for name := range f.open {
		errs = append(errs, f.shut(name))
	}
	return errors.Join(errs...)
}

// Read implements Kernel.
func (f *Files) Read(ctx context.Context, names []string) (map[string]string, error) {
	values := make(map[string]string, len(names))
	var errs []error
	for _, name := range names {
		v, err := f.read(ctx, name)
		if err != nil {
			errs = append(errs, fmt.Errorf("sysctl %s: %w", name, err))
			continue
		}
		values[name] = v
	}
	return values, errors.Join(errs...)
}

// Do implements Kernel.
func (f *Files) Do(ctx context.Context, settings []Setting) []error {
	return ops.Each(settings, func(s Setting) error { return f.set(ctx, s) })
}

func (f *Files) read(ctx context.Context, name string) (string, error) {
	path, err := f.path(ctx, name)
	if err != nil {
		return "", err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	fd, had := f.open[name]
	if had {
		v, err := content(fd)
		if err == nil {
			return v, nil
		}
		// The setting disappeared with its module or interface, and may be back as another file.
		if err := f.shut(name); err != nil {
			return "", err
		}
	}
	if fd, err = unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC, 0); err != nil {
		return "", translate(err)
	}
	if f.open == nil {
		f.open = map[string]int{}
	}
	f.open[name] = fd
	v, err := content(fd)
	return v, translate(err)
}

func (f *Files) shut(name string) error {
	fd := f.open[name]
	delete(f.open, name)
	return unix.Close(fd)
}

// content reads all of a setting at once: the kernel returns nothing at a later offset (proc_dointvec and its kind in
// kernel/sysctl.c).
func content(fd int) (string, error) {
	for buf := make([]byte, 128); ; buf = make([]byte, 4*len(buf)) {
		n, err := unix.Pread(fd, buf, 0)
		if err == nil && n < len(buf) {
			return Normal(string(buf[:n])), nil
		}
		if err != nil && err != unix.EINTR {
			return "", err
		}
	}
}

// set writes the value unless the setting has it: in a container /proc/sys is often read-only and already correct.
func (f *Files) set(ctx context.Context, s Setting) error {
	if now, err := f.read(ctx, s.Name); err == nil && now == Normal(s.Value) {
		return nil
	}
	path, err := f.path(ctx, s.Name)
	if err != nil {
		return err
	}
	// Without O_CREATE: a missing file is a setting that the kernel lacks.
	file, err := os.OpenFile(path, os.O_WRONLY|os.O_TRUNC, 0)
	if err != nil {
		return translate(err)
	}
	_, err = file.WriteString(s.Value)
	return translate(errors.Join(err, file.Close()))
}

// validName reports whether a name denotes a file below /proc/sys and nowhere else.
func validName(name string) bool { return fs.ValidPath(name) && name != "." }

// path returns the name's file.
func (f *Files) path(ctx context.Context, name string) (string, error) {
	if !validName(name) {
		return "", fmt.Errorf("%w name", os.ErrInvalid)
	}
	root := f.Root
	if root == "" {
		root = "/proc/sys"
	}
	return filepath.Join(root, filepath.FromSlash(name)), ctx.Err()
}

// translate explains a file's error in terms of the setting, with an error of package os in the chain.
func translate(err error) error {
	switch {
	case errors.Is(err, syscall.EROFS):
		return fmt.Errorf("%w: /proc/sys is mounted read-only here: run the container privileged, or make the setting on the node beforehand", os.ErrPermission)
	case errors.Is(err, os.ErrPermission):
		return fmt.Errorf("%w: run as root with CAP_NET_ADMIN, or make the setting on the node beforehand", os.ErrPermission)
	case errors.Is(err, os.ErrNotExist):
		return fmt.Errorf("%w: this kernel has no such setting, or the module that brings it is not loaded", os.ErrNotExist)
	case errors.Is(err, syscall.EINVAL), errors.Is(err, syscall.ERANGE):
		return fmt.Errorf("%w value", os.ErrInvalid)
	}
	return err
}
