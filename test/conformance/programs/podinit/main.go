// The program podinit turns itself into a container's program. It is started in new mount, process, host name and IPC
// namespaces and in the network namespace of its pod, with a description of the container as its argument.
package main

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"

	"kube-ipvs/test/conformance/programs/spec"
)

func check(err error, what ...any) {
	if err != nil {
		fmt.Fprintln(os.Stderr, "podinit:", fmt.Sprint(what...), err)
		os.Exit(128)
	}
}

func bind(from, to string, ro bool) {
	st, err := os.Stat(from)
	check(err, "mount ")
	if st.IsDir() {
		check(os.MkdirAll(to, 0o755))
	} else if _, err := os.Lstat(to); err != nil {
		check(os.MkdirAll(filepath.Dir(to), 0o755))
		f, err := os.OpenFile(to, os.O_CREATE|os.O_RDONLY, 0o644)
		check(err)
		f.Close()
	}
	check(syscall.Mount(from, to, "", syscall.MS_BIND|syscall.MS_REC, ""), "bind ", from, " ", to, " ")
	if ro {
		check(syscall.Mount("", to, "", syscall.MS_BIND|syscall.MS_REMOUNT|syscall.MS_RDONLY, ""), "read-only ", to, " ")
	}
}

func main() {
	runtime.LockOSThread()
	var s spec.Spec
	check(json.Unmarshal([]byte(os.Args[1]), &s))

	makeRoot(s)
	enterRoot(s)
	become(s)
}

// makeRoot fills the container's root.
func makeRoot(s spec.Spec) {
	// Before anything is mounted: nobody else sees what is mounted here.
	check(syscall.Mount("", "/", "", syscall.MS_REC|syscall.MS_PRIVATE, ""), "private ")
	check(syscall.Mount(s.Root, s.Root, "", syscall.MS_BIND, ""), "root ")
	at := func(p string) string { return filepath.Join(s.Root, p) }
	for _, d := range []string{
		"usr", "proc", "sys", "dev/shm", "tmp", "etc", "run", "var/run", "var/tmp", "var/log", "root", "home", "uploads", "opt", "mnt", "srv",
	} {
		check(os.MkdirAll(at(d), 0o755))
	}
	for _, d := range []string{"tmp", "var/tmp", "dev/shm", "uploads"} {
		check(os.Chmod(at(d), 0o777|os.ModeSticky))
	}
	for _, d := range []string{"bin", "sbin", "lib", "lib64"} {
		if to, err := os.Readlink("/" + d); err == nil {
			os.Symlink(to, at(d))
		}
	}
	bind("/usr", at("usr"), true)
	bind("/etc/alternatives", at("etc/alternatives"), true)
	for _, f := range []string{"passwd", "group", "nsswitch.conf", "protocols", "services", "ld.so.cache"} {
		if b, err := os.ReadFile("/etc/" + f); err == nil {
			check(os.WriteFile(at("etc/"+f), b, 0o644))
		}
	}
	check(syscall.Mount("proc", at("proc"), "proc", 0, ""), "proc ")
	syscall.Mount("sysfs", at("sys"), "sysfs", 0, "")
	for name, minor := range map[string]int{"null": 3, "zero": 5, "full": 7, "random": 8, "urandom": 9} {
		check(syscall.Mknod(at("dev/"+name), syscall.S_IFCHR|0o666, 1<<8|minor), "mknod ")
		os.Chmod(at("dev/"+name), 0o666)
	}
	for name, to := range map[string]string{"fd": "", "stdin": "/0", "stdout": "/1", "stderr": "/2"} {
		os.Symlink("/proc/self/fd"+to, at("dev/"+name))
	}
	for f, text := range s.Files {
		check(os.MkdirAll(filepath.Dir(at(f)), 0o755))
		check(os.WriteFile(at(f), []byte(text), 0o644))
	}
	for _, m := range s.Mounts {
		bind(m.From, at(m.To), m.ReadOnly)
	}
}

// enterRoot makes the container's root that of this process.
func enterRoot(s spec.Spec) {
	check(os.Chdir(s.Root))
	check(syscall.PivotRoot(".", "."), "pivot ")
	check(syscall.Unmount(".", syscall.MNT_DETACH), "unmount ")
	check(os.Chdir("/"))
	if s.Hostname != "" {
		check(syscall.Sethostname([]byte(s.Hostname)))
	}
	if s.Dir != "" {
		os.MkdirAll(s.Dir, 0o755)
		check(os.Chdir(s.Dir))
	}
}

// become becomes the container's program, with its environment and its user.
func become(s spec.Spec) {
	os.Clearenv()
	for _, e := range s.Env {
		if name, value, isSet := strings.Cut(e, "="); isSet {
			os.Setenv(name, value)
		}
	}
	path, err := exec.LookPath(s.Args[0])
	check(err)
	if s.UID != 0 || s.GID != 0 || len(s.Groups) > 0 {
		check(syscall.Setgroups(append([]int{s.GID}, s.Groups...)))
		check(syscall.Setgid(s.GID))
		check(syscall.Setuid(s.UID))
	}
	check(syscall.Exec(path, s.Args, os.Environ()), "exec ", path, " ") // of a variable that is there twice the last
}
