package ipvsmode

import (
	"context"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"kube-ipvs/internal/inet"
	"kube-ipvs/ipvs"
	"kube-ipvs/ipvs/conntrack"
	"kube-ipvs/sync/loop"
	"kube-ipvs/sync/plan"
)

func externalIP(a string) func(*plan.Service) {
	return func(s *plan.Service) { s.ExternalIPs = []netip.Addr{netip.MustParseAddr(a)} }
}

// An operation whose answer is lost is neither done nor undone: until the kernel is read again nothing is decided by it.
func TestAnswersAreLost(t *testing.T) {
	const key, member = "198.18.0.1:80", "198.18.0.1,tcp:80"
	add := func(r *rig) { r.change(1, pods(1), externalIP("198.18.0.1")); synctest.Wait() }
	remove := func(r *rig) { r.remove(1) }
	for _, tt := range []struct {
		name  string
		lost  string
		steps []func(*rig) // one answer of the first step is lost; the others come before anything is read again
	}{
		{"a server was made, and its Service goes", "ipvsadm -A -t " + key, []func(*rig){add, remove}},
		{"a frontend was turned on, and its Service goes", "ipset add KIPVS-FRONTENDS " + member, []func(*rig){add, remove}},
		{"a line was written, and its Service goes", "ipset add KIPVS-OWNED " + member, []func(*rig){add, remove}},
		{"a line was removed, and its Service comes and goes again", "ipset del KIPVS-OWNED " + member, []func(*rig){remove, add, remove}},
		{"a server was removed, and its Service comes again", "ipvsadm -D -t " + key, []func(*rig){remove, add}},
		{"a server was removed, and its Service comes and goes again", "ipvsadm -D -t " + key, []func(*rig){remove, add, remove}},
		{"a frontend was turned off, and its Service comes again", "ipset del KIPVS-FRONTENDS " + member, []func(*rig){remove, add}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newRig(t)
				r.set(2, pods(1))
				last := len(tt.steps)
				if strings.Contains(tt.lost, " del ") || strings.Contains(tt.lost, " -D ") {
					r.set(1, pods(1), externalIP("198.18.0.1"))
				}
				r.start()
				r.queue.Synced()
				synctest.Wait()
				r.watch()
				lost := 0
				r.forget(func(what string) error {
					if !strings.HasPrefix(what, tt.lost) || lost > 0 {
						return nil
					}
					lost++
					return fmt.Errorf("%s: the answer is lost", what)
				})
				for i := range last {
					tt.steps[i](r)
				}
				if lost != 1 {
					t.Fatalf("%d answers were lost", lost)
				}
				time.Sleep(time.Hour)
				synctest.Wait()
				_, wanted := r.services[plan.Name{Namespace: "default", Name: "s00001"}]
				_, served := r.ipvs.Table()[ipvs.AddrKey(inet.TCP, netip.MustParseAddrPort(key))]
				if served != wanted || strings.Contains(r.sets.String(), member) != wanted {
					t.Errorf("at the end, the Service is there: %v, served: %v, sets:\n%v", wanted, served, r.sets)
				}
			})
		})
	}
}

// The flows of a UDP server that may be gone are stale, also where nobody heard that it went.
func TestAnswerToARemovedServerIsLost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		var flows *conntrack.Fake
		r.tweak = func(l *Dataplane) { flows = l.cfg.Flows.(*conntrack.Fake) }
		r.set(1, pods(1), func(s *plan.Service) { s.Ports[0].Proto = inet.UDP })
		r.start()
		r.queue.Synced()
		synctest.Wait()
		before := len(flows.Calls())
		r.forget(func(what string) error {
			if what != "ipvsadm -D -u 10.96.0.1:80" {
				return nil
			}
			return errRefused
		})
		r.remove(1)
		time.Sleep(time.Hour)
		if calls := flows.Calls()[before:]; len(calls) == 0 {
			t.Error("flows go on to a server that is gone")
		}
	})
}

// On a kernel that never deletes flows Services that come and go do not fill the memory; what is served is not forgotten.
func TestStaleFlowsAreBounded(t *testing.T) {
	served := ipvs.Key{Proto: inet.UDP, Port: 1}
	m := NewMetrics(prometheus.NewRegistry(), loop.MetricsConfig{})
	f := &flowsLayer{
		kernel: noFlows{}, keep: func(ipvs.Key) map[netip.AddrPort]struct{} { return nil }, stale: map[ipvs.Key]struct{}{},
		wanted: func(k ipvs.Key) bool { return k == served }, count: m.layer("flows"), flushed: m.flushed,
	}
	f.add(served)
	for i := range 2 * mostGone {
		f.add(ipvs.Key{Addr: netip.AddrFrom4([4]byte{10, 96, byte(i >> 8), byte(i)}), Proto: inet.UDP, Port: 53})
	}
	f.Prune(t.Context())
	if _, ok := f.stale[served]; !ok || f.Pending() != mostGone+1 || f.Err() == nil {
		t.Errorf("%d frontends are remembered, the one that is served: %v, trouble: %v", f.Pending(), ok, f.Err())
	}
}

type noFlows struct{ conntrack.Kernel }

func (noFlows) Delete(context.Context, []conntrack.Frontend) (int, error) { return 0, errRefused }
