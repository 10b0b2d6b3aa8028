package sysctl_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"kube-ipvs/ipvs/sysctl"
)

// tree makes a folder that looks like /proc/sys with one setting of one value and one of two.
func tree(t *testing.T) *sysctl.Files {
	t.Helper()
	root := t.TempDir()
	write := func(name, content string) {
		path := filepath.Join(root, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, []byte(content), 0o644)); err != nil {
			t.Fatal(err)
		}
	}
	write("net/ipv4/vs/conntrack", "0\n")
	write("net/ipv4/ip_local_port_range", "32768\t60999\n")
	files := &sysctl.Files{Root: root}
	t.Cleanup(func() {
		if err := files.Close(); err != nil {
			t.Error(err)
		}
	})
	return files
}

func fake() sysctl.Kernel {
	return sysctl.NewFake(sysctl.Setting{Name: "net/ipv4/vs/conntrack", Value: "0"},
		sysctl.Setting{Name: "net/ipv4/ip_local_port_range", Value: "32768\t60999"})
}

// kernels are the kernels that must do alike.
func kernels(t *testing.T) map[string]sysctl.Kernel {
	t.Helper()
	return map[string]sysctl.Kernel{"files": tree(t), "fake": fake()}
}

func TestDo(t *testing.T) {
	tests := []struct {
		name string
		set  sysctl.Setting
		want error  // of Do and Read
		read string // value afterwards
	}{
		{"one value", sysctl.Setting{Name: "net/ipv4/vs/conntrack", Value: "1"}, nil, "1"},
		{"the value that is there", sysctl.Setting{Name: "net/ipv4/vs/conntrack", Value: "0"}, nil, "0"},
		{"two values", sysctl.Setting{Name: "net/ipv4/ip_local_port_range", Value: "1024 65000"}, nil, "1024 65000"},
		{"two values with a tab", sysctl.Setting{Name: "net/ipv4/ip_local_port_range", Value: "32768\t60999"}, nil, "32768 60999"},
		{"a setting that the kernel lacks", sysctl.Setting{Name: "net/ipv4/vs/nonesuch", Value: "1"}, os.ErrNotExist, ""},
	}
	for _, tt := range tests {
		for kind, k := range kernels(t) {
			if err := errors.Join(k.Do(t.Context(), []sysctl.Setting{tt.set})...); !errors.Is(err, tt.want) {
				t.Errorf("%s, %s: Do = %v, want %v", kind, tt.name, err, tt.want)
			}
			got, err := k.Read(t.Context(), []string{tt.set.Name})
			if !errors.Is(err, tt.want) || got[tt.set.Name] != tt.read {
				t.Errorf("%s, %s: Read = %q, %v, want %q, %v", kind, tt.name, got[tt.set.Name], err, tt.read, tt.want)
			}
		}
	}
}

// A value that others write is seen, however long it is; reading it again and again opens nothing.
func TestReadAgain(t *testing.T) {
	const name = "net/ipv4/ip_local_port_range"
	files := tree(t)
	var before int
	for i, want := range []string{"1 2", strings.Repeat("12345 ", 1000) + "6", ""} {
		if err := os.WriteFile(filepath.Join(files.Root, name), []byte(want+"\n"), 0o644); err != nil {
			t.Fatal(err)
		}
		got, err := files.Read(t.Context(), []string{name})
		if err != nil || got[name] != want {
			t.Errorf("read %q, %v; want %q", got[name], err, want)
		}
		open, err := os.ReadDir("/proc/self/fd")
		if err != nil {
			t.Fatal(err)
		}
		if i > 0 && len(open) != before {
			t.Errorf("%d descriptors are open, %d before", len(open), before)
		}
		before = len(open)
	}
}

func TestOneFailureStopsNoOther(t *testing.T) {
	for kind, k := range kernels(t) {
		errs := k.Do(t.Context(), []sysctl.Setting{{Name: "a/b", Value: "1"}, {Name: "net/ipv4/vs/conntrack", Value: "1"}})
		if len(errs) != 2 || !errors.Is(errs[0], os.ErrNotExist) || errs[1] != nil {
			t.Errorf("%s: Do = %v, want one os.ErrNotExist and one nil", kind, errs)
		}
		got, err := k.Read(t.Context(), []string{"a/b", "net/ipv4/vs/conntrack"})
		if diff := cmp.Diff(map[string]string{"net/ipv4/vs/conntrack": "1"}, got); diff != "" {
			t.Errorf("%s: values (-want +got):\n%s", kind, diff)
		}
		if !errors.Is(err, os.ErrNotExist) || !strings.Contains(err.Error(), "a/b") {
			t.Errorf("%s: Read error %v does not name a/b", kind, err)
		}
	}
}

func TestDoneContext(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	for kind, k := range kernels(t) {
		errs := k.Do(ctx, []sysctl.Setting{{Name: "net/ipv4/vs/conntrack", Value: "1"}})
		if !errors.Is(errors.Join(errs...), context.Canceled) {
			t.Errorf("%s: Do = %v, want context.Canceled", kind, errs)
		}
		if _, err := k.Read(ctx, []string{"net/ipv4/vs/conntrack"}); !errors.Is(err, context.Canceled) {
			t.Errorf("%s: Read = %v, want context.Canceled", kind, err)
		}
	}
}

func TestNamesStayInside(t *testing.T) {
	files := tree(t)
	outside := filepath.Join(filepath.Dir(files.Root), "outside")
	for _, name := range []string{"../outside", "/etc/hostname", "net/../../outside", "", ".", "net//ipv4"} {
		err := errors.Join(files.Do(t.Context(), []sysctl.Setting{{Name: name, Value: "1"}})...)
		if !errors.Is(err, os.ErrInvalid) {
			t.Errorf("Do(%q) = %v, want os.ErrInvalid", name, err)
		}
	}
	if _, err := os.Stat(outside); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("%s was made", outside)
	}
}

func TestReadOnlyFake(t *testing.T) {
	f := sysctl.NewFake(sysctl.Setting{Name: "a", Value: "1"})
	f.SetReadOnly(true)
	errs := f.Do(t.Context(), []sysctl.Setting{{Name: "a", Value: "1"}, {Name: "a", Value: "2"}})
	if len(errs) != 2 || errs[0] != nil || !errors.Is(errs[1], os.ErrPermission) {
		t.Errorf("Do = %v, want nil for the value that is there and os.ErrPermission for another", errs)
	}
	if got, want := f.String(), "sysctl -w a=1\n"; got != want {
		t.Errorf("String = %q, want %q", got, want)
	}
	if f.Ops() != 2 || f.Reads() != 0 {
		t.Errorf("%d ops and %d reads counted, want 2 and 0", f.Ops(), f.Reads())
	}
}

func TestFakeFromManyGoroutines(t *testing.T) {
	f := sysctl.NewFake(sysctl.Setting{Name: "a", Value: "0"})
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 100 {
				f.Do(t.Context(), []sysctl.Setting{{Name: "a", Value: "1"}})
				if _, err := f.Read(t.Context(), []string{"a"}); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	if f.Ops() != 800 || f.Reads() != 800 {
		t.Errorf("%d ops and %d reads counted, want 800 and 800", f.Ops(), f.Reads())
	}
}

func TestSettingString(t *testing.T) {
	tests := []struct {
		set  sysctl.Setting
		want string
	}{
		{sysctl.Setting{Name: "net/ipv4/vs/conntrack", Value: "1"}, "sysctl -w net/ipv4/vs/conntrack=1"},
		{sysctl.Setting{Name: "net/ipv4/conf/eth0.7/rp_filter", Value: "0"}, "sysctl -w net/ipv4/conf/eth0.7/rp_filter=0"},
		{sysctl.Setting{Name: "net/ipv4/ip_local_port_range", Value: "1 2"}, "sysctl -w 'net/ipv4/ip_local_port_range=1 2'"},
	}
	for _, tt := range tests {
		if got := tt.set.String(); got != tt.want {
			t.Errorf("String = %q, want %q", got, tt.want)
		}
	}
}
