//go:build kernel

package kernel

import (
	"errors"
	"fmt"
	"net/netip"
	"runtime"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	mobyipvs "github.com/moby/ipvs"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"kube-ipvs/internal/inet"
	"kube-ipvs/ipvs"
)

// newNetwork puts the test into a network namespace of its own, which ends with the test: its goroutine keeps the thread,
// and the thread ends with the goroutine.
func newNetwork(t *testing.T) {
	t.Helper()
	runtime.LockOSThread()
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		t.Fatalf("new network namespace: %v", err)
	}
	// Without any address the kernel takes no IPv4 address for one that packets can be sent to.
	if err := netlink.LinkSetUp(&netlink.Dummy{LinkAttrs: netlink.LinkAttrs{Name: "lo"}}); err != nil {
		t.Fatalf("lo: %v", err)
	}
}

func openIPVS(t *testing.T) *ipvs.Conn {
	t.Helper()
	newNetwork(t)
	c, err := ipvs.Open()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	})
	return c
}

func TestIPVS(t *testing.T) {
	conformsIPVS(t, func(t *testing.T) ipvs.Kernel { return openIPVS(t) })
}

// Another program's view of what we wrote: all that our own reading would not notice.
func TestIPVSAsOthersSeeIt(t *testing.T) {
	c := openIPVS(t)
	errs := c.Do(t.Context(), []ipvs.Op{
		add(tcp4, ipvs.Server{Scheduler: "rr", Timeout: 60}), addReal(tcp4, real4a, 3), add(tcp6, rr), addReal(tcp6, real6a, 1),
	})
	if errs != nil {
		t.Fatal(errors.Join(errs...))
	}
	h, err := mobyipvs.New("")
	if err != nil {
		t.Fatal(err)
	}
	defer h.Close()
	servers, err := h.GetServices()
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, s := range servers {
		got = append(got, fmt.Sprintf("%v:%d flags %#x timeout %d netmask %#x", s.Address, s.Port, s.Flags, s.Timeout, s.Netmask))
		reals, err := h.GetDestinations(s)
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range reals {
			got = append(got, fmt.Sprintf("  %v:%d forward %d weight %d", r.Address, r.Port, r.ConnectionFlags, r.Weight))
		}
	}
	want := map[string]bool{
		"10.96.0.10:80 flags 0x3 timeout 60 netmask 0xffffffff": true, "  10.244.1.2:8080 forward 0 weight 3": true,
		"fd00::a:80 flags 0x2 timeout 0 netmask 0x80": true, "  fd00:1::2:8080 forward 0 weight 1": true,
	}
	for _, line := range got {
		if !want[line] {
			t.Errorf("unexpected: %s", line)
		}
		delete(want, line)
	}
	for line := range want {
		t.Errorf("missing: %s", line)
	}
}

func TestIPVSTimeouts(t *testing.T) {
	c := openIPVS(t)
	if err := c.SetTimeouts(t.Context(), ipvs.Timeouts{TCP: 901 * time.Second, UDP: 31 * time.Second}); err != nil {
		t.Fatal(err)
	}
	got, err := c.Timeouts(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	want := ipvs.Timeouts{TCP: 901 * time.Second, TCPFin: 2 * time.Minute, UDP: 31 * time.Second}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// A batch must cost a fraction of the same ops one at a time, or it would not be worth its code. The times are of one
// boot; only their ratio means something.
func TestIPVSBatchIsFaster(t *testing.T) {
	const servers, reals, singly = 1_000, 10, 1_100
	c := openIPVS(t)
	var ops []ipvs.Op
	for i := range servers {
		key := ipvs.AddrKey(inet.TCP, netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 96, byte(i >> 8), byte(i)}), 80))
		ops = append(ops, add(key, rr))
		for j := range reals {
			ops = append(ops, addReal(key, netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 244, byte(j), byte(i)}), 80), 1))
		}
	}
	single := elapsed(func() {
		for i := range singly {
			mustDo(t, c, ops[i:i+1])
		}
	}) / singly
	batch := elapsed(func() { mustDo(t, c, ops[singly:]) }) / time.Duration(len(ops)-singly)
	var table ipvs.Table
	read := elapsed(func() { table, _ = c.Read(t.Context()) })
	if len(table) != servers {
		t.Errorf("%d servers read, want %d", len(table), servers)
	}
	walked := elapsed(func() { _ = c.Walk(t.Context(), func(ipvs.Key, ipvs.Entry) {}) })
	counted := elapsed(func() { _, _ = c.Count(t.Context()) })
	t.Logf("read %v, walked %v, counted %v", read, walked, counted)
	var gone []ipvs.Op
	for key := range table {
		gone = append(gone, del(key))
	}
	deleted := elapsed(func() { mustDo(t, c, gone) })
	t.Logf("%d ops: %v each in a batch, %v each one at a time; delete %v; %+v", len(ops), batch, single, deleted, c.Stats())
	if single < 2*batch {
		t.Errorf("one at a time takes %v an op, in a batch %v: less than twice as long", single, batch)
	}
}

func elapsed(fn func()) time.Duration {
	start := time.Now()
	fn()
	return time.Since(start)
}

func mustDo(t *testing.T, k ipvs.Kernel, ops []ipvs.Op) {
	t.Helper()
	if errs := k.Do(t.Context(), ops); errs != nil {
		t.Fatal(errors.Join(errs...))
	}
}
