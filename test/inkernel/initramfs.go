package main

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// A kernel from a distribution starts with a root in memory, an initramfs, that brings what the real root is reached
// with. Ours holds this program, as /init, and modules, numbered in the order in which they are to be loaded.

// programVariable names, in the environment of /init, this program's file on the real root.
const programVariable = "INKERNEL_PROGRAM"

// usrVariable names there the folder that becomes /usr, for a machine that cannot run the programs of ours; it may be unset.
const usrVariable = "INKERNEL_USR"

// rootTag is the name under which the machine offers its own file system.
const rootTag = "machine"

// rootModules are what that file system is reached with.
var rootModules = []string{"virtio_pci", "virtiofs"}

// writeInitramfs writes an initramfs for the kernel whose modules these are.
func writeInitramfs(path, program string, folder moduleFolder) error {
	var out bytes.Buffer
	errs := []error{addFile(&out, "init", program)}
	for i, name := range rootModules {
		files, err := folder.order(name)
		errs = append(errs, err)
		for k, file := range files {
			errs = append(errs, addFile(&out, fmt.Sprintf("module%d%d", i, k), file))
		}
	}
	addEntry(&out, "TRAILER!!!", 0, nil)
	errs = append(errs, os.WriteFile(path, out.Bytes(), 0o600))
	return errors.Join(errs...)
}

// addFile adds an executable file to an archive.
func addFile(out *bytes.Buffer, name, path string) error {
	text, err := os.ReadFile(path)
	addEntry(out, name, unix.S_IFREG|0o755, text)
	return err
}

// addEntry adds an entry to a cpio archive in the format that kernels unpack
// (Documentation/driver-api/early-userspace/buffer-format.rst): a header of hexadecimal numbers, the name and the
// content, each of the latter two up to a multiple of four bytes.
func addEntry(out *bytes.Buffer, name string, mode uint32, content []byte) {
	out.WriteString("070701")
	for _, v := range []uint32{
		uint32(out.Len()), mode, 0, 0, 1, 0, // inode, mode, owner, group, links, time
		uint32(len(content)), 0, 0, 0, 0, uint32(len(name) + 1), 0, // size, devices, the name's size, check sum
	} {
		fmt.Fprintf(out, "%08X", v)
	}
	out.WriteString(name + "\x00")
	pad(out)
	out.Write(content)
	pad(out)
}

func pad(out *bytes.Buffer) { out.Write(make([]byte, -out.Len()&3)) }

// enterMachine is /init: it makes the machine's own file system the root and becomes the program there, process 1.
func enterMachine(program string) error {
	files, err := filepath.Glob("/module*")
	if err != nil {
		return err
	}
	for _, file := range files {
		if err := loadModule(file, ""); err != nil {
			return err
		}
	}
	const root = "/root"
	if err := errors.Join(
		os.MkdirAll(root, 0o755),
		unix.Mount(rootTag, root, "virtiofs", 0, ""),
		unix.Mount("devtmpfs", root+"/dev", "devtmpfs", 0, ""),
		unix.Chdir(root),
		unix.Mount(".", "/", "", unix.MS_MOVE, ""),
		unix.Chroot("."),
	); err != nil {
		return fmt.Errorf("enter the machine's own file system: %w", err)
	}
	if usr := os.Getenv(usrVariable); usr != "" { // /bin, /sbin and /lib are links into it
		if err := unix.Mount(usr, "/usr", "", unix.MS_BIND, ""); err != nil {
			return fmt.Errorf("make %s /usr: %w", usr, err)
		}
	}
	if err := errors.Join(os.Unsetenv(programVariable), os.Unsetenv(usrVariable)); err != nil {
		return err
	}
	return unix.Exec(program, []string{program}, os.Environ())
}
