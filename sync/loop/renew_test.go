package loop

import (
	"context"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"kube-ipvs/ipset"
	"kube-ipvs/iptables"
	"kube-ipvs/sync/plan"
)

// referring are rules that refer to sets until they are removed.
type referring struct {
	iptables.Kernel
	sets  *ipset.Fake
	names []string
}

func (r referring) Remove(ctx context.Context, f iptables.Family) error {
	for _, name := range r.names {
		r.sets.SetInUse(name, false)
	}
	return r.Kernel.Remove(ctx, f)
}

// Sets that an earlier version left with another definition are made anew, though its rules refer to them.
func TestSetsOfAnotherDefinition(t *testing.T) {
	sets := plan.SetsOf(ipset.IPv4)
	noMarks, otherType := sets.Frontends, sets.Ranged
	noMarks.Marks, otherType.Type = false, ipset.HashIP
	for _, tt := range []struct {
		name string
		left []ipset.Set
	}{
		{"frontends without marks", []ipset.Set{noMarks}},
		{"another type", []ipset.Set{otherType}},
		{"all of it", []ipset.Set{noMarks, otherType}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newRig(t)
				must := func(errs ...error) {
					for _, err := range errs {
						if err != nil {
							t.Fatal(err)
						}
					}
				}
				var names []string
				for _, set := range tt.left {
					must(r.sets.Create(t.Context(), set))
					names = append(names, set.Name)
					r.sets.SetInUse(set.Name, true)
				}
				r.tweak = func(l *Loop) {
					for _, rules := range l.rules {
						rules.kernel = referring{rules.kernel, r.sets, names}
					}
				}
				var log lines
				log.on(r)
				r.set(1, pods(1))
				r.start()
				r.queue.Synced()
				time.Sleep(time.Minute)
				attempts := r.attempts()
				if last := attempts[len(attempts)-1]; last != nil || len(attempts) != 1 {
					t.Errorf("%d attempts, the last ended with %v", len(attempts), last)
				}
				if said := log.take(); len(said) != len(tt.left) {
					t.Errorf("the log says %q", said)
				}
				differ, err := r.sets.Differ(t.Context(), sets.All())
				if diff := cmp.Diff(map[string]error{}, differ); diff != "" || err != nil {
					t.Errorf("definitions: %v (-want +got):\n%s", err, diff)
				}
				if got := r.sets.String(); !strings.Contains(got, "add KIPVS-FRONTENDS 10.96.0.1,tcp:80 skbmark") {
					t.Errorf("the sets are\n%s", got)
				}
				table, err := r.ipvs.Read(t.Context())
				if err != nil || len(table) != 1 {
					t.Errorf("virtual servers: %v, %v", table, err)
				}
			})
		})
	}
}
