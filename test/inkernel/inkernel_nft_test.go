//go:build nft

package main

import (
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// emulated is inkernel with -kernel=qemu, and with the kernel that "make nft" has fetched.
func emulated(t *testing.T, args ...string) *world {
	t.Helper()
	w := inkernel(t, append([]string{"-kernel", "qemu"}, args...)...)
	fetched, err := filepath.Abs("../../.bin/linux")
	if err != nil {
		t.Fatal(err)
	}
	link := filepath.Join(filepath.Dir(w.Path), "linux")
	if err := os.Symlink(fetched, link); err != nil && !errors.Is(err, fs.ErrExist) {
		t.Fatal(err)
	}
	return w
}

func TestQEMU(t *testing.T) {
	w := emulated(t, "sh", "-c", `nproc; iptables --version | grep -o nf_tables; cat /sys/module/ip_vs/initstate; iptables -t nat -A POSTROUTING -j MASQUERADE
		pwd; cat data; touch made; echo err >&2; exit 3`)
	if err := os.WriteFile(filepath.Join(w.tmp, "data"), []byte("the host's file\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	if got := w.end(t); got != 3 {
		t.Errorf("exit status %d\n%s", got, &w.stderr)
	}
	want := []string{"2\nnf_tables\nlive\n" + w.tmp + "\nthe host's file\n", "err\n"}
	if diff := cmp.Diff(want, []string{w.stdout.String(), w.stderr.String()}); diff != "" {
		t.Errorf("stdout and stderr (-want +got):\n%s", diff)
	}
	if _, err := os.Stat(filepath.Join(w.tmp, "made")); err != nil {
		t.Errorf("the program's file is not on the host: %v", err)
	}
}

// A machine of another architecture has programs of its own, and the rest of the host's files.
func TestArm64(t *testing.T) {
	linux, err := filepath.Abs("../../.bin/linux-trixie-arm64")
	if err != nil {
		t.Fatal(err)
	}
	w := inkernel(t, "-kernel", "qemu", "-arch", "arm64", "-linux", linux, "sh", "-c", `uname -m; nproc; iptables --version | grep -o nf_tables
		cat /sys/module/ip_vs/initstate; iptables -t nat -A POSTROUTING -j MASQUERADE; pwd; touch made; echo err >&2; exit 3`)
	build := exec.Command("go", "build", "-o", filepath.Join(filepath.Dir(w.Path), "arm64")+"/", ".")
	build.Env = append(os.Environ(), "GOARCH=arm64")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	if got := w.end(t); got != 3 {
		t.Errorf("exit status %d\n%s", got, &w.stderr)
	}
	want := []string{"aarch64\n2\nnf_tables\nlive\n" + w.tmp + "\n", "err\n"}
	if diff := cmp.Diff(want, []string{w.stdout.String(), w.stderr.String()}); diff != "" {
		t.Errorf("stdout and stderr (-want +got):\n%s", diff)
	}
	if _, err := os.Stat(filepath.Join(w.tmp, "made")); err != nil {
		t.Errorf("the program's file is not on the host: %v", err)
	}
}

func TestQEMUEnds(t *testing.T) {
	w := emulated(t, "-timeout", "3s", "sleep", "1m")
	if got := w.end(t); got != statusTime {
		t.Errorf("exit status %d, want %d\n%s", got, statusTime, &w.stderr)
	}
	w = emulated(t, "sh", "-c", "echo c >/proc/sysrq-trigger")
	if got := w.end(t); got != statusFailed || !strings.Contains(w.stderr.String(), "sysrq triggered crash") {
		t.Errorf("exit status %d, says\n%s", got, &w.stderr)
	}
}
