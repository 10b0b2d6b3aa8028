//go:build kernel

package kernel

import (
	"errors"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"kube-ipvs/ipvs/sysctl"
)

func TestSysctlKernel(t *testing.T) {
	sysctlConforms(t, func(t *testing.T) sysctl.Kernel {
		ipsetNamespace(t)
		k := new(sysctl.Files)
		if errs := k.Do(t.Context(), sysctlDefaults()); errs != nil {
			t.Fatal(errors.Join(errs...))
		}
		return k
	})
}

// TestSysctlTool compares a setting with what sysctl(8) says of it.
func TestSysctlTool(t *testing.T) {
	ipsetNamespace(t)
	k := new(sysctl.Files)
	set := sysctl.Setting{Name: "net/ipv4/ip_local_port_range", Value: "20000 30000"}
	if errs := k.Do(t.Context(), []sysctl.Setting{set}); errs != nil {
		t.Fatal(errors.Join(errs...))
	}
	got := sysctl.Normal(ipsetRun(t, "sysctl", "-n", set.Name))
	if diff := cmp.Diff(set.Value, got); diff != "" {
		t.Errorf("sysctl -n (-want +got):\n%s", diff)
	}
	ipsetRun(t, "sh", "-c", "sysctl -w net/ipv4/vs/conntrack=1")
	values, err := k.Read(t.Context(), []string{"net/ipv4/vs/conntrack"})
	if err != nil || values["net/ipv4/vs/conntrack"] != "1" {
		t.Errorf("Read after sysctl -w = %v, %v", values, err)
	}
}

// TestSysctlReadOnly has /proc/sys mounted read-only, as containers have it: what is right stays success, and the error
// of the rest says what to do.
func TestSysctlReadOnly(t *testing.T) {
	ipsetNamespace(t)
	for _, step := range []error{
		unix.Unshare(unix.CLONE_NEWNS),
		unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""),
		unix.Mount("/proc/sys", "/proc/sys", "", unix.MS_BIND, ""),
		unix.Mount("", "/proc/sys", "", unix.MS_BIND|unix.MS_REMOUNT|unix.MS_RDONLY, ""),
	} {
		if step != nil {
			t.Fatal(step)
		}
	}
	errs := new(sysctl.Files).Do(t.Context(), []sysctl.Setting{
		{Name: "net/ipv4/ip_forward", Value: "0"}, {Name: "net/ipv4/ip_local_port_range", Value: "1024 2048"},
	})
	if len(errs) != 2 || errs[0] != nil || !errors.Is(errs[1], os.ErrPermission) || !strings.Contains(errs[1].Error(), "read-only") {
		t.Errorf("Do = %v, want nil for what is right and os.ErrPermission with the reason", errs)
	}
}
