package main

import (
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

const (
	ownFolder     = "/run/inkernel"
	programFolder = ownFolder + "/bin" // first on the program's PATH; made with the modprobe in it
	legacyTables  = "xtables-legacy-multi"
	nftTables     = "xtables-nft-multi"
)

// prepare makes the surroundings of the job, in which only it lives.
func (j job) prepare() error {
	steps := []func() error{mountNamespaces, linksUp}
	if m := j.Machine; m != nil {
		steps = []func() error{mountMachine, m.linkModules, m.loadModules, m.linkTables, raiseLimits, linksUp}
	}
	for _, step := range steps {
		if err := step(); err != nil {
			return err
		}
	}
	return nil
}

// mount is one line of a mount table.
type mount struct {
	kind, target string
	flags        uintptr
	options      string
}

func (m mount) do() error {
	if err := os.MkdirAll(m.target, 0o755); err != nil {
		return err
	}
	if err := unix.Mount(m.kind, m.target, m.kind, m.flags, m.options); err != nil {
		return fmt.Errorf("mount %s on %s: %w", m.kind, m.target, err)
	}
	return nil
}

// mountMachine mounts what a machine has. The kernel has mounted /dev itself, and /tmp stays the host's.
func mountMachine() error {
	return mountAll(
		mount{"proc", "/proc", 0, ""},
		mount{"sysfs", "/sys", 0, ""},
		mount{"tmpfs", "/run", 0, "mode=755"},
		mount{"tmpfs", "/dev/shm", 0, "mode=1777"},
		mount{"devpts", "/dev/pts", 0, "ptmxmode=666"},
	)
}

// mountNamespaces mounts what belongs to our namespaces instead of the host's. Nothing of it reaches the host.
func mountNamespaces() error {
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("separate our mounts from the host's: %w", err)
	}
	return mountAll(
		mount{"proc", "/proc", 0, ""},
		mount{"sysfs", "/sys", 0, ""},
		mount{"tmpfs", "/run", 0, "mode=755"},
	)
}

func mountAll(table ...mount) error {
	for _, m := range table {
		if err := m.do(); err != nil {
			return err
		}
	}
	return os.Mkdir("/run/netns", 0o755)
}

// linkTables makes iptables mean the legacy tables or those on nft.
func (m machine) linkTables() error {
	tables := nftTables
	if m.Legacy {
		tables = legacyTables
	}
	program, err := lookTool(tables)
	if err != nil {
		return err
	}
	for _, name := range []string{"iptables", "ip6tables"} {
		for _, suffix := range []string{"", "-save", "-restore"} {
			if err := os.Symlink(program, filepath.Join(programFolder, name+suffix)); err != nil {
				return err
			}
		}
	}
	return nil
}

// raiseLimits lets a test hold as many sockets as it likes.
func raiseLimits() error {
	const files = 1 << 20 // fs.nr_open's default
	limit := unix.Rlimit{Cur: files, Max: files}
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
		return fmt.Errorf("allow %d open files: %w", files, err)
	}
	return nil
}

// linksUp turns lo on, the one link of a new network namespace.
func linksUp() error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	lo, err := unix.NewIfreq("lo")
	if err != nil {
		return err
	}
	lo.SetUint16(unix.IFF_UP)
	if err := unix.IoctlIfreq(fd, unix.SIOCSIFFLAGS, lo); err != nil {
		return fmt.Errorf("set lo up: %w", err)
	}
	return nil
}
