package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

const (
	umlProgram = "linux.uml"
	umlModules = "/usr/lib/uml/modules"
)

// tool is a program and the Debian package that brings it.
type tool struct{ program, debian string }

// tools are the programs that tests and the product call.
var tools = []tool{
	{"modprobe", "kmod"},
	{"ip", "iproute2"},
	{"ipset", "ipset"},
	{"ipvsadm", "ipvsadm"},
	{legacyTables, "iptables"},
}

// userModeLinux is Debian's Linux that runs as an ordinary process. Its root is the machine's own file system (hostfs),
// used with the rights of the caller; inside, everything runs as root.
type userModeLinux struct{}

func (userModeLinux) machine() *machine { return &machine{Modules: umlModules, Legacy: true} }

func (userModeLinux) command(dir string, o options) (*exec.Cmd, error) {
	if err := requireTools(tool{umlProgram, "user-mode-linux"}); err != nil {
		return nil, err
	}
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	kernel, err := lookTool(umlProgram)
	if err != nil {
		return nil, err
	}
	args, err := bootParameters(self, dir, o)
	if err != nil {
		return nil, err
	}
	cmd := exec.Command(kernel, args...)
	cmd.Dir = "/"
	cmd.Env = []string{"HOME=" + dir, "TMPDIR=" + memoryFolder(o.memory)}
	return cmd, nil
}

// bootParameters is the kernel's command line (Documentation/admin-guide/kernel-parameters.txt; linux.uml --help).
func bootParameters(self, dir string, o options) ([]string, error) {
	if err := bootable(self, dir); err != nil {
		return nil, err
	}
	parameters := []string{
		"mem=" + o.memory,
		"root=/dev/root", "rootfstype=hostfs", "rootflags=/", "rw",
		"init=" + self, jobVariable + "=" + dir,
		"uml_dir=" + dir, "umid=uml", // pid file and management socket
		// The kernel speaks to our console pipe; the program through two serial lines, ttyS0 and ttyS1.
		"con=null", "con0=null,fd:1", "ssl=null", "ssl0=null,fd:3", "ssl1=null,fd:4", "quiet",
		// Most of the boot is work that nobody here needs: measuring RAID implementations (0.85 s of 2.6 s), making 256
		// old-style terminals (0.9 s), compressed swap (0.15 s), measuring how long to spin for hardware (0.1 s).
		"initcall_blacklist=raid6_select_algo,init_zswap", "pty.legacy_count=0", "lpj=10000000",
	}
	if o.tap != "" {
		parameters = append(parameters, "vec0:transport=tap,ifname="+o.tap)
	}
	return parameters, nil
}

// bootable returns an error if a path cannot be written on a kernel's command line.
func bootable(paths ...string) error {
	for _, path := range paths {
		if strings.ContainsAny(path, " \t\n\"") {
			return fmt.Errorf("%q cannot be written on a kernel's command line", path)
		}
	}
	return nil
}

// requireTools returns an error that says what to install if one of the tools or something of the kernel's own is missing.
func requireTools(own ...tool) error {
	var programs, packages []string
	for _, t := range append(own, tools...) {
		if _, err := lookTool(t.program); err != nil {
			programs, packages = append(programs, t.program), append(packages, t.debian)
		}
	}
	if len(programs) == 0 {
		return nil
	}
	return fmt.Errorf("not found: %s; install with\n\tapt-get install --no-install-recommends %s",
		strings.Join(programs, ", "), strings.Join(packages, " "))
}

// lookTool finds a program where administrators' programs are, too: an ordinary user's PATH may leave those out.
func lookTool(name string) (string, error) {
	if path, err := exec.LookPath(name); err == nil {
		return filepath.Abs(path)
	}
	for _, dir := range systemFolders {
		if path, err := exec.LookPath(filepath.Join(dir, name)); err == nil {
			return path, nil
		}
	}
	return "", fmt.Errorf("%s: %w", name, exec.ErrNotFound)
}

var systemFolders = []string{"/usr/local/sbin", "/usr/sbin", "/sbin", "/usr/bin", "/bin"}

// memoryFolder is where user-mode Linux keeps its memory, an unlinked sparse file: in /dev/shm if that has the room, or
// else every page that it touches would be written to disk.
func memoryFolder(memory string) string {
	const shm = "/dev/shm"
	var fs unix.Statfs_t
	if unix.Statfs(shm, &fs) != nil || unix.Access(shm, unix.W_OK) != nil {
		return os.TempDir()
	}
	if fs.Bavail*uint64(fs.Bsize) < memoryBytes(memory) {
		return os.TempDir()
	}
	return shm
}

// memoryBytes reads the kernel's notation of sizes: 2G, 512M, 65536k. What it cannot read is for the kernel to refuse.
func memoryBytes(size string) uint64 {
	digits := strings.TrimRight(size, "kKmMgG")
	n, err := strconv.ParseUint(digits, 10, 32)
	if err != nil {
		return 0
	}
	switch strings.ToUpper(size[len(digits):]) {
	case "K":
		return n << 10
	case "M":
		return n << 20
	case "G":
		return n << 30
	}
	return n
}
