package main

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime"
)

// hardware is what the emulated machines of two architectures do not share.
type hardware struct {
	emulator   tool
	parameters []string // of the emulator: the program speaks through ttyS0 and ttyS1, the kernel through its console
	console    string
}

var hardwares = map[string]hardware{
	"amd64": {
		tool{"qemu-system-x86_64", "qemu-system-x86"},
		[]string{"-machine", "q35,accel=tcg,memory-backend=memory", "-cpu", "max",
			"-serial", "chardev:out", "-serial", "chardev:err", "-serial", "chardev:kernel"},
		"ttyS2",
	},
	"arm64": { // a machine with one serial line, and a CPU that clouds have
		tool{"qemu-system-aarch64", "qemu-system-arm"},
		[]string{"-machine", "virt,accel=tcg,memory-backend=memory", "-cpu", "neoverse-n1",
			"-serial", "chardev:kernel", "-device", "pci-serial,chardev=out", "-device", "pci-serial,chardev=err"},
		"ttyAMA0",
	},
}

// programs returns what the machine can run: this program, built for it, and the folder that is its /usr, or none if ours will do.
func (q qemu) programs() (program, usr string, err error) {
	self, err := os.Executable()
	if err != nil || q.arch == runtime.GOARCH {
		return self, "", err
	}
	program = filepath.Join(filepath.Dir(self), q.arch, "inkernel")
	if _, err := os.Stat(program); err != nil {
		return "", "", fmt.Errorf("build it with\n\tGOARCH=%s go build -o %s ./test/inkernel\n%w", q.arch, program, err)
	}
	usr = filepath.Join(q.linux, "programs", "usr")
	if _, err := os.Stat(usr); err != nil {
		return "", "", fmt.Errorf("fetch it with\n\ttest/linux %s SUITE %s\n%w", q.linux, q.arch, err)
	}
	return program, usr, nil
}
