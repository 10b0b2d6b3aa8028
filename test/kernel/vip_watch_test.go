//go:build kernel

package kernel

import (
	"context"
	"errors"
	"net/netip"
	"runtime"
	"sync/atomic"
	"testing"
	"time"

	"github.com/vishvananda/netns"

	"kube-ipvs/ipvs/vip"
)

// TestVIPWatch states which changes are reported.
func TestVIPWatch(t *testing.T) {
	k := vipOpenNode(t)
	vipDo(t, k, vipOps(vip.Add, vipAll()...)...)
	calls := vipWatching(t, k.Watch)
	own, ownRule := vipItem(vip.Local, "10.8.0.0/16"), vipRules("0.0.0.0/0")[0]
	ownRule.Rule.Priority = 8
	ownAddress := vipItem(vip.Address, "10.96.0.99/32")
	tests := []struct {
		name  string
		hand  func()
		calls bool
	}{
		{"our own route comes", func() { vipDo(t, k, vipOps(vip.Add, own)...) }, false},
		{"our own route goes", func() { vipDo(t, k, vipOps(vip.Del, own)...) }, false},
		{"our own rule comes", func() { vipDo(t, k, vipOps(vip.Add, ownRule)...) }, false},
		{"our own rule goes", func() { vipDo(t, k, vipOps(vip.Del, ownRule)...) }, false},
		{"our own address comes", func() { vipDo(t, k, vipOps(vip.Add, ownAddress)...) }, false},
		{"our own address goes", func() { vipDo(t, k, vipOps(vip.Del, ownAddress)...) }, false},
		{"our own IPv6 address comes", func() { vipDo(t, k, vipOps(vip.Add, vipItem(vip.Address, "fd00:96::99/128"))...) }, false},
		{"our own IPv6 address goes", func() { vipDo(t, k, vipOps(vip.Del, vipItem(vip.Address, "fd00:96::99/128"))...) }, false},
		{"our own IPv6 address goes that is not there", func() { vipDo(t, k, vipOps(vip.Del, vipItem(vip.Address, "fd00:96::99/128"))...) }, false},
		{"it comes again", func() { vipDo(t, k, vipOps(vip.Add, vipItem(vip.Address, "fd00:96::99/128"))...) }, false},
		{"it goes by another hand", func() { vipShell(t, "ip address del fd00:96::99/128 dev kube-ipvs0") }, true},
		{"a route that is not ours", func() { vipShell(t, "ip route add 10.7.0.0/16 dev lo") }, false},
		{"a rule that is not ours", func() { vipShell(t, "ip rule add pref 94 lookup 9") }, false},
		{"one that ours are to come before", func() { vipShell(t, "ip rule add lookup 9") }, true},
		{"it goes", func() { vipShell(t, "ip rule del pref 89") }, true},
		{"one that ours cannot come before", func() { vipShell(t, "ip rule add pref 2 lookup 9") }, false},
		{"an address elsewhere", func() { vipShell(t, "ip address add 10.1.0.1/32 dev lo") }, false},
		{"our route goes by another hand", func() { vipShell(t, "ip route del local 10.96.0.0/12 table local") }, true},
		{"a local route that is not ours", func() { vipShell(t, "ip route add local 10.6.0.0/16 dev lo table local") }, false},
		{"a diverted address of ours goes", func() { vipShell(t, "ip route flush table 7598") }, true},
		{"a rule to a table of ours comes", func() { vipShell(t, "ip rule add pref 9 lookup 7598") }, true},
		{"our rule that goes on is removed", func() { vipShell(t, "ip rule del pref 91") }, true},
		{"our last route of IPv6 goes", func() { vipShell(t, "ip -6 route flush table 7599") }, true},
		{"our rule goes", func() { vipShell(t, "ip -6 rule del pref 37599") }, true},
		{"an address comes by another hand", func() { vipShell(t, "ip address add 10.1.0.2/32 dev kube-ipvs0") }, true},
		{"an IPv6 address goes", func() { vipShell(t, "ip address del fd00:96::10/128 dev kube-ipvs0") }, true},
		{"the link goes down", func() { vipShell(t, "ip link set kube-ipvs0 down") }, true},
		{"the link goes", func() { vipShell(t, "ip link del kube-ipvs0") }, true},
		{"the link comes", func() { vipDo(t, k, vip.Op{Item: vip.Item{Kind: vip.Link}}) }, true},
		{"an address on the new link", func() { vipShell(t, "ip address add 10.1.0.3/32 dev kube-ipvs0") }, true},
	}
	for _, tt := range tests {
		before := vipSettled(calls)
		tt.hand()
		if got := vipCalled(calls, before, tt.calls); got != tt.calls {
			t.Errorf("%s: called %t, want %t", tt.name, got, tt.calls)
		}
	}
}

// TestVIPWatchOverflow makes more changes than wait for a watcher that is busy.
func TestVIPWatchOverflow(t *testing.T) {
	k := vipOpen(t)
	vipDo(t, k, vip.Op{Item: vip.Item{Kind: vip.Link}})
	var calls atomic.Int64
	busy := make(chan struct{})
	watch := func(ctx context.Context, _ func()) error {
		return k.Watch(ctx, func() {
			if calls.Add(1) == 1 {
				<-busy
			}
		})
	}
	vipWatching(t, watch)
	for calls.Load() == 0 {
		time.Sleep(time.Millisecond)
	}
	var ops []vip.Op
	for i := range 20_000 {
		a := netip.AddrFrom4([4]byte{203, byte(i >> 8), byte(i), 1})
		ops = append(ops, vip.Op{Item: vip.Item{Kind: vip.LastRoute, Prefix: netip.PrefixFrom(a, 32)}})
	}
	vipDo(t, k, ops...)
	before := calls.Load()
	close(busy)
	if !vipCalled(&calls, before, true) {
		t.Error("lost notifications were no change")
	}
	before = vipSettled(&calls)
	vipShell(t, "ip link set kube-ipvs0 down")
	if !vipCalled(&calls, before, true) {
		t.Error("no more calls after notifications were lost")
	}
}

// vipWatching runs a watcher for the time of the test and counts its calls, of which there is one already.
func vipWatching(t *testing.T, watch func(context.Context, func()) error) *atomic.Int64 {
	t.Helper()
	var calls atomic.Int64
	ctx, cancel := context.WithCancel(t.Context())
	ended, enter := make(chan error), vipEnter(t)
	go func() {
		enter()
		ended <- watch(ctx, func() { calls.Add(1) })
	}()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; !errors.Is(err, context.Canceled) {
			t.Errorf("the watcher ended with %v", err)
		}
	})
	return &calls
}

// vipEnter returns what puts a goroutine into the network namespace of the test. Its thread ends with it.
func vipEnter(t *testing.T) func() {
	t.Helper()
	here, err := netns.Get()
	if err != nil {
		t.Fatal(err)
	}
	return func() {
		runtime.LockOSThread()
		if err := errors.Join(netns.Set(here), here.Close()); err != nil {
			t.Error(err)
		}
	}
}

// vipCalled says whether there were more calls than before. It waits long for one that must come, and a while for one that
// must not.
func vipCalled(calls *atomic.Int64, before int64, must bool) bool {
	patience := 300 * time.Millisecond
	if must {
		patience = 30 * time.Second
	}
	for end := time.Now().Add(patience); calls.Load() == before && time.Now().Before(end); {
		time.Sleep(10 * time.Millisecond)
	}
	return calls.Load() > before
}

// vipSettled returns how many calls there were when no more came for a while.
func vipSettled(calls *atomic.Int64) int64 {
	for n := calls.Load(); ; {
		time.Sleep(100 * time.Millisecond)
		now := calls.Load()
		if now == n && now > 0 {
			return now
		}
		n = now
	}
}
