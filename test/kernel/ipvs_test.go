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
func newNetwork(t testing.TB) {
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

func openIPVS(t testing.TB) *ipvs.Conn {
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

// All ways to look at many virtual servers see the same ones.
func TestIPVSMany(t *testing.T) {
	const servers, reals = 1_000, 10
	c := openIPVS(t)
	sees := func(servers, reals int) {
		t.Helper()
		table, err := c.Read(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		walked := ipvs.Table{}
		if err := c.Walk(t.Context(), func(k ipvs.Key, e ipvs.Entry) { walked[k] = e }); err != nil {
			t.Fatal(err)
		}
		counted, err := c.Count(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		for way, n := range map[string]int{"read": len(table), "walked": len(walked), "counted": counted} {
			if n != servers {
				t.Errorf("%d virtual servers %s, want %d", n, way, servers)
			}
		}
		for way, table := range map[string]ipvs.Table{"read": table, "walked": walked} {
			for key, e := range table {
				if len(e.Reals) != reals {
					t.Fatalf("%v: %d real servers %s, want %d", key, len(e.Reals), way, reals)
				}
			}
		}
	}
	mustDo(t, c, ipvsAdds(servers, reals))
	sees(servers, reals)
	var gone []ipvs.Op
	for _, op := range ipvsAdds(servers, 0) {
		gone = append(gone, del(op.Key))
	}
	mustDo(t, c, gone)
	sees(0, 0)
}

// ipvsAdds returns what adds so many virtual servers, with so many real servers each.
func ipvsAdds(servers, reals int) (ops []ipvs.Op) {
	for i := range servers {
		key := ipvs.AddrKey(inet.TCP, netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 96, byte(i >> 8), byte(i)}), 80))
		ops = append(ops, add(key, rr))
		for j := range reals {
			ops = append(ops, addReal(key, netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 244, byte(j), byte(i)}), 80), 1))
		}
	}
	return ops
}

func mustDo(t testing.TB, k ipvs.Kernel, ops []ipvs.Op) {
	t.Helper()
	if errs := k.Do(t.Context(), ops); errs != nil {
		t.Fatal(errors.Join(errs...))
	}
}
