package sysctl

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
)

// Files is the running kernel's settings, as files. Those below net/ are of the network namespace of the calling
// thread.
type Files struct {
	Root string // where the files are; empty: /proc/sys
}

var _ Kernel = Files{}

// Read implements Kernel.
func (f Files) Read(ctx context.Context, names []string) (map[string]string, error) {
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
func (f Files) Do(ctx context.Context, settings []Setting) []error {
	var errs []error
	for i, s := range settings {
		err := f.set(ctx, s)
		if err == nil {
			continue
		}
		if errs == nil {
			errs = make([]error, len(settings))
		}
		errs[i] = fmt.Errorf("%v: %w", s, err)
	}
	return errs
}

func (f Files) read(ctx context.Context, name string) (string, error) {
	path, err := f.path(ctx, name)
	if err != nil {
		return "", err
	}
	v, err := os.ReadFile(path)
	if err != nil {
		return "", reason(err)
	}
	return Normal(string(v)), nil
}

// set writes the value, unless it is there: in a container /proc/sys is often read-only and already as it should be.
func (f Files) set(ctx context.Context, s Setting) error {
	if now, err := f.read(ctx, s.Name); err == nil && now == Normal(s.Value) {
		return nil
	}
	path, err := f.path(ctx, s.Name)
	if err != nil {
		return err
	}
	// Without O_CREATE: a file that is not there is a setting that the kernel lacks.
	file, err := os.OpenFile(path, os.O_WRONLY|os.O_TRUNC, 0)
	if err != nil {
		return reason(err)
	}
	_, err = file.WriteString(s.Value)
	return reason(errors.Join(err, file.Close()))
}

// validName says whether a name is one of a file below /proc/sys, and leads nowhere else.
func validName(name string) bool { return fs.ValidPath(name) && name != "." }

// path returns the name's file.
func (f Files) path(ctx context.Context, name string) (string, error) {
	if !validName(name) {
		return "", fmt.Errorf("%w name", os.ErrInvalid)
	}
	root := f.Root
	if root == "" {
		root = "/proc/sys"
	}
	return filepath.Join(root, filepath.FromSlash(name)), ctx.Err()
}

// reason says in words what a file's error means for a setting.
func reason(err error) error {
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
