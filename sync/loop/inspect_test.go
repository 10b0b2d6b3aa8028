package loop

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"kube-ipvs/internal/inet"
	"kube-ipvs/sync/plan"
)

func TestInspect(t *testing.T) {
	a := plan.Address{Addr: netip.MustParseAddr("10.96.0.1"), Port: 80, Protocol: inet.TCP}
	run(t, func(f *fake) {
		f.set("old", "10.96.0.1", 1)
		f.set("young", "10.96.0.1", 2)
		f.queue.Synced()
		f.take()
		f.statuses[a], f.behind = Status{Limited: "some get less"}, true
		var names []plan.Name
		var owner plan.Name
		var isOwned bool
		var got Inspection
		var err error
		f.free(func() { names, err = f.loop.Names(context.Background()) })
		expect(t, "names", []string{fmt.Sprint(names, err)}, "[default/old default/young] <nil>")
		f.free(func() { owner, isOwned, err = f.loop.Owner(context.Background(), a) })
		expect(t, "owner", []string{fmt.Sprint(owner, isOwned, err)}, "default/old true <nil>")
		f.free(func() {
			got, err = f.loop.Inspect(context.Background(), plan.Name{Namespace: "default", Name: "young"})
		})
		if err != nil || len(got.Frontends) != 1 || len(got.Problems) != 1 || got.Desired.Service.Name != "young" {
			t.Fatalf("%+v, %v", got, err)
		}
		want := InspectedFrontend{
			Frontend: got.Frontends[0].Frontend, Owner: plan.Name{Namespace: "default", Name: "old"}, Status: Status{Limited: "some get less"},
		}
		if reason := got.Frontends[0].ServedFor(); got.Problems[0].Reason != reason {
			t.Errorf("the frontend %s, the problem is %v", reason, got.Problems[0])
		}
		if diff := cmp.Diff(fmt.Sprintf("%+v", want), fmt.Sprintf("%+v", got.Frontends[0])); diff != "" || got.Frontends[0].Address != a {
			t.Errorf("(-want +got):\n%s", diff)
		}
		f.free(func() { _, err = f.loop.Inspect(context.Background(), plan.Name{Name: "none"}) })
		if !errors.Is(err, ErrUnknown) {
			t.Errorf("a Service that is not there: %v", err)
		}
		expect(t, "to ask costs the data plane nothing", f.take())
	})
}

// A frontend that a younger Service has as load-balancer IP is not served for an older one that has it as external IP, and says so.
func TestInspectAConflict(t *testing.T) {
	a := netip.MustParseAddr("198.18.0.1")
	run(t, func(f *fake) {
		f.set("old", "10.96.0.1", 1)
		f.set("young", "10.96.0.2", 2)
		old, young := f.services[plan.Name{Namespace: "default", Name: "old"}], f.services[plan.Name{Namespace: "default", Name: "young"}]
		old.ExternalIPs, young.LoadBalancerIPs = []netip.Addr{a}, []netip.Addr{a}
		f.services[old.Name], f.services[young.Name] = old, young
		f.queue.Synced()
		f.take()
		var got Inspection
		var err error
		f.free(func() { got, err = f.loop.Inspect(context.Background(), old.Name) })
		if err != nil || len(got.Frontends) != 2 || len(got.Problems) != 1 {
			t.Fatalf("%+v, %v", got, err)
		}
		want := "is served for Service default/young, whose load-balancer IP it is"
		if reason := got.Frontends[1].ServedFor(); reason != want || got.Problems[0].Reason != want {
			t.Errorf("the frontend %s, the problem is %v, want %s", reason, got.Problems[0], want)
		}
	})
}

// Who asks while a sync takes long waits no longer than he wants to, and the loop does not wait for him. Many may ask at once.
func TestInspectHoldsNothingUp(t *testing.T) {
	run(t, func(f *fake) {
		f.set("a", "10.96.0.1", 1)
		f.queue.Synced()
		f.take()
		f.hang = make(chan struct{})
		f.set("a", "10.96.0.1", 1)
		f.take()
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		var err error
		f.free(func() { _, err = f.loop.Names(ctx) })
		if !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("asked while a sync takes long: %v", err)
		}
		close(f.hang)
		var all sync.WaitGroup
		for range 10 {
			all.Go(func() {
				if _, err := f.loop.Inspect(context.Background(), plan.Name{Namespace: "default", Name: "a"}); err != nil {
					t.Error(err)
				}
			})
		}
		f.free(all.Wait)
	})
}

func TestInspectAfterTheEnd(t *testing.T) {
	var l *Loop
	run(t, func(f *fake) {
		l = f.loop
		f.atEnd = func() {
			if _, err := l.Names(context.Background()); !errors.Is(err, errEnded) {
				t.Errorf("asked after the end: %v", err)
			}
		}
	})
}

// A question whose asker has gone is not asked: a long row of them ends.
func TestInspectForNobody(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	l := &Loop{questions: make(chan func(), 100)}
	for range 100 {
		if err := l.ask(ctx, func() { t.Error("asked") }); !errors.Is(err, context.Canceled) || len(l.questions) > 0 {
			t.Fatalf("%v, %d questions", err, len(l.questions))
		}
	}
}

// A pass that has nothing to do is no sync.
func TestIdleTurnsAreNoAttempts(t *testing.T) {
	run(t, func(f *fake) {
		f.queue.Synced()
		f.take()
		before := f.attempts()
		f.result.Idle = true
		f.drift = true
		f.sleep(time.Minute)
		f.take()
		f.drift = false
		if n := f.attempts() - before; n != 0 {
			t.Errorf("%d attempts without anything to do", n)
		}
		f.set("a", "10.96.0.1", 1)
		f.take()
		if n := f.attempts() - before; n != 1 {
			t.Errorf("%d attempts after a change, want 1", n)
		}
	})
}

// A data plane that predicts nothing is no error.
func TestExplainNothing(t *testing.T) {
	run(t, func(f *fake) {
		verdicts, err := f.loop.Explain(context.Background(), plan.Address{}, netip.Addr{})
		if len(verdicts) > 0 || err != nil {
			t.Errorf("%v, %v", verdicts, err)
		}
	})
}
