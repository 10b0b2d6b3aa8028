package ipvsmode

import (
	"net/netip"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"kube-ipvs/internal/inet"
	"kube-ipvs/ipset"
	"kube-ipvs/ipvs"
	"kube-ipvs/sync/plan"
)

// What a look cannot see, because neither the numbers nor the listing that it compares have it, is mended when the same
// part of the kernel is read: after whatever else a look does see there, and after a restart.
func TestUnseenIsMendedWithTheNextReading(t *testing.T) {
	frontends := SetsOf(inet.IPv4).Frontends
	frontend := func(n byte) ipset.Member {
		return ipset.Member{Addr: netip.AddrFrom4([4]byte{10, 96, 0, n}), Proto: inet.TCP, Port: 80}
	}
	sticky := ipvs.Server{Scheduler: "rr", Timeout: 10800}
	changed := func(edit func(*ipvs.Server)) []ipvs.Op {
		s := sticky
		edit(&s)
		return []ipvs.Op{{Verb: ipvs.SetServer, Key: server(1), Server: s}}
	}
	inIPVS := []ipvs.Op{{Verb: ipvs.DelServer, Key: server(2)}}
	inSet := []ipset.Op{{Verb: ipset.Del, Set: frontends, Member: frontend(2)}}
	for name, tt := range map[string]struct {
		servers []ipvs.Op
		members []ipset.Op
	}{
		"a time of persistence is changed": {servers: changed(func(s *ipvs.Server) { s.Timeout = 60 })},
		"flags of a scheduler are changed": {servers: changed(func(s *ipvs.Server) { s.Flags = ipvs.Flag1 })},
		"a member is exchanged for another": {members: []ipset.Op{
			{Verb: ipset.Del, Set: frontends, Member: frontend(1)},
			{Verb: ipset.Add, Set: frontends, Member: frontend(77), Mark: MarksFor(14).Of(KeepSource)},
		}},
		"a member's mark is changed": {members: []ipset.Op{
			{Verb: ipset.Add, Set: frontends, Member: frontend(1), Mark: MarksFor(14).Of(DropExternal)},
		}},
	} {
		act := func(t *testing.T, r *rig, servers []ipvs.Op, members []ipset.Op) {
			if errs := r.ipvs.Do(t.Context(), servers); errs != nil {
				t.Fatal(errs)
			}
			if errs := r.sets.Do(t.Context(), members); errs != nil {
				t.Fatal(errs)
			}
		}
		for reason, read := range map[string]func(*testing.T, *rig, func()){
			"something else is seen": func(t *testing.T, r *rig, _ func()) {
				if tt.servers != nil {
					act(t, r, inIPVS, nil)
				} else {
					act(t, r, nil, inSet)
				}
			},
			"restart": func(_ *testing.T, r *rig, stop func()) {
				stop()
				r.start()
				r.queue.Synced()
			},
		} {
			t.Run(name+", "+reason, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					r := newRig(t)
					r.lookInterval = time.Second
					for n := range 3 {
						r.set(n, pods(1, 2), func(s *plan.Service) { s.Affinity = 3 * time.Hour })
					}
					stop := r.start()
					r.queue.Synced()
					time.Sleep(1500 * time.Millisecond)
					want := r.ipvs.Table().String() + r.sets.String()
					act(t, r, tt.servers, tt.members)
					if r.ipvs.Table().String()+r.sets.String() == want {
						t.Fatal("nothing was changed")
					}
					read(t, r, stop)
					time.Sleep(time.Second)
					synctest.Wait()
					if diff := cmp.Diff(want, r.ipvs.Table().String()+r.sets.String()); diff != "" {
						t.Errorf("not mended (-want +got):\n%s", diff)
					}
				})
			})
		}
	}
}
