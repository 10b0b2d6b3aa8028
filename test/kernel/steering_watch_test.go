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

	"kube-ipvs/ipvs/steering"
)

// TestSteeringWatch states which changes are reported.
func TestSteeringWatch(t *testing.T) {
	k := steerOpenNode(t)
	steerDo(t, k, steerOps(steering.Add, steerAll()...)...)
	calls := steerWatching(t, k.Watch)
	own, ownRule := steerItem(steering.Local, "10.8.0.0/16"), steerRules("0.0.0.0/0")[0]
	ownRule.Rule.Priority = 8
	ownAddress := steerItem(steering.Address, "10.96.0.99/32")
	tests := []struct {
		name  string
		hand  func()
		calls bool
	}{
		{"our own route comes", func() { steerDo(t, k, steerOps(steering.Add, own)...) }, false},
		{"our own route goes", func() { steerDo(t, k, steerOps(steering.Del, own)...) }, false},
		{"our own rule comes", func() { steerDo(t, k, steerOps(steering.Add, ownRule)...) }, false},
		{"our own rule goes", func() { steerDo(t, k, steerOps(steering.Del, ownRule)...) }, false},
		{"our own address comes", func() { steerDo(t, k, steerOps(steering.Add, ownAddress)...) }, false},
		{"our own address goes", func() { steerDo(t, k, steerOps(steering.Del, ownAddress)...) }, false},
		{"our own IPv6 address comes", func() { steerDo(t, k, steerOps(steering.Add, steerItem(steering.Address, "fd00:96::99/128"))...) }, false},
		{"our own IPv6 address goes", func() { steerDo(t, k, steerOps(steering.Del, steerItem(steering.Address, "fd00:96::99/128"))...) }, false},
		{"our own IPv6 address goes that is not there", func() { steerDo(t, k, steerOps(steering.Del, steerItem(steering.Address, "fd00:96::99/128"))...) }, false},
		{"it comes again", func() { steerDo(t, k, steerOps(steering.Add, steerItem(steering.Address, "fd00:96::99/128"))...) }, false},
		{"it goes by another hand", func() { steerShell(t, "ip address del fd00:96::99/128 dev kube-ipvs0") }, true},
		{"a route that is not ours", func() { steerShell(t, "ip route add 10.7.0.0/16 dev lo") }, false},
		{"a rule that is not ours", func() { steerShell(t, "ip rule add pref 94 lookup 9") }, false},
		{"one that ours are to come before", func() { steerShell(t, "ip rule add lookup 9") }, true},
		{"it goes", func() { steerShell(t, "ip rule del pref 89") }, true},
		{"one that ours cannot come before", func() { steerShell(t, "ip rule add pref 2 lookup 9") }, false},
		{"an address elsewhere", func() { steerShell(t, "ip address add 10.1.0.1/32 dev lo") }, false},
		{"our route goes by another hand", func() { steerShell(t, "ip route del local 10.96.0.0/12 table local") }, true},
		{"a local route that is not ours", func() { steerShell(t, "ip route add local 10.6.0.0/16 dev lo table local") }, false},
		{"a diverted address of ours goes", func() { steerShell(t, "ip route flush table 7598") }, true},
		{"a rule to a table of ours comes", func() { steerShell(t, "ip rule add pref 9 lookup 7598") }, true},
		{"our rule that goes on is removed", func() { steerShell(t, "ip rule del pref 91") }, true},
		{"our last route of IPv6 goes", func() { steerShell(t, "ip -6 route flush table 7599") }, true},
		{"our rule goes", func() { steerShell(t, "ip -6 rule del pref 37599") }, true},
		{"an address comes by another hand", func() { steerShell(t, "ip address add 10.1.0.2/32 dev kube-ipvs0") }, true},
		{"an IPv6 address goes", func() { steerShell(t, "ip address del fd00:96::10/128 dev kube-ipvs0") }, true},
		{"the link goes down", func() { steerShell(t, "ip link set kube-ipvs0 down") }, true},
		{"the link goes", func() { steerShell(t, "ip link del kube-ipvs0") }, true},
		{"the link comes", func() { steerDo(t, k, steering.Op{Item: steering.Item{Kind: steering.Link}}) }, true},
		{"an address on the new link", func() { steerShell(t, "ip address add 10.1.0.3/32 dev kube-ipvs0") }, true},
	}
	for _, tt := range tests {
		before := steerSettled(calls)
		tt.hand()
		if got := steerCalled(calls, before, tt.calls); got != tt.calls {
			t.Errorf("%s: called %t, want %t", tt.name, got, tt.calls)
		}
	}
}

// TestSteeringWatchOverflow makes more changes than wait for a watcher that is busy.
func TestSteeringWatchOverflow(t *testing.T) {
	k := steerOpen(t)
	steerDo(t, k, steering.Op{Item: steering.Item{Kind: steering.Link}})
	var calls atomic.Int64
	busy := make(chan struct{})
	watch := func(ctx context.Context, _ func()) error {
		return k.Watch(ctx, func() {
			if calls.Add(1) == 1 {
				<-busy
			}
		})
	}
	steerWatching(t, watch)
	for calls.Load() == 0 {
		time.Sleep(time.Millisecond)
	}
	var ops []steering.Op
	for i := range 20_000 {
		a := netip.AddrFrom4([4]byte{203, byte(i >> 8), byte(i), 1})
		ops = append(ops, steering.Op{Item: steering.Item{Kind: steering.LastRoute, Prefix: netip.PrefixFrom(a, 32)}})
	}
	steerDo(t, k, ops...)
	before := calls.Load()
	close(busy)
	if !steerCalled(&calls, before, true) {
		t.Error("lost notifications were no change")
	}
	before = steerSettled(&calls)
	steerShell(t, "ip link set kube-ipvs0 down")
	if !steerCalled(&calls, before, true) {
		t.Error("no more calls after notifications were lost")
	}
}

// steerWatching runs a watcher for the time of the test and counts its calls, of which there is one already.
func steerWatching(t *testing.T, watch func(context.Context, func()) error) *atomic.Int64 {
	t.Helper()
	var calls atomic.Int64
	ctx, cancel := context.WithCancel(t.Context())
	ended, enter := make(chan error), steerEnter(t)
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

// steerEnter returns what puts a goroutine into the network namespace of the test. Its thread ends with it.
func steerEnter(t *testing.T) func() {
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

// steerCalled says whether there were more calls than before. It waits long for one that must come, and a while for one that
// must not.
func steerCalled(calls *atomic.Int64, before int64, must bool) bool {
	patience := 300 * time.Millisecond
	if must {
		patience = 30 * time.Second
	}
	for end := time.Now().Add(patience); calls.Load() == before && time.Now().Before(end); {
		time.Sleep(10 * time.Millisecond)
	}
	return calls.Load() > before
}

// steerSettled returns how many calls there were when no more came for a while.
func steerSettled(calls *atomic.Int64) int64 {
	for n := calls.Load(); ; {
		time.Sleep(100 * time.Millisecond)
		now := calls.Load()
		if now == n && now > 0 {
			return now
		}
		n = now
	}
}
