package main

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// built is the command under test, built once, the way its users build it.
var built = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "inkernel-test-")
	if err != nil {
		return "", err
	}
	path := filepath.Join(dir, "inkernel")
	cmd := exec.Command("go", "build", "-o", path, ".")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return path, fmt.Errorf("%w\n%s", err, out)
	}
	return path, os.Chmod(dir, 0o755) // an ordinary user runs it, too
})

func TestMain(m *testing.M) {
	status := m.Run()
	if path, _ := built(); path != "" {
		os.RemoveAll(filepath.Dir(path))
	}
	os.Exit(status)
}

// world is one use of the command, with a folder for temporary files of its own.
type world struct {
	*exec.Cmd
	tmp            string
	stdout, stderr bytes.Buffer
}

// inkernel prepares a call of the command and checks, after the test, that nothing is left of it.
func inkernel(t *testing.T, args ...string) *world {
	t.Helper()
	path, err := built()
	if err != nil {
		t.Fatal(err)
	}
	w := &world{Cmd: exec.Command(path, args...), tmp: t.TempDir()}
	w.Dir = w.tmp
	w.Env = append(os.Environ(), "TMPDIR="+w.tmp)
	w.Stdout, w.Stderr = &w.stdout, &w.stderr
	t.Cleanup(func() {
		w.expectNoProcess(t)
		if left, _ := filepath.Glob(filepath.Join(w.tmp, "inkernel-*")); left != nil {
			t.Errorf("files left behind: %v", left)
		}
	})
	return w
}

// end runs the command and returns its exit status.
func (w *world) end(t *testing.T) int {
	t.Helper()
	var exit *exec.ExitError
	if err := w.Run(); err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	return w.ProcessState.ExitCode()
}

// expectNoProcess waits, since a killed process needs a moment, until none has the folder in its arguments or environment.
func (w *world) expectNoProcess(t *testing.T) {
	t.Helper()
	var left []string
	for range 100 {
		if left = w.processes(); left == nil {
			return
		}
		time.Sleep(50 * time.Millisecond)
	}
	t.Errorf("processes left behind: %v", left)
}

func (w *world) processes() (found []string) {
	for _, what := range []string{"cmdline", "environ"} {
		files, _ := filepath.Glob("/proc/[0-9]*/" + what)
		for _, file := range files {
			if text, err := os.ReadFile(file); err == nil && bytes.Contains(text, []byte(w.tmp)) {
				found = append(found, file)
			}
		}
	}
	return found
}

// kernels are those that can be tried here: the host's only by a root who may make namespaces.
func kernels() []string {
	if exec.Command("unshare", "--net", "--mount", "--pid", "true").Run() == nil {
		return []string{"uml", "host"}
	}
	return []string{"uml"}
}

func TestEndsAsTheProgramEnds(t *testing.T) {
	programs := []struct {
		name, script string
		status       int
		stdout       string
		stderr       string
	}{
		{name: "success", script: "echo out; echo err >&2", stdout: "out\n", stderr: "err\n"},
		{name: "failure", script: "exit 3", status: 3},
		{name: "signal", script: "echo last words; kill -KILL $$", status: 137, stdout: "last words\n"},
		{name: "orphan", script: "(sleep 1000 &) ; echo gone", stdout: "gone\n"},
	}
	for _, kernel := range kernels() {
		for _, p := range programs {
			t.Run(kernel+" "+p.name, func(t *testing.T) {
				t.Parallel()
				w := inkernel(t, "-kernel", kernel, "sh", "-c", p.script)
				if got := w.end(t); got != p.status {
					t.Errorf("exit status %d, want %d", got, p.status)
				}
				if diff := cmp.Diff([]string{p.stdout, p.stderr}, []string{w.stdout.String(), w.stderr.String()}); diff != "" {
					t.Errorf("stdout and stderr (-want +got):\n%s", diff)
				}
			})
		}
	}
}

func TestSurroundings(t *testing.T) {
	const script = `pwd; echo "$COLOUR $TASTE"; env | grep -c -e ^PATH= -e ^TASTE=; cat; cat data; id -u; ls /sys/class/net; ls -A /run/netns; cat /sys/class/net/lo/flags; touch made`
	for _, kernel := range kernels() {
		t.Run(kernel, func(t *testing.T) {
			t.Parallel()
			w := inkernel(t, "-kernel", kernel, "-env", "TASTE=sweet", "sh", "-c", script)
			w.Env = append(w.Env, "COLOUR=red", "TASTE=sour")
			w.Stdin = strings.NewReader("not for the program\n")
			if err := os.WriteFile(filepath.Join(w.tmp, "data"), []byte("the host's file\n"), 0o644); err != nil {
				t.Fatal(err)
			}
			if got := w.end(t); got != 0 {
				t.Errorf("exit status %d\n%s", got, &w.stderr)
			}
			want := w.tmp + "\nred sweet\n2\nthe host's file\n0\nlo\n0x9\n"
			if diff := cmp.Diff(want, w.stdout.String()); diff != "" {
				t.Errorf("what the program sees (-want +got):\n%s", diff)
			}
			if _, err := os.Stat(filepath.Join(w.tmp, "made")); err != nil {
				t.Errorf("the program's file is not on the host: %v", err)
			}
		})
	}
}

// The clock, modules that are loaded already, one that is loaded on demand, legacy iptables, and many open files.
func TestUserModeLinuxHasWhatTheTestsNeed(t *testing.T) {
	t.Parallel()
	const script = `set -e
		date +%s; ulimit -n; iptables --version
		cat /sys/module/ip_vs/initstate; iptables -t nat -A POSTROUTING -m ttl --ttl-eq 3 -j MASQUERADE; modprobe xt_quota`
	w := inkernel(t, "-kernel", "uml", "sh", "-c", script)
	if got := w.end(t); got != 0 {
		t.Fatalf("exit status %d\n%s", got, &w.stderr)
	}
	var clock int64
	var files int
	var version, variant, state string
	if _, err := fmt.Sscan(w.stdout.String(), &clock, &files, &version, &version, &variant, &state); err != nil {
		t.Fatalf("%v in %q", err, &w.stdout)
	}
	if away := time.Since(time.Unix(clock, 0)).Abs(); away > 30*time.Second {
		t.Errorf("the clock is %v away", away)
	}
	if files < 100_000 || variant != "(legacy)" || state != "live" {
		t.Errorf("%d open files, iptables %s, ip_vs %s", files, variant, state)
	}
}

func TestBulkOutputArrivesWhole(t *testing.T) {
	t.Parallel()
	w := inkernel(t, "-kernel", "uml", "sh", "-c", "cat numbers & cat numbers >&2; wait")
	var numbers bytes.Buffer
	for i := range 200_000 {
		fmt.Fprintln(&numbers, i)
	}
	if err := os.WriteFile(filepath.Join(w.tmp, "numbers"), numbers.Bytes(), 0o644); err != nil {
		t.Fatal(err)
	}
	if got := w.end(t); got != 0 {
		t.Errorf("exit status %d", got)
	}
	for name, got := range map[string][]byte{"stdout": w.stdout.Bytes(), "stderr": w.stderr.Bytes()} {
		if !bytes.Equal(got, numbers.Bytes()) {
			t.Errorf("%s: %d bytes, not the %d that were written", name, len(got), numbers.Len())
		}
	}
}

func TestFailures(t *testing.T) {
	situations := []struct {
		name   string
		args   []string
		status int
		says   string
	}{
		{"no program given", nil, statusFailed, "no program"},
		{"unknown flag", []string{"-colour", "true"}, statusFailed, "colour"},
		{"unknown kernel", []string{"-kernel", "plan9", "true"}, statusFailed, "plan9"},
		{"unknown architecture", []string{"-kernel", "qemu", "-arch", "pdp11", "true"}, statusFailed, "pdp11"},
		{"program missing", []string{"-kernel", "uml", "/no/such/program"}, statusFailed, "/no/such/program"},
		{"kernel without memory", []string{"-kernel", "uml", "-mem", "4M", "true"}, statusFailed, "kernel"},
		{"panic", []string{"-kernel", "uml", "sh", "-c", "echo c >/proc/sysrq-trigger"}, statusFailed, "sysrq triggered crash"},
		{"time is up", []string{"-kernel", "uml", "-timeout", "3s", "sleep", "1000"}, statusTime, "time is up"},
	}
	for _, s := range situations {
		t.Run(s.name, func(t *testing.T) {
			t.Parallel()
			w := inkernel(t, s.args...)
			if got := w.end(t); got != s.status || !strings.Contains(w.stderr.String(), s.says) {
				t.Errorf("exit status %d, want %d with %q in\n%s", got, s.status, s.says, &w.stderr)
			}
		})
	}
}

// A folder that the test kernel hides behind its own cannot be the working directory there.
func TestHiddenFolder(t *testing.T) {
	t.Parallel()
	w := inkernel(t, "-kernel", "uml", "true")
	w.Dir = "/proc"
	if got := w.end(t); got != statusFailed || !strings.Contains(w.stderr.String(), "/proc is not seen inside") {
		t.Errorf("exit status %d, says %q", got, &w.stderr)
	}
}

func TestStops(t *testing.T) {
	for _, kernel := range kernels() {
		for signal, status := range map[syscall.Signal]int{syscall.SIGINT: 130, syscall.SIGTERM: 143, syscall.SIGKILL: -1} {
			t.Run(fmt.Sprint(kernel, " ", signal), func(t *testing.T) {
				t.Parallel()
				w := inkernel(t, "-kernel", kernel, "sh", "-c", "touch started; exec sleep 1000")
				if err := w.Start(); err != nil {
					t.Fatal(err)
				}
				for _, err := os.Stat(filepath.Join(w.tmp, "started")); errors.Is(err, fs.ErrNotExist); {
					time.Sleep(20 * time.Millisecond)
					_, err = os.Stat(filepath.Join(w.tmp, "started"))
				}
				w.Process.Signal(signal)
				w.Wait()
				if got := w.ProcessState.ExitCode(); got != status {
					t.Errorf("exit status %d, want %d", got, status)
				}
				w.expectNoProcess(t)
				if signal == syscall.SIGKILL { // nobody was left to remove the folder
					left, _ := filepath.Glob(filepath.Join(w.tmp, "inkernel-*"))
					for _, dir := range left {
						os.RemoveAll(dir)
					}
				}
			})
		}
	}
}

func TestOrdinaryUser(t *testing.T) {
	t.Parallel()
	w := inkernel(t, "sh", "-c", "id -u; cat /sys/module/ip_vs/initstate; echo kept > file")
	owner := uint32(os.Geteuid())
	if owner == 0 {
		owner = 65534
		w.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: owner, Gid: owner}}
		if err := errors.Join(os.Chown(w.tmp, int(owner), int(owner)), os.Chmod(filepath.Dir(w.tmp), 0o755)); err != nil {
			t.Fatal(err)
		}
	}
	if got := w.end(t); got != 0 || w.stdout.String() != "0\nlive\n" {
		t.Errorf("exit status %d, says %q\n%s", got, &w.stdout, &w.stderr)
	}
	info, err := os.Stat(filepath.Join(w.tmp, "file"))
	if err != nil {
		t.Fatal(err)
	}
	if got := info.Sys().(*syscall.Stat_t).Uid; got != owner {
		t.Errorf("the program's file belongs to user %d, want %d", got, owner)
	}
}

func TestFitsGoTest(t *testing.T) {
	t.Parallel()
	path, err := built()
	if err != nil {
		t.Fatal(err)
	}
	for why, want := range map[string]bool{"": true, "on demand": false} {
		cmd := exec.Command("go", "test", "-count=1", "-exec", path+" -kernel uml", "./testdata/fits")
		cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "FITS_FAIL="+why)
		if out, err := cmd.CombinedOutput(); (err == nil) != want {
			t.Errorf("with FITS_FAIL=%q: %v\n%s", why, err, out)
		}
	}
}
