//go:build kernel

package kernel

import (
	"fmt"
	"os/exec"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"kube-ipvs/internal/inet"
	"kube-ipvs/ipset"
)

// ipsetNamespace puts the test into a network namespace of its own, which ends with the test's thread.
func ipsetNamespace(t *testing.T) {
	t.Helper()
	runtime.LockOSThread()
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		t.Fatalf("a new network namespace: %v", err)
	}
}

// ipsetRun runs a command in the test's network namespace and returns what it prints.
func ipsetRun(t *testing.T, args ...string) string {
	t.Helper()
	out, err := exec.Command(args[0], args[1:]...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return string(out)
}

func ipsetOpen(t *testing.T) *ipset.Conn {
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

// TestIPSetCost writes, reads and deletes 20,000 members, and says what each costs. A write of many must be far cheaper
// than a write of one.
func TestIPSetCost(t *testing.T) {
	const n = 20_000
	k := ipsetOpen(t)
	s := ipset.Set{Name: "KIPVS-COST", Type: ipset.HashIPPort, Family: inet.IPv4, Marks: true}
	ipsetCreate(t, k, s)
	ops := make([]ipset.Op, n)
	for i := range ops {
		ops[i] = ipset.Op{Set: s, Member: ipsetMember(i), Mark: ipset.Mark{Value: 0x8000, Mask: 0xc000}}
	}
	one := ipsetTime(func() {
		for i := range 500 {
			ipsetDo(t, k, ops[i])
		}
	}) / 500
	many := ipsetTime(func() { ipsetDo(t, k, ops...) }) / n
	again := ipsetTime(func() { ipsetDo(t, k, ops...) }) / n
	var members map[ipset.Member]ipset.Mark
	var err error
	read := ipsetTime(func() { members, err = k.Read(t.Context(), s) }) / n
	if err != nil || len(members) != n {
		t.Fatalf("Read: %d members, %v", len(members), err)
	}
	for i := range ops {
		ops[i].Verb = ipset.Del
	}
	gone := ipsetTime(func() { ipsetDo(t, k, ops...) }) / n
	t.Logf("a member: alone %v, of 20,000 %v, again %v, read %v, deleted %v", one, many, again, read, gone)
	if many*5 > one {
		t.Errorf("a member of many costs %v, and %v alone", many, one)
	}
	for i := range ops {
		ops[i].Set.Name = "KIPVS-NONE"
	}
	failing := ipsetTime(func() {
		for i, err := range k.Do(t.Context(), ops) {
			if err == nil {
				t.Fatalf("%v: no error", ops[i])
			}
		}
	}) / n
	t.Logf("a member of a set that is not there: %v", failing)
	if err := k.Destroy(t.Context(), s.Name); err != nil {
		t.Error(err)
	}
}

func ipsetTime(f func()) time.Duration {
	start := time.Now()
	f()
	return time.Since(start)
}
