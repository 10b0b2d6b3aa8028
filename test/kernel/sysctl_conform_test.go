package kernel

import (
	"errors"
	"os"
	"testing"

	"github.com/google/go-cmp/cmp"

	"kube-ipvs/ipvs/sysctl"
)

// sysctlDefaults are the settings that a test starts with.
func sysctlDefaults() []sysctl.Setting {
	return []sysctl.Setting{
		{Name: "net/ipv4/vs/conntrack", Value: "0"},
		{Name: "net/ipv4/vs/conn_reuse_mode", Value: "1"},
		{Name: "net/ipv4/ip_local_port_range", Value: "32768 60999"},
	}
}

func TestSysctlFake(t *testing.T) {
	sysctlConforms(t, func(*testing.T) sysctl.Kernel { return sysctl.NewFake(sysctlDefaults()...) })
}

// sysctlConforms states what every sysctl.Kernel does, the one in memory and the real one.
func sysctlConforms(t *testing.T, open func(*testing.T) sysctl.Kernel) {
	names := []string{"net/ipv4/vs/conntrack", "net/ipv4/vs/conn_reuse_mode", "net/ipv4/ip_local_port_range", "net/ipv4/vs/nonesuch"}
	tests := []struct {
		name string
		set  sysctl.Setting
		want error
		now  map[string]string // what differs from the defaults afterwards
	}{
		{"nothing new", sysctl.Setting{Name: names[0], Value: "0"}, nil, nil},
		{"one value", sysctl.Setting{Name: names[0], Value: "1"}, nil, map[string]string{names[0]: "1"}},
		{"two values", sysctl.Setting{Name: names[2], Value: "1024\t2048"}, nil, map[string]string{names[2]: "1024 2048"}},
		{"one that the kernel lacks", sysctl.Setting{Name: names[3], Value: "1"}, os.ErrNotExist, nil},
		{"no name", sysctl.Setting{Name: "../sys", Value: "1"}, os.ErrInvalid, nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			k := open(t)
			if err := errors.Join(k.Do(t.Context(), []sysctl.Setting{tt.set})...); !errors.Is(err, tt.want) {
				t.Errorf("Do(%v) = %v, want %v", tt.set, err, tt.want)
			}
			want := make(map[string]string)
			for _, s := range sysctlDefaults() {
				want[s.Name] = s.Value
			}
			for name, value := range tt.now {
				want[name] = value
			}
			got, err := k.Read(t.Context(), names)
			if diff := cmp.Diff(want, got); diff != "" || !errors.Is(err, os.ErrNotExist) {
				t.Errorf("Read: %v, want os.ErrNotExist for the last (-want +got):\n%s", err, diff)
			}
		})
	}
}
