package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

const virtiofsd = "/usr/lib/qemu/virtiofsd"

// qemu is an emulated machine with Debian's Linux for virtual machines: it has what nodes have and user-mode Linux has not,
// iptables on nft and more than one CPU. It is some ten times as slow. Its root is the machine's own file system, over
// virtiofs, whose server wants to be root. It can be of another architecture than ours: all but /usr is the same files then.
//
// If its clock counts instructions, one is a nanosecond: times repeat, whatever else the host does, and leave out how long memory
// takes. It has one CPU then; that there could be more costs the kernel what it does for each possible one.
type qemu struct {
	linux              string // the folder of its kernel
	arch               string
	legacy             bool
	cpus               int // user-mode Linux has one
	countsInstructions bool
	possible           int // CPUs that there could be, if it counts instructions
}

func (q qemu) clock() []string {
	if q.countsInstructions {
		return []string{"-smp", fmt.Sprintf("1,maxcpus=%d", q.possible), "-icount", "shift=0"}
	}
	return []string{"-smp", strconv.Itoa(q.cpus)}
}

func (q qemu) machine() *machine {
	return &machine{Modules: filepath.Join(q.linux, "lib", "modules"), Legacy: q.legacy}
}

func (q qemu) command(dir string, o options) (*exec.Cmd, error) {
	hw, ok := hardwares[q.arch]
	if !ok {
		return nil, fmt.Errorf("-arch=%s: want amd64 or arm64", q.arch)
	}
	if o.tap != "" {
		return nil, errors.New("-net=tap needs -kernel=uml")
	}
	if os.Geteuid() != 0 {
		return nil, errors.New("virtiofsd needs root; without it use -kernel=uml")
	}
	kernel, modules, err := q.unpackedLinux()
	if err := errors.Join(err, requireTools(hw.emulator, tool{virtiofsd, "qemu-system-common"})); err != nil {
		return nil, err
	}
	program, usr, err := q.programs()
	if err := errors.Join(err, bootable(program, usr, dir)); err != nil {
		return nil, err
	}
	initramfs := filepath.Join(dir, "initramfs")
	if err := writeInitramfs(initramfs, program, modules); err != nil {
		return nil, err
	}
	socket := filepath.Join(dir, "fs")
	listening, err := listen(socket)
	if err != nil {
		return nil, err
	}
	// The shell starts the server of files, with the socket as descriptor 5, and becomes the machine. The socket listens
	// before either runs, so that neither has to wait for the other.
	server := virtiofsd + ` --fd=5 -o source=/ -o cache=always -o sandbox=chroot 3>&- 4>&- & exec "$@" 5>&-`
	cmd := exec.Command("/bin/sh", slices.Concat([]string{"-c", server, "sh", hw.emulator.program}, hw.parameters, q.clock(), []string{
		"-nodefaults", "-no-reboot", "-display", "none",
		"-m", o.memory, "-object", "memory-backend-memfd,id=memory,share=on,size=" + o.memory,
		"-chardev", "socket,id=fs,path=" + socket, "-device", "vhost-user-fs-pci,chardev=fs,tag=" + rootTag,
		"-chardev", "file,id=out,path=/dev/fd/3", "-chardev", "file,id=err,path=/dev/fd/4", "-chardev", "file,id=kernel,path=/dev/fd/1",
		"-kernel", kernel, "-initrd", initramfs, "-append",
		"console=" + hw.console + " quiet panic=-1 mitigations=off " +
			usrVariable + "=" + usr + " " + programVariable + "=" + program + " " + jobVariable + "=" + dir,
	})...)
	cmd.ExtraFiles = []*os.File{listening}
	return cmd, nil
}

// listen returns a socket that listens at path. (Package net would do, and make us a program that needs libraries.)
func listen(path string) (*os.File, error) {
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	if err := errors.Join(unix.Bind(fd, &unix.SockaddrUnix{Name: path}), unix.Listen(fd, 1)); err != nil {
		return nil, errors.Join(fmt.Errorf("listen at %s: %w", path, err), unix.Close(fd))
	}
	return os.NewFile(uintptr(fd), path), nil
}

// linuxFolder is where test/linux unpacks a kernel: beside our own program.
func linuxFolder() string {
	self, err := os.Executable()
	if err != nil {
		return ""
	}
	return filepath.Join(filepath.Dir(self), "linux")
}

// unpackedLinux finds the kernel and its modules.
func (q qemu) unpackedLinux() (kernel string, modules moduleFolder, err error) {
	kernels, err := filepath.Glob(filepath.Join(q.linux, "boot", "vmlinuz-*"))
	if err != nil || len(kernels) != 1 {
		return "", modules, fmt.Errorf("not one kernel in %s; fetch it with\n\ttest/linux %[1]s", q.linux)
	}
	release := strings.TrimPrefix(filepath.Base(kernels[0]), "vmlinuz-")
	modules, err = openModules(filepath.Join(q.linux, "lib", "modules", release))
	return kernels[0], modules, err
}
