package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"syscall"
	"time"

	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"k8s.io/klog/v2"
)

func (p *processes) CreateContainer(_ context.Context, sandboxID string, config *runtimeapi.ContainerConfig,
	sandboxConfig *runtimeapi.PodSandboxConfig) (string, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	s := p.sandboxes[sandboxID]
	if s == nil {
		return "", notFound("sandbox", sandboxID)
	}
	image := config.GetImage().GetImage()
	if _, ok := entryOf(image); !ok {
		return "", errNoImage
	}
	c := &container{id: newID(), image: image, sandbox: s, config: config, created: time.Now().UnixNano(), done: make(chan struct{})}
	c.root = filepath.Join(p.root, c.id)
	if err := os.MkdirAll(c.root, 0o755); err != nil {
		return "", err
	}
	var err error
	path := ""
	if config.LogPath != "" {
		path = filepath.Join(sandboxConfig.LogDirectory, config.LogPath)
	}
	if c.log, err = openLog(path); err != nil {
		return "", err
	}
	p.containers[c.id] = c
	return c.id, nil
}

// StartContainer starts the container's program, and returns when that waits for something; see settle.
func (p *processes) StartContainer(_ context.Context, id string) error {
	p.mu.Lock()
	c := p.containers[id]
	p.mu.Unlock()
	if c == nil {
		return notFound("container", id)
	}
	description, err := json.Marshal(p.describe(c))
	if err != nil {
		return err
	}
	cmd := exec.Command(filepath.Join(p.programs, "podinit"), string(description))
	cmd.Env = []string{searchPath, "GOMAXPROCS=1"}
	cmd.Stdout, cmd.Stderr = c.log.stream("stdout"), c.log.stream("stderr")
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Setsid:     true,
		Cloneflags: syscall.CLONE_NEWNS | syscall.CLONE_NEWPID | syscall.CLONE_NEWUTS | syscall.CLONE_NEWIPC,
	}
	if err := c.sandbox.net.do(cmd.Start); err != nil {
		p.ended(c, 128)
		return err
	}
	p.mu.Lock()
	c.pid, c.started, c.state = cmd.Process.Pid, time.Now().UnixNano(), runtimeapi.ContainerState_CONTAINER_RUNNING
	p.mu.Unlock()
	go func() { p.ended(c, exitCode(cmd.Wait())) }()
	c.settle()
	return nil
}

// ended notes that the container's program has ended with this status.
func (p *processes) ended(c *container, code int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	c.finished, c.state, c.code = time.Now().UnixNano(), runtimeapi.ContainerState_CONTAINER_EXITED, int32(code)
	close(c.done)
}

// settle waits until the container's program has nothing to do. Tests take for granted that a program that was started
// listens, and minds signals, soon; here that can take seconds.
func (c *container) settle() {
	for quiet, end := 0, time.Now().Add(20*time.Second); quiet < 2 && time.Now().Before(end); {
		select {
		case <-c.done:
			return
		case <-time.After(100 * time.Millisecond):
		}
		if busy(c.pid) {
			quiet = 0
		} else {
			quiet++
		}
	}
}

// busy reports whether a thread of the process runs, or wants to.
func busy(pid int) bool {
	threads, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/stat", pid))
	for _, t := range threads {
		b, err := os.ReadFile(t)
		if i := bytes.LastIndexByte(b, ')'); err == nil && i >= 0 && i+2 < len(b) && b[i+2] != 'S' {
			return true
		}
	}
	return false
}

func exitCode(err error) int {
	var e *exec.ExitError
	switch {
	case err == nil:
		return 0
	case errors.As(err, &e):
		if ws, ok := e.Sys().(syscall.WaitStatus); ok && ws.Signaled() {
			return 128 + int(ws.Signal())
		}
		return e.ExitCode()
	}
	return 128
}

func (p *processes) StopContainer(_ context.Context, id string, timeout int64) error {
	p.mu.Lock()
	c := p.containers[id]
	running := c != nil && c.pid != 0 && c.state != runtimeapi.ContainerState_CONTAINER_EXITED
	p.mu.Unlock()
	if !running {
		return nil
	}
	if timeout > 0 {
		syscall.Kill(c.pid, syscall.SIGTERM)
		select {
		case <-c.done:
			return nil
		case <-time.After(time.Duration(timeout) * time.Second):
		}
	}
	syscall.Kill(c.pid, syscall.SIGKILL)
	select {
	case <-c.done:
		return nil
	case <-time.After(30 * time.Second):
		return fmt.Errorf("process %d of container %s does not end", c.pid, id)
	}
}

func (p *processes) RemoveContainer(ctx context.Context, id string) error {
	if err := p.StopContainer(ctx, id, 0); err != nil {
		return err
	}
	p.mu.Lock()
	c := p.containers[id]
	delete(p.containers, id)
	p.mu.Unlock()
	if c == nil {
		return nil
	}
	c.log.close()
	// What the container had mounted is not visible here. If it were, removing its root would remove the machine's files.
	for _, d := range []string{"usr", "etc/alternatives", "proc", "sys"} {
		if l, err := os.ReadDir(filepath.Join(c.root, d)); err == nil && len(l) > 0 {
			klog.ErrorS(nil, "something is mounted in the root of a container that is gone; it stays", "root", c.root)
			return nil
		}
	}
	return os.RemoveAll(c.root)
}

func (p *processes) ListContainers(_ context.Context, f *runtimeapi.ContainerFilter) ([]*runtimeapi.Container, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	var list []*runtimeapi.Container
	for _, c := range p.containers {
		if f != nil && (f.Id != "" && f.Id != c.id || f.PodSandboxId != "" && f.PodSandboxId != c.sandbox.id ||
			f.State != nil && f.State.State != c.state || !matches(c.config.Labels, f.LabelSelector)) {
			continue
		}
		ref := image(c.config.Image).Id
		list = append(list, &runtimeapi.Container{
			Id: c.id, PodSandboxId: c.sandbox.id, Metadata: c.config.Metadata, Image: c.config.Image, ImageRef: ref, ImageId: ref,
			State: c.state, CreatedAt: c.created, Labels: c.config.Labels, Annotations: c.config.Annotations,
		})
	}
	return list, nil
}

func (p *processes) ContainerStatus(_ context.Context, id string, _ bool) (*runtimeapi.ContainerStatusResponse, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	c := p.containers[id]
	if c == nil {
		return nil, notFound("container", id)
	}
	ref := image(c.config.Image).Id
	st := &runtimeapi.ContainerStatus{
		Id: id, Metadata: c.config.Metadata, Labels: c.config.Labels, Annotations: c.config.Annotations,
		State: c.state, CreatedAt: c.created, StartedAt: c.started, FinishedAt: c.finished, ExitCode: c.code,
		Image: c.config.Image, ImageRef: ref, ImageId: ref, Mounts: c.config.Mounts, LogPath: c.log.path,
	}
	if c.state == runtimeapi.ContainerState_CONTAINER_EXITED {
		st.Reason = "Completed"
		if c.code != 0 {
			st.Reason = "Error"
		}
	}
	return &runtimeapi.ContainerStatusResponse{Status: st}, nil
}

// enter returns a command that runs args inside a container.
func (p *processes) enter(ctx context.Context, id string, args []string) (*exec.Cmd, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	c := p.containers[id]
	if c == nil {
		return nil, notFound("container", id)
	}
	if c.state != runtimeapi.ContainerState_CONTAINER_RUNNING {
		return nil, fmt.Errorf("container %s does not run", id)
	}
	a := []string{"-t", strconv.Itoa(c.pid), "-m", "-n", "-p", "-u", "-i", "-r", "-w"}
	sc := c.config.GetLinux().GetSecurityContext()
	if uid, gid := sc.GetRunAsUser().GetValue(), sc.GetRunAsGroup().GetValue(); uid != 0 || gid != 0 {
		a = append(a, "-S", fmt.Sprint(uid), "-G", fmt.Sprint(gid))
	}
	cmd := exec.CommandContext(ctx, "/usr/bin/nsenter", append(append(a, "--"), args...)...)
	cmd.Env = c.env()
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	return cmd, nil
}
