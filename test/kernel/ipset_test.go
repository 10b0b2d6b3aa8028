//go:build kernel

package kernel

import (
	"fmt"
	"os/exec"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"kube-ipvs/internal/inet"
	"kube-ipvs/ipset"
)

// ipsetNamespace puts the test into a network namespace of its own, which ends with the test's thread.
func ipsetNamespace(t testing.TB) {
	t.Helper()
	runtime.LockOSThread()
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		t.Fatalf("a new network namespace: %v", err)
	}
}

// ipsetRun runs a command in the test's network namespace and returns what it prints.
func ipsetRun(t testing.TB, args ...string) string {
	t.Helper()
	out, err := exec.Command(args[0], args[1:]...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return string(out)
}

func ipsetOpen(t testing.TB) *ipset.Conn {
	t.Helper()
	ipsetNamespace(t)
	k, err := ipset.Open()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := k.Close(); err != nil {
			t.Error(err)
		}
	})
	return k
}

func TestIPSetKernel(t *testing.T) {
	ipsetConforms(t, func(t *testing.T) ipsetHost {
		return ipsetHost{
			Kernel: ipsetOpen(t),
			small: func(s ipset.Set, members int) {
				ipsetRun(t, "ipset", "create", s.Name, string(s.Type), "skbinfo", "maxelem", fmt.Sprint(members))
			},
			refer: func(name string, on bool) {
				if on {
					ipsetRun(t, "ipset", "create", "REFERS", "list:set")
					ipsetRun(t, "ipset", "add", "REFERS", name)
					return
				}
				ipsetRun(t, "ipset", "destroy", "REFERS")
			},
		}
	})
}

// TestIPSetTool compares what the sets print with what ipset(8) prints of them.
func TestIPSetTool(t *testing.T) {
	k := ipsetOpen(t)
	var want []string
	for _, s := range ipsetKinds() {
		ipsetCreate(t, k, s)
		members := make(map[ipset.Member]ipset.Mark)
		for i, m := range ipsetSamples(s) {
			op := ipset.Op{Set: s, Member: m}
			if s.Marks {
				op.Mark = []ipset.Mark{{Value: 0x8000, Mask: 0xc000}, {Value: 7, Mask: 0xffffffff}, {}}[i]
			}
			members[m] = op.Mark
			ipsetDo(t, k, op)
		}
		for line := range strings.Lines(ipset.Save(s, members)) {
			if strings.HasPrefix(line, "add ") {
				want = append(want, line)
			}
		}
	}
	var got []string
	for line := range strings.Lines(ipsetRun(t, "ipset", "save")) {
		if strings.HasPrefix(line, "add ") {
			got = append(got, line)
		}
	}
	slices.Sort(want)
	slices.Sort(got)
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("ipset save (-ours +the tool's):\n%s", diff)
	}
}

// TestIPSetForeignDefinitions meets sets that others made under our names.
func TestIPSetForeignDefinitions(t *testing.T) {
	k := ipsetOpen(t)
	s := ipset.Set{Name: "KIPVS-A", Type: ipset.HashIPPort, Family: inet.IPv4}
	tests := []struct {
		name    string
		options string
		serves  bool
	}{
		{"room for less", "maxelem 65536", false},
		{"room for more", "maxelem 33554432", true},
		{"a timeout", "maxelem 16777216 timeout 60", false},
		{"random eviction", "maxelem 16777216 forceadd", false},
		{"counters, comments and marks", "maxelem 16777216 counters comment skbinfo", true},
	}
	for _, tt := range tests {
		ipsetRun(t, "sh", "-c", "ipset create KIPVS-A hash:ip,port "+tt.options)
		err := k.Create(t.Context(), s)
		if tt.serves != (err == nil) {
			t.Errorf("%s: Create = %v", tt.name, err)
		}
		ipsetDo(t, k, ipset.Op{Set: s, Member: ipsetMember(1)})
		ipsetHas(t, k, s, map[ipset.Member]ipset.Mark{ipsetMember(1): {}})
		ipsetRun(t, "ipset", "destroy", "KIPVS-A")
	}
}

// TestIPSetMany writes, reads and deletes 20,000 members, and tries it with a set that is not there.
func TestIPSetMany(t *testing.T) {
	const n = 20_000
	k := ipsetOpen(t)
	s := ipset.Set{Name: "KIPVS-MANY", Type: ipset.HashIPPort, Family: inet.IPv4, Marks: true}
	ipsetCreate(t, k, s)
	ops := ipsetAdds(s, n)
	holds := func(want int) {
		t.Helper()
		if members, err := k.Read(t.Context(), s); err != nil || len(members) != want {
			t.Fatalf("Read: %d members, %v; want %d", len(members), err, want)
		}
	}
	ipsetDo(t, k, ops...)
	holds(n)
	ipsetDo(t, k, ops...) // again
	holds(n)
	for i := range ops {
		ops[i].Verb = ipset.Del
	}
	ipsetDo(t, k, ops...)
	holds(0)
	for i := range ops {
		ops[i].Set.Name = "KIPVS-NONE"
	}
	for i, err := range k.Do(t.Context(), ops) {
		if err == nil {
			t.Fatalf("%v: no error", ops[i])
		}
	}
	if err := k.Destroy(t.Context(), s.Name); err != nil {
		t.Error(err)
	}
}

// ipsetAdds returns what adds so many members.
func ipsetAdds(s ipset.Set, n int) []ipset.Op {
	ops := make([]ipset.Op, n)
	for i := range ops {
		ops[i] = ipset.Op{Set: s, Member: ipsetMember(i), Mark: ipset.Mark{Value: 0x8000, Mask: 0xc000}}
	}
	return ops
}
